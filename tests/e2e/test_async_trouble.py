"""Bad clients, and operators, while nginx's workers wait for signatures."""

import re
import socket
import ssl
import struct
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from harness.clients import client_hello, connect, curl, get
from harness.nginx import certificate_lines, wait_for_shutdown
from harness.process import descriptors, free_port, is_running, wait_for_words, wait_until

DELAY_MS = 900

pytestmark = pytest.mark.parametrize("hosting", ["by module"], indirect=True)


@pytest.fixture
def hsm(make_slow):
    return make_slow(DELAY_MS)


def leave(connection):
    connection.shutdown(socket.SHUT_WR)


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def stay(connection):
    """Until the server closes the connection."""
    connection.settimeout(10)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass


PEER_CLOSED = "peer closed connection in SSL handshake"
FAILED = "SSL_do_handshake() failed"
TIMED_OUT = "client timed out"
# What a client sends, what it does then, and what nginx says of it, with and without a time-out
# that passes while the signature is pending.
CLIENTS = {
    "a hello, and leaves": (lambda hello: [hello], leave, PEER_CLOSED, TIMED_OUT),
    "a hello, and resets": (lambda hello: [hello], reset, PEER_CLOSED, TIMED_OUT),
    "a hello, and waits": (lambda hello: [hello], stay, TIMED_OUT, TIMED_OUT),
    "more than a hello": (lambda hello: [hello, b"\x16\x03\x03" + 99 * b"x"], stay, FAILED, TIMED_OUT),
    "a hello in pieces": (lambda hello: [hello[:5], hello[5:9], hello[9:]], leave, PEER_CLOSED, TIMED_OUT),
    "half a hello": (lambda hello: [hello[:99]], stay, TIMED_OUT, TIMED_OUT),
    "half a hello, and leaves": (lambda hello: [hello[:99]], leave, PEER_CLOSED, PEER_CLOSED),
    "garbage": (lambda _: [b"\x16\x03\x01\x00\x05" + 99 * b"x"], stay, FAILED, FAILED),
    "no TLS": (lambda _: [b"GET / HTTP/1.0\r\n\r\n"], stay, "plain HTTP request", "plain HTTP request"),
}


def send(port, pieces, then):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.02)
        then(connection)


@pytest.mark.parametrize("version", ("1.2", "1.3"))
@pytest.mark.parametrize("column, timeout_ms", ((2, 2 * DELAY_MS), (3, DELAY_MS // 3)), ids=("signed first", "timed out first"))
def test_bad_clients_lose_their_connections_and_nobody_else_theirs(
    hsm, make_nginx, authority, keys, monkeypatch, column, timeout_ms, version
):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)
    key, good, good_port = keys["p256"], keys["rsa2048"], free_port()
    nginx = make_nginx(hsm.socket).configure(
        (key.host, f"{certificate_lines(key)} client_header_timeout {timeout_ms}ms;"),
        (good.host, f"{certificate_lines(good)} listen 127.0.0.1:{good_port} ssl;"),
    ).start()
    curl(authority, good_port, good.host)  # a worker connects to immured at its first signature
    workers, before = nginx.workers(), descriptors(nginx.workers())
    hello = client_hello(key.host, version)
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        for pieces, then, *_ in CLIENTS.values():
            pool.submit(send, nginx.port, pieces(hello), then)
        curl(authority, good_port, good.host)
    expected = Counter(client[column] for client in CLIENTS.values())
    wait_until(lambda: descriptors(workers) <= before, "the end of the connections")
    counted = lambda: {said: nginx.log().count(said) for said in expected}
    wait_until(lambda: counted() == expected, f"{expected} in the log")
    assert nginx.workers() == workers
    assert "[alert]" not in nginx.log() and "[crit]" not in nginx.log()


def test_a_key_share_that_is_no_point_is_the_clients_error(hsm, make_nginx, keys):
    """It is found by libcrypto, and libssl's error comes after libcrypto's."""
    key, point = keys["p256"], bytes.fromhex("00170041" "04")  # the share's group, its size
    nginx = make_nginx(hsm.socket).configure((key.host, certificate_lines(key))).start()
    start, end = client_hello(key.host, group="prime256v1").split(point)
    send(nginx.port, [start + point + 64 * b"\xff" + end[64:]], stay)
    wait_for_words(nginx, "bad ecpoint")
    assert re.search(r"\[info\].* SSL_do_handshake\(\) failed .*bad ecpoint", nginx.log())
    assert "[crit]" not in nginx.log()


@pytest.mark.parametrize(
    "name, offers",
    (("p256", "--tlsv1.3"), ("p256", "--tls-max 1.2"), ("rsa2048", "--tls-max 1.2 --ciphers AES128-SHA")),
    ids=("in TLS 1.3", "in TLS 1.2", "in RSA key exchange"),
)
def test_an_operation_that_fails_is_not_the_clients_error(
    immured, make_nginx, authority, keys, name, offers
):
    key = keys[name]
    nginx = make_nginx(immured.socket, timeout_ms=100)
    nginx.configure((key.host, certificate_lines(key) + "ssl_ciphers ALL;"))
    nginx.edit(f"immure_socket {immured.socket}", "immure_socket /nonexistent").start()
    curl(authority, nginx.port, key.host, *offers.split(), status=35)
    wait_for_words(nginx, "/nonexistent")
    assert re.search(r"\[crit\].* SSL_do_handshake\(\) failed .*/nonexistent", nginx.log())


# --- Operators -----------------------------------------------------------------------------------

CLIENTS_PENDING = 8
# Long enough for all of them to have asked, and something to be done, before the first gives up.
TIMEOUT_MS = 6000


def visit(authority, port, host):
    with connect(port, host, ssl.create_default_context(cafile=authority.certificate)) as connection:
        return get(connection, host)


@contextmanager
def pending(hanging, nginx, authority, host):
    """Visits, by clients whose handshakes wait for signatures within the `with`."""
    with ThreadPoolExecutor(CLIENTS_PENDING) as pool:
        visits = [pool.submit(visit, authority, nginx.port, host) for _ in range(CLIENTS_PENDING)]
        in_flight = lambda: hanging.immured.token_status()["in_flight"] == CLIENTS_PENDING
        try:
            wait_until(in_flight, "as many signatures pending as there are clients")
            yield visits
        finally:
            hanging.module.clear()


def upgrade(nginx):
    """To a new binary; the old master ends as soon as its workers have."""
    old = nginx.pid()
    nginx.signal("SIGUSR2")
    wait_until(lambda: nginx.pid(".oldbin") == old and nginx.pid(), "the new master")
    nginx.signal("SIGWINCH", old)
    nginx.signal("SIGQUIT", old)


@pytest.mark.parametrize(
    "operate",
    (lambda nginx: nginx.reload(), lambda nginx: nginx.signal("SIGQUIT"), upgrade),
    ids=("reload", "quit", "upgrade"),
)
def test_clients_with_signatures_pending_are_served_by_the_old_workers(
    hanging, make_nginx, authority, keys, operate
):
    key = keys["p256"]
    nginx = make_nginx(hanging.immured.socket, timeout_ms=60000)
    nginx.configure((key.host, certificate_lines(key))).start()
    workers = nginx.workers()
    with pending(hanging, nginx, authority, key.host) as visits:
        operate(nginx)
        wait_for_shutdown(workers)
        assert not any(visit.done() for visit in visits), "they lost their connections"
    assert all(f"served {key.host}" in visit.result() for visit in visits)
    wait_until(lambda: not any(map(is_running, workers)), "the end of the old workers")
    assert "[alert]" not in nginx.log()


@pytest.mark.parametrize("away", (False, True), ids=("the signature comes", "immured is away"))
@pytest.mark.parametrize(
    "operate", ("SIGHUP", "SIGQUIT", "SIGTERM"), ids=("reload", "quit", "stop")
)
def test_workers_that_are_to_end_do_so_after_what_they_wait_for(
    hanging, make_nginx, authority, keys, operate, away
):
    """Beyond worker_shutdown_timeout at most until the signature or immure_timeout."""
    key = keys["p256"]
    nginx = make_nginx(hanging.immured.socket, timeout_ms=TIMEOUT_MS if away else 60000)
    nginx.configure((key.host, certificate_lines(key)))
    nginx.edit("events {", "worker_shutdown_timeout 100ms;\nevents {").start()
    workers = nginx.workers()
    with pending(hanging, nginx, authority, key.host):
        if away:
            hanging.immured.kill()
        nginx.signal(operate)
        time.sleep(0.3)  # the 100 ms pass
    wait_until(lambda: not any(map(is_running, workers)), "the end of the old workers", 15)
    assert "[alert]" not in nginx.log()
