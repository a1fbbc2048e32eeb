"""What immured and its workers have given up, seen from outside, and that they sign all the same."""

import fcntl
import os
import pty
import re
import shutil
import signal
import termios
from pathlib import Path

import pytest
from harness.faulty import faulty_modules
from harness.process import children, read_until, run, wait_for_end, wait_until
from harness.stage import DAEMON_USER, root_is_mounted
from harness.token import GRANTS, PIN, Immured, as_daemon, write_private
from harness.unit_sandbox import CONFINE, sandboxed, settings

# Not ptrace in a build that looks for leaks with it.
TRESPASSES = ("process_vm_readv", "unshare", "io_uring_setup", "bpf")


def status_of(pid):
    return dict(re.findall(r"^(\w+):\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))


def filters(pid):
    """How many: a container has one around all that is in it."""
    return int(status_of(pid)["Seccomp_filters"])


def processes(immured):
    return [immured.process.pid, *immured.workers()]


def test_master_and_worker_have_a_filter_and_can_gain_no_privileges(make_immured, keys, sign):
    immured = make_immured().start()
    sign(immured, keys["p256"])
    assert len(processes(immured)) == 2
    for pid in processes(immured):
        status = status_of(pid)
        assert status["Seccomp"] == "2" and filters(pid) > filters("self"), status
        assert status["NoNewPrivs"] == "1" and status["Umask"] == "0077", status
        assert re.search(r"^Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
        # Not dumpable: what is in /proc is root's, and so are memory and registers.
        assert Path(f"/proc/{pid}/mem").stat().st_uid == 0


@pytest.mark.parametrize("exec_line, exec_result", [
    ("", "Operation not permitted"),
    ("allow-exec = yes", "Success"),
])
def test_a_library_that_trespasses_is_denied_and_signs_on(
    make_immured, stage, token, directory, keys, sign, exec_line, exec_result
):
    module, = faulty_modules(stage, directory, ["module"])
    immured = make_immured(token.section(module=module.path) + GRANTS)
    immured.conf.write_text(immured.conf.read_text().replace("[immured]", f"[immured]\n{exec_line}"))
    immured.start()
    sign(immured, keys["p256"])
    worker, = immured.workers()
    module.set("trespass")
    sign(immured, keys["p256"])
    wait_until(lambda: "hsm: execve: " in immured.log(), "the attempts")
    told = dict(re.findall(r"^hsm: (\w+): (.*)$", immured.log(), re.MULTILINE))
    assert told["execve"] == exec_result, told
    wanted = TRESPASSES + (() if stage.sanitized else ("ptrace",))
    assert {told[name] for name in wanted} == {"Operation not permitted"}, told
    assert immured.workers() == [worker]


@pytest.fixture
def spread(make_immured, stage, token, directory):
    """An immured with what it relies on in directories of their own, by what immured calls it."""
    places = {name: directory / name for name in ("modules", "pins", "run")}
    for place in places.values():
        place.mkdir(mode=0o755)
    shutil.chown(places["run"], DAEMON_USER)
    module = shutil.copy(stage.hsm, places["modules"])
    pin_file = write_private(places["pins"] / "pin", PIN + "\n")
    immured = make_immured()
    immured.socket = places["run"] / "immure.sock"
    immured.configure(token.section(module=module, pin_file=pin_file) + GRANTS)
    immured.opened = {
        "the configuration": immured.conf,
        "the module": places["modules"],
        "the PIN file's directory": places["pins"],
        "the socket's directory": places["run"],
    }
    return immured


@pytest.mark.parametrize("what", [
    "the configuration", "the module", "the PIN file's directory", "the socket's directory",
])
def test_immured_does_not_rely_on_what_others_can_change(spread, what, keys, sign):
    path = spread.opened[what]
    good = path.stat().st_mode
    path.chmod(good | 0o002)
    start = as_daemon(spread.stage.immured, "-c", spread.conf)
    complaint = re.compile(f"{what} .* can change {path} .*: chmod o-w {path}\n")
    assert complaint.search(run(*start, env=spread.env, status=1).text)
    if what != "the socket's directory":  # which the socket unit may make
        assert complaint.search(run(*start, "-t", env=spread.env, status=1).text)

    path.chmod(good)
    assert ": good: " in run(*start, "-t", env=spread.env).text
    spread.start()
    path.chmod(good | 0o002)
    spread.reload()
    if what != "the socket's directory":  # a reload does not move the socket
        wait_until(lambda: "the new configuration is not in use" in spread.log(), "the refusal")
        assert complaint.search(spread.log())
    sign(spread, keys["p256"])
    path.chmod(good)


class ConfinedImmured(Immured):
    """An immured whose `confinement`, arguments of harness/confine.py, is around it from its start."""

    confinement = ()

    def spawn(self, command, log, **options):
        # The user's change comes first, as in systemd.
        split = command.index(self.stage.immured)
        confined = (*command[:split], *CONFINE, *self.confinement, *command[split:])
        return super().spawn(confined, log, **options)


@pytest.fixture
def make_confined(stage, directory, token):
    made = []

    def make(*confinement):
        daemon = ConfinedImmured(stage, directory / "confined", token.section() + GRANTS, token.env)
        daemon.confinement = confinement
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.stop()


def reload(immured):
    """Returns when the worker before is gone as well."""
    immured.reload()
    wait_until(lambda: "in place of the one before" in immured.log(), "the reload")
    wait_until(lambda: len(immured.workers()) == 1, "the old worker's end")


def test_without_seccomp_immured_says_so_once_and_works(make_confined, keys, sign):
    immured = make_confined("--no-seccomp").start()
    sign(immured, keys["p256"])
    reload(immured)
    sign(immured, keys["p256"])
    assert immured.log().count("no seccomp filter, so libraries may make any system call") == 1
    assert {filters(pid) for pid in processes(immured)} == {filters("self") + 1}  # the test's own


# --- The systemd unit ---

EXPOSURE_MAX = 2.0


def unit_of(stage):
    unit, = stage.root.glob("**/immured.service")
    return unit


def test_the_unit_is_exposed_at_most_as_far_as_promised(stage):
    """And what keeps it above 0 is what HSMs in a network need, or immured to know its clients."""
    text = run("systemd-analyze", "security", "--offline=yes", "--no-pager", unit_of(stage)).text
    level = float(re.search(r"Overall exposure level for immured.service: ([0-9.]+) ", text)[1])
    assert level <= EXPOSURE_MAX, text


@pytest.mark.parametrize("example", ["none", "library", "network", "opencryptoki", "pcie", "tpm", "usb"])
def test_systemd_understands_the_unit_and_each_example_of_a_drop_in(stage, directory, example):
    for name in ("immured.service", "immured.socket"):
        text = unit_of(stage).with_name(name).read_text()
        (directory / name).write_text(text.replace("=/usr/sbin/immured", f"={stage.immured}"))
    examples = {path.stem: path for path in stage.root.glob("usr/share/doc/immure/examples/*.conf")}
    assert len(examples) == 6
    if example != "none":
        drop_ins = directory / "immured.service.d"
        drop_ins.mkdir()
        shutil.copy(examples[example], drop_ins)
    env = os.environ | {"SYSTEMD_UNIT_PATH": f"{directory}:"}
    verify = ("systemd-analyze", "verify", "--man=no", directory / "immured.service")
    complaints = [line for line in run(*verify, env=env).text.splitlines() if "immured.service" in line]
    assert not complaints, complaints


def test_what_is_installed_is_for_root_alone_to_change_and_for_everybody_to_read(stage):
    for path in (path for path in stage.root.rglob("*") if not path.is_symlink()):
        mode = path.stat().st_mode
        assert path.stat().st_uid == 0 and mode & 0o022 == 0 and mode & 0o044 == 0o044, path


def test_the_units_user_is_made_and_cannot_log_in(stage, directory):
    sysusers, = stage.root.glob("usr/lib/sysusers.d/immure.conf")
    (directory / "etc").mkdir()
    run("systemd-sysusers", f"--root={directory}", sysusers)
    users = (directory / "etc/passwd").read_text().splitlines()
    groups = [line.split(":")[0] for line in (directory / "etc/group").read_text().splitlines()]
    assert [line.split(":")[0] for line in users] == groups == settings(unit_of(stage), "User")
    assert settings(unit_of(stage), "Group") == groups
    assert users[0].endswith(":/nonexistent:/usr/sbin/nologin")


class SandboxedImmured(Immured):
    """An immured in the sandbox of its systemd unit, as far as that can be had without systemd."""

    tokens = None  # SoftHSM's directory

    def spawn(self, command, log, **options):
        program = command[command.index(self.stage.immured):]
        where = (self.socket.parent, self.tokens)
        sandbox = sandboxed(unit_of(self.stage), *where, DAEMON_USER, *program)
        return super().spawn(sandbox, log, **options)


class AskingImmured(Immured):
    """An immured with a terminal of its own, on which it is given the PIN."""

    def spawn(self, command, log, **options):
        operator, terminal = pty.openpty()
        process = super().spawn(
            (*command, "--ask-pin"), log, stdin=terminal,
            preexec_fn=lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY), **options)
        wait_until(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, "the question")
        os.write(operator, f"{PIN}\n".encode())
        wait_until(lambda: termios.tcgetattr(terminal)[3] & termios.ECHO, "the end of it")
        assert PIN not in os.read(operator, 4096).decode()
        return process


def test_a_typed_pin_is_there_for_every_worker(stage, directory, token, keys, sign):
    section = token.section().replace(f"pin-file = {token.pin_file}\n", "")
    immured = AskingImmured(stage, directory / "asking", section + GRANTS, token.env)
    immured.start()
    try:
        sign(immured, keys["p256"])
        worker, = immured.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: immured.workers() not in ([], [worker]), "another worker")
        sign(immured, keys["p256"])
    finally:
        immured.stop()


def test_a_pin_is_asked_for_again_after_control_z_and_fg(stage, directory, token):
    section = token.section().replace(f"pin-file = {token.pin_file}\n", "")
    immured = Immured(stage, directory / "stopped", section + GRANTS, token.env)
    command = as_daemon(stage.immured, "-c", immured.conf, "--ask-pin")
    shell, terminal = pty.fork()
    if shell == 0:
        script = 'set -m; "$@"; echo stopped; fg'
        os.execvpe("bash", ["bash", "-c", script, "-", *map(str, command)], immured.env)
    try:
        read_until(terminal, b"PIN for token soft: ")
        os.write(terminal, b"\x1a")
        assert b"stopped" in read_until(terminal, b"PIN for token soft: ")
        os.write(terminal, f"{PIN}\n".encode())
        shown = read_until(terminal, b" keys found ")
        assert PIN.encode() not in shown
    finally:
        for pid in children(shell):
            os.kill(pid, signal.SIGTERM)
        wait_for_end(shell, terminal)


@pytest.mark.slow  # the search for leaks needs calls that the unit does not allow
@pytest.mark.skipif(not root_is_mounted(), reason="/ is no mount point here, as in a chroot")
def test_in_the_units_sandbox_softhsm_signs(stage, directory, token, keys, sign):
    immured = SandboxedImmured(stage, directory / "run", token.section() + GRANTS, token.env)
    immured.tokens = token.objects
    try:
        immured.start()
        for key_type in ("p256", "rsa2048"):
            sign(immured, keys[key_type])
        reload(immured)
        sign(immured, keys["p256"])
        for pid in processes(immured):
            status = status_of(pid)
            assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}, status
            mounts = Path(f"/proc/{pid}/mountinfo").read_text()
            assert re.search(r"^\S+ \S+ \S+ \S+ / ro[, ]", mounts, re.M), mounts
            assert not Path(f"/proc/{pid}/root/dev/kmsg").exists()
    finally:
        immured.stop()
