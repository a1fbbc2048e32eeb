"""HAProxy, in whose threads handshakes do not wait, and Apache, whose threads do."""

import shutil
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.apache import APACHE, Apache, one_process
from harness.clients import client_hello, curl, s_client
from harness.faulty import faulty_modules
from harness.haproxy import HAPROXY, Haproxy
from harness.load import handshakes, leave_in_the_middle, many_handshakes, most_in_flight
from harness.process import descriptors, wait_until
from harness.server import sites
from harness.token import GRANTS

# Long enough for several handshakes to be under way at once, whatever the machine is doing.
SLOW_MS = 300
# A connection to immured that HAProxy's threads keep: a socket, a timer and what watches both.
DESCRIPTORS_EACH = 3
# How long the provider waits for a signature: longer than any machine is busy.
TIMEOUT_MS = 20000
# One for each request that was under way at a time; far fewer than there are handshakes.
CONNECTIONS_MAX = 600
# Requests at once, and how many of their connections the provider keeps.
RUSH, IDLE_MAX = 100, 32
# One after the other, so that few are under way at a time.
RESETS = 200


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not here")


@pytest.fixture
def start(stage, directory):
    """Starts a host with the provider from a configuration of OpenSSL's; `make` makes it."""
    started = []

    def start(immured, make):
        conf = stage.write_openssl_conf(directory / "host.cnf", immured.socket, timeout_ms=TIMEOUT_MS)
        started.append(make(directory / "host", stage.host_env(conf)))
        return started[-1].start()

    yield start
    for host in started:
        host.stop()


@pytest.fixture
def start_haproxy(stage, start, keys):
    """With handshakes that do not wait, which takes the same libcrypto in HAProxy and in Immure."""
    if other := stage.other_libcrypto(HAPROXY):
        pytest.skip(other)
    served = sites(keys["p256"], keys["rsa2048"])
    return lambda immured, *settings: start(
        immured, lambda directory, env: Haproxy(directory, env, served, ["ssl-mode-async", *settings])
    )


@needs(HAPROXY)
def test_haproxy_in_async_mode_serves_while_clients_leave(make_slow, start_haproxy, authority, keys):
    slow, host = make_slow(SLOW_MS), keys["p256"].host
    haproxy = start_haproxy(slow)
    assert most_in_flight(slow, lambda: many_handshakes(authority, haproxy.port, host)) > 2
    leave_in_the_middle(haproxy.port, host, 100)
    many_handshakes(authority, haproxy.port, host)
    assert haproxy.is_up(), haproxy.log()
    assert s_client(authority, haproxy.port, host, "-tls1_2").signature == "ECDSA SHA256"
    assert "FATAL" not in haproxy.log()


def descriptors_besides(haproxy, immured):
    """HAProxy's, without the connections to immured that it keeps for requests to come."""
    connections = immured.status()["connections"] - 1
    assert connections < CONNECTIONS_MAX
    return descriptors(haproxy.pids()) - DESCRIPTORS_EACH * connections


@needs(HAPROXY)
def test_haproxy_under_load_fails_no_handshake_while_clients_leave(make_slow, start_haproxy, keys):
    hsm, key = make_slow(2, "max-sessions = 64"), keys["p256"]
    haproxy = start_haproxy(hsm)
    load = lambda **options: handshakes(haproxy.port, key.host, **options)
    load(clients=64, count=500)
    before = descriptors_besides(haproxy, hsm)
    with ThreadPoolExecutor() as pool:
        full = pool.submit(load, clients=64, count=5000)
        aborted = pool.submit(load, clients=8, count=1000, abort="mixed")
        assert aborted.result()["aborted"] == 1000
        assert (full.result()["handshakes"], full.result()["failed"]) == (5000, 0), str(full.result())
    assert haproxy.is_up(), haproxy.log()
    wait_until(lambda: descriptors_besides(haproxy, hsm) <= before, f"no more than {before} descriptors")
    wait_until(lambda: hsm.token_status()["in_flight"] == 0, "the end of what was under way")


def reset_while_signing(port, hello):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(hello)
        time.sleep(0.01)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@needs(HAPROXY)
def test_haproxy_keeps_no_connection_to_immured_for_clients_that_reset(
    make_slow, start_haproxy, authority, keys
):
    """HAProxy then frees the SSL and its job, which is paused in the provider."""
    slow, host = make_slow(40), keys["p256"].host
    haproxy, hello = start_haproxy(slow), client_hello(host)
    for _ in range(RESETS):
        reset_while_signing(haproxy.port, hello)
    wait_until(lambda: slow.token_status()["in_flight"] == 0, "the end of what was under way")
    assert slow.status()["connections"] < RESETS / 4
    many_handshakes(authority, haproxy.port, host)
    assert haproxy.is_up(), haproxy.log()


@needs(HAPROXY)
def test_haproxy_closes_what_a_rush_of_requests_had_opened(hanging, start_haproxy, keys):
    immured, host = hanging.immured, keys["p256"].host
    haproxy = start_haproxy(immured, f"maxconn {3 * RUSH}")  # as the guide says, or it dies
    connections = lambda: immured.status()["connections"] - 1
    with ThreadPoolExecutor(1) as pool:
        rush = pool.submit(handshakes, haproxy.port, host, clients=RUSH, count=RUSH)
        wait_until(lambda: connections() >= RUSH, "a connection for each request", timeout=15)
        hanging.module.clear()
        assert rush.result()["failed"] == 0, str(rush.result())
    wait_until(lambda: connections() <= IDLE_MAX, f"no more than {IDLE_MAX} connections")
    assert handshakes(haproxy.port, host, clients=8, count=100)["failed"] == 0


@needs(APACHE)
@pytest.mark.parametrize("key_type", ("p256", "rsa2048", "ed25519"))
def test_apache_serves_with_a_reference_in_place_of_the_key(immured, start, authority, keys, key_type):
    key = keys[key_type]
    apache = start(immured, lambda directory, env: Apache(directory, env, sites(key)))
    for version in ("1.2", "1.3"):
        options = (f"--tlsv{version}", "--tls-max", version)
        assert curl(authority, apache.port, key.host, *options, path="/page") == "served"
    assert s_client(authority, apache.port, key.host).protocol == "TLSv1.3"


@needs(APACHE)
def test_apaches_threads_sign_at_the_same_time(
    stage, directory, token, make_immured, start, authority, keys
):
    (module,), key, threads = faulty_modules(stage, directory, ["hsm"]), keys["p256"], 12
    immured = make_immured(token.section(module.path) + GRANTS).start()
    limits = one_process(threads + 4)
    apache = start(
        immured, lambda directory, env: Apache(directory, env, sites(key), limits=limits)
    )
    module.set("hang C_Sign")
    with ThreadPoolExecutor(1) as pool:
        shaking = pool.submit(many_handshakes, authority, apache.port, key.host, threads)
        try:
            all_sign = lambda: immured.token_status()["in_flight"] == threads
            wait_until(all_sign, "all of them at the token: one waits for another", timeout=15)
        finally:
            module.clear()
        shaking.result()
