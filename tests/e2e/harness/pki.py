"""A throw-away CA, and the keys in the token with their references and certificates."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .process import run
from .stage import DAEMON_USER

# By the name of each type of key: what openssl req calls it.
ALGORITHMS = {
    f"p{bits}": f"ec -pkeyopt ec_paramgen_curve:P-{bits}" for bits in (256, 384, 521)
} | {f"rsa{bits}": f"rsa:{bits}" for bits in (2048, 3072, 4096)} | {"ed25519": "ed25519"}
KEY_TYPES = tuple(ALGORITHMS)
# For OpenSSL 3.5 and later, and tokens of PKCS#11 3.2, none of which Debian 12 has.
ML_DSA = {f"mldsa{number}": f"ML-DSA-{number}" for number in (44, 65, 87)}
# openssl.cnf without any provider section: what OpenSSL does by itself. And what strict clients
# want in a certificate, which OpenSSL 4 no longer puts there unasked.
PLAIN_CONF = """
[req]
distinguished_name = dn
[dn]
[signed]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Key:
    name: str
    reference: Path
    certificate: Path
    public_key: Path  # PEM, written by openssl from the certificate

    @property
    def host(self):
        return f"{self.name}.immure.test"

    @cached_property
    def spki(self):
        """The SubjectPublicKeyInfo, DER."""
        return run("openssl", "pkey", "-pubin", "-in", self.public_key, "-outform", "DER").stdout

    @cached_property
    def id(self):
        """Its name on the wire: SHA-256 of the SubjectPublicKeyInfo."""
        return hashlib.sha256(self.spki).digest()


class Authority:
    """Signs CSRs with a P-256 key in a file, by an openssl that knows no provider."""

    def __init__(self, directory):
        self.directory = directory / "ca"
        self.directory.mkdir()
        self.plain_conf = self.directory / "openssl.cnf"
        self.plain_conf.write_text(PLAIN_CONF)
        self.env = os.environ | {"OPENSSL_CONF": str(self.plain_conf)}
        self.key = self.directory / "ca.key"
        self.certificate = self.directory / "ca.pem"
        self.openssl(
            *"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(),
            *("-subj", "/CN=e2e CA", "-keyout", self.key, "-out", self.certificate),
            *("-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=keyCertSign"),
            *("-addext", "subjectKeyIdentifier=hash"),
        )

    def openssl(self, *arguments, **options):
        """openssl without the provider: to make file keys, and to verify."""
        return run("openssl", *arguments, env=self.env, **options)

    def sign(self, csr, certificate, *options):
        self.openssl(
            *("x509", "-req", "-in", csr, "-days", "2", "-copy_extensions", "copy"),
            *("-extfile", self.plain_conf, "-extensions", "signed"),
            *("-CA", self.certificate, "-CAkey", self.key, "-out", certificate, *options),
        )
        return certificate

    def file_key(self, name, host, algorithm=ALGORITHMS["p256"]):
        """A key and certificate in files: (key, certificate)."""
        key, csr, certificate = (self.directory / f"{name}.{end}" for end in ("key", "csr", "crt"))
        self.openssl(
            *f"req -new -nodes -newkey {algorithm}".split(),
            *("-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"),
            *("-keyout", key, "-out", csr),
        )
        return key, self.sign(csr, certificate)

    def certify(self, key, host):
        """A certificate of another name for a key in the token."""
        self.file_key(f"{key.name}-{host}", host)
        csr = self.directory / f"{key.name}-{host}.csr"
        return self.sign(csr, csr.with_suffix(".crt"), "-force_pubkey", key.public_key)

    def ocsp_response(self, certificate, directory):
        """A response that says of the certificate: good."""
        index, response = directory / "index.txt", directory / "ocsp.der"
        said = self.openssl("x509", "-in", certificate, "-noout", "-serial").stdout.decode()
        serial = said.strip().removeprefix("serial=")
        index.write_text(f"V\t491231235959Z\t\t{serial}\tunknown\t/CN=any\n")
        self.openssl(
            *("ocsp", "-index", index, "-rsigner", self.certificate, "-rkey", self.key),
            *("-CA", self.certificate, "-issuer", self.certificate, "-cert", certificate),
            *("-ndays", "1", "-respout", response),
        )
        return response


def make_key(immured, authority, directory, name, key_type, *options):
    """Makes a key in the token as an operator does: generate, reference, CSR, certificate."""
    host = f"{name}.immure.test"
    csr = directory / f"{name}.csr"
    immured.cli("key", "generate", name, "--type", key_type, *options)
    request = immured.cli("csr", name, "--subject", f"/CN={host}", "--san", f"DNS:{host}")
    csr.write_bytes(request.stdout)
    return key_of(immured, authority, directory, name, authority.sign(csr, directory / f"{name}.crt"))


def key_of(immured, authority, directory, name, certificate):
    """A key that is in the token, with its reference."""
    reference, public_key = directory / f"{name}.pem", directory / f"{name}.pub"
    reference.write_bytes(immured.cli("key", "reference", name).stdout)
    public_key.write_bytes(
        authority.openssl("x509", "-in", certificate, "-noout", "-pubkey").stdout
    )
    return Key(name, reference, certificate, public_key)


def import_key(immured, authority, directory, name, file_key, tokens=("soft",)):
    """Brings a key from a file into tokens; `file_key`: Authority.file_key()'s."""
    file, certificate = file_key
    copy = Path(shutil.copy(file, directory / f"{name}.import"))
    shutil.chown(copy, DAEMON_USER)
    for token in tokens:
        immured.cli("key", "import", name, copy, "--token", token, "--keep")
    copy.unlink()
    return key_of(immured, authority, directory, name, certificate)
