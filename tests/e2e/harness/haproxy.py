"""Debian's HAProxy, which answers by itself; its threads run as www-data."""

import signal
import socket
import subprocess

from .process import children, end, free_port, wait_until

HAPROXY = "/usr/sbin/haproxy"

CONFIGURATION = """
global
    {settings}
    nbthread {threads}
    user www-data
    group www-data
defaults
    mode http
    timeout client 30s
    timeout server 5s
    timeout connect 5s
frontend f
    bind 127.0.0.1:{port} ssl {certificates} {options}
    http-request return status 200 content-type text/plain string "served"
"""


class Haproxy:
    """`certificates`: pairs of a certificate and its key or reference; the first is the default."""

    def __init__(self, directory, env, certificates, settings=(), options="", threads=2):
        directory.mkdir()
        self.env = env
        self.port = free_port()
        self.conf = directory / "haproxy.cfg"
        self.log_file = directory / "haproxy.log"
        self.process = None
        bundles = [directory / f"{number}.pem" for number in range(len(certificates))]
        for bundle, pair in zip(bundles, certificates):
            bundle.write_bytes(b"".join(path.read_bytes() for path in pair))
        self.conf.write_text(
            CONFIGURATION.format(
                settings="\n    ".join(settings), threads=threads, port=self.port, options=options,
                certificates=" ".join(f"crt {bundle}" for bundle in bundles),
            )
        )

    def start(self):
        with open(self.log_file, "wb") as output:
            self.process = subprocess.Popen(
                [HAPROXY, "-f", self.conf], env=self.env, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True,
            )
        wait_until(self._accepts, "haproxy")
        return self

    def _accepts(self):
        assert self.is_up(), self.log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def is_up(self):
        return self.process.poll() is None

    def pids(self):
        return [self.process.pid, *children(self.process.pid)]

    def stop(self):
        if self.process is None:
            return
        for pid in reversed(self.pids()):
            end(pid, signal.SIGTERM)
        self.process.wait()

    def log(self):
        return self.log_file.read_text(errors="replace")
