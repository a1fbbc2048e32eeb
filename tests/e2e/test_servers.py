"""The table of servers, and programs that have a client certificate: pytest --tables=FILE writes it."""

import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from harness.backend import backend
from harness.clients import connect, curl, gnutls_cli, s_client
from harness.haproxy import HAPROXY, Haproxy
from harness.load import Load
from harness.process import run, wait_until
from harness.s_server import OpensslServer
from harness.server import sites as sites_of
from harness.servers import ALL, SERVERS, SOCKET, Setting

KEY_TYPES = ("p256", "rsa2048", "ed25519")
VERSIONS = ("1.2", "1.3")
HTTPS_CLIENT = Path(__file__).parent / "hosts/https_client.py"
# What openssl and gnutls-cli call it. With TLS 1.2 and RSA either padding may be chosen.
SIGNATURES = {
    "p256": (("ECDSA SHA256",), ("ECDSA-SHA256", "ECDSA-SECP256R1-SHA256")),
    "rsa2048": (("RSA-PSS SHA256",), ("RSA-PSS-RSAE-SHA256", "RSA-SHA256")),
    "ed25519": (("ed25519",), ("EdDSA-Ed25519",)),
}

each_key_type = pytest.mark.parametrize("key_type", KEY_TYPES)
each_version = pytest.mark.parametrize("version", VERSIONS)
WHOLE = [row for row in SERVERS if not row.brief]
for_whole_rows = pytest.mark.parametrize("server", WHOLE, ids=[r.name for r in WHOLE], indirect=True)
in_table = lambda column: pytest.mark.cell("server", "{server.name}", column)


@pytest.fixture(scope="module")
def backend_port():
    with backend() as port:
        yield port


@pytest.fixture(scope="module", params=SERVERS, ids=[row.name for row in SERVERS])
def server(request, stage):
    if missing := request.param.missing(stage):
        pytest.skip(missing)
    return request.param


def make_root(root):
    """Absolute paths of files below `root` are the same for a process that has it as its root."""
    link = root / root.relative_to("/")
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to("/")
    return root


@pytest.fixture(scope="module")
def make(stage, workspace, backend_port):
    """Makes a server of a row; not started."""

    def make(row, directory, socket, sites, timeout_ms=None):
        directory.mkdir(exist_ok=True)
        roots = {SOCKET: socket.parent, ALL: workspace}
        chroot = make_root(roots[row.chroot]) if row.chroot else None
        conf = stage.write_openssl_conf(directory / "openssl.cnf", socket, timeout_ms=timeout_ms)
        where = directory / "server"
        return row.make(Setting(stage, where, conf, socket, sites, backend_port, chroot, timeout_ms))

    return make


@pytest.fixture(scope="module")
def running(server, make, workspace, immured, keys):
    """The server with a key of each type that it can have, for tests that do it no harm."""
    sites = [server.site(keys[t]) for t in KEY_TYPES if t not in server.no_key]
    directory = workspace / f"server-{SERVERS.index(server)}"
    running = make(server, directory, immured.socket, sites)
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def timeout_ms():
    """How long the provider waits for immured, where it is not left as it is."""


@pytest.fixture
def own(server, make, directory, make_immured, keys, timeout_ms):
    """An immured that is not started, and a server, neither, of the test's own."""
    immured = make_immured()
    sites = [server.site(keys[t]) for t in ("p256", "rsa2048")]
    made = make(server, directory / "own", immured.socket, sites, timeout_ms)
    yield made, immured, sites
    made.stop()


@pytest.mark.cell("server | key", "{server.name} | {key_type}", "TLS {version}")
@each_version
@each_key_type
@for_whole_rows
def test_handshakes_with_two_libraries(running, server, authority, keys, key_type, version):
    if key_type in server.no_key:
        pytest.skip(server.no_key[key_type])
    host, expected = keys[key_type].host, SIGNATURES[key_type]
    option = f"-tls{version.replace('.', '_')}"
    priority = f"NORMAL:-VERS-ALL:+VERS-TLS{version}"
    by_openssl = s_client(authority, running.port, host, option)
    by_gnutls = gnutls_cli(authority, running.port, host, priority)
    assert by_openssl.protocol == f"TLSv{version}" and by_openssl.signature in expected[0]
    assert by_gnutls.protocol == f"TLS{version}-X.509" and by_gnutls.signature in expected[1]
    limits = (f"--tlsv{version}", "--tls-max", version)
    assert "served" in curl(authority, running.port, host, *limits, path="/page")


def served_certificate(authority, port, host):
    """None where there is none at the moment; that is a failure of the load's, not of this."""
    context = ssl.create_default_context(cafile=authority.certificate)
    with suppress(OSError), connect(port, host, context, timeout=2) as connection:
        return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))


def wait_for_certificate(authority, server, site):
    new = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(site.certificate.read_text()))

    def serves_it():
        assert server.is_up(), "it has died"
        return served_certificate(authority, server.port, site.host) == new

    wait_until(serves_it, f"the new certificate of {site.host}")


def rotate(authority, own, sites):
    """A new key for the first site by a reload; returns when it is in use."""
    own.configure(sites)
    own.reload()
    wait_for_certificate(authority, own, sites[0])


@pytest.mark.slow
@in_table("a reload with another key, under load")
def test_a_reload_with_another_key_fails_no_handshake(
    server, own, authority, keys, record_property
):
    if server.no_reload:
        pytest.skip(server.no_reload)
    own, immured, sites = own
    if server.reload_kills:
        sites = sites[:1]
        own.configure(sites)
    immured.start()
    own.start()
    other = keys["p384"]
    host = sites[0].host
    new = [server.site(other, host, authority.certify(other, host)), *sites[1:]]
    with Load(authority, own.port, [site.host for site in sites]) as load:
        for wanted in (new, sites) * (1 if server.brief else 2):
            rotate(authority, own, wanted)
            load.wait_for(8)
        load.check(server.reload_loses)
    one = ", with one name" if server.reload_kills else ""
    lost = f", but for {len(load.failures)} connections that its reload lost" if load.failures else ""
    record_property("found", f"passed{one}{lost}")


@in_table("immured killed and restarted, under load")
@pytest.mark.parametrize("timeout_ms", [10000])  # a busy machine takes its time for a restart
def test_restarts_of_immured_fail_no_handshake(server, own, authority):
    own, immured, sites = own
    immured.start()
    own.start()
    with Load(authority, own.port, [site.host for site in sites]) as load:
        for end in (immured.stop, immured.kill):
            end()
            time.sleep(0.1)
            immured.start()
            load.wait_for(8)
        load.check()


@pytest.mark.slow
@in_table("immured away at start")
@for_whole_rows
def test_a_start_with_immured_away(server, own, authority):
    own, immured, sites = own
    if server.asks_at_start:
        with suppress(AssertionError):
            own.start()  # some listen before they read keys
        wait_until(lambda: not own.is_up(), "its end")
        pytest.skip("the key is looked up at start, so it does not start")
    own.start()
    s_client(authority, own.port, sites[0].host, status=1)
    wait_until(lambda: "immured unreachable" in own.log(), "the reason in the server's log")
    immured.start()
    for site in sites:
        assert s_client(authority, own.port, site.host).protocol == "TLSv1.3"


@pytest.mark.skipif(not Path(HAPROXY).exists(), reason="not here: haproxy")
def test_haproxys_runtime_api_changes_key_and_certificate_under_load(
    stage, directory, openssl_conf, authority, keys
):
    old, other = sites_of(keys["p256"], keys["p384"])
    new = other._replace(host=old.host, certificate=authority.certify(keys["p384"], old.host))
    settings = ("ssl-mode-async",)
    haproxy = Haproxy(directory / "h", stage.host_env(openssl_conf), [old], settings, threads=4)
    try:
        with Load(authority, haproxy.start().port, [old.host]) as load:
            for site in (new, old) * 2:
                haproxy.set_certificate(site)
                wait_for_certificate(authority, haproxy, site)
                load.wait_for(8)
            load.check()
    finally:
        haproxy.stop()


# --- Programs whose client certificate's key is in the token -------------------------------------


@pytest.fixture(scope="module")
def strict(stage, openssl_conf, workspace, authority, keys):
    """A server that wants a client certificate of the authority's."""
    options = ("-Verify", "1", "-verify_return_error", "-CAfile", authority.certificate)
    env = stage.host_env(openssl_conf)
    server = OpensslServer(workspace / "strict", env, sites_of(keys["p256"]), options)
    yield server.start()
    server.stop()


def by_curl(authority, port, host, version, key, env):
    own = ("--cert", key.certificate, "--key", key.reference) if key else ()
    limits = (f"--tlsv{version}", "--tls-max", version)
    return curl(
        authority, port, host, *limits, *own, path="/page", env=env, status=0 if key else None
    )


def by_python(authority, port, host, version, key, env):
    own = (key.certificate, key.reference) if key else ()
    program = (sys.executable, HTTPS_CLIENT, port, host, version, authority.certificate)
    return run(*program, *own, env=env, status=0 if key else 1).text


CLIENTS = {"curl": by_curl, "Python's ssl": by_python}


@pytest.mark.slow  # curl does not start with AddressSanitizer's library in it
@pytest.mark.cell("client | key", "{client} | {key_type}", "TLS {version}")
@each_version
@each_key_type
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_certificate(
    strict, stage, openssl_conf, authority, keys, client, key_type, version
):
    get = lambda key: CLIENTS[client](
        authority, strict.port, keys["p256"].host, version, key, stage.host_env(openssl_conf)
    )
    assert "served" in get(keys[key_type])
    assert "served" not in get(None)
