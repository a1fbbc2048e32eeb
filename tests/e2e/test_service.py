"""immured as a service: what systemd passes and is told, and several tokens in one configuration."""

import os
import shutil
import socket
import subprocess

import pytest
from harness.pki import import_key
from harness.process import end, wait_for_words, wait_until
from harness.token import GRANTS, PIN, SOFTHSM, as_daemon, end_child, write_private


class Notifications:
    """The socket that systemd would listen on (sd_notify(3))."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)
        path.chmod(0o666)

    def expect(self, wanted):
        seen = []
        while wanted not in seen:
            seen += self.socket.recv(4096).decode().split("\n")
        return seen


def test_systemd_is_told_of_start_reload_and_stop(make_immured, workspace, keys, sign):
    notifications = Notifications(workspace / "notify")
    immured = make_immured(env={"NOTIFY_SOCKET": str(notifications.path)}).start()
    notifications.expect("READY=1")
    immured.reload()
    told = notifications.expect("RELOADING=1") + notifications.expect("READY=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in told), told
    sign(immured, keys["p256"])
    immured.stop()
    notifications.expect("STOPPING=1")


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is not here"
)
def test_a_socket_from_systemd_is_used_and_left_in_place(make_immured, keys, sign):
    immured = make_immured()
    listen = ("systemd-socket-activate", "--seqpacket", f"--listen={immured.socket}")
    environment = [f"--setenv={name}={value}" for name, value in immured.env.items()
                   if name in ("IMMURE_CONF", "SOFTHSM2_CONF", "LD_PRELOAD", "ASAN_OPTIONS")]
    with open(immured.log_file, "ab") as log:
        immured.process = subprocess.Popen(
            as_daemon(*listen, *environment, immured.stage.immured, "-c", immured.conf),
            env=immured.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )
    wait_until(immured.is_listening, "systemd's socket")
    sign(immured, keys["p256"])
    wait_for_words(immured, "where systemd says")
    assert end_child(immured.process)
    assert immured.socket.exists()  # it is systemd's


def test_a_pin_from_a_systemd_credential_is_used(make_immured, token, directory, keys, sign):
    credentials = directory / "credentials"
    credentials.mkdir()
    credentials.chmod(0o755)
    write_private(credentials / "pin", PIN + "\n")
    section = token.section().replace(f"pin-file = {token.pin_file}", "pin-credential = pin")
    assert "pin-credential" in section
    immured = make_immured(section + GRANTS, env={"CREDENTIALS_DIRECTORY": str(credentials)})
    sign(immured.start(), keys["rsa2048"])


def test_two_tokens_serve_their_own_keys_and_a_key_on_both_survives_the_loss_of_one(
    make_immured, token, authority, directory, sign
):
    second = write_private(directory / "second-pin", "second-pin\n")
    token.add("second", "second-pin")
    section = (
        f"[token second]\nmodule = {SOFTHSM}\nuri = pkcs11:token=second\npin-file = {second}\n"
    )
    immured = make_immured(token.section() + section + GRANTS).start()
    wait_until(lambda: immured.log().count(" keys found ") == 2, "both tokens")

    def imported(name, *tokens):
        file_key = authority.file_key(name, f"{name}.immure.test")
        return import_key(immured, authority, directory, name, file_key, tokens)

    first_only, second_only, both = (
        imported("only-first", "soft"),
        imported("only-second", "second"),
        imported("on-both", "soft", "second"),
    )
    for key in (first_only, second_only, both):
        sign(immured, key)
    immured.cli("key", "destroy", "on-both", "--token", "soft", "--yes")
    sign(immured, both)
    immured.cli("key", "destroy", "only-first", "--yes")
    immured.cli("key", "destroy", "only-second", "--yes")
    immured.cli("key", "destroy", "on-both", "--yes")


def test_a_new_immured_takes_over_right_after_the_master_was_killed(make_immured, keys, sign):
    immured = make_immured().start()
    sign(immured, keys["p256"])
    workers = immured.workers()
    immured.process.kill()
    immured.process.wait()
    immured.start()
    sign(immured, keys["p256"])
    for worker in workers:
        wait_until(lambda: end(worker), "the end of the old worker")


def reload_with(immured, *lines):
    """Reloads with these lines in [immured], and returns what is logged of it."""
    sections = immured.conf.read_text().split("\n\n", 1)[1]
    immured.configure(sections)
    written = immured.conf.read_text()
    immured.conf.write_text(written.replace("[immured]\n", "\n".join(["[immured]", *lines, ""])))
    before, workers = len(immured.log()), immured.workers()
    immured.reload()
    wait_until(lambda: immured.workers() not in ([], workers) and len(immured.workers()) == 1, "reload")
    return immured.log()[before:]


def test_a_reload_changes_the_log_level_of_master_and_worker(make_immured):
    immured = make_immured().start()
    reload_with(immured, "log-level = warning")
    assert reload_with(immured, "log-level = info").count(": reloading ") == 0
    told = reload_with(immured)
    assert f"immured[{immured.process.pid}] notice: reloading " in told


def test_a_reload_tells_that_allow_exec_waits_for_a_restart(make_immured):
    immured = make_immured().start()
    waits = "but it is no until immured is restarted"
    assert waits not in reload_with(immured)
    assert f"allow-exec is now yes in {immured.conf}, {waits}" in reload_with(immured, "allow-exec = yes")


def test_status_is_told_with_a_configuration_whose_path_is_not_utf_8(make_immured):
    immured = make_immured()
    immured.conf = immured.conf.rename(immured.conf.with_name(os.fsdecode(b"immure-\xff.conf")))
    immured.env["IMMURE_CONF"] = str(immured.conf)
    assert immured.start().status()["config"] == "(not UTF-8)"
