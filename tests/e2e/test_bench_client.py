"""The TLS client of the benchmark counts what servers count, and notices what goes wrong."""

import json
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress

import pytest
from harness.nginx import Nginx
from harness.process import free_port, run, wait_until

HOST = "bench.immure.test"


@pytest.fixture
def plain(stage, directory, authority):
    """nginx with a key in a file; `lines` go into its server."""
    made = []

    def start(lines=""):
        nginx = Nginx(stage, directory / f"nginx{len(made)}", authority.plain_conf)
        made.append(nginx)
        key, certificate = authority.file_key(f"bench{len(made)}", HOST)
        nginx.configure((HOST, f"ssl_certificate {certificate}; ssl_certificate_key {key}; {lines}"))
        return nginx.start()

    yield start
    for nginx in made:
        nginx.stop()


@pytest.fixture
def handshakes(stage):
    """The client: its result, and its exit status, which must be as expected."""

    def call(port, *options, status=0):
        command = (stage.handshakes, "--connect", f"127.0.0.1:{port}", "--name", HOST, "--json")
        result = run(*command, *options, env=stage.own_env, status=status)
        return json.loads(result.stdout)

    return call


def test_it_counts_as_many_requests_as_nginx(plain, handshakes, directory):
    log = directory / "access.log"
    nginx = plain(f"access_log {log};")
    result = handshakes(nginx.port, "--count", "300", "--clients", "20", "--request")
    assert (result["handshakes"], result["failed"], result["aborted"]) == (300, 0, 0)
    wait_until(lambda: len(log.read_text().splitlines()) == 300, "300 lines in the access log")
    assert all('"GET / HTTP/1.1" 200' in line for line in log.read_text().splitlines())
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["max"]


def test_openssl_counts_as_many_full_handshakes(authority, handshakes, directory):
    key, certificate = authority.file_key("s_server", HOST)
    port = free_port()
    log = directory / "s_server.log"
    command = ("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "40")
    with open(log, "wb") as output:
        server = subprocess.Popen(
            (*command, "-cert", certificate, "-key", key), env=authority.env,
            stdin=subprocess.PIPE, stdout=output, stderr=output,
        )
    try:
        wait_until(lambda: "ACCEPT" in log.read_text(), "s_server")
        result = handshakes(port, "--count", "40", "--clients", "1")
        server.wait(10)
    finally:
        server.kill()
        server.wait()
    assert (result["handshakes"], result["failed"]) == (40, 0)
    assert log.read_text().count("CIPHER is TLS_AES_128_GCM_SHA256") == 40


def test_a_server_without_tls13_is_a_failure_with_its_reason(plain, handshakes):
    nginx = plain()
    nginx.stop()
    nginx.conf.write_text(nginx.conf.read_text().replace("TLSv1.2 TLSv1.3", "TLSv1.2"))
    nginx.start()
    result = handshakes(nginx.port, "--count", "10", status=1)
    assert (result["handshakes"], result["failed"]) == (0, 10)
    assert result["failures"] == {"alert protocol_version": 10}


@contextmanager
def damaging_proxy(port):
    """Passes connections on to a server, and flips a bit near the end of what it answers first."""

    def pass_on(client):
        with client, socket.create_connection(("127.0.0.1", port), timeout=10) as server:
            client.settimeout(10)
            server.sendall(client.recv(65536))
            answer = bytearray(server.recv(65536))
            answer[-20] ^= 1
            client.sendall(answer)
            client.recv(65536)

    def accept(listener):
        with suppress(OSError):
            while True:
                pass_on(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_damaged_flight_is_a_failure(plain, handshakes):
    with damaging_proxy(plain().port) as port:
        result = handshakes(port, "--count", "5", "--clients", "1", status=1)
    assert (result["handshakes"], result["failures"]) == (0, {"record cannot be decrypted": 5})


def test_a_server_that_says_nothing_is_a_failure(handshakes):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        result = handshakes(port, "--count", "3", "--timeout", "100", status=1)
    assert result["failures"] == {"timeout": 3}
    result = handshakes(port, "--count", "3", status=1)
    assert result["failures"] == {"connection refused": 3}


def test_clients_that_leave_are_counted_apart(plain, handshakes):
    nginx = plain()
    result = handshakes(nginx.port, "--count", "200", "--abort", "mixed")
    assert (result["handshakes"], result["failed"], result["aborted"]) == (0, 0, 200)
    traces = (
        "SSL_do_handshake() failed", "peer closed connection in SSL handshake",
        "plain HTTP request to HTTPS port",
    )
    wait_until(lambda: all(trace in nginx.log() for trace in traces), f"{traces} in the log")


def test_a_rate_is_kept(plain, handshakes):
    result = handshakes(plain().port, "--rate", "100", "--count", "100")
    assert (result["handshakes"], result["failed"]) == (100, 0)
    assert result["seconds"] >= 0.95


@pytest.mark.parametrize(
    "arguments",
    [
        ("--connect", "192.0.2.1:443"),
        ("--connect", "127.0.0.1"),
        ("--connect", "127.0.0.1:1", "--clients", "0"),
        ("--connect", "127.0.0.1:1", "--abort", "never"),
        ("--connect", "127.0.0.1:1", "--name", "n" * 256),
        ("--connect", "127.0.0.1:1", "--seconds", "1", "--warm-up", "1"),
        ("--connect", "127.0.0.1:1", "more"),
        ("--unknown",),
        (),
    ],
)
def test_bad_usage_is_refused(stage, arguments):
    result = run(stage.handshakes, *arguments, env=stage.own_env, status=2)
    assert result.text.startswith((f"{stage.handshakes}: ", "handshakes: "))
