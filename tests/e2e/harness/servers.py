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
from .nginx import NGINX, Nginx, has_engines, module_lines, nginx_version, no_module
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
    chroot: Path = None  # the server's root
    timeout_ms: int = None  # how long the provider waits for immured, as openssl.cnf says

    @property
    def env(self):
        return self.stage.host_env(self.conf)


class NginxServer(Nginx):
    """nginx, made like the other servers."""

    def __init__(self, setting, module="", env=None):
        super().__init__(setting.stage, setting.directory, setting.conf, module, env=env)
        self.configure(setting.sites)

    def configure(self, sites):
        lines = ((s.host, f"ssl_certificate {s.certificate}; ssl_certificate_key '{s.key}';") for s in sites)
        return super().configure(*lines)

    def stop(self):
        """All of its processes have to end by themselves, those before a reload, too."""
        if self.is_up():
            self.wait_for_old_workers()
        super().stop()
        assert "exited on signal" not in self.log(), self.log()


def nginx(module=False, engine=False):
    def make(s):
        lines = module_lines(s.stage, s.socket, s.timeout_ms) if module else ""
        if not engine:
            return NginxServer(s, lines)
        return NginxServer(s, f"{lines}ssl_engine immure;\n", s.stage.engine_env(s.socket))

    return make


def apache(mpm, env=None):
    return lambda s: Apache(s.directory, s.env | (env or {}), s.sites, mpm, chroot=s.chroot)


def apache_without_engines(mpm):
    """httpd 2.4.63 and later try OpenSSL's engine of the name "pkcs11" first, if it is there."""
    return apache(mpm, {"OPENSSL_ENGINES": "/nowhere"})


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


def lighttpd(*lines):
    return lambda s: Lighttpd(s.directory, s.env, s.sites, lines, s.chroot)


def by_reference(key):
    return key.reference


def by_uri(key):
    return f"pkcs11:token=e2e;object={key.name};type=private"


def by_name(key):
    return f"immure:{key.name}"


def by_engine(key):
    return f"engine:immure:{key.name}"


def by_store(named):
    return lambda key: f"store:{named(key)}"


def no_engines(stage):
    if stage.engine is None:
        return "OpenSSL has no engines: ours is not built"
    return "" if has_engines() else "this nginx was built without engines"


def no_store(_):
    return "" if nginx_version() >= (1, 29) else "nginx has store: from 1.29 on; this one is older"


@dataclass(frozen=True)
class Row:
    name: str
    make: Callable  # of a Setting
    needs: dict  # files, and the Debian packages that have them
    key: Callable = by_reference  # what stands in the place of a key
    asks_at_start: bool = False  # keys are looked up, so immured has to be there
    no_reload: str = ""  # why it cannot be
    reload_loses: str = ""  # in which words handshakes may fail meanwhile
    reload_kills: bool = False  # unless it has but one name
    chroot: str = ""  # what is in the server's root: immured's SOCKET, or ALL files
    brief: bool = False  # looked at under load alone: a row above does the rest
    no_key: dict = field(default_factory=dict)  # by type of key: why it cannot have one
    lacks: tuple = ()  # of a Stage: what else is not here, or ""

    def missing(self, stage):
        """Why there is none here, or ""."""
        packages = dict.fromkeys(p for file, p in self.needs.items() if not Path(file).exists())
        if packages:
            return f"not here: {' '.join(packages)}"
        return next(filter(None, (lack(stage) for lack in self.lacks)), "")

    def site(self, key, host=None, certificate=None):
        return Site(host or key.host, certificate or key.certificate, self.key(key))


def nginx_rows(way, key, lack, engine=False):
    """Without the module and with it."""
    for module, name, lacks in ((False, way, (lack,)), (True, f"{way}, module", (lack, no_module))):
        made = nginx(module, engine)
        yield Row(f"nginx, {name}", made, NGINX_NEEDS, key, asks_at_start=True, lacks=lacks)


NGINX_NEEDS = {NGINX: "nginx"}
APACHE_NEEDS = {APACHE: "apache2"}
APACHE_BY_URI = {"needs": APACHE_NEEDS, "key": by_uri, "asks_at_start": True}
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

# Seen with keys in files and without the provider, too: doc/servers.md.
RESET = "reset by peer"
REFUSED = "reset by peer|Connection refused"

SOCKET, ALL = "socket", "all"
OUTSIDE = "it looks for its configuration inside its root"
ENDS = "in a root, it ends instead"

# The brief ones are last: pytest then keeps a server's tests together.
SERVERS = (
    Row("nginx, OPENSSL_CONF", nginx(), NGINX_NEEDS),
    Row("nginx, module", nginx(module=True), NGINX_NEEDS, lacks=(no_module,)),
    *nginx_rows("engine:immure:NAME", by_engine, no_engines, engine=True),
    *nginx_rows("store:immure:NAME", by_store(by_name), no_store),
    *nginx_rows("store:pkcs11: URI", by_store(by_uri), no_store),
    Row("Apache, prefork", apache("prefork"), APACHE_NEEDS),
    Row("Apache, worker", apache("worker"), APACHE_NEEDS),
    Row("Apache, event", apache("event"), APACHE_NEEDS, reload_loses=RESET),
    Row("Apache, prefork, pkcs11: URI", apache_without_engines("prefork"), **APACHE_BY_URI),
    Row("Apache, event, pkcs11: URI", apache_without_engines("event"), **APACHE_BY_URI, reload_loses=RESET),
    Row("HAProxy", haproxy(), HAPROXY_NEEDS),
    Row("HAProxy, ssl-mode-async", haproxy("ssl-mode-async"), HAPROXY_NEEDS),
    Row("HAProxy, ssl-mode-async, chroot", haproxy("ssl-mode-async"), HAPROXY_NEEDS, chroot=SOCKET),
    # It frees the services among which a handshake under way looks for the client's name, and dies.
    Row("stunnel", stunnel, STUNNEL_NEEDS, reload_loses=REFUSED, reload_kills=True),
    Row("stunnel, chroot", stunnel, STUNNEL_NEEDS, no_reload=OUTSIDE, chroot=SOCKET),
    Row("hitch", hitch, HITCH_NEEDS, reload_loses=RESET),
    Row("hitch, chroot", hitch, HITCH_NEEDS, reload_loses=RESET, chroot=SOCKET),
    Row("lighttpd", lighttpd(), LIGHTTPD_NEEDS),
    Row("openssl s_server", **S_SERVER),
    Row("openssl s_server, immure:NAME", key=by_name, asks_at_start=True, **S_SERVER),
    Row(
        "Apache, event, ChrootDir", apache("event"), APACHE_NEEDS, reload_loses=RESET, chroot=SOCKET,
        brief=True,
    ),
    Row(
        "Apache, prefork, pkcs11: URI, ChrootDir", apache_without_engines("prefork"), **APACHE_BY_URI,
        chroot=SOCKET, brief=True,
    ),
    Row("lighttpd, server.max-worker", lighttpd("server.max-worker = 2"), LIGHTTPD_NEEDS, brief=True),
    Row("lighttpd, server.chroot", lighttpd(), LIGHTTPD_NEEDS, no_reload=ENDS, chroot=ALL, brief=True),
)
