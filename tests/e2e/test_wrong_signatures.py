"""A token that makes a wrong signature: nobody gets it, and the token is not used any more."""

import json
import shutil

import pytest
from harness import wire
from harness.process import wait_until
from harness.token import GRANTS, SOFTHSM

# tests/fault/hsm.c signs once, and then gives that signature for every message.
REPEATS = {"IMMURE_HSM_DELAY_MS": "0", "IMMURE_HSM_REPEAT": "1"}
SCHEMES = {"p256": 0x0403, "rsa2048": 0x0804, "ed25519": 0x0807}


def sign(immured, key, message):
    with wire.Connection(immured.socket) as connection:
        return connection.call(
            wire.request(wire.SIGN, message, scheme=SCHEMES[key.name], key_id=key.id)
        )


def state(immured):
    return json.loads(immured.cli("status", "--json").stdout)["tokens"][0]["state"]


@pytest.mark.parametrize(
    "first, then, lines",
    [
        ("rsa2048", "rsa2048", ""),
        ("p256", "p256", "verify-signatures = always\n"),
        ("p256", "ed25519", ""),  # the first one of each key is checked
    ],
)
def test_a_wrong_signature_is_never_sent_and_ends_the_use_of_its_token(
    make_immured, token, stage, keys, first, then, lines
):
    section = token.section(module=stage.hsm) + lines
    immured = make_immured(section + GRANTS, env=REPEATS).start()
    assert sign(immured, keys[first], b"one").status == wire.OK
    refused = sign(immured, keys[then], b"another")
    assert refused.status == wire.TOKEN_FAILED
    assert b"wrong signature" in refused.payload and keys[then].name.encode() in refused.payload
    wait_until(lambda: state(immured) == "down", "the end of the token's use")
    assert sign(immured, keys[first], b"one").status == wire.TOKEN_UNAVAILABLE
    assert "error: token soft: made a wrong signature with key" in immured.log()
    immured.reload()
    wait_until(lambda: state(immured) == "ready", "the token after a reload")
    wait_until(lambda: len(immured.workers()) == 1, "the end of the old worker")
    assert sign(immured, keys[first], b"one").status == wire.OK


def test_a_key_on_two_tokens_is_signed_with_by_the_one_that_does_it_right(
    make_immured, token, stage, keys, directory
):
    # A library of its own: what is closed with the one token must not be the other's.
    library = shutil.copy(SOFTHSM, directory / "other-softhsm.so")
    good = token.section(module=library).replace("[token soft]", "[token good]")
    immured = make_immured(token.section(module=stage.hsm) + good + GRANTS, env=REPEATS).start()
    wait_until(lambda: immured.log().count(" keys found ") == 2, "both tokens")
    replies = [sign(immured, keys["rsa2048"], b"message %d" % number) for number in range(10)]
    assert {reply.status for reply in replies} == {wire.OK}
    assert "made a wrong signature" in immured.log()
