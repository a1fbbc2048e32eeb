"""Where it is measured: a directory of its own with keys, tokens and the servers that use them.

Everything that is started is ended when the Lab is closed, by pid. What the end-to-end tests
are made of (tests/e2e/harness) is used here as well.
"""

import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/e2e"))

from harness.haproxy import Haproxy  # noqa: E402
from harness.nginx import Nginx, module_lines  # noqa: E402
from harness.pki import Authority  # noqa: E402
from harness.process import run  # noqa: E402
from harness.server import Site  # noqa: E402
from harness.stage import Stage  # noqa: E402
from harness.token import GRANTS, PIN, SOFTHSM, Immured, SoftToken, as_user  # noqa: E402

ENGINE = "pkcs11.so"
# Longer than any signature waits here: what is measured is the wait, not the time-out.
IMMURE_TIMEOUT_MS = 60000

KEY_TYPES = {
    "P-256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "RSA-2048": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
}
FILE, LIBP11, SYNC, ASYNC = "key in a file", "libp11 engine", "Immure, sync", "Immure, async"
HAPROXY_FILE, HAPROXY_SYNC, HAPROXY_ASYNC = "HAProxy, file", "HAProxy, sync", "HAProxy, async"


@dataclass(frozen=True)
class Device:
    """What signs: SoftHSM, after a pause. `elsewhere`: the pause is all that it costs this host, as
    with an HSM in a network; the module of tests/fault then has the P-256 key itself."""

    delay_ms: int = 0
    elsewhere: bool = False

    def module(self, stage):
        return stage.hsm if self.delay_ms or self.elsewhere else SOFTHSM

    def env(self, keys):
        quick = {"IMMURE_HSM_KEY": str(keys["P-256"].file)} if self.elsewhere else {}
        return {"IMMURE_HSM_DELAY_MS": str(self.delay_ms)} | quick

    def __str__(self):
        if not self.delay_ms:
            return "SoftHSM"
        return f"{self.delay_ms} ms{', elsewhere' if self.elsewhere else ''}"


SOFT = Device()


@dataclass(frozen=True)
class Key:
    """One key in every form: a file, an object called `name` in both tokens, a reference."""

    name: str
    file: Path
    certificate: Path
    reference: Path

    @property
    def host(self):
        return f"{self.name}.immure.test"

    def uri(self, label):
        return f"pkcs11:token={label};object={self.name};type=private;pin-value={PIN}"


class BenchNginx(Nginx):
    events = "worker_connections 8192;"
    listen = "ssl backlog=4096"
    log_level = "error"
    extra = "keepalive_requests 1000000000;"


class Lab:
    """with Lab() as lab: ask for servers. Servers that are asked for again are the same ones."""

    def __init__(self):
        self.cleanup = ExitStack()
        self.made = {}

    def __enter__(self):
        try:
            self.directory = self.temporary_directory()
            self.stage = Stage(self.directory)
            self.authority = Authority(self.directory)
            # The engine is in nginx's workers, and so its token's files are theirs.
            self.token = SoftToken(self._subdirectory("immured-token"), "immured")
            self.worker_token = SoftToken(self._subdirectory("worker-token"), "worker", "www-data")
            self.keys = {kind: self._make_key(kind) for kind in KEY_TYPES}
        except BaseException:
            self.cleanup.close()
            raise
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nobody is left behind by a second Ctrl-C
        self.cleanup.close()

    def temporary_directory(self, where=None):
        """One that everybody can enter, and that goes with the Lab."""
        path = Path(tempfile.mkdtemp(prefix="immure-bench-", dir=where))
        self.cleanup.callback(shutil.rmtree, path)
        path.chmod(0o755)
        return path

    def _subdirectory(self, name):
        path = self.directory / name
        path.mkdir(mode=0o755)
        return path

    def once(self, name, make):
        """What `make()` returns, the first time that this name is asked for."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    # --- Keys ---------------------------------------------------------------------------------

    def _make_key(self, kind):
        name = kind.lower()
        directory = self._subdirectory(name)
        file, csr, certificate = (directory / f"{name}.{end}" for end in ("key", "csr", "crt"))
        host = f"{name}.immure.test"
        self.authority.openssl("genpkey", *KEY_TYPES[kind], "-out", file)
        self.authority.openssl(
            *("req", "-new", "-key", file, "-subj", f"/CN={host}", "-out", csr),
            *("-addext", f"subjectAltName=DNS:{host}"),
        )
        self.authority.sign(csr, certificate)
        for token in (self.token, self.worker_token):
            self._import(token, file, name)
        reference = directory / f"{name}.pem"
        return Key(name, file, certificate, reference)

    def _import(self, token, file, name):
        """As the token's owner. Whoever plays the HSM (Device) reads the file, too."""
        file.chmod(0o644)
        run(
            *as_user(token.user, "softhsm2-util", "--import", file, "--token", token.label),
            *("--label", name, "--id", name.encode().hex(), "--pin", PIN),
            env=os.environ | token.env,
        )

    # --- Servers ------------------------------------------------------------------------------

    def immured(self, device, sessions):
        """immured with that device."""

        def make():
            section = self.token.section(module=device.module(self.stage))
            daemon = Immured(
                self.stage, self.directory / f"immured-{len(self.made)}",
                f"{section}max-sessions = {sessions}\n{GRANTS}", self.token.env | device.env(self.keys),
            )
            self.cleanup.callback(daemon.stop)
            daemon.start()
            self._write_references(daemon)
            return daemon

        return self.once(("immured", device, sessions), make)

    def _write_references(self, daemon):
        for key in self.keys.values():
            if not key.reference.exists():
                key.reference.write_bytes(daemon.cli("key", "reference", key.name).stdout)

    def nginx(self, variant, workers=2, device=SOFT, sessions=16, events=""):
        """nginx with a server for each key, the P-256 one for those who name none."""

        def make():
            name = f"nginx-{len(self.made)}"
            nginx = self._nginx_of(variant, self.directory / name, workers, device, sessions)
            nginx.events += events
            nginx.configure(*((key.host, self._lines(variant, key)) for key in self.keys.values()))
            self.cleanup.callback(nginx.stop)
            return nginx.start()

        return self.once(("nginx", variant, workers, device, sessions, events), make)

    def _nginx_of(self, variant, directory, workers, device, sessions):
        plain = self.authority.plain_conf
        if variant == FILE:
            return BenchNginx(self.stage, directory, plain, workers=workers)
        if variant == LIBP11:
            env = self.worker_token.env | device.env(self.keys)
            return BenchNginx(self.stage, directory, self._engine_conf(device), "", workers, env)
        socket = self.immured(device, sessions).socket
        module = module_lines(self.stage, socket, IMMURE_TIMEOUT_MS)
        return BenchNginx(self.stage, directory, plain, module, workers)

    def _lines(self, variant, key):
        file = key.reference
        if variant == FILE:
            file = key.file
        if variant == LIBP11:
            file = f"engine:pkcs11:{key.uri(self.worker_token.label)}"
        mode = "immure_async off;" if variant == SYNC else ""
        return f'{mode} ssl_certificate {key.certificate}; ssl_certificate_key "{file}";'

    def _engine_conf(self, device):
        """openssl.cnf that makes Debian's libp11 engine known, with its module."""

        def make():
            path = self.directory / f"engine-{len(self.made)}.cnf"
            engines = run("openssl", "version", "-e").text.split('"')[1]
            path.write_text(
                "openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = pkcs11\n"
                f"[pkcs11]\nengine_id = pkcs11\ndynamic_path = {engines}/{ENGINE}\n"
                f"MODULE_PATH = {device.module(self.stage)}\ninit = 1\n"
            )
            return path

        return self.once(("engine", device), make)

    def haproxy(self, variant, device=SOFT, sessions=16):
        """HAProxy with two threads and both keys."""

        def make():
            directory = self.directory / f"haproxy-{len(self.made)}"
            env = os.environ | {"OPENSSL_CONF": str(self.authority.plain_conf)}
            if variant != HAPROXY_FILE:
                conf = self.directory / f"haproxy-{len(self.made)}.cnf"
                socket = self.immured(device, sessions).socket
                self.stage.write_openssl_conf(conf, socket, timeout_ms=IMMURE_TIMEOUT_MS)
                env = self.stage.host_env(conf)
            settings = ["tune.ssl.cachesize 0", "maxconn 8192"]
            settings += ["ssl-mode-async"] if variant == HAPROXY_ASYNC else []
            sites = [
                Site(k.host, k.certificate, k.file if variant == HAPROXY_FILE else k.reference)
                for k in self.keys.values()
            ]
            haproxy = Haproxy(directory, env, sites, settings, "no-tls-tickets backlog 4096")
            self.cleanup.callback(haproxy.stop)
            return haproxy.start()

        return self.once(("haproxy", variant, device, sessions), make)

    def server(self, variant, workers, device, sessions):
        """(server, the immured behind it or None)."""
        uses_immured = variant not in (FILE, LIBP11, HAPROXY_FILE)
        device = SOFT if variant in (FILE, HAPROXY_FILE) else device
        sessions = sessions if uses_immured else 0
        if variant.startswith("HAProxy"):
            server = self.haproxy(variant, device, sessions)
        else:
            server = self.nginx(variant, workers, device, sessions)
        return server, self.immured(device, sessions) if uses_immured else None


def processes(server, immured=None):
    """The pids of all that a server consists of."""
    pids = server.pids() if isinstance(server, Haproxy) else [server.pid(), *server.workers()]
    if immured:
        pids += [immured.process.pid, *immured.workers()]
    return pids
