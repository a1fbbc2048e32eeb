"""What another account on the host can do to immured, and the web server's own: nothing more than
its grants say."""

import os
import random
import re
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import wire
from harness.clients import client_hello
from harness.faulty import faulty_modules, start_with
from harness.messages import RSA_PKCS1, Messages
from harness.nginx import certificate_lines
from harness.process import is_running, run, wait_for_words, wait_until
from harness.stage import DAEMON_USER
from harness.token import GRANTS, as_daemon, as_user

WEB_SERVER, STRANGER = "www-data", "nobody"
# An account that is in the web server's group, as a deployment's may be.
MEMBER = (STRANGER, [WEB_SERVER])
MANY = ("backup", "bin", "games", "irc", "list", "lp", "mail", "man", "news", "proxy", "sys", "uucp", STRANGER)
# Of daemon/connection.h.
CONNECTIONS_MAX, CONNECTIONS_USER_MAX = 4096, 1024
STRANGERS_MAX, STRANGERS_USER_MAX = 256, 32
UNREAD = 64  # refusals
LISTENER_BACKLOG = 500  # less than the system or immured allows


@pytest.fixture
def make_right(keys):
    """A request that a TLS server makes."""
    key = keys["rsa2048"]
    message = Messages(random.Random(1)).certificate_verify()
    return lambda: wire.request(wire.SIGN, message, scheme=wire.RSA_PSS_SHA256, key_id=key.id)


def public_key(key):
    return run("openssl", "pkey", "-pubin", "-in", key.public_key, "-outform", "DER").stdout


def every_operation(key):
    """A request of each kind that is good, but for who sends it."""
    digest = bytes(32)
    return {
        "SIGN": wire.request(wire.SIGN, b"m", scheme=wire.RSA_PSS_SHA256, key_id=key.id),
        "SIGN_DIGEST": wire.request(wire.SIGN_DIGEST, digest, scheme=RSA_PKCS1[0], key_id=key.id),
        "RSA_DECRYPT": wire.request(wire.RSA_DECRYPT, bytes(256), key_id=key.id),
        "TLS12_RSA_PREMASTER": wire.request(wire.TLS12_RSA_PREMASTER, b"\3\3" + bytes(256), key_id=key.id),
        "FIND_KEY by name": wire.request(wire.FIND_KEY, b"\1" + key.name.encode()),
        "FIND_KEY by id": wire.request(wire.FIND_KEY, b"\1" + key.id.hex().encode()),
        "FIND_KEY by URI": wire.request(wire.FIND_KEY, b"\2pkcs11:"),
        "FIND_KEY by public key": wire.request(wire.FIND_KEY, b"\3" + public_key(key)),
        "STATUS": wire.request(wire.STATUS),
    }


def introduce(immured, key):
    with wire.Connection(immured.socket) as connection:
        assert connection.call(wire.request(wire.FIND_KEY, b"\3" + public_key(key))).status == wire.OK


@pytest.mark.parametrize("who", [(STRANGER, []), MEMBER], ids=["another user", "in its group"])
def test_who_has_no_grant_is_told_so_by_every_operation(immured, keys, make_right, who):
    introduce(immured, keys["rsa2048"])
    with wire.Connection(immured.socket, *who) as connection:
        for what, request in {**every_operation(keys["rsa2048"]), "TLS": make_right()}.items():
            reply = connection.call(request)
            assert reply.status == wire.NOT_GRANTED, f"{what}: {reply}"
            assert STRANGER in reply.payload.decode(), reply
            assert keys["rsa2048"].name not in reply.payload.decode(), f"{what}: {reply}"


@pytest.mark.parametrize(
    "grant, who",
    [(f"user = {WEB_SERVER}", (WEB_SERVER, [])), (f"group = {WEB_SERVER}", MEMBER)],
    ids=["the web server", "in its group, which has the grant"],
)
def test_a_grant_for_tls_lets_nothing_else_be_signed(make_immured, token, keys, make_right, grant, who):
    grants = GRANTS.replace(f"user = {WEB_SERVER}", grant)
    immured = make_immured(token.section() + grants).start()
    introduce(immured, keys["rsa2048"])
    with wire.Connection(immured.socket, *who) as connection:
        assert connection.call(make_right()).status == wire.OK
        for what in ("SIGN", "SIGN_DIGEST"):
            reply = connection.call(every_operation(keys["rsa2048"])[what])
            assert reply.status == wire.MESSAGE_REFUSED, f"{what}: {reply}"


def test_a_grant_for_one_key_shows_nothing_of_another(make_immured, token, keys):
    grant = f"[grant web]\nuser = {WEB_SERVER}\nkeys = p256\nuse = tls-server\n"
    immured = make_immured(token.section() + grant).start()
    introduce(immured, keys["rsa2048"])
    with wire.Connection(immured.socket, WEB_SERVER) as connection:
        for what, request in every_operation(keys["rsa2048"]).items():
            if what not in ("STATUS", "FIND_KEY by URI"):  # the URI fits the other key as well
                assert connection.call(request).status == wire.NOT_GRANTED, what


@pytest.mark.parametrize(
    "users, count, room",
    [([STRANGER], CONNECTIONS_USER_MAX, STRANGERS_USER_MAX), (MANY, CONNECTIONS_MAX, STRANGERS_MAX)],
    ids=["of the same user", "of many users"],
)
def test_connections_without_a_grant_take_no_room_from_those_that_have_one(
    make_immured, token, keys, make_right, users, count, room
):
    grants = GRANTS.replace(f"user = {WEB_SERVER}", f"group = {WEB_SERVER}")
    immured = make_immured(token.section() + grants).start()
    introduce(immured, keys["rsa2048"])
    with ExitStack() as stack:
        for number in range(count):
            stack.enter_context(wire.Connection(immured.socket, users[number % len(users)]))
            if number % LISTENER_BACKLOG == 0:
                immured.status()  # those before have been taken
        with wire.Connection(immured.socket, *MEMBER) as member:
            reply = member.call(make_right())
            assert reply and reply.status == wire.OK, reply
            assert immured.status()["connections"] <= room + 2  # and the one that asks
        wait_for_words(immured, f"more than {STRANGERS_USER_MAX} connections of one user or {STRANGERS_MAX} in all")


def send_until_it_ends(connection, datagram, count):
    for _ in range(count):
        try:
            connection.send(datagram)
        except BrokenPipeError:
            return


def test_refusals_that_are_not_read_do_not_pile_up(immured, make_right):
    """They are in the kernel's memory until who has them ends, connections of immured's or not."""
    before = immured.status()["connections"]
    with wire.Connection(immured.socket, STRANGER) as connection:
        send_until_it_ends(connection, make_right(), UNREAD)
        wait_until(lambda: immured.status()["connections"] == before, "the end of the connection")
        unread = list(iter(connection.receive, None))
    assert {reply.status for reply in unread} == {wire.NOT_GRANTED}
    assert len(unread) < 10


def test_who_reads_refusals_gets_them_all(immured, make_right):
    with wire.Connection(immured.socket, STRANGER) as connection:
        for _ in range(UNREAD):
            assert connection.call(make_right()).status == wire.NOT_GRANTED


@pytest.mark.parametrize("hosting", ["by module"], indirect=True)
def test_many_handshakes_at_once_all_get_their_refusals_words(
    make_immured, make_nginx, token, keys, monkeypatch
):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)
    grants, key = GRANTS.replace(f"user = {WEB_SERVER}", f"user = {STRANGER}"), keys["p256"]
    immured = make_immured(token.section() + grants).start()
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key))).start()
    hello, clients = client_hello(key.host), [socket.create_connection(("127.0.0.1", nginx.port)) for _ in range(UNREAD)]
    for client in clients:
        client.sendall(hello)
    wait_until(lambda: nginx.log().count("SSL_do_handshake() failed") == UNREAD, "as many refusals")
    assert nginx.log().count("not granted") == UNREAD
    for client in clients:
        client.close()


# --- Searches for keys ---------------------------------------------------------------------------

SESSIONS, LOOKUPS = 4, 8
REQUESTER = f"""
[grant requests]
user = {STRANGER}
keys = p256
use = csr
rate = 1/h
over-rate = refuse
"""


@pytest.fixture
def slow_to_read(make_immured, token, stage, directory, keys):
    """An immured whose token takes seconds to show all its keys, which a search by URI or id reads."""
    (module,) = faulty_modules(stage, directory, ["one"])
    immured = start_with(make_immured, token, [module], GRANTS + REQUESTER, lines=f"max-sessions = {SESSIONS}\n")
    introduce(immured, keys["rsa2048"])
    module.set("delay 100 C_GetAttributeValue")
    yield immured
    module.clear()


def look_up_again_and_again(connection, done):
    """The statuses that were got."""
    connection.socket.settimeout(60)
    request, statuses = wire.request(wire.FIND_KEY, b"\2pkcs11:", deadline_ms=60_000), set()
    while not done.is_set():
        statuses.add(connection.call(request).status)
        time.sleep(0.01)
    return statuses


def test_who_has_keys_looked_up_all_the_time_leaves_sessions_for_anothers_signatures(
    slow_to_read, keys, make_right
):
    done = threading.Event()
    attackers = [wire.Connection(slow_to_read.socket, STRANGER) for _ in range(LOOKUPS)]
    with wire.Connection(slow_to_read.socket, WEB_SERVER) as server, ThreadPoolExecutor(LOOKUPS) as pool:
        lookups = [pool.submit(look_up_again_and_again, attacker, done) for attacker in attackers]
        try:
            wait_until(lambda: slow_to_read.token_status()["in_flight"] > 0, "a search")
            for _ in range(5):
                reply = server.call(make_right())
                assert reply.status == wire.OK, reply
        finally:
            done.set()
        statuses = set().union(*(lookup.result() for lookup in lookups))
    assert wire.BUSY in statuses
    for attacker in attackers:
        attacker.socket.close()


def test_a_search_ends_when_nobody_waits_for_it(slow_to_read):
    nowhere = b"\1" + b"0" * 64
    with wire.Connection(slow_to_read.socket) as connection:
        late = connection.call(wire.request(wire.FIND_KEY, nowhere, deadline_ms=100))
        assert late.status == wire.DEADLINE_PASSED, late
        connection.send(wire.request(wire.FIND_KEY, nowhere, deadline_ms=60_000))
        wait_until(lambda: slow_to_read.token_status()["in_flight"] > 0, "the search")
    wait_until(lambda: slow_to_read.token_status()["in_flight"] == 0, "its end", 30)
    requests = slow_to_read.status()["requests"]
    assert (requests["deadline passed"], requests["key not found"]) == (2, 0), requests


def leaves_core_files():
    """Whether the kernel writes them to the working directory."""
    return Path("/proc/sys/kernel/core_pattern").read_text().startswith("core")


# --- Files and processes -------------------------------------------------------------------------

# Says of a process, or of its own child if none is named, which attacks on it succeed.
ATTACKS = r"""
import ctypes, os, resource, signal, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
child = subprocess.Popen(["sleep", "60"]) if len(sys.argv) == 1 else None
pid = child.pid if child else int(sys.argv[1])
PTRACE_ATTACH, PTRACE_DETACH, PIDFD_GETFD = 16, 17, 438

def attach():
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        raise OSError
    os.waitpid(pid, 0)
    libc.ptrace(PTRACE_DETACH, pid, None, None)

def take_descriptor():
    if libc.syscall(PIDFD_GETFD, os.pidfd_open(pid), 2, 0) < 0:
        raise OSError

def set_limit():
    resource.prlimit(pid, resource.RLIMIT_CORE, resource.prlimit(pid, resource.RLIMIT_CORE))

attacks = {name: lambda name=name: open(f"/proc/{pid}/{name}", "rb").read(1)
           for name in ("maps", "environ", "auxv", "syscall")}
attacks |= {
    "mem": lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)),
    "fd": lambda: os.listdir(f"/proc/{pid}/fd"), "ptrace": attach, "pidfd_getfd": take_descriptor,
    "prlimit": set_limit, "kill": lambda: os.kill(pid, signal.SIGCONT),
}
for name, attack in attacks.items():
    try:
        attack()
        print(name)
    except OSError:
        pass
if child:
    child.kill()
"""


def attacks_that_succeed(user, *arguments):
    command = as_user(user, "/usr/bin/python3", "-c", ATTACKS, *map(str, arguments))
    return set(run(*command).stdout.decode().split())


def test_no_other_account_gets_at_immureds_processes(immured):
    possible = attacks_that_succeed(WEB_SERVER)
    assert {"mem", "environ", "ptrace", "pidfd_getfd", "prlimit", "kill"} <= possible, possible
    for pid in (immured.process.pid, *immured.workers()):
        for user in (STRANGER, WEB_SERVER):
            assert attacks_that_succeed(user, pid) == set(), f"{user}, {pid}"


def test_immureds_own_user_can_end_it_but_not_look_into_it(immured):
    """As a vendor's tool may, that runs as the same user. Limits it can only lower."""
    for pid in (immured.process.pid, *immured.workers()):
        assert attacks_that_succeed(DAEMON_USER, pid) <= {"kill", "prlimit"}
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), limits


def test_no_other_account_can_read_the_pin_the_audit_log_or_the_tokens_files(immured, token):
    files = [token.pin_file, *immured.audit.glob("*"), *token.objects.glob("*/*")]
    assert len(files) > 2
    for user in (STRANGER, WEB_SERVER):
        for file in files:
            result = run(*as_user(user, "cat", file), status=None)
            assert result.returncode != 0 and "Permission denied" in result.text, f"{user}: {result.text}"


def test_no_other_account_can_put_a_socket_in_the_place_of_immureds(immured, make_right):
    bind = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    attempts = (
        ("rm", "-f", immured.socket), ("mv", "-f", "/dev/null", immured.socket),
        ("ln", "-sf", "/dev/null", immured.socket), ("chmod", "0", immured.socket),
        ("mv", immured.socket.parent, "/tmp/elsewhere"), ("/usr/bin/python3", "-c", bind, immured.socket),
    )
    for user in (STRANGER, WEB_SERVER):
        for attempt in attempts:
            assert run(*as_user(user, *attempt), status=None).returncode != 0, f"{user}: {attempt}"
    with wire.Connection(immured.socket, WEB_SERVER) as connection:
        assert connection.call(wire.request(wire.STATUS)).status == wire.OK


# --- Core dumps ----------------------------------------------------------------------------------


@pytest.fixture
def dump_directory(directory):
    """A working directory in which immured's user may leave core files."""
    shutil.chown(directory, DAEMON_USER)
    return directory


def without_limit(*command):
    return ("bash", "-c", 'ulimit -c unlimited; exec "$@"', "-", *map(str, command))


def core_files(directory):
    return list(directory.glob("core*"))


@pytest.mark.skipif(not leaves_core_files(), reason="core files go elsewhere here: see core(5)")
def test_the_search_for_core_files_finds_those_of_others(dump_directory):
    command = as_daemon(*without_limit("bash", "-c", "kill -SEGV $$"))
    run(*command, cwd=dump_directory, status=None)
    assert core_files(dump_directory)


# A sanitizer makes an exit of the one.
@pytest.mark.parametrize("sent", (pytest.param(signal.SIGSEGV, marks=pytest.mark.slow), signal.SIGABRT))
def test_immured_leaves_no_core_file_when_it_crashes(make_immured, dump_directory, sent):
    immured = make_immured()
    spawn = immured.spawn
    immured.spawn = lambda command, log: spawn(without_limit(*command), log, cwd=dump_directory)
    immured.start()
    (worker,) = immured.workers()
    os.kill(worker, sent)
    wait_until(lambda: set(immured.workers()) - {worker}, "a new worker")
    workers = immured.workers()
    immured.process.send_signal(sent)
    assert immured.process.wait(10) == -sent
    wait_until(lambda: not any(map(is_running, workers)), "the end of its worker")
    assert core_files(dump_directory) == []
