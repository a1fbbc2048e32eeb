"""SoftHSM tokens, and immured that uses them."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from .process import children, end, is_running, run, wait_until
from .stage import DAEMON_USER

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "4711-e2e"

# Who may do what with every key in the tests: nginx's workers only what TLS needs.
GRANTS = """
[grant nginx]
user = www-data
keys = *
use = tls-server

[grant operator]
user = root
keys = *
use = sign
"""


def as_user(user, *command):
    """The command, run as this user and its own group."""
    group = pwd.getpwnam(user).pw_gid
    return ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *command)


def as_daemon(*command):
    """The command, run as immured's user."""
    return as_user(DAEMON_USER, *command)


def write_private(path, text):
    """A file that only immured's user can read."""
    path.write_text(text)
    path.chmod(0o600)
    shutil.chown(path, DAEMON_USER, DAEMON_USER)
    return path


class SoftToken:
    """A SoftHSM directory with one token called `label`, all of it owned by `user`."""

    def __init__(self, directory, label="e2e", user=DAEMON_USER, pin=PIN):
        self.label = label
        self.user = user
        self.objects = directory / "softhsm"
        self.objects.mkdir(mode=0o700)
        shutil.chown(self.objects, user, user)
        self.conf = directory / "softhsm2.conf"
        self.conf.write_text(f"directories.tokendir = {self.objects}\nlog.level = ERROR\n")
        self.env = {"SOFTHSM2_CONF": str(self.conf)}
        self.pin_file = write_private(directory / "pin", pin + "\n")
        self.add(label, pin)

    def add(self, label, pin=PIN):
        """Makes one more token in the directory."""
        run(
            *as_user(self.user, "softhsm2-util", "--init-token", "--free", "--label", label),
            *("--so-pin", "12345678", "--pin", pin),
            env=os.environ | self.env,
        )
        self.files = {file: file.read_bytes() for file in self.objects.glob("*/token.object")}

    def mend(self):
        """A login empties this file and writes it anew: a process that dies then loses the token."""
        for file, content in self.files.items():
            if file.stat().st_size == 0:
                file.write_bytes(content)

    def section(self, module=SOFTHSM, label=None, pin_file=None):
        """Its section of immure.conf, or one with something wrong."""
        return (
            f"[token soft]\nmodule = {module}\nuri = pkcs11:token={label or self.label}\n"
            f"pin-file = {pin_file or self.pin_file}\n"
        )


class Immured:
    """An immured with a configuration of its own: `sections` is all but [immured]."""

    as_owner = staticmethod(as_daemon)  # the command, run as whoever has the token

    def __init__(self, stage, directory, sections, env):
        directory.mkdir(exist_ok=True)
        shutil.chown(directory, DAEMON_USER, DAEMON_USER)
        self.stage = stage
        self.conf = directory / "immure.conf"
        self.socket = directory / "immure.sock"
        self.audit = directory / "audit"
        self.log_file = directory / "immured.log"
        self.env = stage.own_env | env | {"IMMURE_CONF": str(self.conf)}
        self.process = None
        self.configure(sections)

    def configure(self, sections):
        self.conf.write_text(
            f"[immured]\nsocket = {self.socket}\naudit = {self.audit}\n\n{sections}"
        )

    def start(self, timeout=10):
        before = len(self.log())
        with open(self.log_file, "ab") as log:
            self.process = self.spawn(self.as_owner(self.stage.immured, "-c", self.conf), log)
        wait_until(self.is_listening, f"immured on {self.socket}")
        # A SoftHSM login rewrites a file, and another process that opens the token just then
        # finds none. So nobody else does until the token is up, or known not to come up.
        settled = re.compile(" keys found | looked up when |] error: token ")
        wait_until(lambda: settled.search(self.log(), before), "immured's token", timeout)
        return self

    def spawn(self, command, log, **options):
        return subprocess.Popen(
            command,
            env=self.env | {"ASAN_OPTIONS": "detect_leaks=1"},  # with the fast unwinder
            stdout=log,
            stderr=log,
            start_new_session=True,
            **({"stdin": subprocess.DEVNULL} | options),
        )

    def is_listening(self):
        assert self.process.poll() is None, f"immured ended: {self.log()}"
        return f" {self.socket}\n" in Path("/proc/net/unix").read_text()

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def workers(self):
        return children(self.process.pid)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def kill(self):
        """SIGKILL to master and worker at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not self.is_listening_somewhere(), "end of immured's processes")

    def is_listening_somewhere(self):
        return f" {self.socket}\n" in Path("/proc/net/unix").read_text()

    def stop(self):
        """SIGTERM, after which it must end by itself, and with status 0."""
        if not self.is_up():
            return
        workers = self.workers()
        asked = end_child(self.process)
        for worker in workers:
            if is_running(worker):
                end(worker, signal.SIGKILL)
        self.check_sanitizers()
        assert asked and self.process.returncode == 0, f"{self.process.returncode}: {self.log()}"

    def check_sanitizers(self):
        for sign in ("Sanitizer", "runtime error:"):
            assert sign not in self.log(), self.log()

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def status(self):
        """What `immure status` says; its own connection is among those that it counts."""
        return json.loads(self.cli("status", "--json").stdout)

    def token_status(self):
        return self.status()["tokens"][0]

    def cli(self, *arguments, status=0, input="", timeout=120):
        """immure as the token's owner."""
        command = self.as_owner(self.stage.immure, *arguments)
        return run(*command, env=self.env, status=status, input=input, timeout=timeout)


class ActivatedImmured(Immured):
    """An immured whose socket another process holds, as systemd does: it outlives immured."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.socket))
        self.socket.chmod(0o666)
        self.listener.listen(1024)

    def spawn(self, command, log):
        # sd_listen_fds(3): the descriptor is 3, and LISTEN_PID the process that is to take it.
        take = 'exec 3<&"$0"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        descriptor = self.listener.fileno()
        wrapped = ("bash", "-c", take, str(descriptor), *map(str, command))
        return super().spawn(wrapped, log, pass_fds=[descriptor])

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.stop()
        self.listener.close()


def end_child(process, timeout=15):
    """SIGTERM to a child of ours; True when that was enough."""
    process.terminate()
    try:
        process.wait(timeout)
        return True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
