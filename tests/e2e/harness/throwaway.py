"""A copy of this system that is thrown away: what is done in it changes nothing outside.

An overlay of all files, with networks and processes of its own. systemd does not run in it, so
there is a stand-in for systemctl, which does what the units do, and others for a person.
"""

import os
import signal
import subprocess

from .document import PROJECT
from .process import children, end, run, wait_until

MAKE = """set -e
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root project project-work
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay root
cd root
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs run
mkdir -p run/lock ".$2"
mount -t overlay -o "lowerdir=$2,upperdir=$1/project,workdir=$1/project-work" overlay ".$2"
ip link set lo up
exec chroot . sleep infinity
"""

SYSTEMCTL = """#!/bin/bash
# In place of systemd, for what the documents do.
case "$*" in
daemon-reload) ;;
"enable --now immured.socket immured.service")
    install -d -o immure /run/immure /var/log/immure
    setsid runuser -u immure -- immured >/var/log/immured.log 2>&1 </dev/null &
    # A SoftHSM login rewrites a file, and the next command would not find the token just then.
    for _ in $(seq 200); do
        immure status --json 2>/dev/null | grep -q '"state": "ready"' && exit 0
        sleep 0.1
    done
    exit 1 ;;
"restart nginx") nginx >/dev/null </dev/null ;;
"restart apache2") apachectl start >/dev/null </dev/null ;;
"restart haproxy")
    haproxy -W -D -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid >/dev/null 2>&1 </dev/null ;;
*) echo "no stand-in for systemctl $*" >&2; exit 1 ;;
esac
"""
# What a person types.
EDITOR = '#!/bin/sh\necho 1234 >"$1"\n'
SOFTHSM_UTIL = '#!/bin/sh\nexec /usr/bin/softhsm2-util "$@" --so-pin 12345678 --pin 1234\n'


class Throwaway:
    def __init__(self, directory):
        self.directory = directory
        self.process = None

    def start(self):
        """False where the kernel or a container forbids it."""
        command = ("unshare", "--mount", "--net", "--pid", "--fork", "--propagation", "private")
        with open(self.directory.with_suffix(".log"), "wb") as log:
            self.process = subprocess.Popen(
                [*command, "bash", "-c", MAKE, "make", self.directory, PROJECT],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        wait_until(lambda: self.process.poll() is not None or self.init, "a throw-away system")
        if not self.init:
            return False
        self.write("/usr/local/sbin/systemctl", SYSTEMCTL, 0o755)
        self.write("/usr/local/bin/editor", EDITOR, 0o755)
        self.write("/usr/local/bin/softhsm2-util", SOFTHSM_UTIL, 0o755)
        return True

    @property
    def init(self):
        """The process that all of it hangs on, once it is there."""
        for pid in children(self.process.pid) if self.process.poll() is None else ():
            if os.path.realpath(f"/proc/{pid}/exe").endswith("/sleep"):
                return pid
        return None

    def run(self, script, cwd="/root", **options):
        """Runs a piece of shell as root, up to its first error."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}
        inside = 'cd "$1"; set -e; eval "$2"'
        return run(
            *("nsenter", f"--target={self.init}", "--mount", "--net", "--pid", "--root", "--wd"),
            *("bash", "-c", inside, "document", cwd, script), env=env, **options,
        )

    def write(self, path, text, mode=0o644, append=False):
        into = f"{'>>' if append else '>'}{path}"
        self.run(f'mkdir -p "$(dirname {path})"; cat {into}; chmod {mode:o} {path}', input=text)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            end(self.init or self.process.pid, signal.SIGKILL)
            self.process.wait()
