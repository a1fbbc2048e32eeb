"""Two tokens with the same keys: what one of them lacks, the other makes up for in time."""

import os
import signal

import pytest
from harness import wire
from harness.faulty import faulty_modules, start_with, tokens
from harness.load import Load
from harness.nginx import certificate_lines
from harness.process import wait_until

# The client's deadline, in seconds: what is slower has failed.
DEADLINE = 2.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("hosting", ["by module"], indirect=True),
]


@pytest.fixture
def modules(stage, directory):
    return faulty_modules(stage, directory)


@pytest.fixture
def serve(make_immured, token, modules, make_nginx, keys):
    """Starts an immured with the two modules and an nginx that uses it, with a P-256 key."""

    def start(delay_ms=2, max_sessions=16):
        env = {"IMMURE_HSM_DELAY_MS": str(delay_ms)}
        lines = f"max-sessions = {max_sessions}\n"
        immured = start_with(make_immured, token, modules, env=env, lines=lines)
        nginx = make_nginx(immured.socket)
        nginx.configure((keys["p256"].host, certificate_lines(keys["p256"]))).start()
        return immured, nginx

    return start


@pytest.fixture
def make_load(authority, keys):
    return lambda nginx, threads, rate=None: Load(
        authority, nginx.port, [keys["p256"].host], threads=threads, rate=rate
    )


def is_slow(immured):
    return tokens(immured)["one"]["state"] == "slow"


def test_one_that_hangs_is_given_next_to_nothing_while_the_other_has_no_room(
    serve, make_load, modules
):
    immured, nginx = serve(max_sessions=8)
    with make_load(nginx, 2) as load:
        modules[0].set("hang")
        wait_until(lambda: is_slow(immured), "the token's state")
        load.wait_for(100)  # what was chosen just before is with it then
        stuck = tokens(immured)["one"]["in_flight"]
        with make_load(nginx, 24) as crowd:
            crowd.wait_for(400)
            # Now and then it is tried, after 1, 3, 7, 15 s.
            assert tokens(immured)["one"]["in_flight"] < stuck + 4
            crowd.check()
        modules[0].clear()
        load.check()


def test_one_with_a_call_that_never_returns_is_used_again(serve, make_load, modules):
    immured, nginx = serve()
    with make_load(nginx, 1) as load:
        modules[0].set("hang x1")
        wait_until(lambda: is_slow(immured), "the token's state")
        before = tokens(immured)["one"]["signatures"]
        with make_load(nginx, 8) as crowd:
            wait_until(lambda: tokens(immured)["one"]["signatures"] > before + 10, "its signatures")
            assert tokens(immured)["one"]["in_flight"] >= 1
            crowd.check()
        modules[0].clear()
        load.check()


def test_what_hangs_in_one_is_made_by_the_other_when_that_has_room_again(
    serve, make_load, modules
):
    _, nginx = serve(delay_ms=250, max_sessions=1)
    with make_load(nginx, 4) as load:
        load.wait_for(10)
        modules[0].set("hang")
        load.wait_for(20)
        modules[0].clear()
        load.check()


@pytest.mark.parametrize("fault", ["hang", "vanish", "logout; hang C_Login"])
def test_while_one_fails_the_other_may_throttle(serve, make_load, modules, fault):
    _, nginx = serve()
    with make_load(nginx, 8) as load:
        modules[1].set("fail 0x06 50%")  # CKR_FUNCTION_FAILED
        modules[0].set(*fault.split("; "))
        load.wait_for(200)
        for module in modules:
            module.clear()
        load.check()


def test_one_with_a_single_session_is_used_again_after_its_loss(serve, make_load, modules):
    immured, nginx = serve(max_sessions=1)
    with make_load(nginx, 4) as load:
        modules[1].set("vanish")
        wait_until(lambda: tokens(immured)["two"]["state"] in ("starting", "down"), "the loss")
        modules[1].clear()
        wait_until(lambda: tokens(immured)["two"]["state"] == "ready", "its return")
        before = tokens(immured)["two"]["signatures"]
        wait_until(lambda: tokens(immured)["two"]["signatures"] > before + 10, "its signatures")
        modules[0].set("hang")
        load.wait_for(40)
        modules[0].clear()
        load.check()


@pytest.mark.parametrize("absent", [0, 1])
@pytest.mark.parametrize("fault", ["hang C_Initialize", "fail 0x30 C_Initialize", "hang C_Login"])
def test_a_worker_serves_as_soon_as_one_is_up(serve, make_load, modules, absent, fault):
    immured, nginx = serve()
    with make_load(nginx, 8) as load:
        load.wait_for(20)
        modules[absent].set(fault)
        modules[1 - absent].set("delay 200 C_Login")
        os.kill(immured.workers()[0], signal.SIGKILL)
        load.wait_for(50)
        load.check()
        assert load.slowest < DEADLINE, str(load)
        modules[absent].clear()


def test_a_search_may_take_longer_than_a_signature(serve, make_load, modules):
    immured, nginx = serve()
    with make_load(nginx, 8) as load:
        load.wait_for(100)  # so many that its patience is measured
    before = immured.log().count("a call has taken")
    modules[0].set("delay 200 C_FindObjectsInit")
    with wire.Connection(immured.socket) as connection:
        found = connection.call(wire.request(wire.FIND_KEY, b"\x01no such key"))
        assert found.status == wire.KEY_NOT_FOUND
    modules[0].clear()
    assert immured.log().count("a call has taken") == before


def test_keys_are_looked_up_where_there_is_room_by_and_by(serve, make_load, modules):
    immured, nginx = serve(max_sessions=1)
    modules[1].set("vanish")
    modules[0].set("delay 200 C_FindObjectsInit")
    immured.stop()
    immured.start()
    with make_load(nginx, 6) as load:
        load.wait_for(20)
        load.check()
