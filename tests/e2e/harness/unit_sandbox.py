"""The sandbox of immured.service, from the unit's own lines, where no systemd runs.

What is not made: IPAddressDeny=, KeyringMode=, RemoveIPC= and the cgroup's device list.
"""

import sys
from pathlib import Path

from .process import run

# As text, for immured's user may not be able to read where this is.
CONFINE = (sys.executable, "-c", Path(__file__).with_name("confine.py").read_text())
# DevicePolicy=closed with PrivateDevices=: what is left of /dev.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

# Runs in a mount namespace: all is read-only but what precedes "--"; the command follows it.
MOUNTS = """set -e
mount() { command mount --no-mtab "$@"; }
while [ "$1" != -- ]; do mount --bind "$1" "$1"; shift; done
shift
mount -o remount,bind,ro /
for directory in /home /root /run/user; do
    [ ! -d $directory ] || mount -t tmpfs -o mode=755,ro tmpfs $directory
done
mount -t tmpfs -o mode=755 tmpfs /mnt
for device in %s; do touch /mnt/$device && mount --bind /dev/$device /mnt/$device; done
mkdir /mnt/shm && mount --bind /dev/shm /mnt/shm
mount --move /mnt /dev
mount -t proc proc /proc
exec "$@"
""" % " ".join(DEVICES)


def settings(unit, name):
    """The values of a setting, in their order."""
    lines = unit.read_text().splitlines()
    return [line.split("=", 1)[1] for line in lines if line.startswith(f"{name}=")]


def expand(name):
    """The system calls that a name of SystemCallFilter= stands for."""
    if not name.startswith("@"):
        return {name}
    lines = run("systemd-analyze", "syscall-filter", name).stdout.decode().splitlines()
    words = [line.strip() for line in lines if line.startswith("    ") and "#" not in line]
    return set().union(*(expand(word) for word in words))


def allowed_calls(unit):
    allowed = expand("@default")
    for value in settings(unit, "SystemCallFilter"):
        calls = set().union(*(expand(name) for name in value.lstrip("~").split()))
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def sandboxed(unit, directory, tokens, user, *command):
    """
    The command, run as `user` in the unit's sandbox; `directory` is its RuntimeDirectory=, `tokens`
    where it has SoftHSM's.
    """
    calls = directory / "calls"
    calls.write_text("\n".join(allowed_calls(unit)))
    families, = settings(unit, "RestrictAddressFamilies")
    assert settings(unit, "ProtectSystem") == ["strict"]
    assert settings(unit, "ReadWritePaths") == ["-/var/lib/softhsm/tokens"]
    assert settings(unit, "MemoryDenyWriteExecute") == settings(unit, "PrivateDevices") == ["yes"]
    assert settings(unit, "ProcSubset") == settings(unit, "ProtectProc") == []
    return (
        *("unshare", "--mount", "--propagation", "private", "bash", "-c", MOUNTS, "sandbox"),
        *(directory, tokens, "--"),
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
        *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
        *(*CONFINE, "--calls", calls, ",".join(families.split())),
        *("--lock-memory", *command),
    )
