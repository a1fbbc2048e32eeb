"""Debian's HAProxy, which answers by itself; its threads run as www-data."""

import signal
import socket
from contextlib import suppress

from .process import wait_until
from .server import Server

HAPROXY = "/usr/sbin/haproxy"

CONFIGURATION = """
global
    {settings}
    nbthread {threads}
    stats socket {directory}/admin mode 600 level admin
    user www-data
    group www-data
defaults
    mode http
    timeout client 30s
    timeout server 5s
    timeout connect 5s
frontend f
    bind 127.0.0.1:{port} ssl {certificates} {options}
    {logging}
    http-request return status 200 content-type text/plain string "served"
"""

# With log_errors: a line for each connection that failed, with OpenSSL's reason.
LOGGING = """log stdout format raw local0
    option dontlog-normal
    error-log-format "%f: %[ssl_fc_err_str]"
"""


class Haproxy(Server):
    """`settings`: lines of the global section besides."""

    ask_reload = signal.SIGUSR2  # of a master

    def __init__(
        self, directory, env, sites, settings=(), options="", threads=2, master=False,
        log_errors=False,
    ):
        self.settings = "\n    ".join(settings)
        self.options = options
        self.threads = threads
        self.master = master
        self.logging = LOGGING if log_errors else ""
        super().__init__(directory, env, sites)

    def configure(self, sites):
        self.files = self.bundles(sites)
        self.conf.write_text(
            CONFIGURATION.format(
                settings=self.settings, threads=self.threads, directory=self.directory,
                port=self.port, options=self.options, logging=self.logging,
                certificates=" ".join(f"crt {file}" for file in self.files),
            )
        )

    def command(self):
        return HAPROXY, *(["-W"] if self.master else []), "-f", self.conf

    def loads(self):
        """How often the master has taken a configuration."""
        return self.log().count("Loading success")

    def reload(self):
        """Asks again where the master did not hear it: until it is in its loop, it is deaf."""
        wait_until(self.loads, "haproxy's master")
        before = self.loads()
        for _ in range(5):
            super().reload()
            with suppress(AssertionError):
                return wait_until(lambda: self.loads() > before, "haproxy's master", timeout=2)
        raise AssertionError(f"no reload: {self.log()}")

    def ask(self, command):
        """What the runtime API answers."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.directory / "admin"))
            admin.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(4096), b"")).decode()

    def set_certificate(self, site):
        """Replaces the first certificate and its key by way of the runtime API."""
        bundle = site.certificate.read_text() + site.key.read_text()
        answer = self.ask(f"set ssl cert {self.files[0]} <<\n{bundle}")
        assert "Transaction created" in answer, answer
        answer = self.ask(f"commit ssl cert {self.files[0]}")
        assert "Success!" in answer, answer
