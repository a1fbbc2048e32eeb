"""Each way in which immured refuses is tried: each status of the protocol, each rule, and what it
says when it does not start. A new one has to come into a table here."""

import random
import re
import socket
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest
from harness import wire
from harness.der import element
from harness.messages import CLIENT, RSA_PKCS1, Messages
from harness.process import run, wait_for_words
from harness.stage import REPOSITORY
from harness.token import GRANTS, as_daemon, write_private

# immured says by itself that it ends, by shutting the connection's one half: the client's next
# send fails. The status is for one that cannot.
NEVER_SENT = {wire.SHUTTING_DOWN}
# Those that take a token that fails, or many requests: where they are tried.
ELSEWHERE = {
    wire.TOKEN_UNAVAILABLE: ("test_bad_input.py", "test_a_token_that_is_not_there_is_named_once"),
    wire.TOKEN_FAILED: ("test_wrong_signatures.py", "TOKEN_FAILED"),
    wire.BUSY: ("test_overload.py", "test_a_full_backlog_refuses_at_once_and_the_others_are_served"),
}
# CONNECTIONS_USER_MAX of daemon/connection.h.
CONNECTIONS_USER_MAX = 1024

# Made so that it has what is fixed in a key exchange with DHE in its nonce.
SSH_CERTIFICATE = REPOSITORY / "tests/fuzz/corpus/tls_message/is-also-an-ssh-certificate"

WEB, ROOT, LIMITED, STRANGER = "www-data", "root", "games", "nobody"
SECTIONS = f"""
[grant web]
user = {WEB}
keys = *
use = tls-server, tls12-server-dhe

[grant operator]
user = {ROOT}
keys = *
use = sign, decrypt

[grant limited]
user = {LIMITED}
keys = *
use = tls-server
rate = 1/h
over-rate = refuse
"""

Case = namedtuple("Case", "what status rule user datagram")


def ffdhe2048():
    """RFC 7919 A.1, from e."""
    scale = 1 << 2200
    e, term, number = scale, scale, 1
    while term:
        term //= number
        e, number = e + term, number + 1
    return 2**2048 - 2**1984 + ((e >> (2200 - 1918)) + 560316) * 2**64 - 1


def dhe(messages, value_size=256):
    """A ServerKeyExchange with a group of RFC 7919."""
    number = lambda value: len(value).to_bytes(2, "big") + value
    prime = ffdhe2048().to_bytes(256, "big")
    return messages.randoms() + number(prime) + number(b"\2") + number(b"\1" * value_size)


def csr_info(immured, authority, name):
    """The CertificationRequestInfo of a request for this key."""
    request = immured.cli("csr", name, "--subject", "/CN=a", "--san", "DNS:a.test").stdout
    return element(authority.openssl("req", "-outform", "DER", input=request).stdout, 0)


def cases(immured, authority, keys):
    """Each refusal that needs nothing but a request."""
    messages, p256, rsa = Messages(random.Random(1)), keys["p256"], keys["rsa2048"]
    verify, exchange = messages.certificate_verify, messages.server_key_exchange
    right = verify()

    def sign(message, scheme=wire.ECDSA_SHA256, key=p256, **options):
        return wire.request(wire.SIGN, message, scheme=scheme, key_id=key.id, **options)

    def digest(size, scheme=wire.ECDSA_SHA256, key=p256):
        return wire.request(wire.SIGN_DIGEST, bytes(size), scheme=scheme, key_id=key.id)

    refused, unsupported = wire.MESSAGE_REFUSED, wire.UNSUPPORTED_SCHEME
    return [
        Case("a header cut short", wire.MALFORMED, None, WEB, sign(b"")[:47]),
        Case("more than a datagram may have", wire.MALFORMED, None, WEB, sign(bytes(wire.DATAGRAM_SIZE_MAX))),
        Case("another version", wire.UNSUPPORTED_VERSION, None, WEB, sign(right, version=2)),
        Case("another operation", wire.UNSUPPORTED_OPERATION, None, WEB, wire.request(99)),
        Case("a key by another way", wire.UNSUPPORTED_OPERATION, None, WEB, wire.request(wire.FIND_KEY, b"\x09a")),
        Case("a deadline that has passed", wire.DEADLINE_PASSED, None, WEB, sign(right, deadline_ms=0)),
        Case("a key never seen", wire.UNKNOWN_KEY, None, WEB, wire.request(wire.SIGN, right, key_id=b"\x55" * 32)),
        Case("no such key", wire.KEY_NOT_FOUND, None, WEB, wire.request(wire.FIND_KEY, b"\1nowhere")),
        Case("no public key", wire.KEY_NOT_FOUND, None, WEB, wire.request(wire.FIND_KEY, b"\3\x30\x80")),
        Case("no name", wire.KEY_NOT_FOUND, None, WEB, wire.request(wire.FIND_KEY, b"\1")),
        Case("several keys", wire.KEY_AMBIGUOUS, None, WEB, wire.request(wire.FIND_KEY, b"\2pkcs11:")),
        Case("no grant", wire.NOT_GRANTED, "grant", STRANGER, sign(right)),
        Case("no grant, to find", wire.NOT_GRANTED, "grant", STRANGER, wire.request(wire.FIND_KEY, b"\1p256")),
        Case("no grant, to look", wire.NOT_GRANTED, "grant", STRANGER, wire.request(wire.STATUS)),
        Case("a digest", refused, "use", WEB, digest(32)),
        Case("a request for the key", refused, "use", WEB, sign(csr_info(immured, authority, p256.name))),
        Case("an unknown scheme", unsupported, "scheme", WEB, sign(right, scheme=0x0201)),
        Case("another key type's scheme", unsupported, "scheme", WEB, sign(right, scheme=wire.RSA_PSS_SHA256)),
        Case("a scheme for digests alone", unsupported, "scheme", WEB, sign(right, scheme=0xFE02)),
        Case("Ed25519 of a digest", unsupported, "scheme", ROOT, digest(32, 0x0807, keys["ed25519"])),
        Case("a digest of another size", refused, "digest", ROOT, digest(31)),
        Case("more than a DigestInfo", refused, "digest", ROOT, digest(84, 0xFE01, rsa)),
        Case("noise", refused, "message", WEB, sign(b"\xff" * 100)),
        Case("a client's context", refused, "tls13-context", WEB, sign(verify(context=CLIENT))),
        Case("a hash of SHA-512", refused, "tls13-hash", WEB, sign(verify(size=64))),
        Case("PKCS#1 v1.5 in TLS 1.3", refused, "tls13-scheme", WEB, sign(right, RSA_PKCS1[0], rsa)),
        Case("another curve's hash in TLS 1.3", refused, "tls13-scheme", WEB, sign(right, 0x0503)),
        Case("a client's handshake", refused, "tls12-transcript", WEB, sign(b"\1\0\0\x60\3\3" + exchange(29)[6:])),
        Case("a certificate", refused, "tls12-der", WEB, sign(messages.certificate_in_a_key_exchange())),
        *(
            Case(what, refused, "tls12-der", WEB, sign(message))
            for what, message in messages.certificate_management().items()
        ),
        Case("DHE with ECDSA", refused, "scheme", WEB, sign(dhe(messages))),
        Case("DHE with Ed25519", refused, "scheme", WEB, sign(dhe(messages), 0x0807, keys["ed25519"])),
        Case("a certificate of SSH", refused, "tls12-ssh", WEB, sign(SSH_CERTIFICATE.read_bytes())),
        Case("an unknown curve", refused, "tls12-curve", WEB, sign(exchange(23).replace(b"\3\0\x17\x41", b"\3\0\x16\x41"))),
        Case("a byte after the point", refused, "tls12-point", WEB, sign(exchange() + b"\0")),
        Case("a group of nobody", refused, "tls12-group", WEB, sign(messages.dhe())),
        Case("a value above the prime", refused, "tls12-public-value", WEB, sign(dhe(messages, 257))),
        Case("DER", refused, "csr-form", WEB, sign(b"\x30\x03\2\1\0")),
        Case("a request for another key", refused, "csr-key", WEB, sign(csr_info(immured, authority, "p384"))),
        Case("too short to decrypt", refused, "ciphertext", ROOT, wire.request(wire.RSA_DECRYPT, bytes(255), key_id=rsa.id)),
        Case("above the modulus", refused, "ciphertext", ROOT, wire.request(wire.RSA_DECRYPT, b"\xff" * 256, key_id=rsa.id)),
        Case("no RSA key", unsupported, "ciphertext", ROOT, wire.request(wire.RSA_DECRYPT, bytes(256), key_id=p256.id)),
        Case("decryption without a grant", refused, "use", WEB, wire.request(wire.RSA_DECRYPT, bytes(256), key_id=rsa.id)),
        Case("a premaster without a grant", refused, "use", WEB, wire.request(wire.TLS12_RSA_PREMASTER, b"\3\3" + bytes(256), key_id=rsa.id)),
        Case("the second in an hour", wire.OVER_RATE, "rate", LIMITED, sign(right)),
    ]



@pytest.fixture
def immured_with_all(make_immured, token, keys):
    immured = make_immured(token.section() + SECTIONS).start()
    with wire.Connection(immured.socket) as connection:
        for key in keys.values():  # so that they are known
            assert connection.call(wire.request(wire.FIND_KEY, b"\1" + key.name.encode())).status == wire.OK
    right = wire.request(
        wire.SIGN, Messages(random.Random(2)).certificate_verify(), scheme=wire.ECDSA_SHA256, key_id=keys["p256"].id
    )
    for user in (WEB, LIMITED):  # which is signed; the second one's next is not
        with wire.Connection(immured.socket, user) as connection:
            assert connection.call(right).status == wire.OK
    return immured


def source(path, start, pattern):
    """What the pattern finds in the declaration in a source file that starts so."""
    text = (REPOSITORY / path).read_text().partition(start)[2].partition("\n}")[0]
    found = set(re.findall(pattern, text))
    assert found, f"{path}: no {start}"
    return found


def test_each_status_and_each_rule_refuses_what_it_is_for(immured_with_all, authority, keys):
    immured, statuses, rules = immured_with_all, set(ELSEWHERE) | NEVER_SENT | {wire.OK}, set()
    before = immured.status()["refusals"]
    tried = cases(immured, authority, keys)
    for case in tried:
        with wire.Connection(immured.socket, case.user) as connection:
            reply = connection.call(case.datagram)
        text = reply.payload.decode(errors="replace")  # a signature is none
        rule = re.search(r"\(rule (.*)\)$", text)
        assert (reply.status, rule and rule[1]) == (case.status, case.rule), f"{case.what}: {reply}"
        assert text, case.what
        statuses.add(case.status)
        rules.add(case.rule)
    counted = {rule: count - before[rule] for rule, count in immured.status()["refusals"].items()}
    assert counted == {rule: sum(case.rule == rule for case in tried) for rule in counted}
    assert statuses == set(map(int, source("src/wire/message.h", "enum wire_status {", r"WIRE_\w+ = (\d+)")))
    assert rules - {None} == source("src/daemon/rule.c", "rules[RULE_COUNT]", r'\{"([^"]+)",') - {"none"}


def test_what_is_tried_elsewhere_is_there():
    for file, name in ELSEWHERE.values():
        assert name in (Path(__file__).parent / file).read_text()


# --- What immured does not start with ------------------------------------------------------------


def start_in_vain(immured, *options, status=1):
    """What an immured says that does not start; `status` is its exit status."""
    command = as_daemon("setsid", "--wait", immured.stage.immured, "-c", immured.conf, *options)
    return run(*command, env=immured.env, status=status, timeout=20).text


def test_a_socket_that_somebody_listens_on_is_left_alone(make_immured):
    first, second = make_immured().start(), make_immured()
    second.conf.write_text(second.conf.read_text().replace(str(second.socket), str(first.socket)))
    assert f"somebody listens on {first.socket} already" in start_in_vain(second)
    with wire.Connection(first.socket) as connection:
        assert connection.call(wire.request(wire.STATUS)).status == wire.OK


@pytest.mark.parametrize(
    "path, says",
    [
        ("{0}/file", "is there already and is no socket"),
        ("{0}/missing/missing/socket", "missing/missing cannot be made"),
        ("{0}/" + 100 * "s", "give an absolute path of at most 107 bytes"),
    ],
    ids=["a file", "no directory", "too long"],
)
def test_a_socket_that_cannot_be_made_is_named(make_immured, path, says):
    immured = make_immured()
    path = path.format(immured.socket.parent)
    (immured.socket.parent / "file").touch()
    immured.conf.write_text(immured.conf.read_text().replace(str(immured.socket), path))
    assert says in start_in_vain(immured)


def test_a_socket_in_somebody_elses_directory_is_refused_with_the_remedy(make_immured):
    immured = make_immured()
    place = immured.socket.parent / "run"
    place.mkdir(mode=0o755)  # root's, as the test
    immured.conf.write_text(immured.conf.read_text().replace(str(immured.socket), f"{place}/socket"))
    said = start_in_vain(immured)
    assert re.search(rf"cannot listen on {place}/socket: .* user id 0, .*: chown \d+ {place} if", said), said


def test_the_test_of_the_configuration_finds_a_module_and_a_pin_that_are_missing(make_immured, token, directory):
    section = token.section(module="/nowhere/module.so")
    immured = make_immured(section)
    line = immured.conf.read_text().split("module =")[0].count("\n") + 1
    assert f"{immured.conf}:{line}: module = /nowhere/module.so: " in start_in_vain(immured, "-t")
    immured.configure(token.section(pin_file=write_private(directory / "empty", "")))
    assert f"the first line of {directory}/empty must be the PIN" in start_in_vain(immured, "-t")


def test_the_test_of_the_configuration_warns_where_nobody_could_use_a_key(make_immured, token):
    immured = make_immured()
    no_token, no_grant = "no [token NAME] section", "no [grant NAME] section: nobody may use a key"
    for sections, warnings, counts in (
        ("", {no_token, no_grant}, "0 tokens, 0 grants"),
        (token.section(), {no_grant}, "1 token, 0 grants"),
        (token.section() + GRANTS, set(), "1 token, 2 grants"),
    ):
        immured.configure(sections)
        said = start_in_vain(immured, "-t", status=0)
        assert {warning for warning in (no_token, no_grant) if warning in said} == warnings, said
        assert f": good: {counts}, socket {immured.socket}\n" in said


def test_descriptors_that_are_not_immureds_socket_are_refused(make_immured):
    immured = make_immured()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wrong:
        wrong.bind(str(immured.socket.parent / "stream"))
        wrong.listen()
        take = f"exec 3<&{wrong.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\""
        command = as_daemon("bash", "-c", take, "-", immured.stage.immured, "-c", immured.conf)
        result = subprocess.run(
            list(map(str, command)), env=immured.env, pass_fds=[wrong.fileno()], capture_output=True, timeout=20
        )
    assert result.returncode == 1
    assert "use ListenSequentialPacket= in the socket unit" in result.stderr.decode()


def test_ask_pin_without_a_terminal_is_refused(make_immured, token):
    section = token.section().replace(f"pin-file = {token.pin_file}\n", "")
    said = start_in_vain(make_immured(section), "--ask-pin")
    assert "--ask-pin: no PIN for token soft: there is no terminal to ask on" in said
    assert "use pin-file or pin-credential" in said


@pytest.mark.parametrize("word", ["--nonsense", "word"])
def test_bad_usage_is_refused(make_immured, word):
    assert "immured --help" in start_in_vain(make_immured(), word, status=2)


@pytest.mark.parametrize("pin", ["", "\n1234\n", 256 * "1" + "\n", "12\0\n"], ids=["none", "a line late", "long", "NUL"])
def test_a_file_without_a_pin_is_refused_at_the_login(make_immured, token, directory, pin):
    pin_file = write_private(directory / "pin", pin)
    immured = make_immured(token.section(pin_file=pin_file)).start()
    wait_for_words(immured, f"the first line of {pin_file} must be the PIN")


@pytest.mark.parametrize("where", [None, "{0}"], ids=["no credentials", "not this one"])
def test_a_credential_that_systemd_has_not_passed_is_named(make_immured, token, directory, where):
    section = token.section().replace(f"pin-file = {token.pin_file}", "pin-credential = absent")
    env = {"CREDENTIALS_DIRECTORY": where.format(directory)} if where else {}
    immured = make_immured(section, env).start()
    wait_for_words(immured, "LoadCredential=absent:")


def test_a_user_with_too_many_connections_is_turned_away_and_others_are_not(make_immured):
    immured = make_immured().start()  # nobody else has connections to it
    connections = [wire.Connection(immured.socket, WEB) for _ in range(CONNECTIONS_USER_MAX)]
    assert connections[-1].call(wire.request(wire.STATUS)).status == wire.OK
    with wire.Connection(immured.socket, WEB) as one_more:
        assert one_more.call(wire.request(wire.STATUS)) is None
    with wire.Connection(immured.socket) as operator:
        assert operator.call(wire.request(wire.STATUS)).status == wire.OK
    wait_for_words(immured, f"more than {CONNECTIONS_USER_MAX} connections of one user")
    for connection in connections:
        connection.socket.close()


# --- What the provider refuses -------------------------------------------------------------------

UNSUPPORTED, WRONG_SIZE = "not supported for keys in an HSM", "wrong size of input"


@pytest.mark.parametrize(
    "name, words, size, says",
    [
        ("p256", "dgst -sha1 -sign {key}", 10, UNSUPPORTED),
        ("rsa2048", "dgst -md5 -sign {key}", 10, UNSUPPORTED),
        ("rsa2048", "dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20 -sign {key}", 10, UNSUPPORTED),
        ("rsa2048", "dgst -sha256 -sigopt rsa_padding_mode:none -sign {key}", 10, UNSUPPORTED),
        ("p256", "pkeyutl -sign -inkey {key} -pkeyopt digest:sha256 -in", 31, WRONG_SIZE),
        ("ed25519", "pkeyutl -sign -inkey {key} -rawin -in", 40_000, WRONG_SIZE),
    ],
)
def test_the_provider_says_what_it_does_not_sign(openssl, keys, directory, name, words, size, says):
    message = directory / "message"
    message.write_bytes(bytes(size))
    text = openssl(*words.format(key=keys[name].reference).split(), message, status=1).text
    assert says in text, text
