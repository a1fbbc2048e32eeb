"""TLS 1.2's RSA key exchange and RSA decryption: what is granted works, and what comes back for a
wrong ciphertext tells nothing."""

import os
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import robot, wire
from harness.clients import connect, gnutls_cli, s_client
from harness.faulty import faulty_modules, start_with
from harness.load import most_in_flight
from harness.nginx import certificate_lines
from harness.pki import make_key
from harness.process import run, wait_for_words, wait_until
from harness.token import Immured

DECRYPTING = """
[grant nginx]
user = www-data
keys = *
use = tls-server tls12-rsa-decrypt

[grant operator]
user = root
keys = *
use = sign tls12-rsa-decrypt decrypt
"""

# OpenSSL's name; gnutls-cli's cipher and MAC, and the last of what it then says
CIPHERS = [
    ("AES128-GCM-SHA256", "AES-128-GCM", "AEAD", "AES-128-GCM"),
    ("AES256-GCM-SHA384", "AES-256-GCM", "AEAD", "AES-256-GCM"),
    ("AES128-SHA", "AES-128-CBC", "SHA1", "SHA1"),
]
SERVER = f"ssl_ciphers {':'.join(name for name, *_ in CIPHERS)};"
SLOW_MS = 300

only_with_the_module = pytest.mark.parametrize("hosting", ["by module"], indirect=True)


@pytest.fixture(scope="session")
def old(immured, authority, workspace):
    """A key that may decrypt."""
    directory = workspace / "old"
    directory.mkdir()
    return make_key(immured, authority, directory, "old", "rsa2048", "--decrypt")


@pytest.fixture(scope="session")
def decrypting(stage, workspace, token, old):
    daemon = Immured(stage, workspace / "decrypting", token.section() + DECRYPTING, token.env)
    yield daemon.start()
    daemon.stop()


@pytest.fixture
def old_web(decrypting, make_nginx, old):
    nginx = make_nginx(decrypting.socket)
    return nginx.configure((old.host, SERVER + certificate_lines(old))).start()


def premaster_of(immured, key, ciphertext, version=robot.TLS12):
    reply = wire.call(immured, key, wire.TLS12_RSA_PREMASTER, version + ciphertext)
    assert reply.status == wire.OK, reply
    assert len(reply.payload) == 48 and reply.payload[:2] == version
    return reply.payload


# --- Handshakes ------------------------------------------------------------------------------------


def test_old_clients_of_two_libraries_get_their_ciphers(old_web, authority, old):
    for name, gnutls_cipher, mac, gnutls_says in CIPHERS:
        handshake = s_client(
            *(authority, old_web.port, old.host, "-tls1_2", "-cipher", name), is_signed=False
        )
        assert handshake.cipher == name
        priority = f"NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+{gnutls_cipher}:-MAC-ALL:+{mac}"
        handshake = gnutls_cli(authority, old_web.port, old.host, priority)
        assert handshake[:2] == ("TLS1.2-X.509", gnutls_says)


def test_without_the_grant_it_is_refused_and_the_logs_say_how_to_grant_it(
    immured, make_nginx, authority, old
):
    nginx = make_nginx(immured.socket)
    nginx.configure((old.host, SERVER + certificate_lines(old))).start()
    s_client(authority, nginx.port, old.host, "-tls1_2", status=1)
    told = "for tls-server, not for tls12-rsa-decrypt: add that to the use of a grant"
    wait_until(lambda: told in immured.log() and told in nginx.log(), f"{told} in both logs")


def test_without_cka_decrypt_the_logs_say_what_to_do(decrypting, make_nginx, authority, keys):
    key = keys["rsa2048"]
    nginx = make_nginx(decrypting.socket)
    nginx.configure((key.host, SERVER + certificate_lines(key))).start()
    s_client(authority, nginx.port, key.host, "-tls1_2", status=1)
    told = "'immure key generate --decrypt'"
    wait_until(lambda: told in decrypting.log() and told in nginx.log(), f"{told} in both logs")


@only_with_the_module
def test_decryptions_of_one_worker_are_under_way_together(
    make_immured, make_nginx, token, stage, authority, old, monkeypatch
):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)
    slow = make_immured(
        token.section(stage.hsm) + DECRYPTING,
        {"IMMURE_HSM_DELAY_MS": "0", "IMMURE_HSM_FAULTS": f"delay {SLOW_MS} C_Decrypt"},
    ).start()
    nginx = make_nginx(slow.socket).configure((old.host, SERVER + certificate_lines(old))).start()
    context = ssl.create_default_context(cafile=authority.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def shake_hands(_):
        with connect(nginx.port, old.host, context) as connection:
            return connection.version(), connection.cipher()[0]

    def work():
        with ThreadPoolExecutor(12) as pool:
            assert set(pool.map(shake_hands, range(12))) == {("TLSv1.2", "AES256-GCM-SHA384")}

    assert most_in_flight(slow, work) > 2
    assert "alert" not in nginx.log()


# --- ROBOT -----------------------------------------------------------------------------------------


@pytest.fixture
def both_webs(decrypting, make_nginx, authority, old):
    """nginx with a server of the key in the token, and one of a key in a file."""
    host = "file.immure.test"
    key, certificate = authority.file_key("robot", host, "rsa:2048")
    public_key = key.with_suffix(".pub")
    public_key.write_bytes(authority.openssl("pkey", "-in", key, "-pubout").stdout)
    lines = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
    nginx = make_nginx(decrypting.socket)
    nginx.configure((old.host, SERVER + certificate_lines(old)), (host, SERVER + lines)).start()
    return nginx, ((old.host, old.public_key), (host, public_key))


def answers_of(port, host, public_key, **options):
    """The server's answers to the right ciphertext, to wrong ones, and to what is none, by name."""
    key = robot.PublicKey(public_key)
    premaster = robot.TLS12 + os.urandom(46)
    sets = ({"right": key.padded(premaster)}, key.wrong_ones(premaster), key.impossible_ones())
    with ThreadPoolExecutor(20) as pool:
        ask = lambda ciphertext: robot.answer(port, host, ciphertext, **options)
        answers = [pool.map(ask, made.values()) for made in sets]
        return [dict(zip(made, given)) for made, given in zip(sets, answers)]


@pytest.mark.parametrize("options", ({}, {"finishes": False, "timeout": 3}), ids=("whole", "shortened"))
def test_robot_sees_no_difference_between_right_and_wrong_padding(both_webs, options):
    nginx, servers = both_webs
    seen = [answers_of(nginx.port, *server, **options) for server in servers]
    for right, wrong, impossible in seen:
        assert set(wrong.values()) == set(right.values()), wrong
    assert seen[0] == seen[1]  # with the key in a file
    assert all(answer[-1] != "nothing" for answer in seen[0][2].values())


@pytest.mark.slow
@only_with_the_module
def test_testssl_finds_rsa_key_exchange_and_no_oracle(old_web, old):
    found = run(
        *("testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none"),
        *("--robot", "--ip", "127.0.0.1"),
        f"{old.host}:{old_web.port}", timeout=120, status=None,
        env=os.environ | {"MAX_WAITSOCK": "3"},  # seconds for answers that do not come
    ).text
    lines = [line for line in found.splitlines() if line.startswith(" ROBOT ")]
    # "OK, no RSA key transport cipher" if there were nothing to test.
    assert len(lines) == 1 and lines[0].endswith("not vulnerable (OK)"), found


# --- The wire --------------------------------------------------------------------------------------


def test_the_same_ciphertext_gets_the_same_answer_even_after_a_restart(make_immured, token, old):
    immured = make_immured(token.section() + DECRYPTING).start()
    key = robot.PublicKey(old.public_key)
    premaster = robot.TLS12 + os.urandom(46)
    right, wrong = key.padded(premaster), key.wrong_ones(premaster)
    first = {name: premaster_of(immured, old, c) for name, c in wrong.items()}
    assert premaster_of(immured, old, right) == premaster
    assert len({answer for answer in first.values()}) == len(wrong)
    assert not {answer[-8:] for answer in first.values()} & {premaster[-8:]}
    assert {name: premaster_of(immured, old, c) for name, c in wrong.items()} == first
    immured.stop()
    immured.start()
    assert {name: premaster_of(immured, old, c) for name, c in wrong.items()} == first
    assert premaster_of(immured, old, right) == premaster


def test_asked_with_another_version_a_right_ciphertext_answers_as_a_wrong_one(decrypting, old):
    key = robot.PublicKey(old.public_key)
    premaster = robot.TLS12 + os.urandom(46)
    for ciphertext in (key.padded(premaster), key.wrong_ones(premaster)["no zero"]):
        answers = [premaster_of(decrypting, old, ciphertext, bytes([3, v])) for v in (1, 2, 1, 2)]
        assert answers[:2] == answers[2:] and answers[0][2:] != answers[1][2:]
        assert not {answer[2:] for answer in answers} & {premaster[2:]}


def test_general_decryption_gives_messages_and_for_wrong_padding_always_the_same(decrypting, old):
    key = robot.PublicKey(old.public_key)
    decrypt = lambda ciphertext: wire.call(decrypting, old, wire.RSA_DECRYPT, ciphertext)
    for message in (b"", b"m", os.urandom(48), os.urandom(key.size - 11)):
        assert decrypt(key.padded(message))[:2] == (wire.OK, message)
    wrong = key.padded(b"secret", start=b"\x00\x01")
    reply = decrypt(wrong)
    assert reply.status == wire.OK and b"secret" not in reply.payload
    assert decrypt(wrong) == reply


def test_what_is_no_ciphertext_is_refused_and_so_are_other_keys(decrypting, old, keys):
    key = robot.PublicKey(old.public_key)
    for operation, before in ((wire.TLS12_RSA_PREMASTER, robot.TLS12), (wire.RSA_DECRYPT, b"")):
        for name, bad in {**key.impossible_ones(), "short": bytes(255), "empty": b""}.items():
            reply = wire.call(decrypting, old, operation, before + bad)
            assert reply.status == wire.MESSAGE_REFUSED and b"no ciphertext" in reply.payload, name
        for other in ("p256", "ed25519"):
            reply = wire.call(decrypting, keys[other], operation, before + bytes(256))
            assert reply.status == wire.UNSUPPORTED_SCHEME, reply
    assert wire.call(decrypting, old, wire.TLS12_RSA_PREMASTER, b"\x03").status == wire.MESSAGE_REFUSED


@pytest.mark.parametrize("use", ("tls-server", "sign", "tls12-rsa-decrypt", "decrypt"))
def test_each_use_decrypts_what_it_is_for(make_immured, token, old, use):
    immured = make_immured(token.section() + f"[grant one]\nuser = root\nkeys = *\nuse = {use}\n").start()
    ciphertext = robot.PublicKey(old.public_key).padded(b"")
    for needed, operation, before in (
        ("tls12-rsa-decrypt", wire.TLS12_RSA_PREMASTER, robot.TLS12),
        ("decrypt", wire.RSA_DECRYPT, b""),
    ):
        reply = wire.call(immured, old, operation, before + ciphertext)
        if use == needed:
            assert reply.status == wire.OK
        else:
            refusal = f"for {use}, not for {needed}: "
            assert reply.status == wire.MESSAGE_REFUSED and refusal.encode() in reply.payload
            wait_for_words(immured, refusal)


# --- Tokens that fail ------------------------------------------------------------------------------


@pytest.fixture
def modules(stage, directory):
    return faulty_modules(stage, directory)


@pytest.fixture
def secret():
    return robot.TLS12 + os.urandom(46)


def test_a_token_that_only_knows_padded_ciphertexts_decrypts_and_tells_nothing(
    make_immured, token, stage, old, secret
):
    immured = make_immured(
        token.section(stage.hsm) + DECRYPTING, {"IMMURE_HSM_FAULTS": "padded-only"}
    ).start()
    key = robot.PublicKey(old.public_key)
    for name, ciphertext in key.wrong_ones(secret).items():
        wrong = premaster_of(immured, old, ciphertext)
        assert wrong == premaster_of(immured, old, ciphertext) and wrong[2:] != secret[2:], name
        assert premaster_of(immured, old, key.padded(secret)) == secret
    assert immured.token_status()["failures"] == 0  # wrong padding is none of the token's


@pytest.mark.parametrize("kind", ("", "padded-only"))
def test_a_key_that_has_another_handle_is_found_again(make_immured, token, modules, old, secret, kind):
    env = {"IMMURE_HSM_FAULTS": kind}
    immured = make_immured(token.section(module=modules[0].path) + DECRYPTING, env).start()
    ciphertext = robot.PublicKey(old.public_key).padded(secret)
    assert premaster_of(immured, old, ciphertext) == secret
    for _ in range(3):
        modules[0].set("renumber")
        assert premaster_of(immured, old, ciphertext) == secret
        modules[0].clear()


def test_what_one_token_cannot_decrypt_the_other_one_does(make_immured, token, modules, old, secret):
    immured = start_with(make_immured, token, modules, DECRYPTING)
    key = robot.PublicKey(old.public_key)
    for fault in ("fail 0x30 C_Decrypt", "hang C_Decrypt", "vanish"):
        modules[0].set(fault)
        for _ in range(4):
            assert premaster_of(immured, old, key.padded(secret)) == secret
        modules[0].clear()


@pytest.mark.parametrize("at_first", (True, False), ids=("at-first", "in-a-new-session"))
def test_a_token_that_decrypts_wrongly_is_not_used_any_more(
    make_immured, token, modules, old, secret, at_first
):
    immured = make_immured(token.section(module=modules[0].path) + DECRYPTING).start()
    ciphertext = robot.PublicKey(old.public_key).padded(secret)
    assert at_first or premaster_of(immured, old, ciphertext) == secret
    modules[0].set("wrong", "drop")
    reply = wire.call(immured, old, wire.TLS12_RSA_PREMASTER, robot.TLS12 + ciphertext)
    assert reply.status == wire.TOKEN_FAILED and b"decrypted wrongly" in reply.payload
    wait_until(lambda: immured.token_status()["state"] == "down", "the end of the token's use")


# --- openssl and immure ----------------------------------------------------------------------------


def test_pkeyutl_decrypts_what_openssl_encrypted_and_encrypts_itself(
    stage, directory, decrypting, authority, old
):
    conf = stage.write_openssl_conf(directory / "openssl.cnf", decrypting.socket)
    host = lambda *arguments, **options: run("openssl", *arguments, env=stage.host_env(conf), **options)
    message, encrypted = directory / "message", directory / "encrypted"
    message.write_bytes(b"for the key alone")
    public = ("pkeyutl", "-encrypt", "-pubin", "-inkey", old.public_key, "-in", message)
    authority.openssl(*public, "-out", encrypted)
    decrypt = ("pkeyutl", "-decrypt", "-inkey", old.reference, "-in", encrypted)
    assert host(*decrypt).stdout == message.read_bytes()
    host("pkeyutl", "-encrypt", "-inkey", old.reference, "-in", message, "-out", encrypted)
    assert host(*decrypt).stdout == message.read_bytes()
    assert "only pkcs1 can be decrypted" in host(*decrypt, "-pkeyopt", "rsa_padding_mode:oaep", status=1).text
    encrypted.write_bytes(bytes([255]) * 256)
    assert "256 bytes are no ciphertext for key 'old'" in host(*decrypt, status=1).text


def test_keys_decrypt_only_if_they_were_made_for_it(immured, authority, directory):
    attributes = lambda name: immured.cli("key", "show", name).text
    assert "May decrypt:" in attributes("rsa2048")
    file = authority.file_key("brought", "brought.immure.test", "rsa:2048")[0]
    file.chmod(0o644)
    immured.cli("key", "import", "brought", file, "--decrypt", "--keep")
    for name, may in (("rsa2048", "no"), ("old", "yes"), ("brought", "yes")):
        line = next(l for l in attributes(name).splitlines() if "May decrypt" in l)
        assert line.split()[-1] == may, name
    refused = immured.cli("key", "generate", "curve", "--type", "p256", "--decrypt", status=2)
    assert "--decrypt is for RSA keys" in refused.text
