"""One of two tokens with the same keys fails in every way there is: no client notices."""

import json
import shutil

import pytest
from harness.load import Load
from harness.nginx import certificate_lines
from harness.process import wait_until
from harness.token import GRANTS, SOFTHSM

# The client's deadline, in seconds: what is slower has failed.
DEADLINE = 2.0


class FaultyModule:
    """A copy of the fault module with a SoftHSM of its own: what one does is not the other's."""

    def __init__(self, stage, directory, name):
        self.path = shutil.copy(stage.delay, directory / f"{name}.so")
        shutil.copy(SOFTHSM, f"{self.path}.real")
        self.fault = directory / f"{name}.so.fault"

    def set(self, fault):
        # At once, or a reader would see half of it.
        new = self.fault.with_suffix(".new")
        new.write_text(fault + "\n")
        new.chmod(0o644)
        new.rename(self.fault)

    def clear(self):
        self.fault.unlink(missing_ok=True)


@pytest.fixture
def modules(stage, directory):
    shutil.chown(directory, "daemon")  # whose process removes the file of a crash
    return [FaultyModule(stage, directory, name) for name in ("one", "two")]


@pytest.fixture
def cluster(make_immured, token, modules):
    """An immured with one token twice, by way of two modules."""
    sections = "".join(
        token.section(module=module.path).replace("[token soft]", f"[token {name}]")
        for name, module in zip(("one", "two"), modules)
    )
    immured = make_immured(sections + GRANTS, env={"IMMURE_DELAY_MS": "2"}).start()
    wait_until(lambda: immured.log().count(" keys found ") == 2, "both tokens")
    return immured


def tokens(immured):
    found = json.loads(immured.cli("status", "--json").stdout)["tokens"]
    return {token["name"]: token for token in found}


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
        modules[0].set(fault)
        load.wait_for(200)
        modules[0].clear()
        load.wait_for(100)
        load.check()
        assert load.slowest < DEADLINE, str(load)


def test_a_token_that_hangs_is_named_and_comes_back_by_itself(
    cluster, modules, make_nginx, authority, keys
):
    key = keys["p256"]
    nginx = make_nginx(cluster.socket).configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], threads=8) as load:
        load.wait_for(100)
        modules[0].set("hang")
        wait_until(lambda: tokens(cluster)["one"]["state"] == "slow", "the token's state")
        stuck = tokens(cluster)["one"]["in_flight"]
        load.wait_for(200)
        assert tokens(cluster)["one"]["in_flight"] == stuck, "a request was given to it"
        modules[0].clear()
        wait_until(lambda: tokens(cluster)["one"]["state"] == "ready", "the token's recovery")
        before = tokens(cluster)["one"]["signatures"]
        load.wait_for(200)
        assert tokens(cluster)["one"]["signatures"] > before
        load.check()
    assert "token one: a call has taken" in cluster.log()
    assert "token one: answers again" in cluster.log()
