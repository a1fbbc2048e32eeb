"""Each key type, TLS version and signature algorithm, against clients of two TLS libraries."""

import pytest
from harness.clients import Handshake, curl, gnutls_cli, s_client

# key type, TLS version, what is asked of openssl and what it then says, the same for gnutls-cli
SIGNATURES = [
    ("p256", "1.2", "ECDSA+SHA256", "ECDSA SHA256", "SIGN-ECDSA-SHA256", "ECDSA-SHA256"),
    ("p256", "1.3", "ecdsa_secp256r1_sha256", "ECDSA SHA256", "SIGN-ECDSA-SECP256R1-SHA256", "ECDSA-SECP256R1-SHA256"),
    ("p384", "1.2", "ECDSA+SHA384", "ECDSA SHA384", "SIGN-ECDSA-SHA384", "ECDSA-SHA384"),
    ("p384", "1.3", "ecdsa_secp384r1_sha384", "ECDSA SHA384", "SIGN-ECDSA-SECP384R1-SHA384", "ECDSA-SECP384R1-SHA384"),
    ("p521", "1.2", "ECDSA+SHA512", "ECDSA SHA512", "SIGN-ECDSA-SHA512", "ECDSA-SHA512"),
    ("p521", "1.3", "ecdsa_secp521r1_sha512", "ECDSA SHA512", "SIGN-ECDSA-SECP521R1-SHA512", "ECDSA-SECP521R1-SHA512"),
    ("ed25519", "1.2", "ed25519", "ed25519", "SIGN-EDDSA-ED25519", "EdDSA-Ed25519"),
    ("ed25519", "1.3", "ed25519", "ed25519", "SIGN-EDDSA-ED25519", "EdDSA-Ed25519"),
] + [
    (f"rsa{bits}", version, *scheme)
    for bits in (2048, 3072, 4096)
    for version, *scheme in (
        ("1.2", "RSA+SHA256", "RSA SHA256", "SIGN-RSA-SHA256", "RSA-SHA256"),
        ("1.2", "RSA+SHA512", "RSA SHA512", "SIGN-RSA-SHA512", "RSA-SHA512"),
        ("1.2", "rsa_pss_rsae_sha256", "RSA-PSS SHA256", "SIGN-RSA-PSS-RSAE-SHA256", "RSA-PSS-RSAE-SHA256"),
        ("1.3", "rsa_pss_rsae_sha256", "RSA-PSS SHA256", "SIGN-RSA-PSS-RSAE-SHA256", "RSA-PSS-RSAE-SHA256"),
        ("1.3", "rsa_pss_rsae_sha384", "RSA-PSS SHA384", "SIGN-RSA-PSS-RSAE-SHA384", "RSA-PSS-RSAE-SHA384"),
        ("1.3", "rsa_pss_rsae_sha512", "RSA-PSS SHA512", "SIGN-RSA-PSS-RSAE-SHA512", "RSA-PSS-RSAE-SHA512"),
    )
]

MATRIX = pytest.mark.parametrize(
    "key_type, version, sigalg, signature, gnutls_sigalg, gnutls_signature",
    SIGNATURES,
    ids=[f"{row[0]}-tls{row[1]}-{row[2]}" for row in SIGNATURES],
)


def openssl_cipher(key_type, version):
    if version == "1.3":
        return "TLS_AES_128_GCM_SHA256"
    return f"ECDHE-{'RSA' if key_type.startswith('rsa') else 'ECDSA'}-AES128-GCM-SHA256"


@MATRIX
def test_openssl_client_gets_the_signature_it_asked_for(
    web, authority, keys, key_type, version, sigalg, signature, gnutls_sigalg, gnutls_signature
):
    cipher = openssl_cipher(key_type, version)
    option = "-ciphersuites" if version == "1.3" else "-cipher"
    handshake = s_client(
        *(authority, web.port, keys[key_type].host),
        *(f"-tls{version.replace('.', '_')}", "-sigalgs", sigalg, option, cipher),
    )
    assert handshake == Handshake(f"TLSv{version}", cipher, signature)


@MATRIX
def test_gnutls_client_gets_the_signature_it_asked_for(
    web, authority, keys, key_type, version, sigalg, signature, gnutls_sigalg, gnutls_signature
):
    # The CA's own signature algorithm has to be among those offered.
    priority = f"NORMAL:-VERS-ALL:+VERS-TLS{version}:-CIPHER-ALL:+AES-128-GCM:-SIGN-ALL:+{gnutls_sigalg}"
    handshake = gnutls_cli(authority, web.port, keys[key_type].host, priority)
    assert handshake == Handshake(f"TLS{version}-X.509", "AES-128-GCM", gnutls_signature)


@pytest.mark.parametrize("version", ("1.2", "1.3"))
def test_curl_fetches_a_page_with_each_key(web, authority, keys, version):
    for key in keys.values():
        page = curl(authority, web.port, key.host, f"--tlsv{version}", "--tls-max", version)
        assert page == f"served {key.host}\n"


def test_a_client_that_trusts_another_ca_refuses(web, keys, authority, directory):
    """What the other tests rely on: these clients do verify."""
    stranger = type(authority)(directory)
    assert "unable to get local issuer" in curl(stranger, web.port, keys["p256"].host, status=60)
    assert "NOT trusted" in gnutls_cli(stranger, web.port, keys["p256"].host, "NORMAL", status=1)
    s_client(stranger, web.port, keys["p256"].host, status=1)
