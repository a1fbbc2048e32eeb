"""Messages that a TLS server signs, such as are nearly so, and such as other protocols sign.

`may_be_signed` is the tests' own opinion; it has nothing in common with immured's.
"""

import base64
import json
import re
import struct

from .der import encode

SERVER, CLIENT = b"TLS 1.3, server CertificateVerify", b"TLS 1.3, client CertificateVerify"
HASH_SIZES = (32, 48)
# TLS 1.2's named curves and the bytes of a point: RFC 8422 5.1.1, RFC 7027.
POINTS = {23: 65, 24: 97, 25: 133, 26: 65, 27: 97, 28: 129, 29: 32, 30: 56}
MONTGOMERY = (29, 30)

# By type of key, the schemes that its signatures may have in TLS 1.3 and in TLS 1.2.
RSA_PKCS1, RSA_PSS = (0x0401, 0x0501, 0x0601), (0x0804, 0x0805, 0x0806)
ECDSA, ED25519 = (0x0403, 0x0503, 0x0603), (0x0807,)
TLS13 = {"p256": ECDSA[:1], "p384": ECDSA[1:2], "p521": ECDSA[2:], "ed25519": ED25519, "rsa": RSA_PSS}
TLS12 = {"p256": ECDSA, "p384": ECDSA, "p521": ECDSA, "ed25519": ED25519, "rsa": RSA_PKCS1 + RSA_PSS}
SCHEMES = RSA_PKCS1 + RSA_PSS + ECDSA + ED25519 + (0xFE01, 0xFE02)


ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
# What is in a SubjectPublicKeyInfo, but for the point's two coordinates.
P256_PUBLIC_KEY = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d03010703420004")


def name_of(common_name):
    """A Name of a common name alone, a T61String, in which all bytes are characters."""
    attribute = encode(0x30, b"\6\3\x55\4\3" + encode(0x14, common_name))
    return encode(0x30, encode(0x31, attribute))


def kind(key):
    """The type of a key by its name, without RSA's size."""
    return "rsa" if key.name.startswith("rsa") else key.name


CERTIFICATE_VERIFY = re.compile(b" {64}" + re.escape(SERVER) + b"\0(.{32}|.{48})", re.DOTALL)


def is_server_key_exchange(message):
    """Two random numbers, the type "named curve", the curve and one of its points."""
    curve_type, curve, size = struct.unpack(">BHB", message[64:68].ljust(4, b"\0"))
    point = message[68:]
    is_point = POINTS.get(curve) == size == len(point)
    return curve_type == 3 and is_point and (curve in MONTGOMERY or point[0] == 4)


def may_be_signed(key, scheme, message):
    """Whether a TLS server's grant allows it."""
    if CERTIFICATE_VERIFY.fullmatch(message):
        return scheme in TLS13[kind(key)]
    is_exchange = is_server_key_exchange(message) and not message.startswith((b"\1\0", b"0"))
    return is_exchange and scheme in TLS12[kind(key)]


class Messages:
    """Draws messages from `random`, a seeded random.Random."""

    def __init__(self, random):
        self.random = random
        self.bytes = random.randbytes

    def certificate_verify(self, spaces=64, context=SERVER, zero=b"\0", size=None):
        size = self.random.choice(HASH_SIZES) if size is None else size
        return b" " * spaces + context + zero + self.bytes(size)

    def randoms(self):
        """Such as the client and the server of a handshake send."""
        return b"\x65" + self.bytes(63)

    def server_key_exchange(self, curve=None, curve_type=3, size=None, first=b"\4", declared=None):
        curve = curve or self.random.choice(list(POINTS))
        size = POINTS[curve] if size is None else size
        first = b"" if curve in MONTGOMERY else first
        point = (first + self.bytes(size))[:size]
        head = struct.pack(">BHB", curve_type, curve, size if declared is None else declared)
        return self.randoms() + head + point

    def dhe(self):
        """With a prime that is nobody's: 2048 bits, 2 (RFC 5246 7.4.3)."""
        number = lambda size: struct.pack(">H", size) + b"\xff" + self.bytes(size - 1)
        return self.randoms() + number(256) + b"\0\1\2" + number(256)

    def genuine(self, key):
        """(scheme, message) that must be signed."""
        if self.random.random() < 0.5:
            return self.random.choice(TLS13[kind(key)]), self.certificate_verify()
        return self.random.choice(TLS12[kind(key)]), self.server_key_exchange()

    def in_a_key_exchange(self, make):
        """make(free) with as many free bytes as make it as long as a ServerKeyExchange with
        secp521r1, and with what is fixed in one among these."""
        fixed = b"\3\0\x19\x85\4"
        for size in range(len(fixed), 128):
            free = b"\1" + self.bytes(size - 1)
            message = make(free)
            start = message.index(free)
            if len(message) == 64 + len(fixed) + 132 and start <= 64 and start + size >= 64 + len(fixed):
                return message[:64] + fixed + message[64 + len(fixed) :]
        raise AssertionError("it has no room")

    def certificate_in_a_key_exchange(self, outer="shortest", inner="shortest", identifier=b""):
        """A TBSCertificate, with its serial number free. `identifier`: an element after the key."""
        dates = encode(0x17, b"250101000000Z") + encode(0x17, b"350101000000Z")
        key = bytes.fromhex("302a300506032b6570032100") + self.bytes(32)
        name = encode(0x30, b"", inner)
        rest = ECDSA_WITH_SHA256 + name + encode(0x30, dates) + name + key + identifier
        return self.in_a_key_exchange(
            lambda serial: encode(0x30, encode(0xA0, b"\2\1\2") + encode(2, serial) + rest, outer)
        )

    def cmp_in_a_key_exchange(self, tag, content):
        """A ProtectedPart of CMP (RFC 4210 5.1.3) with this body, with its transaction's id free."""
        parties = encode(0xA4, name_of(b"www.test")) + encode(0xA4, encode(0x30, b""))
        start = b"\2\1\2" + parties + encode(0xA1, ECDSA_WITH_SHA256)
        nonce = encode(0xA5, encode(4, self.bytes(16)))
        body = encode(0xA0 + tag, encode(0x30, encode(0x30, content)))
        return self.in_a_key_exchange(
            lambda number: encode(0x30, encode(0x30, start + encode(0xA4, encode(4, number)) + nonce) + body)
        )

    def certificate_management(self):
        """What a holder of a certificate signs to get another one for a key that is not in the HSM,
        or to have it revoked: CMP, and CRMF's proofs of possession (RFC 4211 4.1)."""
        key = P256_PUBLIC_KEY + self.bytes(64)
        certificate_request = encode(0x30, b"\2\1\0" + encode(0x30, encode(0xA6, key)))
        raverified = encode(0x80, b"")
        revoked = encode(0x30, encode(0x81, self.bytes(8)) + encode(0xA3, name_of(b"CA")))
        template = lambda name: encode(0x30, encode(0xA5, name_of(name)) + encode(0xA6, key))
        return {
            "a request of CMP": self.cmp_in_a_key_exchange(2, certificate_request + raverified),
            "a revocation of CMP": self.cmp_in_a_key_exchange(11, revoked),
            "a CertRequest of CRMF": self.in_a_key_exchange(
                lambda name: encode(0x30, b"\2\1\0" + template(name))
            ),
            "a POPOSigningKeyInput of CRMF": self.in_a_key_exchange(
                lambda name: encode(0x30, encode(0xA0, encode(0xA4, name_of(name))) + encode(0x30, key))
            ),
        }

    def certificates(self):
        """The same in each form that OpenSSL reads."""
        make = self.certificate_in_a_key_exchange
        return {
            "a certificate in a ServerKeyExchange": make(),
            "the same with a unique identifier": make(identifier=b"\x81\3\0ab"),
            "the same of indefinite length": make(outer="indefinite"),
            "the same with a padded length": make(outer="padded"),
            "the same with names of indefinite length": make(inner="indefinite"),
            "the same with names of padded length": make(inner="padded"),
        }

    def other_byte(self, message, at):
        """With one byte changed."""
        changed = bytes([message[at] ^ self.random.randrange(1, 256)])
        return message[:at] + changed + message[at + 1 :]

    # --- Nearly right: each a way in which the message is not one that may be signed ---

    def nearly_tls13(self):
        draw, verify = self.random, self.certificate_verify
        size = draw.choice(HASH_SIZES)
        return {
            "a space is none": self.other_byte(verify(), draw.randrange(64)),
            "a space too few": verify(spaces=63),
            "a space too many": verify(spaces=65),
            "another context": self.other_byte(verify(), 64 + draw.randrange(len(SERVER))),
            "a client's context": verify(context=CLIENT),
            "a context cut short": verify(context=SERVER[:-1]),
            "no zero byte": verify(zero=b""),
            "another byte for the zero": self.other_byte(verify(), 64 + len(SERVER)),
            "a byte of the hash too many": verify(size=size + 1),
            "a byte of the hash too few": verify(size=size - 1),
            "no hash": verify(size=0),
            "a hash of SHA-1": verify(size=20),
            "a hash of SHA-512": verify(size=64),
            "an exported authenticator (RFC 9261)": verify(context=b"Exported Authenticator"),
            "a delegated credential (RFC 9345)": verify(context=b"TLS, server delegated credentials"),
        }

    def nearly_tls12(self):
        draw, exchange = self.random, self.server_key_exchange
        curve = draw.choice([c for c in POINTS if c not in MONTGOMERY])
        size = POINTS[curve]
        whole = exchange(curve)
        return {
            "another type of curve": exchange(curve_type=draw.choice((1, 2, 4, 255))),
            "no curve of TLS 1.2": exchange(curve=23).replace(
                b"\3\0\x17\x41", struct.pack(">BHB", 3, draw.choice((0, 22, 31, 256, 0x11EC)), 65), 1
            ),
            "another curve's point": exchange(curve=24, size=65),
            "a point too long": exchange(curve=curve, size=size + 1),
            "a point too short": exchange(curve=curve, size=size - 1),
            "another length than the point has": exchange(curve=curve, declared=size - 1),
            "a point of another form": exchange(curve=curve, first=draw.choice((b"\0", b"\2", b"\3", b"\6"))),
            "a compressed point": exchange(curve=23, size=33, first=b"\2"),
            "a byte after the point": whole + self.bytes(1),
            "a point cut short": whole[: draw.randrange(68, len(whole))],
            "no point": whole[:67],
            "a random number too few": whole[32:],
            "a byte of a random number too few": whole[1:],
            "a byte of a random number too many": b"e" + whole,
            "a type of message before it": b"\x0c" + struct.pack(">I", len(whole))[1:] + whole,
            "a group of nobody": self.dhe(),
        }

    def foreign(self, key, documents):
        """What other protocols sign. `documents`: DER that others made, by name."""
        text = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")
        string = lambda value: struct.pack(">I", len(value)) + value
        hello = b"\3\3" + self.bytes(32) + b"\0" + b"\0\2\xc0\x2b" + b"\1\0"
        handshake = lambda kind, body: bytes([kind]) + struct.pack(">I", len(body))[1:] + body
        transcript = handshake(1, hello) + handshake(2, b"\3\3" + self.bytes(32) + b"\0\xc0\x2b\0")
        # A client chooses its session id, so a ServerKeyExchange may be in what it signs.
        in_session_id = b"\3\3" + self.bytes(32) + b"\x20" + self.bytes(25)
        dressed = handshake(1, in_session_id + b"\3\0\x1d\x20" + self.bytes(32))
        return documents | self.certificates() | self.certificate_management() | {
            "JWT": text({"alg": "ES256"}) + b"." + text({"sub": "admin", "iat": 1700000000}),
            "S/MIME": b"Content-Type: text/plain\r\n\r\nI owe you " + self.bytes(8).hex().encode(),
            "transcript of a TLS 1.2 client": transcript,
            "transcript of a TLS 1.2 client that looks like a ServerKeyExchange": dressed,
            "SSH user authentication": string(self.bytes(32)) + b"\x32" + string(b"root")
            + string(b"ssh-connection") + string(b"publickey") + b"\1"
            + string(b"ecdsa-sha2-nistp256") + string(self.bytes(104)),
            "SSH exchange hash": self.bytes(32),
            "IKEv2": self.bytes(16) + b"\x21\x20\x22\x08" + bytes(4) + self.bytes(300),
            "PKCS#1 block": b"\0\1" + b"\xff" * 202 + b"\0" + self.bytes(51),
            "DigestInfo": bytes.fromhex("3031300d060960864801650304020105000420") + self.bytes(32),
            "digest": self.bytes(self.random.choice((20, 28, 32, 48, 64))),
            "nothing": b"",
            "noise": self.bytes(self.random.randrange(1, 400)),
            "code": b"\x7fELF\2\1\1" + self.bytes(200),
        }

    def wrong_scheme(self, key):
        """(scheme, message): the message is right, and the scheme is not for it or for the key."""
        if self.random.random() < 0.5:
            allowed, message = TLS13[kind(key)], self.certificate_verify()
        else:
            allowed, message = TLS12[kind(key)], self.server_key_exchange()
        return self.random.choice([s for s in (*SCHEMES, 0, 0x0201, 0xFFFF) if s not in allowed]), message
