"""Debian's stunnel: a thread for each connection, as www-data, in front of a server without TLS."""

from .server import Server

STUNNEL = "/usr/bin/stunnel4"

CONFIGURATION = """
foreground = yes
pid =
debug = info
setuid = www-data
setgid = www-data
{root}
"""

SERVICE = """
[{site.host}]
{accept}
connect = 127.0.0.1:{backend}
cert = {site.certificate}
key = {site.key}
"""


class Stunnel(Server):
    """`chroot`: its root, or None."""

    def __init__(self, directory, env, sites, backend, chroot=None):
        self.backend = backend
        self.root = f"chroot = {chroot}" if chroot else ""
        super().__init__(directory, env, sites)

    def configure(self, sites):
        default = sites[0].host
        text = CONFIGURATION.format(root=self.root)
        for site in sites:
            first = site.host == default
            accept = f"accept = 127.0.0.1:{self.port}" if first else f"sni = {default}:{site.host}"
            text += SERVICE.format(site=site, accept=accept, backend=self.backend)
        self.conf.write_text(text)

    def command(self):
        return STUNNEL, self.conf

    def log(self):
        """What it says of reloads is last, or the lines of connections would hide it."""
        lines = super().log().splitlines(keepends=True)
        return "".join(sorted(lines, key=lambda line: "[ui]" in line or "[main]" in line))
