"""Debian's lighttpd with mod_openssl; it runs as www-data."""

import signal

from .server import Server

LIGHTTPD = "/usr/sbin/lighttpd"
MOD_OPENSSL = "/usr/lib/lighttpd/mod_openssl.so"

CONFIGURATION = """
server.modules = ( "mod_openssl" )
server.bind = "127.0.0.1"
server.port = {port}
server.username = "www-data"
server.groupname = "www-data"
server.document-root = "{directory}/pages"
server.errorlog = "{directory}/error.log"
ssl.engine = "enable"
ssl.openssl.ssl-conf-cmd = ( "MinProtocol" => "TLSv1.2" )
ssl.pemfile = "{default.certificate}"
ssl.privkey = "{default.key}"
{lines}
{hosts}
"""

HOST = """
$HTTP["host"] == "{site.host}" {{
    ssl.pemfile = "{site.certificate}"
    ssl.privkey = "{site.key}"
}}
"""


class Lighttpd(Server):
    """`lines`: of the configuration, besides. `chroot`: its root, or None."""

    ask_reload = signal.SIGUSR1  # a graceful restart

    def __init__(self, directory, env, sites, lines=(), chroot=None):
        self.lines = "\n".join((*lines, f'server.chroot = "{chroot}"' if chroot else ""))
        super().__init__(directory, env, sites)

    def configure(self, sites):
        (self.directory / "error.log").touch()
        (self.directory / "error.log").chmod(0o666)
        self.conf.write_text(
            CONFIGURATION.format(
                directory=self.directory, port=self.port, default=sites[0], lines=self.lines,
                hosts="".join(HOST.format(site=site) for site in sites),
            )
        )

    def command(self):
        return LIGHTTPD, "-D", "-f", self.conf
