"""Debian's Apache with mpm_event: one process, whose threads run as www-data."""

import signal
import subprocess

from .process import children, end, free_port, is_listening, wait_until

APACHE = "/usr/sbin/apache2"
MODULES = "/usr/lib/apache2/modules"

CONFIGURATION = """
{modules}
ServerRoot {directory}
ServerName localhost
DefaultRuntimeDir {directory}
PidFile {directory}/apache.pid
ErrorLog {directory}/error.log
DocumentRoot {directory}/pages
User www-data
Group www-data
StartServers 1
ServerLimit 1
ThreadsPerChild {threads}
MaxRequestWorkers {threads}
Listen 127.0.0.1:{port}
SSLEngine on
SSLSessionTickets off
SSLCertificateFile {key.certificate}
SSLCertificateKeyFile {key.reference}
"""


class Apache:
    """It serves the page "/page", over TLS with this key alone."""

    def __init__(self, directory, env, key, threads=16):
        (directory / "pages").mkdir(parents=True)
        (directory / "pages/page").write_text("served")
        self.directory = directory
        self.env = env
        self.port = free_port()
        self.process = None
        modules = "\n".join(
            f"LoadModule {name}_module {MODULES}/mod_{name}.so"
            for name in ("mpm_event", "authz_core", "ssl")
        )
        (directory / "apache.conf").write_text(
            CONFIGURATION.format(
                modules=modules, directory=directory, threads=threads, port=self.port, key=key
            )
        )

    def start(self):
        with open(self.directory / "output.log", "wb") as output:
            self.process = subprocess.Popen(
                [APACHE, "-DFOREGROUND", "-f", self.directory / "apache.conf"],
                env=self.env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )
        wait_until(self._listens, "apache")
        return self

    def _listens(self):
        assert self.process.poll() is None, self.log()
        return is_listening(self.port)

    def pids(self):
        return [self.process.pid, *children(self.process.pid)]

    def stop(self):
        if self.process is not None:
            end(self.process.pid, signal.SIGTERM)
            self.process.wait()

    def log(self):
        paths = (self.directory / "output.log", self.directory / "error.log")
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())
