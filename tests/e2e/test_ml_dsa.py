"""ML-DSA (FIPS 204) with OpenSSL 3.5 and a token of PKCS#11 3.2; and what older ones say of it."""

import base64
import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import wire
from harness.clients import curl, s_client
from harness.der import encode
from harness.load import Load
from harness.nginx import certificate_lines
from harness.pki import ML_DSA, make_key
from harness.process import run
from harness.s_server import OpensslServer
from harness.server import sites
from harness.stage import DAEMON_USER
from harness.token import GRANTS, Immured
from harness.tokens import Nss, OpenCryptoki

SIGNATURE_SIZES = {"mldsa44": 2420, "mldsa65": 3309, "mldsa87": 4627}
SCHEMES = {"mldsa44": 0x0904, "mldsa65": 0x0905, "mldsa87": 0x0906}
by_key_type = pytest.mark.parametrize("key_type", ML_DSA)


def openssl_has_ml_dsa():
    return "ML-DSA-65" in run("openssl", "list", "-signature-algorithms").text


def has_ml_dsa(token):
    return not token.missing() and set(ML_DSA) <= set(token.keys.fget(None))


@pytest.fixture(scope="module")
def device(stage, authority, workspace):
    """An immured whose token has a key of each type, and one of P-256."""
    make = next(filter(has_ml_dsa, (Nss, OpenCryptoki)), None)
    if make is None:
        pytest.skip("no token here makes ML-DSA keys")
    directory = Path(tempfile.mkdtemp(dir=workspace, prefix="ml-dsa-"))
    directory.chmod(0o755)
    shutil.chown(directory, DAEMON_USER)
    token = make(directory / "token")
    token.start()
    immured = Immured(stage, directory / "immured", token.section() + GRANTS, token.env)
    immured.as_owner = token.as_owner
    immured.start()
    keys = {t: make_key(immured, authority, directory, t, t) for t in ("p256", *ML_DSA)}
    yield SimpleNamespace(immured=immured, keys=keys, log=immured.log)
    immured.stop()
    token.stop()


@pytest.fixture
def openssl_env(stage, device, directory):
    """Of a host with the provider."""
    return stage.host_env(stage.write_openssl_conf(directory / "openssl.cnf", device.immured.socket))


@pytest.fixture
def openssl(openssl_env):
    return lambda *arguments, **options: run("openssl", *arguments, env=openssl_env, **options)


@by_key_type
def test_s_server_signs_and_the_client_verifies(device, openssl_env, authority, directory, key_type):
    key = device.keys[key_type]
    server = OpensslServer(directory / "s_server", openssl_env, sites(key))
    try:
        server.start()
        handshake = s_client(authority, server.port, key.host, "-sigalgs", key_type)
    finally:
        server.stop()
    assert (handshake.protocol, handshake.signature) == ("TLSv1.3", key_type)


@by_key_type
def test_nginx_signs_in_tls_1_3_alone(device, make_nginx, authority, key_type):
    key = device.keys[key_type]
    nginx = make_nginx(device.immured.socket).configure((key.host, certificate_lines(key))).start()
    handshake = s_client(authority, nginx.port, key.host, "-sigalgs", key_type)
    assert (handshake.protocol, handshake.signature) == ("TLSv1.3", key_type)
    assert curl(authority, nginx.port, key.host) == f"served {key.host}\n"
    s_client(authority, nginx.port, key.host, "-tls1_2", status=1)


def tstclnt(database, port, host, scheme, status=0):
    """NSS's client, which trusts the CAs in its database, and offers this scheme alone."""
    connect = ("tstclnt", "-h", "127.0.0.1", "-p", str(port), "-a", host, "-d", database)
    return run(*connect, "-V", "tls1.3:tls1.3", "-J", scheme, "-Q", status=status).text


@pytest.mark.skipif(not shutil.which("tstclnt"), reason="not here: libnss3-tools")
@by_key_type
def test_nss_verifies_what_nginx_signs(device, make_nginx, authority, directory, key_type):
    key, database = device.keys[key_type], f"sql:{directory}"
    nginx = make_nginx(device.immured.socket).configure((key.host, certificate_lines(key))).start()
    run("certutil", "-N", "-d", database, "--empty-password")
    assert "UNKNOWN_ISSUER" in tstclnt(database, nginx.port, key.host, key_type, status=254)
    run("certutil", "-A", "-d", database, "-n", "ca", "-t", "C,,", "-i", authority.certificate)
    assert f"subject DN: CN={key.host}" in tstclnt(database, nginx.port, key.host, key_type)
    tstclnt(database, nginx.port, key.host, "ecdsa_secp256r1_sha256", status=1)


def test_nginx_has_an_ecdsa_certificate_for_who_knows_no_ml_dsa(device, make_nginx, authority):
    new, old = device.keys["mldsa65"], device.keys["p256"]
    nginx = make_nginx(device.immured.socket)
    nginx.configure((new.host, certificate_lines(new, old))).start()
    ask = lambda *options: s_client(authority, nginx.port, new.host, "-verify_hostname", old.host, *options)
    assert s_client(authority, nginx.port, new.host, "-sigalgs", "mldsa65:ECDSA+SHA256").signature == "mldsa65"
    assert ask("-sigalgs", "ECDSA+SHA256").signature == "ECDSA SHA256"
    assert ask("-tls1_2").protocol == "TLSv1.2"


def test_handshakes_under_load_all_succeed(device, make_nginx, authority):
    served = [device.keys[key_type] for key_type in ML_DSA]
    nginx = make_nginx(device.immured.socket)
    nginx.configure(*((key.host, certificate_lines(key)) for key in served)).start()
    with Load(authority, nginx.port, [key.host for key in served]) as load:
        load.wait_for(50)
        nginx.reload()
        load.wait_for(50)
        load.check()
    assert device.immured.token_status()["failures"] == 0


@by_key_type
def test_openssl_signs_messages_and_requests(device, openssl, authority, directory, key_type):
    key, csr = device.keys[key_type], directory / "csr"
    message, signature = directory / "message", directory / "signature"
    message.write_bytes(b"to be signed")
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", key.reference, "-in", message, "-out", signature)
    assert signature.stat().st_size == SIGNATURE_SIZES[key_type]
    verify = ("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", key.public_key)
    authority.openssl(*verify, "-in", message, "-sigfile", signature)
    openssl("pkeyutl", "-verify", "-rawin", "-inkey", key.reference, "-in", message, "-sigfile", signature)
    openssl("req", "-new", "-key", key.reference, "-subj", "/CN=any", "-out", csr)
    authority.openssl("req", "-in", csr, "-noout", "-verify")
    assert ML_DSA[key_type] in authority.openssl("req", "-in", csr, "-noout", "-text").text
    for name in (key.reference, f"immure:{key.name}", f"pkcs11:object={key.name}"):
        assert openssl("pkey", "-in", name, "-pubout").stdout == key.public_key.read_bytes()


def test_digests_and_long_messages_are_refused_in_words(device, openssl, directory):
    key, message = device.keys["mldsa44"], directory / "message"
    message.write_bytes(bytes(wire.DATAGRAM_SIZE_MAX))
    sign = ("-sign", "-rawin", "-inkey", key.reference, "-out", directory / "signature", "-in", message)
    assert "a message for ML-DSA-44 must be given whole" in openssl("pkeyutl", *sign, status=1).text
    said = openssl("dgst", "-sha256", "-sign", key.reference, message, status=1).text
    assert "ML-DSA-44 takes no digest; 'sha256' was given" in said


@by_key_type
def test_a_server_s_grant_is_for_tls_1_3_alone(device, key_type):
    key, scheme = device.keys[key_type], SCHEMES[key_type]
    tls13 = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32)
    tls12 = bytes(range(64)) + b"\3\0\x1d\x20" + bytes(32)  # x25519
    wire.call(device.immured, key, wire.SIGN, b"introduces the key", scheme=scheme)
    with wire.Connection(device.immured.socket, "www-data") as connection:
        call = lambda operation, message, scheme=scheme: connection.call(
            wire.request(operation, message, scheme=scheme, key_id=key.id)
        )
        signed, refused = call(wire.SIGN, tls13), call(wire.SIGN, tls12)
        assert (signed.status, len(signed.payload)) == (wire.OK, SIGNATURE_SIZES[key_type])
        assert refused.status == wire.MESSAGE_REFUSED and b"(rule scheme)" in refused.payload
        assert call(wire.SIGN_DIGEST, bytes(32)).status == wire.UNSUPPORTED_SCHEME
        for other in set(SCHEMES.values()) - {scheme}:
            assert call(wire.SIGN, tls13, other).status == wire.UNSUPPORTED_SCHEME


def test_show_has_the_public_key_and_list_the_type(device):
    key = device.keys["mldsa87"]
    shown = device.immured.cli("key", "show", key.name, "--public").text
    assert key.public_key.read_text() in shown
    assert re.search(r"^mldsa87 +ML-DSA-87 ", device.immured.cli("key", "list").text, re.MULTILINE)


@pytest.mark.skipif(openssl_has_ml_dsa(), reason="this OpenSSL has ML-DSA")
def test_an_openssl_without_ml_dsa_says_so(openssl_conf, stage, directory):
    sequence = lambda *parts: encode(0x30, b"".join(parts))
    oid = bytes.fromhex("0609608648016503040312")
    spki = sequence(sequence(oid), encode(0x03, bytes(1 + 1952)))
    reference = sequence(encode(0x02, b"\1"), spki, encode(0x0C, b"new"))
    pem = base64.encodebytes(reference).decode().replace("\n", "")
    lines = "\n".join(pem[i : i + 64] for i in range(0, len(pem), 64))
    label = "IMMURE KEY REFERENCE"
    file = directory / "new.pem"
    file.write_text(f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
    said = run("openssl", "pkey", "-in", file, "-noout", env=stage.host_env(openssl_conf), status=1).text
    assert "'new' is an ML-DSA-65 key, which takes OpenSSL 3.5 or later" in said
    assert "damaged" not in said
