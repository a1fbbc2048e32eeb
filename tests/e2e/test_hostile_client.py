"""Whoever has taken over a web server gets TLS handshakes signed, and nothing else.

All that is sent comes from a seed, which is printed and can be given in IMMURE_SEED.
"""

import os
import random
from collections import Counter, deque, namedtuple
from itertools import takewhile

import pytest
from harness import wire
from harness.clients import curl
from harness.der import element
from harness.messages import SCHEMES, Messages, may_be_signed
from harness.process import descriptors, resident_kib, run, wait_until

DATAGRAMS = 10_000
REQUESTS = 10_000
# Of so many nearly right requests one is right.
GENUINE_EVERY = 100
CONNECTIONS = 8
# Stacks and what else threads and the allocator keep, however much is sent; a leak of 250 bytes for
# each of the requests is more.
GROWTH_KIB = 2048

KEYS = ("p256", "p384", "p521", "rsa2048", "ed25519")
GRANTED, STRANGER = "www-data", "nobody"
IN_FLIGHT = {GRANTED: 32, STRANGER: 4}  # on each; without a grant, more that are not read end it
REFUSALS = {wire.MESSAGE_REFUSED, wire.UNSUPPORTED_SCHEME, wire.UNKNOWN_KEY}

only_with_one_client = pytest.mark.parametrize("hosting", ["by OPENSSL_CONF"], indirect=True)

# `key`: the Key, or None; `allowed`: None where the datagram itself decides.
Attempt = namedtuple("Attempt", "what datagram key scheme message allowed")


@pytest.fixture
def seed():
    chosen = int(os.environ.get("IMMURE_SEED", random.randrange(2**32)))
    print(f"IMMURE_SEED={chosen}")
    return chosen


class Unchanged:
    """The processes of an immured, which neither end nor grow meanwhile."""

    def __init__(self, immured):
        self.immured = immured
        self.pids = self.processes()
        self.kib, self.descriptors = resident_kib(self.pids), descriptors(self.pids)

    def processes(self):
        return [self.immured.process.pid, *self.immured.workers()]

    def check(self):
        assert self.processes() == self.pids, self.immured.log()
        wait_until(lambda: descriptors(self.pids) <= self.descriptors, "no more descriptors")
        growth = resident_kib(self.pids) - self.kib
        print(f"immured has grown by {growth} KiB")
        assert growth < GROWTH_KIB or self.immured.stage.sanitized, "a sanitizer keeps what is freed"


def connect(immured, user):
    return [wire.Connection(immured.socket, user) for _ in range(CONNECTIONS)]


def introduce(immured, keys):
    """The keys are known from here on."""
    with wire.Connection(immured.socket) as connection:
        for key in keys:
            public = run("openssl", "pkey", "-pubin", "-in", key.public_key, "-outform", "DER").stdout
            assert connection.call(wire.request(wire.FIND_KEY, b"\3" + public)).status == wire.OK


# --- Nearly right --------------------------------------------------------------------------------


@pytest.fixture
def documents(immured, authority, keys):
    """What others sign, as DER, by name."""
    key = keys["p256"]
    der = lambda *options: authority.openssl(*options, "-outform", "DER").stdout
    certificate = der("x509", "-in", key.certificate)
    request = immured.cli("csr", key.name, "--subject", "/CN=a", "--san", "DNS:a.test").stdout
    response = authority.ocsp_response(key.certificate, authority.directory).read_bytes()
    return {
        "TBSCertificate": element(certificate, 0),
        "CSR for this key": element(authority.openssl("req", "-outform", "DER", input=request).stdout, 0),
        "OCSP response": element(response, 1, 0, 1, 0, 0),
    }


def nearly_right(messages, documents, keys):
    """An Attempt for which no signature must be given."""
    draw, key = messages.random, messages.random.choice(keys)
    operation, scheme = wire.SIGN, messages.genuine(key)[0]
    source = draw.randrange(7)
    if source == 0:
        what, message = draw.choice(list(messages.nearly_tls13().items()))
    elif source == 1:
        what, message = draw.choice(list(messages.nearly_tls12().items()))
    elif source == 2:
        what, message = draw.choice(list(messages.foreign(key, documents).items()))
    elif source == 3:
        what, (scheme, message) = "a scheme that is not for it", messages.wrong_scheme(key)
    elif source == 4:
        what, operation, scheme = "a digest", wire.SIGN_DIGEST, draw.choice(SCHEMES)
        message = messages.bytes(draw.choice((0, 20, 32, 48, 64, 200)))
    elif source == 5:
        what, operation, scheme = "a ciphertext", draw.choice((wire.TLS12_RSA_PREMASTER, wire.RSA_DECRYPT)), 0
        message = b"\3\3\0" + messages.bytes(draw.choice((255, 256, 257)))
    else:
        what, message = "another key's id", messages.genuine(key)[1]
        scheme, key = messages.genuine(key)[0], None
    key_id = key.id if key else messages.bytes(32)
    allowed = operation == wire.SIGN and key is not None and may_be_signed(key, scheme, message)
    assert not allowed, f"{what}: {message.hex()}"
    request = (operation, message, scheme, key_id)
    return Attempt(what, request, key, scheme, message, False)


def attempts(messages, documents, keys, count):
    for number in range(count):
        if number % GENUINE_EVERY == 0:
            key = messages.random.choice(keys)
            scheme, message = messages.genuine(key)
            request = (wire.SIGN, message, scheme, key.id)
            yield Attempt("genuine", request, key, scheme, message, may_be_signed(key, scheme, message))
        yield nearly_right(messages, documents, keys)


def rounds(attempts, connections, in_flight):
    """Sends so many at a time on each connection; an Attempt with its reply, for all of them."""
    rest = deque(attempts)
    while rest:
        sent = {connection: {} for connection in connections}
        for connection, under_way in sent.items():
            for number in range(min(in_flight, len(rest))):
                under_way[number] = rest.popleft()
                operation, message, scheme, key_id = under_way[number].datagram
                connection.send(wire.request(
                    operation, message, scheme=scheme, key_id=key_id, request_id=number, deadline_ms=60_000,
                ))
        for connection, under_way in sent.items():
            while under_way:
                reply = connection.receive()
                assert reply is not None, f"no reply to {[attempt.what for attempt in under_way.values()]}"
                yield under_way.pop(reply.request_id), reply


DIGESTS = {4: "sha256", 5: "sha384", 6: "sha512"}
PSS = ("-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest")


def verify(authority, directory, attempt, signature):
    """Has openssl verify it, with the public key."""
    message, file = directory / "message", directory / "signature"
    message.write_bytes(attempt.message)
    file.write_bytes(signature)
    code = attempt.scheme
    options = () if code == 0x0807 else ("-digest", DIGESTS[code >> 8] if code < 0x0800 else DIGESTS[code & 0xFF])
    authority.openssl(
        *("pkeyutl", "-verify", "-pubin", "-inkey", attempt.key.public_key, "-rawin", "-in", message),
        *("-sigfile", file, *options, *(PSS if 0x0804 <= code <= 0x0806 else ())),
    )


def rule_of(reply):
    """The name of the rule in a refusal's text."""
    return reply.payload.decode().rpartition("(rule ")[2].removesuffix(")") if b"(rule " in reply.payload else "-"


def refuse_all_but_right_ones(own, user, nearly, verify_signature):
    """Sends what `nearly` gives; how many were signed, and how often each rule was named."""
    connections, rules, kinds, signed = connect(own.immured, user), Counter(), set(), 0
    for attempt, reply in rounds(nearly, connections, IN_FLIGHT[user]):
        if reply.status == wire.OK:
            assert attempt.allowed and user == GRANTED, attempt
            verify_signature(attempt, reply.payload)
            signed += 1
            continue
        expected = {wire.NOT_GRANTED} if user == STRANGER else REFUSALS
        assert reply.status in expected and reply.payload.decode(), f"{attempt}: {reply}"
        rules[reply.status, rule_of(reply)] += 1
        kinds.add(attempt.what)
    for connection in connections:
        connection.socket.close()
    print(f"{user}: {sum(rules.values())} requests of {len(kinds)} kinds refused, {signed} signed")
    for (status, rule), count in sorted(rules.items()):
        print(f"    status {status}, rule {rule}: {count}")
    return signed


@only_with_one_client
def test_no_nearly_right_request_is_signed_and_each_right_one_is(
    own, keys, authority, directory, documents, seed
):
    messages, tried = Messages(random.Random(seed)), [keys[name] for name in KEYS]
    introduce(own.immured, tried)
    check = lambda attempt, signature: verify(authority, directory, attempt, signature)
    send = lambda user, count: refuse_all_but_right_ones(
        own, user, attempts(messages, documents, tried, count), check
    )
    send(GRANTED, REQUESTS // 10)
    unchanged = Unchanged(own.immured)
    assert send(GRANTED, REQUESTS) == REQUESTS // GENUINE_EVERY
    assert send(STRANGER, REQUESTS // 10) == 0
    unchanged.check()
    for host in own.hosts:
        curl(authority, own.nginx.port, host)


# --- Random --------------------------------------------------------------------------------------


def noise(messages):
    """Anything, of any size."""
    draw = messages.random
    return messages.bytes(draw.choice((draw.randrange(1, 200), draw.randrange(1, 4000), 40_000)))


def almost_a_request(messages, keys):
    """The header of a request, with a few bytes changed, before something."""
    draw, key = messages.random, messages.random.choice(keys)
    payload = draw.choice((messages.bytes(draw.randrange(200)), messages.genuine(key)[1], b"\1" + key.name.encode()))
    datagram = bytearray(wire.request(
        draw.randrange(8), payload, scheme=draw.choice((0, *SCHEMES)), deadline_ms=draw.choice((0, 60_000)),
        key_id=draw.choice((key.id, messages.bytes(32))),
    ))
    for _ in range(draw.randrange(4)):
        datagram[draw.randrange(len(datagram))] = draw.randrange(256)
    return bytes(datagram)


def is_no_request(datagram):
    """What costs the client its connection."""
    return not wire.REQUEST.size <= len(datagram) <= wire.DATAGRAM_SIZE_MAX or datagram[0] != wire.VERSION


def numbered(datagram, number):
    return datagram[:8] + number.to_bytes(8, "big") + datagram[16:] if len(datagram) >= 16 else datagram


def may_succeed(datagram, user, keys):
    _, operation, scheme, _, _, key_id = wire.REQUEST.unpack_from(datagram)
    key = next((key for key in keys if key.id == key_id), None)
    if user == STRANGER or operation not in (wire.SIGN, wire.FIND_KEY, wire.STATUS):
        return False
    return operation != wire.SIGN or key and may_be_signed(key, scheme, datagram[wire.REQUEST.size :])


def until_the_first_that_is_none(draw_one, count):
    """Datagrams of which the last at most is no request."""
    drawn = []
    while len(drawn) < count and not (drawn and is_no_request(drawn[-1])):
        drawn.append(numbered(draw_one(), len(drawn)))
    return drawn


def answers_to(connection, datagrams):
    """The replies: one for each, unless the last has closed the connection before they were sent."""
    for datagram in datagrams:
        connection.send(datagram)
    replies = list(takewhile(lambda reply: reply, (connection.receive() for _ in datagrams)))
    assert len(replies) == len(datagrams) or is_no_request(datagrams[-1]), datagrams
    return replies


@only_with_one_client
@pytest.mark.parametrize("user", (GRANTED, STRANGER))
def test_random_datagrams_get_typed_answers_and_leave_nothing_behind(own, keys, authority, seed, user):
    messages, known = Messages(random.Random(seed)), [keys[name] for name in KEYS]
    introduce(own.immured, known)
    draw_one = lambda: noise(messages) if messages.random.random() < 0.3 else almost_a_request(messages, known)
    sent, answers, unchanged = 0, Counter(), None
    while sent < DATAGRAMS:
        datagrams = until_the_first_that_is_none(draw_one, IN_FLIGHT[user])
        with wire.Connection(own.immured.socket, user) as connection:
            for reply in answers_to(connection, datagrams):
                answers[reply.status] += 1
                assert reply.status != wire.OK or may_succeed(datagrams[reply.request_id], user, known), reply
        sent += len(datagrams)
        if sent > DATAGRAMS // 10:
            unchanged = unchanged or Unchanged(own.immured)
    print(f"{user}: {sent} datagrams, answers by status: {dict(sorted(answers.items()))}")
    assert all(status < wire.STATUSES for status in answers)
    unchanged.check()
    curl(authority, own.nginx.port, own.hosts[0])
