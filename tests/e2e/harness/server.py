"""What the servers of the table have in common: a program in the foreground, and its files."""

import os
import signal
import subprocess
from collections import namedtuple

from .process import children, end, free_port, is_listening, wait_until

# What a server has for a name; `key` is a file or, where the server takes one, a URI.
Site = namedtuple("Site", "host certificate key")


def sites(*keys):
    return [Site(key.host, key.certificate, key.reference) for key in keys]


class Server:
    """It answers "served" to a request for /page. `sites`: the first is the default."""

    ask_reload = signal.SIGHUP

    def __init__(self, directory, env, sites):
        (directory / "pages").mkdir(parents=True)
        (directory / "pages/page").write_text("served")
        self.directory = directory
        self.env = env
        self.port = free_port()
        self.conf = directory / "server.conf"
        self.process = None
        self.configure(sites)

    def configure(self, sites):
        """Writes the configuration anew; it is in force after a start or reload."""
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def bundles(self, sites):
        """A file for each site with its certificate and its key, for servers that want both in one."""
        files = [self.directory / f"{number}.pem" for number in range(len(sites))]
        for file, site in zip(files, sites):
            file.write_bytes(site.certificate.read_bytes() + site.key.read_bytes())
        return files

    def start(self):
        with open(self.directory / "output.log", "wb") as output:
            self.process = subprocess.Popen(
                self.command(), env=self.env, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, cwd=self.directory / "pages",
            )
        wait_until(self._listens, self.conf.parent.name)
        return self

    def _listens(self):
        assert self.is_up(), self.log()
        return is_listening(self.port)

    def is_up(self):
        return self.process.poll() is None

    def reload(self):
        """Asks for it; when the new configuration is in force, new connections show."""
        os.kill(self.process.pid, self.ask_reload)

    def pids(self):
        return [self.process.pid, *children(self.process.pid)]

    def stop(self):
        if self.process is not None:
            end(self.process.pid, signal.SIGTERM)
            self.process.wait()

    def log(self):
        paths = sorted(self.directory.glob("*.log"))
        return "".join(path.read_text(errors="replace") for path in paths)
