"""One of two tokens with the same keys fails in every way there is: no client notices."""

import json
import os
import signal
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from harness.faulty import faulty_modules, start_with, tokens
from harness.load import Load
from harness.nginx import certificate_lines
from harness.pki import make_key
from harness.process import wait_for_words, wait_until
from harness.token import GRANTS, PIN, SoftToken, write_private
from harness.wire import BUSY, ECDSA_SHA256, OK, SIGN, Connection, request

# The deadline of a request for a signature, in seconds; what is later fails the handshake.
DEADLINE = 2.0
# When a handshake has ended whose signature was in time, on a busy machine.
SLOWEST = DEADLINE + 2
# How long a token may take to serve again when its fault has ended, on a busy machine.
RECOVERY = 4
# A module crashes again and again for so long: after 0, 1, 3, 7 seconds, and what it takes to see.
CRASHES_SECONDS = 8
CRASHES_MAX = 5
# What nobody waits for is done sooner than this, on a busy machine as well.
NOTICEABLE = 1.0

# What is about immured alone is tried with one kind of client.
only_with_the_module = pytest.mark.parametrize("hosting", ["by module"], indirect=True)


@pytest.fixture
def modules(stage, directory):
    return faulty_modules(stage, directory)


@pytest.fixture
def cluster(make_immured, token, modules, keys):
    """An immured with one token twice, by way of two modules."""
    return start_with(make_immured, token, modules)


@pytest.mark.parametrize(
    "fault",
    [
        "hang",
        "crash",
        "wrong",
        "fail 0x05",  # CKR_GENERAL_ERROR
        "fail 0x30",  # CKR_DEVICE_ERROR
        "fail 0x31",  # CKR_DEVICE_MEMORY
        "fail 0x32",  # CKR_DEVICE_REMOVED
        "fail 0x60",  # CKR_KEY_HANDLE_INVALID
        "fail 0x82",  # CKR_OBJECT_HANDLE_INVALID
        "fail 0xb3",  # CKR_SESSION_HANDLE_INVALID
        "fail 0xe0",  # CKR_TOKEN_NOT_PRESENT
        "fail 0x101",  # CKR_USER_NOT_LOGGED_IN
        "fail 0x80000001",  # a vendor's own
        "fail 0x06 50%",  # CKR_FUNCTION_FAILED, now and then
        "fail 0x30 x3",
        "fail 0x05 C_SignInit",
        "hang C_SignInit",
        "delay 300 200",
        "delay 0 60",
        "drop",
        "drop; sessions 0",
        "drop; fail 0x30 C_OpenSession",
        "drop; hang C_OpenSession",
        "drop; crash C_OpenSession",
        "logout",
        "logout; fail 0x30 C_Login",
        "logout; hang C_Login",
        "logout; crash C_Finalize",
        "vanish",
        "vanish; hang C_Initialize",
        "renumber",
        "stuck 0x30",
        "profile tpm",
        "profile yubihsm2",
        "profile luna-lost",
        "profile nshield-card",
    ],
)
def test_no_handshake_fails_while_one_of_two_tokens_does(
    cluster, modules, make_nginx, authority, keys, fault
):
    # Of RSA keys every signature is checked.
    key = keys["rsa2048" if fault == "wrong" else "p256"]
    nginx = make_nginx(cluster.socket).configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], threads=8) as load:
        load.wait_for(100)
        modules[0].set(*fault.split("; "))
        load.wait_for(200)
        modules[0].clear()
        load.wait_for(100)
        load.check()
        assert load.slowest < SLOWEST, str(load)


def test_a_token_that_hangs_is_named_and_comes_back_by_itself(
    cluster, modules, make_nginx, authority, keys
):
    key = keys["p256"]
    nginx = make_nginx(cluster.socket).configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], threads=8) as load:
        load.wait_for(100)
        modules[0].set("hang")
        wait_until(lambda: tokens(cluster)["one"]["state"] == "slow", "the token's state")
        load.wait_for(200)
        modules[0].clear()
        wait_until(lambda: tokens(cluster)["one"]["state"] == "ready", "the token's recovery")
        before = tokens(cluster)["one"]["signatures"]
        load.wait_for(200)
        assert tokens(cluster)["one"]["signatures"] > before
        load.check()
    wait_for_words(cluster, "token one: a call has taken", "token one: answers again")


@pytest.fixture
def twins(stage, directory, authority, make_immured, modules):
    """Makes a token with two keys of one kind, a handle of which may come to name the other, and an
    immured that has it by way of so many modules."""

    def make(kind, count):
        place = directory / "own"
        place.mkdir()
        place.chmod(0o755)
        token = SoftToken(place, "own")
        immured = make_immured(token.section() + GRANTS, token.env).start()
        names = ("left", "right")
        found = [make_key(immured, authority, place, name, kind) for name in names]
        immured.stop()
        return start_with(make_immured, token, modules[:count], env=token.env), found

    return make


@pytest.mark.slow
@only_with_the_module
@pytest.mark.parametrize("how", ["renumber", "vanish"])
@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_handle_that_comes_to_name_another_key_signs_for_no_one(
    twins, modules, make_nginx, authority, count, kind, how
):
    immured, keys = twins(kind, count)
    nginx = make_nginx(immured.socket)
    nginx.configure(*((key.host, certificate_lines(key)) for key in keys)).start()
    with Load(authority, nginx.port, [key.host for key in keys], rate=100) as load:
        load.wait_for(20)
        for _ in range(4):
            for module in modules[:count]:
                module.set(how)
                time.sleep(0.1)
                module.clear()
                load.wait_for(20)
        load.check()
        assert load.slowest < SLOWEST, str(load)
    assert "wrong signature" not in immured.log()  # which would end the token's service


def handshake(authority, port, host):
    """Seconds until it has ended, and whether it did so well."""
    context = ssl.create_default_context(cafile=authority.certificate)
    start = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname=host):
                return time.monotonic() - start, True
    except OSError:
        return time.monotonic() - start, False


@contextmanager
def established(authority, port, host):
    """A function that makes a request on a connection that was there before, and returns how
    long it took."""
    context = ssl.create_default_context(cafile=authority.certificate)
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()

    def ask():
        start = time.monotonic()
        connection.sendall(request)
        assert b"200 OK" in connection.recv(4096)
        return time.monotonic() - start

    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=host) as connection:
            yield ask


@pytest.mark.slow
@only_with_the_module
@pytest.mark.parametrize(
    "fault",
    [
        "hang",
        "fail 0x30",
        "fail 0x06",
        "fail 0x60",  # CKR_KEY_HANDLE_INVALID
        "drop; hang C_OpenSession",
        "drop; sessions 0",
        "logout; fail 0x32 C_Login",
        "vanish",
        "stuck 0x30; fail 0x30 C_Initialize",
    ],
)
def test_with_no_token_left_errors_are_in_time_and_all_is_well_when_it_is_back(
    make_immured, token, modules, make_nginx, authority, keys, fault
):
    immured, key = start_with(make_immured, token, modules[:1]), keys["p256"]
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key))).start()
    workers = nginx.workers()
    with ThreadPoolExecutor(4) as pool, established(authority, nginx.port, key.host) as ask:
        modules[0].set(*fault.split("; "))
        others = [pool.submit(handshake, authority, nginx.port, key.host) for _ in range(4)]
        waits = [ask() for _ in range(20)]
        assert max(waits) < NOTICEABLE, waits
        ended = [other.result() for other in others]
        assert all(not well and taken < DEADLINE + 1.5 for taken, well in ended), ended
        modules[0].clear()
        back = time.monotonic()
        while not handshake(authority, nginx.port, key.host)[1]:
            assert time.monotonic() - back < RECOVERY, immured.log()
        assert time.monotonic() - back < RECOVERY, immured.log()
        assert ask() < NOTICEABLE
    assert nginx.workers() == workers


@pytest.mark.slow
@only_with_the_module
@pytest.mark.parametrize("rv", ["0x06", "0x80000384"])  # CKR_FUNCTION_FAILED, a vendor's own
def test_a_module_that_says_one_thing_until_it_is_initialized_anew_is(
    make_immured, token, modules, make_nginx, authority, keys, rv
):
    immured, key = start_with(make_immured, token, modules[:1]), keys["p256"]
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key))).start()
    modules[0].set(f"stuck {rv}")
    assert not handshake(authority, nginx.port, key.host)[1]
    wait_until(lambda: handshake(authority, nginx.port, key.host)[1], "the recovery")
    assert "token one: lost, and opened anew" in immured.log()


def test_a_token_whose_call_hung_and_then_failed_is_tried_again(
    cluster, modules, make_nginx, authority, keys
):
    key = keys["p256"]
    nginx = make_nginx(cluster.socket).configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], rate=50) as load:
        load.wait_for(20)
        modules[0].set("hang", "fail 0x06")  # CKR_FUNCTION_FAILED: no reason to open it anew
        wait_until(lambda: tokens(cluster)["one"]["state"] == "slow", "the token's state")
        modules[0].set("fail 0x06")
        wait_until(lambda: tokens(cluster)["one"]["in_flight"] == 0, "the end of the calls")
        modules[0].clear()
        before = tokens(cluster)["one"]["signatures"]
        load.wait_for(50)
        assert tokens(cluster)["one"]["signatures"] > before
        load.check()


def test_what_two_tokens_are_asked_for_and_is_made_again_is_one_use(cluster, modules, keys):
    modules = dict(zip(("one", "two"), modules))
    found = lambda member: {name: token[member] for name, token in tokens(cluster).items()}
    uses = lambda: {grant["name"]: grant["uses"] for grant in cluster.status()["grants"]}
    sign = request(SIGN, b"x", scheme=ECDSA_SHA256, key_id=keys["p256"].id, deadline_ms=20000)
    with Connection(cluster.socket) as connection:
        assert connection.call(sign).status == OK
        # The next one is for the token that has rested, and hangs there until it is overtaken.
        second, first = sorted(modules, key=found("signatures").get, reverse=True)
        for module in modules.values():
            module.set("hang")
        connection.send(sign)
        wait_until(lambda: found("in_flight") == {"one": 1, "two": 1}, "the second call")
        # The first call fails, and so does the next try; only then does the second one end.
        modules[second].set("hang", "fail 0x06 C_SignInit")  # CKR_FUNCTION_FAILED
        modules[first].set("fail 0x06")
        assert connection.receive().status == BUSY
        assert uses() == {"nginx": 0, "operator": 1}
        for module in modules.values():
            module.clear()
        wait_until(lambda: found("in_flight") == {"one": 0, "two": 0}, "the end of the calls")
        assert connection.call(sign).status == OK
    assert uses() == {"nginx": 0, "operator": 2}


def test_a_device_that_throttles_is_asked_again(
    make_immured, token, modules, make_nginx, authority, keys, directory
):
    """AWS CloudHSM: it refuses calls when it is busy, and its PIN has the user in it."""
    pin_file = write_private(directory / "user-pin", f"crypto-user:{PIN}\n")
    section = token.section(module=modules[0].path, pin_file=pin_file)
    immured = make_immured(section + GRANTS, {"IMMURE_HSM_FAULTS": "profile cloudhsm"}).start()
    served = [keys["p256"], keys["rsa2048"]]
    nginx = make_nginx(immured.socket)
    nginx.configure(*((key.host, certificate_lines(key)) for key in served)).start()
    with Load(authority, nginx.port, [key.host for key in served]) as load:
        load.wait_for(200)
        load.check()
    assert tokens(immured)["soft"]["failures"] > 0


@pytest.mark.slow
@only_with_the_module
@pytest.mark.parametrize("fault", ["wrong", "vanish", "hang C_Initialize; fail 0x30"])
def test_requests_wait_for_the_token_that_is_left_when_it_has_no_room(
    make_immured, token, modules, make_nginx, authority, keys, fault
):
    immured = start_with(
        *(make_immured, token, modules), env={"IMMURE_HSM_DELAY_MS": "20"}, lines="max-sessions = 2\n"
    )
    served = keys["p256"], keys["rsa2048"]
    nginx = make_nginx(immured.socket)
    nginx.configure(*((key.host, certificate_lines(key)) for key in served)).start()
    # Of the RSA key it is noticed; the other key's place on the token is not out of date by that.
    with Load(authority, nginx.port, [served[1].host], threads=1) as noticing:
        modules[0].set(*fault.split("; "))
        wait_until(lambda: tokens(immured)["one"]["state"] in ("starting", "down"), "the loss")
        noticing.check()
    with Load(authority, nginx.port, [served[0].host], threads=12) as load:
        load.wait_for(200)
        time.sleep(DEADLINE)
        load.check()
        assert load.slowest < SLOWEST, str(load)
        modules[0].clear()


@only_with_the_module
@pytest.mark.parametrize("call", ["C_FindObjectsInit", "C_GetAttributeValue"])
def test_a_search_for_a_key_that_hangs_in_one_token_is_made_in_the_other(
    cluster, modules, immured, make_nginx, authority, directory, call
):
    new = make_key(immured, authority, directory, "new", "p256")
    try:
        nginx = make_nginx(cluster.socket).configure((new.host, certificate_lines(new))).start()
        modules[0].set(f"hang {call}")
        taken, well = handshake(authority, nginx.port, new.host)
        assert well, taken
    finally:
        modules[0].clear()
        immured.cli("key", "destroy", "new", "--yes")


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
@only_with_the_module
def test_a_key_made_later_is_found_where_the_token_cannot_search_by_public_keys(
    make_immured, token, modules, make_nginx, authority, keys, directory, kind
):
    immured = start_with(
        *(make_immured, token, modules[:1]), env={"IMMURE_HSM_FAULTS": "profile yubihsm2"}
    )
    new = make_key(immured, authority, directory, "late", kind)
    try:
        nginx = make_nginx(immured.socket).configure((new.host, certificate_lines(new))).start()
        taken, well = handshake(authority, nginx.port, new.host)
        assert well, immured.log()
        shown = json.loads(immured.cli("key", "show", "late", "--json").stdout)
        assert shown["key_id"] == new.id.hex()
    finally:
        immured.cli("key", "destroy", "late", "--yes")


@pytest.mark.parametrize("kind", ["rsa_keygen_bits:2048", "ec_paramgen_curve:P-256"])
def test_a_token_that_takes_no_public_key_gets_the_private_one_if_it_shows_the_public(
    make_immured, token, modules, authority, keys, directory, kind
):
    """SoftHSM shows it with an RSA private key, and not with an EC one."""
    immured = start_with(make_immured, token, modules[:1])
    path = write_private(directory / "alone.key", "")
    algorithm = "RSA" if kind.startswith("rsa") else "EC"
    pem = authority.openssl("genpkey", "-algorithm", algorithm, "-pkeyopt", kind).stdout
    path.write_bytes(pem)
    modules[0].set("fail 0x13 C_CreateObject")  # CKR_ATTRIBUTE_VALUE_INVALID
    status = 0 if algorithm == "RSA" else 1
    done = immured.cli("key", "import", "alone", path, "--keep", status=status)
    modules[0].clear()
    if status == 0:
        request = immured.cli("csr", "alone", "--san", "a.example").stdout
        assert "verify OK" in authority.openssl("req", "-noout", "-verify", input=request).text
        immured.cli("key", "destroy", "alone", "--yes")
    else:
        said = done.stderr.decode()
        assert "creating the public key failed: CKR_ATTRIBUTE_VALUE_INVALID" in said
        assert "destroyed again" in said
    listed = json.loads(immured.cli("key", "list", "--json").stdout)
    assert listed["unusable"] == 0
    assert "alone" not in {key["name"] for key in listed["keys"]}


def test_keys_are_looked_for_again_when_the_search_has_failed(
    cluster, modules, make_nginx, authority, keys
):
    key = keys["p256"]
    nginx = make_nginx(cluster.socket).configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], rate=50) as load:
        load.wait_for(20)
        modules[0].set("renumber", "fail 0x06 C_FindObjectsInit")  # CKR_FUNCTION_FAILED
        wait_for_words(cluster, "the scan for keys has failed")
        time.sleep(1)
        modules[0].clear()
        before = tokens(cluster)["one"]["signatures"]
        wait_until(lambda: tokens(cluster)["one"]["signatures"] > before + 5, "its signatures", 30)
        load.check()
    assert cluster.log().count("the scan for keys has failed") == 1


@only_with_the_module
def test_a_worker_that_dies_is_replaced_while_the_one_of_a_reload_waits_for_its_tokens(
    cluster, modules, make_nginx, authority, keys
):
    key = keys["p256"]
    nginx = make_nginx(cluster.socket).configure((key.host, certificate_lines(key))).start()
    serving = cluster.status()["pid"]
    times_up = cluster.log().count("token two: up")
    modules[0].set("hang C_Initialize")
    cluster.reload()
    wait_until(lambda: cluster.log().count("token two: up") == times_up + 1, "the other token")
    (settling,) = set(cluster.workers()) - {serving}
    os.kill(serving, signal.SIGKILL)
    wait_until(lambda: cluster.log().count("token two: up") == times_up + 2, "another worker")
    taken, well = handshake(authority, nginx.port, key.host)
    assert well and taken < DEADLINE, taken
    bridging = cluster.status()["pid"]
    assert bridging not in (serving, settling)
    with Load(authority, nginx.port, [key.host], rate=50) as load:
        modules[0].clear()
        wait_until(lambda: cluster.workers() == [settling], "the end of the one between")
        assert cluster.status()["pid"] == settling
        load.check()


@contextmanager
def repeated(module, *commands):
    """Sets a fault that ends with the process, again and again."""

    def repeat():
        while not ended.wait(0.01):
            if not module.fault.exists():
                module.set(*commands)

    ended, thread = threading.Event(), threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        module.clear()


@pytest.mark.slow
@only_with_the_module
@pytest.mark.parametrize("call", ["C_Sign", "C_OpenSession", "C_Initialize"])
def test_a_token_whose_module_crashes_each_time_does_not_take_the_other_with_it(
    cluster, modules, make_nginx, authority, keys, call
):
    # Not while the other logs in: of a SoftHSM that dies then, the token is lost.
    crash = (f"delay 300 {call}", f"crash {call}")
    key = keys["p256"]
    nginx = make_nginx(cluster.socket).configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], threads=4, rate=100) as load:
        load.wait_for(20)
        modules[0].set(*crash)
        if call == "C_Initialize":  # which the next worker calls
            os.kill(cluster.workers()[0], signal.SIGKILL)
        elif call == "C_OpenSession":
            modules[0].set("drop", *crash)
        with repeated(modules[0], *crash):
            time.sleep(CRASHES_SECONDS)
            told = lambda one: one["state"] == "down" and "(SIGABRT)" in one["problem"]
            wait_until(lambda: told(tokens(cluster)["one"]), "why it is down")
        load.check()
        assert load.slowest < SLOWEST, str(load)
        wait_until(lambda: tokens(cluster)["one"]["signatures"] > 0, "the token's return")
        load.check()
    deaths = cluster.log().count(f"in a call of token one, by its module {modules[0].path}")
    assert 2 <= deaths <= CRASHES_MAX, cluster.log()
    assert f"token one: its module {modules[0].path} crashed immured's worker" in cluster.log()


@only_with_the_module
@pytest.mark.parametrize(
    "rv, least, most",
    [
        ("0x30", 0, 2.4),  # CKR_DEVICE_ERROR: the PIN was not judged
        ("0x05", 2.5, 8),  # CKR_GENERAL_ERROR: for any reason, and the device may have counted it
    ],
)
def test_a_login_that_fails_for_no_told_reason_is_not_repeated_soon(
    cluster, modules, make_nginx, authority, keys, rv, least, most
):
    key = keys["p256"]
    nginx = make_nginx(cluster.socket).configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], rate=50) as load:
        before = cluster.log().count("token one: up")
        begin = time.monotonic()
        modules[0].set("logout", f"fail {rv} C_Login x2")
        wait_for_words(cluster, "token one: lost")
        lost = time.monotonic()
        wait_until(lambda: cluster.log().count("token one: up") > before, "the third login")
        up = time.monotonic()
        assert least <= up - begin and up - lost <= most
        load.check()


@pytest.mark.slow
@only_with_the_module
def test_a_token_that_has_been_away_for_long_is_not_waited_for_and_comes_back(
    make_immured, token, modules, make_nginx, authority, keys
):
    immured, key = start_with(make_immured, token, modules[:1]), keys["p256"]
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key))).start()
    modules[0].set("vanish")
    assert handshake(authority, nginx.port, key.host)[0] > DEADLINE - NOTICEABLE
    time.sleep(10)  # OUTAGE_WAIT_MS of daemon/token_keeper.c
    for _ in range(3):
        taken, well = handshake(authority, nginx.port, key.host)
        assert not well and taken < NOTICEABLE
    modules[0].clear()
    wait_until(lambda: handshake(authority, nginx.port, key.host)[1], "the recovery", RECOVERY)


@pytest.mark.slow
@only_with_the_module
def test_calls_that_have_hung_do_not_teach_patience(
    cluster, modules, make_nginx, authority, keys
):
    key = keys["p256"]
    # The calls end well, however late, and clients wait for so long.
    nginx = make_nginx(cluster.socket, timeout_ms=10000)
    nginx.configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], threads=8, rate=60) as load:
        load.wait_for(120)  # so many that its patience is measured
        for _ in range(5):
            modules[0].set("hang")
            time.sleep(1.5 * DEADLINE)
            modules[0].clear()
            load.wait_for(10)
        load.check()
        assert load.slowest < DEADLINE, str(load)
