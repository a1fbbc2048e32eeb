"""A TLS 1.2 client of RSA key exchange that sends what it likes, as ROBOT does (Böck, Somorovsky,
Young: Return Of Bleichenbacher's Oracle Threat, 2018)."""

import os
import socket
import struct

from .process import run

TLS12 = b"\x03\x03"
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE = 20, 21, 22
SERVER_HELLO_DONE = 14
RSA_AES_128_GCM_SHA256 = b"\x00\x9c"


class PublicKey:
    def __init__(self, path):
        text = run("openssl", "rsa", "-pubin", "-in", path, "-noout", "-modulus").stdout.decode()
        self.modulus = int(text.strip().removeprefix("Modulus="), 16)
        self.size = (self.modulus.bit_length() + 7) // 8

    def encrypt(self, block):
        """The RSA public operation; `block` is as long as the modulus."""
        return pow(int.from_bytes(block, "big"), 65537, self.modulus).to_bytes(self.size, "big")

    def padded(self, message, start=b"\x00\x02", padding=None, end=b"\x00"):
        """The ciphertext of PKCS#1 v1.5 padding around a message, or of something like it."""
        missing = self.size - len(start) - len(end) - len(message)
        padding = bytes(1 + byte % 255 for byte in os.urandom(missing)) if padding is None else padding
        return self.encrypt(start + padding + end + message)

    def wrong_ones(self, premaster):
        """By name, ciphertexts that differ from the right one in what only the private key shows."""
        room = self.size - 3 - len(premaster)
        filler = bytes(1 + byte % 255 for byte in os.urandom(room))
        shorter, version = premaster[-47:], premaster[:2]
        return {
            "first byte": self.padded(premaster, start=b"\x01\x02"),
            "block type 1": self.padded(premaster, start=b"\x00\x01"),
            "block type 17": self.padded(premaster, start=b"\x40\x17"),
            "no zero": self.encrypt(b"\x00\x02" + bytes([7]) * (self.size - 2)),
            "zero in the first bytes": self.padded(premaster, padding=filler[:3] + b"\0" + filler[4:]),
            "zero right away": self.padded(premaster, padding=b"\0" + filler[1:]),
            "zero too early": self.padded(premaster, padding=filler[:-1] + b"\0"),
            "zero too late": self.padded(shorter),
            "empty message": self.padded(b""),
            "version 3.2": self.padded(b"\x03\x02" + premaster[2:]),
            "version 2.3": self.padded(b"\x02\x03" + premaster[2:]),
            "zero": bytes(self.size),
            "one": (1).to_bytes(self.size, "big"),
            "modulus - 1": (self.modulus - 1).to_bytes(self.size, "big"),
            "message of 49": self.padded(version + os.urandom(47)),
        }

    def impossible_ones(self):
        """By name, what anybody can tell to be no ciphertext."""
        return {
            "modulus": self.modulus.to_bytes(self.size, "big"),
            "all bits": b"\xff" * self.size,
            "too long": b"\x01" + bytes(self.size),
        }


def vector(size, content):
    """TLS's opaque<...>, with a length of `size` bytes."""
    return len(content).to_bytes(size, "big") + content


def record(kind, content):
    return bytes([kind]) + TLS12 + vector(2, content)


def message(kind, content):
    return bytes([kind]) + vector(3, content)


def client_hello(host):
    name = vector(2, b"\0" + vector(2, host.encode()))
    signatures = vector(2, bytes.fromhex("040104030501080408070503"))
    extensions = struct.pack(">H", 0) + vector(2, name) + struct.pack(">H", 13) + vector(2, signatures)
    hello = (
        TLS12 + os.urandom(32) + vector(1, b"") + vector(2, RSA_AES_128_GCM_SHA256)
        + vector(1, b"\0") + vector(2, extensions)
    )
    return message(1, hello)


def receive_record(stream):
    """(content type, content), or None at the end."""
    header = stream.read(5)
    if len(header) < 5:
        return None
    return header[0], stream.read(int.from_bytes(header[3:], "big"))


def wait_for_hello_done(stream):
    content = b""
    while True:
        received = receive_record(stream)
        assert received and received[0] == HANDSHAKE, received
        content += received[1]
        while len(content) >= 4 and len(content) >= 4 + int.from_bytes(content[1:4], "big"):
            if content[0] == SERVER_HELLO_DONE:
                return
            content = content[4 + int.from_bytes(content[1:4], "big") :]


def answer(port, host, ciphertext, finishes=True, timeout=10):
    """What the server answers to a ClientKeyExchange, and, if the client `finishes`, to a Finished
    that cannot be right: its records, then "closed", "reset", or "nothing" at the time-out."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        stream = connection.makefile("rb")
        connection.sendall(record(HANDSHAKE, client_hello(host)))
        wait_for_hello_done(stream)
        sent = record(HANDSHAKE, message(16, vector(2, ciphertext)))
        if finishes:
            sent += record(CHANGE_CIPHER_SPEC, b"\x01") + record(HANDSHAKE, b"\x16" * 40)
        connection.settimeout(timeout)
        connection.sendall(sent)
        answers = []
        try:
            while received := receive_record(stream):
                answers.append(received)
        except ConnectionResetError:
            return (*answers, "reset")
        except TimeoutError:
            return (*answers, "nothing")
        return (*answers, "closed")
