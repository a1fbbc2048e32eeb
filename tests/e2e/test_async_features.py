"""What nginx's servers can do in TLS, each with handshakes that do not wait for each other."""

import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness.clients import connect, curl, get, s_client, tls_version
from harness.nginx import STREAM, certificate_lines
from harness.pki import key_of
from harness.process import free_port, resident_kib, wait_for_words

# Enough to tell a signature that was waited for from what is done in no time.
DELAY_MS = 50
STREAMED = 'ssl_protocols TLSv1.2 TLSv1.3; return "streamed $ssl_client_s_dn";'

pytestmark = pytest.mark.parametrize("hosting", ["by module"], indirect=True)
both_versions = pytest.mark.parametrize("version", ("1.2", "1.3"))


@pytest.fixture
def hsm(make_slow):
    return make_slow(DELAY_MS)


@pytest.fixture
def configure(hsm, make_nginx):
    """Makes an nginx with these servers, whose access log `visits` reads; not started."""

    def make(*servers):
        nginx = make_nginx(hsm.socket).configure(*servers)
        return nginx.log_requests("$server_name $immure_key $immure_wait $ssl_session_reused $status")

    return make


def visits(nginx, count):
    names = ("server", "key", "wait", "reused", "status")
    return [SimpleNamespace(**dict(zip(names, l.split()))) for l in nginx.requests(count)]


def check_asynchronous(nginx, *keys):
    """A request each came in, on a connection that waited for this key's signature."""
    seen = visits(nginx, len(keys))
    assert [visit.key for visit in seen] == [key.name for key in keys]
    assert all(int(visit.wait) >= DELAY_MS / 2 for visit in seen), seen
    assert "[alert]" not in nginx.log()


def fetch(authority, nginx, host, version, *options, **more):
    return curl(authority, nginx.port, host, f"--tlsv{version}", "--tls-max", version, *options, **more)


@both_versions
@pytest.mark.parametrize("http", ("1.1", "2"))
def test_pages_come_over_both_versions_of_http(configure, authority, keys, http, version):
    served = [keys["p256"], keys["rsa2048"]]
    nginx = configure(*((key.host, certificate_lines(key)) for key in served))
    nginx.edit(" ssl;", " ssl http2;").start()
    for key in served:
        said = fetch(authority, nginx, key.host, version, f"--http{http}", "-w", "%{http_version}")
        assert said == f"served {key.host}\n{http}"
    check_asynchronous(nginx, *served)


@both_versions
@pytest.mark.parametrize("default", ("in a file", "in the token"))
def test_names_whose_keys_are_in_a_file_and_in_the_token_share_an_address(
    configure, authority, keys, default, version
):
    key, plain = keys["p384"], authority.file_key("plain", "plain.immure.test")
    servers = [
        ("plain.immure.test", f"ssl_certificate {plain[1]}; ssl_certificate_key {plain[0]};"),
        (key.host, certificate_lines(key)),
    ]
    nginx = configure(*servers if default == "in a file" else servers[::-1]).start()
    for host, _ in servers:
        assert fetch(authority, nginx, host, version) == f"served {host}\n"
    in_file, in_token = visits(nginx, 2)
    assert (in_file.key, in_file.wait) == ("-", "-")
    assert in_token.key == key.name and int(in_token.wait) >= DELAY_MS / 2


@both_versions
@pytest.mark.parametrize("kind", ("p256", "rsa2048"))
def test_the_client_chooses_among_two_certificates(configure, authority, keys, kind, version):
    host = "two.immure.test"
    lines = "".join(
        f"ssl_certificate {authority.certify(keys[k], host)}; ssl_certificate_key {keys[k].reference};"
        for k in ("p256", "rsa2048")
    )
    nginx = configure((host, lines)).start()
    name, cipher, sigalg = {
        "p256": ("ECDSA SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDSA+SHA256"),
        "rsa2048": ("RSA-PSS SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "RSA-PSS+SHA256"),
    }[kind]
    handshake = s_client(
        *(authority, nginx.port, host, f"-tls{version.replace('.', '_')}", "-sigalgs", sigalg),
        *("-cipher", cipher), request="GET / HTTP/1.0\n\n",
    )
    assert handshake.signature == name
    check_asynchronous(nginx, keys[kind])


CLIENT_CERTIFICATES = {
    "good": ("200", ""),
    "bad": ("400", "client SSL certificate verify error: ("),
    "none": ("400", "client sent no required SSL certificate"),
}
each_client_certificate = pytest.mark.parametrize("sends", CLIENT_CERTIFICATES)


@pytest.fixture
def visitor(authority, directory):
    """Key and certificate, and options of curl, by what a client may send."""
    good = authority.file_key("visitor", "visitor")
    bad = type(authority)(directory).file_key("visitor", "visitor")
    return {"good": good, "bad": bad, "none": None}


def verify_lines(authority):
    return f"ssl_verify_client on; ssl_client_certificate {authority.certificate};"


@both_versions
@each_client_certificate
def test_client_certificates_are_verified(configure, authority, keys, visitor, sends, version):
    key, pair = keys["p256"], visitor[sends]
    nginx = configure((key.host, certificate_lines(key) + verify_lines(authority))).start()
    options = ("--key", pair[0], "--cert", pair[1]) if pair else ()
    status, says = CLIENT_CERTIFICATES[sends]
    fetch(authority, nginx, key.host, version, *options, status=0 if status == "200" else 22)
    assert visits(nginx, 1)[0].status == status
    assert says in nginx.log()
    check_asynchronous(nginx, key)


@both_versions
@each_client_certificate
@pytest.mark.skipif(not Path(STREAM).exists(), reason="libnginx-mod-stream is not here")
def test_stream_verifies_client_certificates(configure, authority, keys, visitor, sends, version):
    key, port, pair = keys["p256"], free_port(), visitor[sends]
    lines = certificate_lines(key) + verify_lines(authority) + STREAMED
    nginx = configure((key.host, certificate_lines(key)))
    nginx.add_stream(f"server {{ listen 127.0.0.1:{port} ssl; {lines} }}").start()
    context = ssl.create_default_context(cafile=authority.certificate)
    context.minimum_version = context.maximum_version = tls_version(version)
    if pair:
        context.load_cert_chain(pair[1], pair[0])
    with connect(port, key.host, context) as connection:
        received = connection.recv(100)
    assert received == (b"streamed CN=visitor" if sends == "good" else b"")
    wait_for_words(nginx, CLIENT_CERTIFICATES[sends][1])
    assert "[alert]" not in nginx.log()


@both_versions
def test_an_ocsp_response_is_stapled(configure, authority, keys, directory, version):
    key = keys["p256"]
    response = authority.ocsp_response(key.certificate, directory)
    nginx = configure((key.host, f"{certificate_lines(key)} ssl_stapling on; ssl_stapling_file {response};"))
    nginx.start()
    said = authority.openssl(
        *("s_client", "-connect", f"127.0.0.1:{nginx.port}", "-servername", key.host, "-status"),
        *(f"-tls{version.replace('.', '_')}", "-ign_eof"), input="GET / HTTP/1.0\n\n",
    ).text
    assert "OCSP Response Status: successful" in said and "Cert Status: good" in said
    check_asynchronous(nginx, key)


@both_versions
def test_the_proxy_protocol_goes_before_the_handshake(configure, authority, keys, version):
    key = keys["p256"]
    nginx = configure((key.host, certificate_lines(key) + "add_header From $proxy_protocol_addr;"))
    nginx.edit(" ssl;", " ssl proxy_protocol;").start()
    said = fetch(authority, nginx, key.host, version, "--haproxy-protocol", "--include")
    assert "From: 127.0.0.1" in said
    check_asynchronous(nginx, key)


@both_versions
def test_handshakes_for_unknown_names_are_rejected(configure, authority, keys, version):
    key = keys["p256"]
    nginx = configure(("_", "ssl_reject_handshake on;"), (key.host, certificate_lines(key))).start()
    assert "unrecognized name" in fetch(authority, nginx, "unknown.test", version, status=35)
    wait_for_words(nginx, "handshake rejected")
    fetch(authority, nginx, key.host, version)
    check_asynchronous(nginx, key)


@both_versions
@pytest.mark.parametrize("kept", ("ssl_session_tickets off;", "ssl_session_cache off;"), ids=("in tickets", "in the cache"))
def test_a_resumed_session_asks_for_no_signature(hsm, configure, authority, keys, kept, version):
    key = keys["p256"]
    nginx = configure((key.host, certificate_lines(key)))
    nginx.edit(kept, kept.replace("cache off", "cache shared:e2e:1m").replace("s off", "s on")).start()
    context = ssl.create_default_context(cafile=authority.certificate)
    context.minimum_version = context.maximum_version = tls_version(version)
    session = None
    for _ in range(2):
        with connect(nginx.port, key.host, context, session) as connection:
            get(connection, key.host)
            session, reused = connection.session, connection.session_reused
    full, resumed = visits(nginx, 2)
    assert reused and (full.reused, resumed.reused) == (".", "r")
    assert full.wait != "-" and resumed.wait == "-"
    assert hsm.token_status()["signatures"] == 1


@pytest.fixture
def long_key(immured, authority, directory):
    """A key whose name is long, for "long.immure.test"."""
    name, csr = 200 * "k", directory / "long.csr"
    immured.cli("key", "generate", name, "--type", "p256")
    csr.write_bytes(immured.cli("csr", name, "--san", "DNS:long.immure.test").stdout)
    certificate = authority.sign(csr, directory / "long.crt")
    yield key_of(immured, authority, directory, name, certificate)
    immured.cli("key", "destroy", name, "--yes")


@pytest.mark.slow  # a sanitizer keeps what is freed
def test_requests_on_one_connection_take_no_memory_for_the_keys_name(
    immured, make_nginx, authority, long_key, monkeypatch
):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)
    host, count = "long.immure.test", 10000
    nginx = make_nginx(immured.socket)
    nginx.configure((host, certificate_lines(long_key) + "keepalive_requests 100000;"))
    nginx.log_requests("$immure_key").start()

    def request(connection):
        """The memory of the worker after `count` requests, of which 100 are sent together."""
        for _ in range(count // 100):
            connection.sendall(100 * f"HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answers = b""
            while answers.count(b"\r\n\r\n") < 100:
                answers += connection.recv(65536)
        return resident_kib(nginx.workers())

    context = ssl.create_default_context(cafile=authority.certificate)
    with connect(nginx.port, host, context) as connection:
        before = request(connection)
        grown = request(connection) - before
    assert set(nginx.requests(2 * count)) == {long_key.name}
    assert grown < count * len(long_key.name) / 1024 / 2, f"{grown} KiB more"


@both_versions
def test_certificates_named_by_a_variable_are_loaded_in_the_handshake(
    configure, authority, keys, directory, version
):
    served = [keys["p256"], keys["rsa3072"]]
    for key in served:
        (directory / f"{key.host}.crt").symlink_to(key.certificate)
        (directory / f"{key.host}.pem").symlink_to(key.reference)
    path = f"{directory}/$ssl_server_name"
    nginx = configure(("_", f"ssl_certificate {path}.crt; ssl_certificate_key {path}.pem;")).start()
    for key in served:
        fetch(authority, nginx, key.host, version)
    check_asynchronous(nginx, *served)


@both_versions
def test_the_kernel_takes_the_records_over_after_the_handshake(configure, authority, keys, version):
    protocols = Path("/proc/sys/net/ipv4/tcp_available_ulp").read_text()
    if "tls" not in protocols.split():
        pytest.skip("this kernel has no TLS (CONFIG_TLS)")
    key = keys["p256"]
    nginx = configure((key.host, certificate_lines(key) + "ssl_conf_command Options KTLS;"))
    nginx.edit("error.log info", "error.log debug").start()
    fetch(authority, nginx, key.host, version)
    assert "BIO_get_ktls_send(): 1" in nginx.log()
    check_asynchronous(nginx, key)
