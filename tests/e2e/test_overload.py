"""More requests than a token has sessions: they wait their turn, and what comes too late is told so."""

import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import wire
from harness.token import GRANTS

DELAY_MS = 10
# So long that a backlog is full before many are signed, on a busy machine as well.
LONG_DELAY_MS = 30
SESSIONS = 4
# What immured keeps for a token: BACKLOG_MAX of daemon/backlog.h.
BACKLOG = 1024


@pytest.fixture
def slow(make_slow):
    """An immured with a slow token of a few sessions."""
    return make_slow(DELAY_MS, f"max-sessions = {SESSIONS}")


def signatures(key, count, deadline_ms=2000, size=4):
    """So many SIGN requests, numbered from 0, with messages of so many bytes."""
    key_id = key.id
    return [
        wire.request(
            wire.SIGN, struct.pack(">I", number).ljust(size), scheme=wire.ECDSA_SHA256, key_id=key_id,
            request_id=number, deadline_ms=deadline_ms,
        )
        for number in range(count)
    ]


def exchange(immured, requests):
    """Sends all and takes the replies meanwhile: who does not take them loses the connection."""
    with wire.Connection(immured.socket) as connection, ThreadPoolExecutor(1) as pool:
        replies = pool.submit(lambda: [connection.receive() for _ in requests])
        for request in requests:
            connection.send(request)
        return replies.result()


def test_requests_beyond_the_sessions_are_served_in_their_order(slow, keys):
    count = 200
    replies = exchange(slow, signatures(keys["p256"], count, deadline_ms=60000))
    assert {reply.status for reply in replies} == {wire.OK}
    # On a busy host a thread that has taken one may have to wait for a CPU, while others go on.
    moved = [place for place, reply in enumerate(replies) if abs(place - reply.request_id) > count / 4]
    assert len(moved) <= SESSIONS
    token = slow.token_status()
    assert (token["in_flight"], token["waiting"], token["signatures"]) == (0, 0, count)


def test_the_largest_message_of_a_handshake_waits_as_well(slow, keys):
    dhe8192 = 64 + 2 + 1024 + 2 + 1 + 2 + 1024  # RFC 5246 7.4.3
    replies = exchange(slow, signatures(keys["p256"], 50, deadline_ms=60000, size=dhe8192))
    assert {reply.status for reply in replies} == {wire.OK}


def test_a_full_backlog_refuses_at_once_and_the_others_are_served(make_slow, keys):
    slow, count = make_slow(LONG_DELAY_MS, f"max-sessions = {SESSIONS}"), BACKLOG + 200
    replies = exchange(slow, signatures(keys["p256"], count, deadline_ms=60000))
    got = Counter(reply.status for reply in replies)
    assert set(got) == {wire.OK, wire.BUSY}
    assert got[wire.OK] >= BACKLOG  # and those that were signed meanwhile
    first_refused = [reply.status for reply in replies].index(wire.BUSY)
    assert first_refused < count / 2


def test_what_has_waited_and_finds_the_device_busy_is_no_use(make_immured, token, stage, keys):
    section = token.section(module=stage.hsm) + f"max-sessions = {SESSIONS}\n"
    faults = f"delay {DELAY_MS}\nfail 0x06"  # CKR_FUNCTION_FAILED
    immured = make_immured(section + GRANTS, env={"IMMURE_HSM_FAULTS": faults}).start()
    replies = exchange(immured, signatures(keys["p256"], 50, deadline_ms=60000))
    assert {reply.status for reply in replies} == {wire.BUSY}
    assert {grant["uses"] for grant in immured.status()["grants"]} == {0}


def test_what_waits_past_its_deadline_is_told_so_and_not_signed(slow, keys):
    replies = exchange(slow, signatures(keys["p256"], 100, deadline_ms=10 * DELAY_MS))
    got = Counter(reply.status for reply in replies)
    assert set(got) == {wire.OK, wire.DEADLINE_PASSED}
    assert got[wire.OK] >= SESSIONS
    assert slow.token_status()["signatures"] == got[wire.OK]
