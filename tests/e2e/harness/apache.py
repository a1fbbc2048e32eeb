"""Debian's Apache httpd with mod_ssl; what serves runs as www-data."""

import signal

from .server import Server
from .stage import library

APACHE = "/usr/sbin/apache2"
MODULES = "/usr/lib/apache2/modules"
# By multi-processing module: how many processes and threads there are.
MPMS = {
    "prefork": "StartServers 4\nServerLimit 16\nMaxRequestWorkers 16\n",
    "worker": "StartServers 2\nServerLimit 8\nThreadsPerChild 4\nMaxRequestWorkers 32\n",
    "event": "StartServers 2\nServerLimit 8\nThreadsPerChild 4\nMaxRequestWorkers 32\n",
}

CONFIGURATION = """
{modules}
ServerRoot {directory}
ServerName localhost
DefaultRuntimeDir {directory}
PidFile {directory}/apache.pid
ErrorLog {directory}/error.log
LogLevel warn ssl:info
DocumentRoot {directory}/pages
User www-data
Group www-data
{limits}
Listen 127.0.0.1:{port}
SSLSessionTickets off
{extra}
{hosts}
"""

HOST = """
<VirtualHost 127.0.0.1:{port}>
    ServerName {site.host}
    SSLEngine on
    SSLCertificateFile {site.certificate}
    SSLCertificateKeyFile {site.key}
</VirtualHost>
"""


def one_process(threads):
    """The limits with which all threads are in one process."""
    return (
        f"StartServers 1\nServerLimit 1\nThreadsPerChild {threads}\nMaxRequestWorkers {threads}\n"
    )


# Threads that end want the library, and it is not found from within.
ROOT = """
LoadFile {libgcc}
ChrootDir {root}
"""


class Apache(Server):
    """`extra`: lines of the configuration besides, for all hosts. `chroot`: its root, or None."""

    ask_reload = signal.SIGUSR1  # a graceful restart

    def __init__(self, directory, env, sites, mpm="event", limits=None, extra="", chroot=None):
        self.mpm = mpm
        self.limits = limits or MPMS[mpm]
        root = ROOT.format(libgcc=library("libgcc_s.so.1"), root=chroot) if chroot else ""
        self.extra = extra + root
        super().__init__(directory, env, sites)

    def configure(self, sites):
        modules = "\n".join(
            f"LoadModule {name}_module {MODULES}/mod_{name}.so"
            for name in (f"mpm_{self.mpm}", "authz_core", "ssl")
        )
        self.conf.write_text(
            CONFIGURATION.format(
                modules=modules, directory=self.directory, limits=self.limits, port=self.port,
                extra=self.extra,
                hosts="".join(HOST.format(port=self.port, site=site) for site in sites),
            )
        )

    def command(self):
        return APACHE, "-DFOREGROUND", "-f", self.conf
