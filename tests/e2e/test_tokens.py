"""Each token of harness/tokens.py: what it can do is done through it, and it may die and return."""

import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import wire
from harness.clients import s_client
from harness.load import Load
from harness.nginx import Nginx, certificate_lines, module_lines, no_module
from harness.pki import ALGORITHMS, KEY_TYPES, ML_DSA, make_key
from harness.process import wait_until
from harness.stage import DAEMON_USER
from harness.token import Immured
from harness.tokens import SPY, TOKENS, P11Kit

pytestmark = pytest.mark.slow  # vendors' libraries, not Immure's code, are what differs here

GRANTS = """
[grant nginx]
user = www-data
keys = *
use = tls-server tls12-rsa-decrypt

[grant operator]
user = root
keys = *
use = sign
"""
THREADS = 8
# How long a token may take to serve again when it is back, on a busy machine.
RECOVERY = 15

PKCS1 = ()
PSS = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
# A scheme's code, OpenSSL's digest and options; by type of key.
RSA_SCHEMES = [
    (code + size, f"-sha{digest}", options)
    for code, step, options in ((0x0401, 0x100, PKCS1), (0x0804, 1, PSS))
    for size, digest in ((0, 256), (step, 384), (2 * step, 512))
]
SCHEMES = {
    "p256": [(0x0403, "-sha256", ())],
    "p384": [(0x0503, "-sha384", ())],
    "p521": [(0x0603, "-sha512", ())],
    "ed25519": [(0x0807, None, ())],
    "mldsa44": [(0x0904, None, ())],
    "mldsa65": [(0x0905, None, ())],
    "mldsa87": [(0x0906, None, ())],
} | {key_type: RSA_SCHEMES for key_type in KEY_TYPES if key_type.startswith("rsa")}


class Rig:
    """A token, an immured that has it, and nginx with a server for each key."""

    def __init__(self, token, stage, authority, directory):
        self.token, self.stage, self.authority, self.directory = token, stage, authority, directory
        self.made = {}
        self.webs = 0
        self.immured = Immured(stage, directory / "immured", token.section() + GRANTS, token.env)
        self.immured.as_owner = token.as_owner
        self.nginx = None

    def key(self, key_type):
        """Made when it is first asked for; "old" is an RSA key that may decrypt."""
        if key_type not in self.made:
            options = ("rsa2048", "--decrypt") if key_type == "old" else (key_type,)
            self.made[key_type] = make_key(
                self.immured, self.authority, self.directory, key_type, *options
            )
        return self.made[key_type]

    def start(self, section=None):
        """Immured with this section for the token; it is restarted if it has another one."""
        before = self.immured.conf.read_text()
        self.immured.configure((section or self.token.section()) + GRANTS)
        if self.immured.is_up() and self.immured.conf.read_text() == before:
            return self.immured
        self.immured.stop()
        return self.immured.start()

    def web(self, *keys):
        """Nginx that serves these keys."""
        self.start()
        if self.nginx:
            self.nginx.stop()
        self.webs += 1
        socket = self.immured.socket
        conf = self.stage.write_openssl_conf(self.directory / "openssl.cnf", socket)
        module = module_lines(self.stage, socket) if not no_module(self.stage) else ""
        self.nginx = Nginx(self.stage, self.directory / f"nginx{self.webs}", conf, module)
        servers = ((key.host, f"ssl_ciphers ALL; {certificate_lines(key)}") for key in keys)
        return self.nginx.configure(*servers).start()

    def stop(self):
        if self.nginx:
            self.nginx.stop()
        self.immured.stop()

    def log(self):
        nginx = self.nginx.log() if self.nginx else ""
        return f"{self.immured.log()}\n--- nginx\n{nginx}\n--- token\n{self.token.log()}"


@pytest.fixture(scope="session", params=TOKENS, ids=[token.name for token in TOKENS])
def device(request, stage, authority, workspace):
    """A Rig for each token of the table."""
    make = request.param
    if make.missing():
        pytest.skip(f"not here: {make.missing()}")
    directory = Path(tempfile.mkdtemp(dir=workspace, prefix=f"token-{make.name}-"))
    directory.chmod(0o755)
    shutil.chown(directory, DAEMON_USER)
    token = make(directory / "token")
    try:
        token.start()
        rig = Rig(token, stage, authority, directory)
        yield rig
        rig.stop()
    finally:
        token.stop()


@pytest.fixture
def key_type(request, device):
    """One that the token has; of another one `immure` makes none."""
    name = request.param
    if name not in device.token.keys:
        device.immured.cli("key", "generate", "none", "--type", name, status=1)
        assert "none" not in device.immured.cli("key", "list").stdout.decode()
        pytest.skip(f"the token makes no {name} keys")
    return name


each_key_type = pytest.mark.parametrize("key_type", (*KEY_TYPES, *ML_DSA), indirect=True)
by_key = lambda column: pytest.mark.cell("token | key", "{device.name} | {key_type}", column)
by_token = lambda column: pytest.mark.cell("token", "{device.name}", column)


@each_key_type
@by_key("immure")
def test_keys_are_made_shown_imported_and_destroyed(device, authority, directory, key_type):
    key, cli = device.key(key_type), device.immured.cli
    assert "e2e" in cli("token", "list").text or device.token.name == "nss"
    assert re.search(rf"^{key.name} .* soft ", cli("key", "list").text, re.MULTILINE)
    assert re.search(r"Extractable: +no", cli("key", "show", key.name).text)

    file, _ = authority.file_key(f"{device.token.name}-{key_type}", "any", (ALGORITHMS | ML_DSA)[key_type])
    copy = shutil.copy(file, directory / "key.pem")
    shutil.chown(copy, DAEMON_USER)
    if device.token.imports:
        cli("key", "import", "brought", copy, "--keep")  # has it sign, and verifies
        cli("key", "destroy", "brought", "--yes")
    else:
        assert "failed: CKR_" in cli("key", "import", "brought", copy, "--keep", status=1).text
    assert "brought" not in cli("key", "list").stdout.decode()


def mechanisms_in(spy_log):
    """Of C_SignInit and C_DecryptInit, in their order, without doubles."""
    calls = re.findall(r": C_(?:Sign|Decrypt)Init\n(?:.*\n)*?.*pMechanism->type *= *(\S+)", spy_log)
    return list(dict.fromkeys(calls))


def spied(device):
    """An immured that has the token by way of pkcs11-spy, and the spy's log."""
    log = device.directory / "spy.log"
    device.immured.env |= {"PKCS11SPY": str(device.token.module), "PKCS11SPY_OUTPUT": str(log)}
    return device.start(device.token.section(module=SPY)), log


def verify(authority, key, directory, message, signature, digest, options):
    (directory / "message").write_bytes(message)
    (directory / "signature").write_bytes(signature)
    files = ("-in", directory / "message", "-sigfile", directory / "signature")
    if digest is None:
        authority.openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", key.public_key, *files)
        return
    authority.openssl(
        *("dgst", digest, *options, "-verify", key.public_key),
        *("-signature", directory / "signature", directory / "message"),
    )


@each_key_type
@by_key("schemes, by mechanism")
def test_each_scheme_verifies(device, authority, directory, key_type, record_property):
    key, (immured, log) = device.key(key_type), spied(device)
    before = log.stat().st_size if log.exists() else 0
    for code, digest, options in SCHEMES[key_type]:
        message = b"%d: a message" % code
        reply = wire.call(immured, key, wire.SIGN, message, scheme=code, deadline_ms=8000)
        assert reply.status == wire.OK, reply
        verify(authority, key, directory, message, reply.payload, digest, options)
    with open(log, errors="replace") as file:
        file.seek(before)
        used = mechanisms_in(file.read())
    assert used
    record_property("found", ", ".join(used))


@each_key_type
@by_key("TLS")
def test_handshakes_of_all_versions(device, authority, key_type, record_property):
    key = device.key(key_type)
    nginx = device.web(key)
    versions = ("1.3",) if key_type in ML_DSA else ("1.2", "1.3")
    for version in versions:
        handshake = s_client(authority, nginx.port, key.host, f"-tls{version.replace('.', '_')}")
        assert handshake.protocol == f"TLSv{version}"
    record_property("found", " and ".join(versions))
    assert device.immured.token_status()["failures"] == 0


@by_token("RSA key exchange")
def test_rsa_key_exchange(device, authority, record_property):
    key = device.key("old")
    _, log = spied(device)
    nginx = device.web(key)
    cipher = ("-tls1_2", "-cipher", "AES128-GCM-SHA256")
    handshake = s_client(authority, nginx.port, key.host, *cipher, is_signed=False)
    assert handshake.cipher == "AES128-GCM-SHA256"


@by_token("8 threads")
def test_eight_threads_at_a_time(device, authority, directory, record_property):
    key, immured = device.key("rsa2048"), device.start()
    code, digest, options = RSA_SCHEMES[0]

    def sign(number):
        message = b"of thread %d" % number
        request = wire.request(
            wire.SIGN, message, scheme=code, key_id=key.id, deadline_ms=20000
        )
        with wire.Connection(immured.socket) as connection:
            connection.socket.settimeout(25)  # longer than the deadline
            for _ in range(5):
                connection.send(request)
            return message, [connection.receive() for _ in range(5)]

    wire.call(immured, key, wire.SIGN, b"introduces the key", scheme=code)
    with ThreadPoolExecutor(THREADS) as pool:
        signed = list(pool.map(sign, range(THREADS)))
    for message, replies in signed:
        # PKCS#1 v1.5 has one signature for a message.
        assert {reply.status for reply in replies} == {wire.OK} and len({reply.payload for reply in replies}) == 1
        verify(authority, key, directory, message, replies[0].payload, digest, options)
    status = immured.token_status()
    assert status["failures"] == 0
    record_property("found", f"in {status['sessions']['open']} sessions")


def quickest(device):
    """The key with which the token signs quickest."""
    return device.key("p256" if "p256" in device.token.keys else "rsa2048")


@by_token("reload")
def test_a_reload_goes_unnoticed(device, authority):
    key = quickest(device)
    nginx = device.web(key)
    with Load(authority, nginx.port, [key.host], rate=50) as load:
        old = device.immured.workers()
        device.immured.reload()
        wait_until(lambda: not set(device.immured.workers()) & set(old), "the old worker's end", 30)
        load.wait_for(20)
        load.check()


@by_token("death and return")
def test_a_token_that_dies_is_used_again_when_it_is_back(device, authority):
    token = device.token
    if token.server is None:
        pytest.skip("it is in immured's process and dies with that alone")
    key = quickest(device)
    nginx = device.web(key)
    immured, of_nginx = device.immured, nginx.workers()
    with Load(authority, nginx.port, [key.host], rate=50) as load:
        load.wait_for(20)
        for _ in range(2):
            old = immured.workers()
            token.kill()
            if token.outlives_server:
                load.check()
                immured.reload()
                wait_until(lambda: not set(immured.workers()) & set(old), "a worker without a token", 30)
            workers = immured.workers()
            wait_until(lambda: load.failures, "a handshake without a token", 20)
            token.start_server()
            load.wait_for(10, timeout=RECOVERY)
            load.pause()  # those that were without the token may still be failing
            load.failures.clear()
            load.resume()
            load.check()
            assert immured.workers() == workers
    assert nginx.workers() == of_nginx


@pytest.fixture
def two_behind_one(stage, directory):
    """An immured with two tokens, "soft" and "other", that one p11-kit server has."""
    if P11Kit.missing():
        pytest.skip(f"not here: {P11Kit.missing()}")
    token = P11Kit(directory / "token")
    token.exported = "pkcs11:"
    token.start()
    token.soft.add("other")
    other = token.section().replace("[token soft]", "[token other]").replace("=e2e", "=other")
    shutil.chown(directory, DAEMON_USER)
    immured = Immured(stage, directory / "immured", token.section() + other + GRANTS, token.env)
    try:
        immured.start()
        wait_until(lambda: immured.log().count(" keys found ") == 2, "both tokens")
        yield immured, token
    finally:
        immured.stop()
        token.stop()


def test_a_module_is_initialised_anew_though_another_token_of_it_is_idle(
    two_behind_one, authority, directory
):
    """p11-kit's client works again after C_Finalize and C_Initialize, and after nothing else."""
    immured, token = two_behind_one
    key = make_key(immured, authority, directory, "p256", "p256", "--token", "soft")
    request = wire.request(wire.SIGN, b"a message", scheme=wire.ECDSA_SHA256, key_id=key.id)
    assert wire.call(immured, key, wire.SIGN, b"a message", scheme=wire.ECDSA_SHA256).status == wire.OK
    token.kill()
    token.start_server()
    with wire.Connection(immured.socket) as connection:
        # Not with FIND_KEY, which would ask the other token as well.
        wait_until(lambda: connection.call(request).status == wire.OK, "the token", RECOVERY)
