"""What is wrong is refused, named where the operator looks, and harms nobody else."""

import base64
import os
import random
import re
import shutil
import time
from dataclasses import replace

import pytest
from harness import wire
from harness.clients import curl
from harness.load import Load
from harness.nginx import certificate_lines
from harness.pki import make_key
from harness.process import run, wait_for_words, wait_until
from harness.token import DAEMON_USER, GRANTS, PIN, as_daemon, write_private

NOT_A_MODULE = "/lib/x86_64-linux-gnu/libc.so.6"
# immured tries a token that is not there again after a second.
RETRY_SECONDS = 1.5
SPY = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so"

# --- Keys and references in nginx ----------------------------------------------------------------


def test_a_user_without_a_grant_is_refused_and_named(make_immured, make_nginx, token, keys, authority):
    """Only root has a grant here, and nginx's workers are www-data."""
    grants = GRANTS.replace("user = www-data", "user = nobody")
    immured, key = make_immured(token.section() + grants).start(), keys["p256"]
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key))).start()
    curl(authority, nginx.port, key.host, status=35)
    wait_for_words(nginx, "not granted")
    refusal = next(line for line in immured.log().splitlines() if "not granted" in line)
    assert "www-data" in refusal or f"uid {pwd_uid('www-data')}" in refusal
    assert key.name in refusal or key.id.hex()[:8] in refusal


def pwd_uid(name):
    return run("id", "-u", name).stdout.decode().strip()


def test_a_key_that_is_gone_is_named_in_nginx_log(
    immured, make_nginx, authority, directory
):
    shutil.chown(directory, DAEMON_USER)
    key = make_key(immured, authority, directory, "doomed", "p256")
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key))).start()
    curl(authority, nginx.port, key.host)
    immured.cli("key", "destroy", key.name, "--yes")
    curl(authority, nginx.port, key.host, status=35)
    gone = r"doomed.*(not found|on no token|gone)"
    wait_until(lambda: re.search(gone, nginx.log()), "what the log says")


def edited(directory, key, change):
    """A copy of a key's reference, with `change` made to its DER."""
    text = key.reference.read_text()
    label = "IMMURE KEY REFERENCE"
    body = re.search(rf"-----BEGIN {label}-----\n(.*)-----END", text, re.DOTALL)[1]
    lines = base64.encodebytes(bytes(change(bytearray(base64.b64decode(body))))).decode()
    path = directory / "edited.pem"
    path.write_text(f"-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
    return path


def configuration_error(nginx, key, reference):
    lines = f"ssl_certificate {key.certificate}; ssl_certificate_key {reference};"
    return nginx.configure((key.host, lines)).test(status=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda der: der[:-5],
        lambda der: der[: len(der) // 2],
        lambda der: der + b"\0",
        lambda der: bytearray([der[0] ^ 0x11]) + der[1:],
    ],
    ids=["cut short", "cut in half", "with more at the end", "of another tag"],
)
def test_a_reference_edited_by_hand_is_said_to_be_damaged(immured, make_nginx, keys, directory, change):
    reference = edited(directory, keys["p256"], change)
    text = configuration_error(make_nginx(immured.socket), keys["p256"], reference)
    assert str(reference) in text
    assert "damaged Immure key reference" in text, text


def test_no_single_bit_of_a_reference_makes_nginx_crash_or_take_another_key(
    immured, make_nginx, keys, directory, stage, openssl_conf
):
    nginx, key = make_nginx(immured.socket), keys["p256"]
    size = len(base64.b64decode("".join(key.reference.read_text().split("-----")[2].split())))
    for bit in random.Random(1).sample(range(8 * size), 40):
        def flip(der, bit=bit):
            der[bit // 8] ^= 1 << bit % 8
            return der
        reference = edited(directory, key, flip)
        lines = f"ssl_certificate {key.certificate}; ssl_certificate_key {reference};"
        result = nginx.configure((key.host, lines)).command("-t", status=None)
        assert result.returncode in (0, 1), f"bit {bit}: {result.text}"
        if result.returncode == 0:  # then only the name or the URI differs, not the public key
            command = ("openssl", "pkey", "-in", reference, "-pubout")
            public = run(*command, env=stage.host_env(openssl_conf))
            assert public.stdout == key.public_key.read_bytes(), f"bit {bit}"


def test_a_pem_file_with_the_wrong_label_is_not_loaded_as_a_key(
    immured, make_nginx, keys, directory
):
    reference = directory / "label.pem"
    reference.write_text(keys["p256"].reference.read_text().replace("IMMURE KEY REFERENCE", "PRIVATE KEY"))
    text = configuration_error(make_nginx(immured.socket), keys["p256"], reference)
    assert "wrong PEM label" in text and str(reference) in text, text


def test_a_certificate_that_does_not_match_is_named(immured, make_nginx, keys):
    text = configuration_error(make_nginx(immured.socket), keys["p256"], keys["p384"].reference)
    assert re.search(r"key values mismatch|different parameters", text)


@pytest.mark.parametrize(
    "key_type, made_by",
    [("p256", "ec -pkeyopt ec_paramgen_curve:P-256"), ("rsa2048", "rsa:2048"), ("ed25519", "ed25519")],
)
def test_a_certificate_of_another_key_of_the_same_type_is_not_taken(
    immured, make_nginx, keys, authority, directory, key_type, made_by
):
    certificate = directory / "other.crt"
    authority.openssl(
        *f"req -x509 -newkey {made_by} -nodes -days 2 -subj /CN=other".split(),
        *("-keyout", directory / "other.key", "-out", certificate),
    )
    other = replace(keys[key_type], certificate=certificate)
    text = configuration_error(make_nginx(immured.socket), other, other.reference)
    assert "key values mismatch" in text, text


def test_without_the_provider_nginx_says_that_it_cannot_read_the_reference(
    immured, make_nginx, keys, authority
):
    nginx = make_nginx(immured.socket)
    nginx.env["OPENSSL_CONF"], nginx.module = str(authority.plain_conf), ""
    text = configuration_error(nginx, keys["p256"], keys["p256"].reference)
    assert "cannot load certificate key" in text


# --- Hostile datagrams ---------------------------------------------------------------------------


def hostile(key_id):
    """Datagrams with something wrong: (what, datagram, the statuses that are a fit answer)."""
    sign = wire.request(wire.SIGN, b"message", scheme=wire.ECDSA_SHA256, key_id=key_id)
    return [
        *((f"{size} bytes of a header", sign[:size], {wire.MALFORMED}) for size in (1, 2, 15, 47)),
        ("version 0", b"\0" + sign[1:], {wire.UNSUPPORTED_VERSION}),
        ("version 255", b"\xff" + sign[1:], {wire.UNSUPPORTED_VERSION}),
        ("operation 0", wire.request(0), {wire.UNSUPPORTED_OPERATION}),
        ("operation 255", wire.request(255), {wire.UNSUPPORTED_OPERATION}),
        ("scheme 0", wire.request(wire.SIGN, b"m", key_id=key_id), {wire.UNSUPPORTED_SCHEME}),
        (
            "a scheme of RSA for a key of EC",
            wire.request(wire.SIGN, b"m", scheme=wire.RSA_PSS_SHA256, key_id=key_id),
            {wire.UNSUPPORTED_SCHEME},
        ),
        (
            "a digest of 5 bytes",
            wire.request(wire.SIGN_DIGEST, b"12345", scheme=wire.ECDSA_SHA256, key_id=key_id),
            {wire.MESSAGE_REFUSED},
        ),
        ("no such key", sign[:16] + b"\x55" * 32 + b"m", {wire.UNKNOWN_KEY}),
        ("no way to find", wire.request(wire.FIND_KEY), {wire.UNSUPPORTED_OPERATION}),
        ("an unknown way to find", wire.request(wire.FIND_KEY, b"\x09name"), {wire.UNSUPPORTED_OPERATION}),
        ("an empty name", wire.request(wire.FIND_KEY, b"\x01"), {wire.MALFORMED, wire.KEY_NOT_FOUND}),
        ("no public key", wire.request(wire.FIND_KEY, b"\x03\x30\x80"), {wire.MALFORMED, wire.KEY_NOT_FOUND}),
        ("no URI", wire.request(wire.FIND_KEY, b"\x02pkcs11:%%%"), {wire.MALFORMED, wire.KEY_NOT_FOUND}),
        ("too long", wire.request(wire.SIGN, bytes(wire.DATAGRAM_SIZE_MAX)), {wire.MALFORMED}),
    ]


def test_each_hostile_datagram_gets_a_typed_error_or_a_closed_connection(immured, keys):
    key_id = keys["p256"].id
    with wire.Connection(immured.socket) as connection:  # so that the key is known
        spki = run("openssl", "pkey", "-pubin", "-in", keys["p256"].public_key, "-outform", "DER").stdout
        assert connection.call(wire.request(wire.FIND_KEY, b"\x03" + spki)).status == wire.OK
    for what, datagram, statuses in hostile(key_id):
        with wire.Connection(immured.socket) as connection:
            reply = connection.call(datagram)
            assert reply is None or reply.status in statuses, f"{what}: {reply}"
            assert reply is None or reply.payload.decode(), f"{what}: no text"


def random_datagram(generator):
    """Noise, or a good header with some bytes of noise in it."""
    if generator.random() < 0.5:
        return generator.randbytes(generator.randrange(1, 2000))
    datagram = bytearray(wire.request(generator.randrange(6), generator.randbytes(80)))
    for _ in range(generator.randrange(4)):
        datagram[generator.randrange(len(datagram))] = generator.randrange(256)
    return bytes(datagram)


def test_a_flood_of_random_datagrams_disturbs_nobody_else(own, authority):
    generator = random.Random(2)
    with Load(authority, own.nginx.port, own.hosts, threads=2) as load:
        for _ in range(3000):
            with wire.Connection(own.immured.socket) as connection:
                for _ in range(20):
                    if connection.call(random_datagram(generator)) is None:
                        break
        load.check()
    assert own.immured.is_up()


def test_clients_that_never_read_or_never_send_disturb_nobody_else(make_own, authority):
    """500 connections: half say nothing, half ask for the status and never read the answer."""
    own = make_own(timeout_ms=10000)  # with sanitizers, 250 answers may take seconds
    connections = [wire.Connection(own.immured.socket) for _ in range(500)]
    for connection in connections[:250]:
        connection.socket.setblocking(False)
        try:
            for _ in range(50):
                connection.send(wire.request(wire.STATUS))
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
    with Load(authority, own.nginx.port, own.hosts, threads=2) as load:
        load.wait_for(50)
        load.check()
    for connection in connections:
        connection.socket.close()


# --- Tokens --------------------------------------------------------------------------------------


def try_to_sign(immured, key):
    with wire.Connection(immured.socket) as connection:
        spki = run("openssl", "pkey", "-pubin", "-in", key.public_key, "-outform", "DER").stdout
        found = connection.call(wire.request(wire.FIND_KEY, b"\x03" + spki))
        if found is None or found.status != wire.OK:
            return found
        return connection.call(
            wire.request(wire.SIGN, b"m", scheme=wire.ECDSA_SHA256, key_id=key.id)
        )


def sign_with(immured, key):
    """Asks for one signature; again, as clients do, when a worker ends that had the request."""
    return wait_until(lambda: try_to_sign(immured, key), "an answer")


def assert_one_error(immured, pattern):
    """The log has one line of level error, and it fits; the refused requests say it as well."""
    time.sleep(RETRY_SECONDS)  # a second try must not say it again
    errors = [line for line in immured.log().splitlines() if "] error: " in line]
    assert len(errors) == 1 and re.search(pattern, errors[0]), immured.log()


def test_a_module_that_is_no_pkcs11_module_is_named_once(make_immured, token, keys):
    immured = make_immured(token.section(module=NOT_A_MODULE) + GRANTS).start()
    for _ in range(3):
        reply = sign_with(immured, keys["p256"])
        assert reply.status == wire.TOKEN_UNAVAILABLE and "PKCS#11 module" in reply.payload.decode()
    assert_one_error(immured, r"token soft: \S*libc.so.6 is not a PKCS#11 module")


def test_a_token_that_is_not_there_is_named_once(make_immured, token, keys):
    immured = make_immured(token.section(label="nowhere") + GRANTS).start()
    for _ in range(3):
        assert sign_with(immured, keys["p256"]).status == wire.TOKEN_UNAVAILABLE
    assert_one_error(immured, r"token soft: .*fits no token")


def logins(spy_log):
    return spy_log.read_text().count("C_Login\n") if spy_log.exists() else 0


@pytest.mark.slow  # AddressSanitizer forbids how OpenSC 0.27's pkcs11-spy opens a module
def test_a_wrong_pin_is_tried_once_until_the_configuration_changes(
    make_immured, token, keys, directory
):
    """Counted by pkcs11-spy, which stands between immured and the token."""
    shutil.chown(directory, DAEMON_USER)
    spy_log = directory / "spy.log"
    pin_file = write_private(directory / "pin", "wrong-pin\n")
    immured = make_immured(
        token.section(module=SPY, pin_file=pin_file) + GRANTS,
        {"PKCS11SPY": "/usr/lib/softhsm/libsofthsm2.so", "PKCS11SPY_OUTPUT": str(spy_log)},
    ).start()
    for _ in range(3):
        assert sign_with(immured, keys["p256"]).status != wire.OK
    assert_one_error(immured, "CKR_PIN_INCORRECT")
    assert logins(spy_log) == 1
    assert "wrong-pin" not in immured.log()

    old = immured.workers()
    immured.reload()  # the same file with the same PIN
    wait_until(lambda: set(immured.workers()) - set(old), "a new worker")
    sign_with(immured, keys["p256"])
    assert logins(spy_log) == 1, "tried again at a reload"

    wait_until(lambda: not set(immured.workers()) & set(old), "the end of the old worker")
    (victim,) = immured.workers()
    run("kill", "-KILL", victim)
    wait_until(lambda: set(immured.workers()) - {victim, *old}, "a new worker")
    sign_with(immured, keys["p256"])
    assert logins(spy_log) == 1, "tried again by a new worker"

    write_private(pin_file, PIN + "\n")
    immured.reload()
    wait_until(lambda: sign_with(immured, keys["p256"]).status == wire.OK, "the right PIN is used")
    assert logins(spy_log) == 2


def refused_configuration(immured):
    """What immured says to a configuration that it must not start with."""
    result = run(*as_daemon(immured.stage.immured, "-c", immured.conf), env=immured.env, status=None, timeout=20)
    assert result.returncode in (1, 2), result.text
    assert f"{immured.conf}:" in result.text, result.text
    return result.text


@pytest.mark.parametrize(
    "line, word",
    [
        ("[tokens]\n", "tokens"),
        ("[token soft2]\nmodul = /x\n", "modul"),
        ("[grant x]\nuser = root\nkeys = *\nuse = everything\n", "everything"),
        ("[grant x]\nuser = no-such-user\nkeys = *\nuse = sign\n", "no-such-user"),
    ],
)
def test_a_mistake_in_the_configuration_is_named_with_its_line(make_immured, token, line, word):
    assert word in refused_configuration(make_immured(token.section() + line))


@pytest.mark.parametrize("mode", (0o640, 0o604))
def test_a_pin_file_that_others_can_read_is_refused(make_immured, token, directory, mode):
    pin_file = write_private(directory / "pin", PIN + "\n")
    os.chmod(pin_file, mode)
    assert str(pin_file) in refused_configuration(make_immured(token.section(pin_file=pin_file)))
