"""TLS clients of two libraries; all verify the certificate chain and the name, or fail."""

import re
import socket
import ssl
from collections import namedtuple
from contextlib import contextmanager

from .process import run

# OpenSSL 3.0's words for a signature scheme; 3.5 says its name in TLS.
KINDS = (
    {f"ecdsa_secp{group}": "ECDSA" for group in ("256r1_sha256", "384r1_sha384", "521r1_sha512")}
    | {f"rsa_pss_rsae_sha{size}": "RSA-PSS" for size in (256, 384, 512)}
    | {f"rsa_pkcs1_sha{size}": "RSA" for size in (256, 384, 512)}
)

# How the handshake was made, in the client's own words.
Handshake = namedtuple("Handshake", "protocol cipher signature")


def field(pattern, text):
    match = re.search(pattern, text, re.MULTILINE)
    assert match, f"no {pattern!r} in:\n{text}"
    return match[1].strip()


def peer_signature(text):
    digest = re.search(r"^Peer signing digest: (.*)$", text, re.MULTILINE)
    kind = KINDS.get(scheme := field(r"^Peer signature type: (.*)$", text), scheme)
    return f"{kind} {digest[1]}" if digest else kind


def s_client(authority, port, host, *options, request="", status=0, is_signed=True):
    """openssl s_client; the Handshake's signature is such as "RSA-PSS SHA256", or None if none
    `is_signed`."""
    options += ("-ign_eof",) if request else ()  # stays for the answer
    result = authority.openssl(
        *("s_client", "-connect", f"127.0.0.1:{port}", "-servername", host),
        *("-CAfile", authority.certificate, "-verify_hostname", host, "-verify_return_error", *options),
        input=request, status=status,
    )
    if status != 0:
        return result.text
    assert "Verify return code: 0 (ok)" in result.text, result.text
    signature = peer_signature(result.text) if is_signed else None
    return Handshake(
        field(r"^New, (.*), Cipher is ", result.text),
        field(r"^New, .*, Cipher is (.*)$", result.text),
        signature,
    )


def gnutls_cli(authority, port, host, priority, status=0):
    """gnutls-cli; the Handshake's signature is such as "RSA-PSS-RSAE-SHA256"."""
    result = run(
        *("gnutls-cli", "--x509cafile", authority.certificate, "--port", str(port)),
        *("--sni-hostname", host, "--verify-hostname", host, "--priority", priority, "127.0.0.1"),
        status=status,
    )
    if status != 0:
        return result.text
    assert "The certificate is trusted" in result.text, result.text
    parts = field(r"^- Description: (.*)$", result.text)[1:-1].split(")-(")
    return Handshake(parts[0], parts[-1], parts[2])


def curl(authority, port, host, *options, path="/", env=None, status=0):
    """The page's text, fetched by curl from the server that answers to `host`."""
    return run(
        *("curl", "--silent", "--show-error", "--fail", "--max-time", "20"),
        *("--cacert", authority.certificate, "--resolve", f"{host}:{port}:127.0.0.1", *options),
        f"https://{host}:{port}{path}", env=env or authority.env, status=status,
    ).text


def tls_version(version):
    """Python's name for "1.2" and "1.3"."""
    return {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]


@contextmanager
def connect(port, host, context, session=None, timeout=30):
    """An ssl.SSLSocket whose handshake has ended."""
    with socket.create_connection(("127.0.0.1", port), timeout) as plain:
        with context.wrap_socket(plain, server_hostname=host, session=session) as connection:
            yield connection


def get(connection, host):
    """The answer to a request on a connection, after which the server closes it."""
    connection.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


def handshake(authority, port, host):
    """A full handshake; the protocol that it led to."""
    with connect(port, host, ssl.create_default_context(cafile=authority.certificate)) as connection:
        return connection.version()


def client_hello(host, version="1.3", group=None):
    """The first bytes of a client that offers no other version and, if one is given, group."""
    context, outgoing = ssl.create_default_context(), ssl.MemoryBIO()
    context.minimum_version = context.maximum_version = tls_version(version)
    if group:
        context.set_ecdh_curve(group)
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody has ended")
