"""Restarts of immured: damped when they do not help, and unseen when the socket is kept."""

import os
import shutil
import signal
import time

import pytest
from harness.faulty import faulty_modules, faulty_sections
from harness.load import Load
from harness.nginx import certificate_lines
from harness.process import wait_for_words, wait_until
from harness.token import GRANTS, ActivatedImmured, as_daemon

STORM_SECONDS = 6
# Starts at once, then 100, 200, 400, 800, 1600 and 3200 ms after each death.
STARTS_MAX = 7


def test_starts_of_a_module_that_crashes_at_once_are_spread_out_until_it_is_replaced(
    make_immured, stage, token, directory
):
    modules = faulty_modules(stage, directory, ["one"])
    sections = faulty_sections(token, modules, ["one"])
    immured = make_immured(sections + GRANTS, {"IMMURE_HSM_FAULTS": "crash C_Initialize"})
    with open(immured.log_file, "ab") as log:
        immured.process = immured.spawn(as_daemon(stage.immured, "-c", immured.conf), log)
    time.sleep(STORM_SECONDS)
    deaths = immured.log().count("was ended by signal 6")
    assert 4 <= deaths <= STARTS_MAX, immured.log()
    immured.configure(token.section() + GRANTS)
    immured.reload()
    wait_for_words(immured, " keys found ")


def test_a_reload_that_is_asked_for_while_one_fails_is_made(make_immured, stage, token, directory):
    modules = faulty_modules(stage, directory, ["one"])
    immured = make_immured(faulty_sections(token, modules, ["one"]) + GRANTS).start()
    (serving,) = immured.workers()
    modules[0].set("hang C_Initialize")
    immured.reload()
    settling = wait_until(lambda: set(immured.workers()) - {serving}, "the reload's worker")
    immured.configure(token.section() + GRANTS)
    immured.reload()
    time.sleep(0.5)  # until the master has read the second signal, which nothing shows
    os.kill(settling.pop(), signal.SIGKILL)
    wait_for_words(immured, "serves in place of the one before", "token soft: up")


def test_a_process_that_a_module_leaves_behind_does_not_hold_immured_up(
    make_immured, stage, token, directory, keys, sign
):
    modules = faulty_modules(stage, directory, ["one"])
    immured = make_immured(faulty_sections(token, modules, ["one"]) + GRANTS).start()
    serving = immured.workers()
    modules[0].set("linger 60000 C_Initialize", "crash C_Initialize")
    immured.reload()
    wait_for_words(immured, "was ended by signal 6", "goes on with the old")
    assert immured.workers() == serving
    sign(immured, keys["p256"])
    immured.stop()
    os.killpg(immured.process.pid, signal.SIGKILL)  # of the group, that one alone is there


@pytest.fixture
def activated(stage, directory, token):
    immured = ActivatedImmured(stage, directory / "activated", token.section() + GRANTS, token.env)
    yield immured.start()
    immured.close()


def test_an_upgrade_of_the_binary_with_the_socket_kept_fails_no_handshake(
    activated, make_nginx, authority, keys
):
    served = [keys["p256"], keys["rsa2048"]]
    nginx = make_nginx(activated.socket, timeout_ms=10000)
    nginx.configure(*((key.host, certificate_lines(key)) for key in served)).start()
    binary = activated.stage.immured
    with Load(authority, nginx.port, [key.host for key in served]) as load:
        for _ in range(5):
            before = activated.process.pid
            new = binary.with_suffix(".new")
            shutil.copy(binary, new)
            new.rename(binary)  # as packages do it
            activated.stop()
            activated.start()
            assert activated.process.pid != before
            load.wait_for(20)
        load.check()
    assert activated.log().count("or where systemd says") == 6
    assert activated.socket.exists()
