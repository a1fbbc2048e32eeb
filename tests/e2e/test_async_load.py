"""Thousands of handshakes in flight, and what a hundred thousand of them leave behind."""

import re

import pytest
from harness.clients import curl
from harness.load import handshakes
from harness.nginx import certificate_lines
from harness.process import children, descriptors, resident_kib, wait_until

# 100 bytes left behind by each handshake would be 10 MB, and 1 MB. Stacks of jobs are kept: with 64
# clients up to 2 MB a worker, when so many signatures happen to be under way at one time.
KIB_AFTER_100_000 = 6144
KIB_AFTER_10_000_ABORTED = 900
# A job that is left behind is some 10 KB.
KIB_AFTER_2_000_TIMED_OUT = 8192

pytestmark = pytest.mark.parametrize("hosting", ["by module"], indirect=True)


@pytest.fixture
def start(make_nginx, keys):
    """Starts an nginx with a key, and room for thousands of connections."""

    def make(immured, timeout_ms=None, lines=""):
        key = keys["p256"]
        nginx = make_nginx(immured.socket, timeout_ms)
        nginx.events = "worker_connections 4096;"
        nginx.listen = "ssl backlog=4096"  # or the kernel drops some when nginx has no CPU
        lines = f"{certificate_lines(key)} {lines} location /status {{ stub_status; }}"
        nginx.configure((key.host, lines))
        return nginx.edit("events {", "worker_rlimit_nofile 8192;\nevents {").start()

    return make


def test_thousands_of_handshakes_in_flight_all_succeed(make_slow, start, keys):
    hsm, clients, host = make_slow(20, "max-sessions = 64"), 2000, keys["p256"].host
    nginx = start(hsm, timeout_ms=30000)
    done = handshakes(nginx.port, host, clients=clients, count=2 * clients, timeout=30000)
    assert (done["handshakes"], done["failed"]) == (2 * clients, 0), str(done)
    assert "[alert]" not in nginx.log()


class Remains:
    """What the processes have now, by their names; `check` later that it has not become more."""

    def __init__(self, programs):
        self.programs = programs
        self.descriptors = self.of_each(descriptors)
        self.kib = self.of_each(resident_kib)

    def of_each(self, measure):
        return {name: measure(pids) for name, pids in self.programs.items()}

    def check(self, kib_max=None):
        most = self.descriptors
        closed = lambda: all(n <= most[name] for name, n in self.of_each(descriptors).items())
        wait_until(closed, f"no more descriptors than before: {most}")
        grown = {name: kib - self.kib[name] for name, kib in self.of_each(resident_kib).items()}
        assert kib_max is None or max(grown.values()) < kib_max, f"{grown} KiB more than before"


def active_connections(authority, nginx, host):
    """nginx's own count, without that which asks."""
    text = curl(authority, nginx.port, host, path="/status")
    return int(re.search(r"Active connections: (\d+)", text)[1]) - 1


def wait_for_idle(authority, hsm, nginx, host):
    """Until all connections of clients have ended, and all that they asked for."""
    wait_until(lambda: hsm.token_status()["in_flight"] == 0, "the end of the signatures")
    wait_until(lambda: active_connections(authority, nginx, host) == 0, "the end of the connections")


@pytest.mark.parametrize(
    "full, aborted, kib, kib_aborted",
    [
        (2000, 500, None, None),  # too few to tell a leak from caches that fill up
        pytest.param(
            *(100_000, 10_000, KIB_AFTER_100_000, KIB_AFTER_10_000_ABORTED), marks=pytest.mark.slow
        ),
    ],
    ids=("few", "many"),
)
def test_handshakes_leave_nothing_behind(
    make_slow, start, authority, keys, full, aborted, kib, kib_aborted
):
    hsm, host = make_slow(2, "max-sessions = 64"), keys["p256"].host
    nginx = start(hsm)
    load = lambda **options: handshakes(nginx.port, host, clients=64, **options)
    load(count=full // 20)
    load(count=aborted, abort="mixed")
    wait_for_idle(authority, hsm, nginx, host)

    remains = Remains({"nginx": nginx.workers(), "immured": children(hsm.process.pid)})
    done = load(count=full)
    assert (done["handshakes"], done["failed"]) == (full, 0), str(done)
    remains.check(kib)
    wait_for_idle(authority, hsm, nginx, host)

    remains = Remains(remains.programs)
    assert load(count=aborted, abort="mixed")["aborted"] == aborted
    remains.check(kib_aborted)

    wait_for_idle(authority, hsm, nginx, host)
    assert nginx.workers() == remains.programs["nginx"]
    assert "[alert]" not in nginx.log()


@pytest.mark.slow  # a sanitizer keeps memory that was freed
def test_clients_that_time_out_while_their_signatures_are_pending_leave_nothing_behind(
    make_slow, start, keys
):
    hsm, host = make_slow(1000, "max-sessions = 256"), keys["p256"].host
    nginx = start(hsm, lines="client_header_timeout 50ms;")
    load = lambda count: handshakes(nginx.port, host, clients=256, count=count)
    load(512)
    wait_until(lambda: hsm.token_status()["in_flight"] == 0, "the end of the signatures")
    remains = Remains({"nginx": nginx.workers()})
    load(2048)
    remains.check(KIB_AFTER_2_000_TIMED_OUT)
    assert nginx.log().count("client timed out") == 512 + 2048
