"""Debian's hitch: a process for each worker, as www-data, in front of a server without TLS."""

from .server import Server

HITCH = "/usr/sbin/hitch"

CONFIGURATION = """
frontend = {{
    host = "127.0.0.1"
    port = "{port}"
}}
backend = "[127.0.0.1]:{backend}"
{files}
workers = 2
user = "www-data"
group = "www-data"
daemon = off
syslog = off
ocsp-dir = ""
{root}
"""


class Hitch(Server):
    """`chroot`: its root, or None."""

    def __init__(self, directory, env, sites, backend, chroot=None):
        self.root = f'chroot = "{chroot}"' if chroot else ""
        self.backend = backend
        super().__init__(directory, env, sites)

    def configure(self, sites):
        files = "\n".join(f'pem-file = "{file}"' for file in self.bundles(sites))
        self.conf.write_text(
            CONFIGURATION.format(port=self.port, backend=self.backend, files=files, root=self.root)
        )

    def command(self):
        return HITCH, f"--config={self.conf}"
