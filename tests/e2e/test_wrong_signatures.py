"""A token that makes a wrong signature: nobody gets it, and the token is not used any more."""

import pytest
from harness import wire
from harness.faulty import faulty_modules, start_with
from harness.process import wait_for_words, wait_until
from harness.token import GRANTS

SCHEMES = {"p256": 0x0403, "rsa2048": 0x0804, "ed25519": 0x0807}


def sign(immured, key, message):
    with wire.Connection(immured.socket) as connection:
        return connection.call(
            wire.request(wire.SIGN, message, scheme=SCHEMES[key.name], key_id=key.id)
        )


@pytest.fixture
def modules(stage, directory):
    return faulty_modules(stage, directory)


@pytest.mark.parametrize(
    "first, then, lines",
    [
        ("rsa2048", "rsa2048", ""),
        ("p256", "p256", "verify-signatures = always\n"),
        ("p256", "ed25519", ""),  # the first one of each key is checked
    ],
)
def test_a_wrong_signature_is_never_sent_and_ends_the_use_of_its_token(
    make_immured, token, modules, keys, first, then, lines
):
    section = token.section(module=modules[0].path) + lines
    immured = make_immured(section + GRANTS).start()
    state = lambda: immured.token_status()["state"]
    for _ in range(2):  # the first signature in a new session is checked as well
        assert sign(immured, keys[first], b"one").status == wire.OK
    modules[0].set("wrong")
    refused = sign(immured, keys[then], b"another")
    assert refused.status == wire.TOKEN_FAILED
    assert b"wrong signature" in refused.payload and keys[then].name.encode() in refused.payload
    wait_until(lambda: state() == "down", "the end of the token's use")
    modules[0].clear()
    assert sign(immured, keys[first], b"one").status == wire.TOKEN_UNAVAILABLE
    wait_for_words(immured, "error: token soft: made a wrong signature with key")
    immured.reload()
    wait_until(lambda: state() == "ready", "the token after a reload")
    wait_until(lambda: len(immured.workers()) == 1, "the end of the old worker")
    assert sign(immured, keys[first], b"one").status == wire.OK


def test_a_key_on_two_tokens_is_signed_with_by_the_one_that_does_it_right(
    make_immured, token, modules, keys
):
    immured = start_with(make_immured, token, modules)
    modules[0].set("wrong")
    replies = [sign(immured, keys["rsa2048"], b"message %d" % number) for number in range(10)]
    assert {reply.status for reply in replies} == {wire.OK}
    wait_for_words(immured, "made a wrong signature")
