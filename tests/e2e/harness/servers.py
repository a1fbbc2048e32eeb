"""The table of servers: Debian's unmodified packages, each with keys that are in the token.

doc/servers.md has the lines of configuration that matter, and what each can do.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from .apache import APACHE, Apache
from .haproxy import HAPROXY, Haproxy
from .hitch import HITCH, Hitch
from .lighttpd import LIGHTTPD, MOD_OPENSSL, Lighttpd
from .nginx import NGINX, Nginx, module_lines
from .s_server import OPENSSL, OpensslServer
from .server import Site
from .stunnel import STUNNEL, Stunnel


@dataclass(frozen=True)
class Setting:
    """What a server is made with."""

    stage: object
    directory: Path
    conf: Path  # openssl.cnf
    socket: Path  # immured's
    sites: list
    backend: int  # the port of a server without TLS
    chroot: Path = None  # where the socket is; openssl.cnf has its path from there

    @property
    def env(self):
        return self.stage.host_env(self.conf)


class NginxServer(Nginx):
    """nginx, made like the other servers."""

    def __init__(self, setting, module=""):
        super().__init__(setting.stage, setting.directory, setting.conf, module)
        self.configure(setting.sites)

    def configure(self, sites):
        lines = ((s.host, f"ssl_certificate {s.certificate}; ssl_certificate_key {s.key};") for s in sites)
        return super().configure(*lines)


def nginx_with_module(setting):
    if not setting.stage.nginx_module.exists():
        return None
    return NginxServer(setting, module_lines(setting.stage, setting.socket))


def apache(mpm):
    return lambda s: Apache(s.directory, s.env, s.sites, mpm)


def apache_without_engines(mpm):
    """httpd 2.4.63 and later try OpenSSL's engine of the name "pkcs11" first, if it is there."""
    return lambda s: Apache(s.directory, s.env | {"OPENSSL_ENGINES": "/nowhere"}, s.sites, mpm)


def haproxy(*settings):
    options = {"threads": 4, "master": True, "log_errors": True}

    def make(s):
        root = (f"chroot {s.chroot}",) if s.chroot else ()
        return Haproxy(s.directory, s.env, s.sites, settings + root, **options)

    return make


def stunnel(s):
    return Stunnel(s.directory, s.env, s.sites, s.backend, s.chroot)


def hitch(s):
    return Hitch(s.directory, s.env, s.sites, s.backend, s.chroot)


def lighttpd(s):
    return Lighttpd(s.directory, s.env, s.sites)


def by_reference(key):
    return key.reference


def by_uri(key):
    return f"pkcs11:token=e2e;object={key.name};type=private"


def by_name(key):
    return f"immure:{key.name}"


@dataclass(frozen=True)
class Row:
    name: str
    make: Callable  # of a Setting; None where something was not built
    needs: dict  # files, and the Debian packages that have them
    key: Callable = by_reference  # what stands in the place of a key
    asks_at_start: bool = False  # keys are looked up, so immured has to be there
    no_reload: str = ""  # why it cannot be
    reload_gap: str = ""  # why handshakes may fail meanwhile
    chroot: bool = False  # the server's root is immured's directory
    no_key: dict = field(default_factory=dict)  # by type of key: why it cannot have one

    def missing(self):
        """The packages that are not here, in one text."""
        return " ".join(dict.fromkeys(p for file, p in self.needs.items() if not Path(file).exists()))

    def site(self, key, host=None, certificate=None):
        return Site(host or key.host, certificate or key.certificate, self.key(key))


NGINX_NEEDS = {NGINX: "nginx"}
APACHE_NEEDS = {APACHE: "apache2"}
HAPROXY_NEEDS = {HAPROXY: "haproxy"}
STUNNEL_NEEDS = {STUNNEL: "stunnel4"}
HITCH_NEEDS = {HITCH: "hitch"}
LIGHTTPD_NEEDS = {LIGHTTPD: "lighttpd", MOD_OPENSSL: "lighttpd-mod-openssl"}
S_SERVER = {
    "make": lambda s: OpensslServer(s.directory, s.env, s.sites),
    "needs": {OPENSSL: "openssl"},
    "no_reload": "it has no reload",
    "no_key": {"ed25519": "it has keys for two names"},
}

# Seen with keys in files, too.
SEEN_ONCE = "one did, once in eight runs, and it was not tracked down why"
RESETS = "its reload resets connections"
OUTSIDE = "it looks for its configuration inside its root"

SERVERS = (
    Row("nginx, OPENSSL_CONF", NginxServer, NGINX_NEEDS),
    Row("nginx, module", nginx_with_module, NGINX_NEEDS),
    *(Row(f"Apache, {mpm}", apache(mpm), APACHE_NEEDS) for mpm in ("prefork", "worker", "event")),
    *(
        Row(
            f"Apache, {mpm}, pkcs11: URI", apache_without_engines(mpm), APACHE_NEEDS, by_uri,
            asks_at_start=True, reload_gap=SEEN_ONCE,
        )
        for mpm in ("prefork", "event")
    ),
    Row("HAProxy", haproxy(), HAPROXY_NEEDS),
    Row("HAProxy, ssl-mode-async", haproxy("ssl-mode-async"), HAPROXY_NEEDS),
    Row("HAProxy, ssl-mode-async, chroot", haproxy("ssl-mode-async"), HAPROXY_NEEDS, chroot=True),
    Row("stunnel", stunnel, STUNNEL_NEEDS, reload_gap=RESETS),
    Row("stunnel, chroot", stunnel, STUNNEL_NEEDS, no_reload=OUTSIDE, chroot=True),
    Row("hitch", hitch, HITCH_NEEDS, reload_gap=RESETS),
    Row("hitch, chroot", hitch, HITCH_NEEDS, reload_gap=RESETS, chroot=True),
    Row("lighttpd", lighttpd, LIGHTTPD_NEEDS),
    Row("openssl s_server", **S_SERVER),
    Row("openssl s_server, immure:NAME", key=by_name, asks_at_start=True, **S_SERVER),
)
