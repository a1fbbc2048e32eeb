"""The local protocol, spoken from outside: doc/protocol.md describes it."""

import grp
import json
import os
import pwd
import socket
import struct
from collections import namedtuple
from contextlib import contextmanager, nullcontext

REQUEST = struct.Struct(">BBHIQ32s")
REPLY = struct.Struct(">BBHIQ")
VERSION = 1
SIGN, SIGN_DIGEST, FIND_KEY, STATUS, TLS12_RSA_PREMASTER, RSA_DECRYPT = range(1, 7)
ECDSA_SHA256 = 0x0403
RSA_PSS_SHA256 = 0x0804
DATAGRAM_SIZE_MAX = 32768
STATUSES = 16
(
    OK, MALFORMED, UNSUPPORTED_VERSION, UNSUPPORTED_OPERATION, UNSUPPORTED_SCHEME, NOT_GRANTED,
    MESSAGE_REFUSED, UNKNOWN_KEY, KEY_NOT_FOUND, KEY_AMBIGUOUS, TOKEN_UNAVAILABLE, TOKEN_FAILED, BUSY,
    SHUTTING_DOWN, DEADLINE_PASSED, OVER_RATE,
) = range(STATUSES)

Reply = namedtuple("Reply", "status payload request_id")


def request(
    operation, payload=b"", version=VERSION, scheme=0, key_id=bytes(32), request_id=7, deadline_ms=2000
):
    return REQUEST.pack(version, operation, scheme, deadline_ms, request_id, key_id) + payload


@contextmanager
def acting_as(user, groups):
    """With the user's id and group, and these other groups."""
    entry, before = pwd.getpwnam(user), os.getgroups()
    os.setgroups([grp.getgrnam(name).gr_gid for name in groups])
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class Connection:
    """One SOCK_SEQPACKET connection to immured, as `user`, with no groups but its own and `groups`,
    or as who runs this; `with` closes it."""

    def __init__(self, path, user=None, groups=()):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        with acting_as(user, groups) if user else nullcontext():
            self.socket.connect(str(path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, datagram):
        self.socket.send(datagram)

    def receive(self):
        """The next reply, or None when the connection was closed."""
        try:
            datagram = self.socket.recv(DATAGRAM_SIZE_MAX + 1)
        except ConnectionResetError:
            return None
        if not datagram:
            return None
        version, _, status, reserved, request_id = REPLY.unpack_from(datagram)
        assert (version, reserved) == (VERSION, 0)
        return Reply(status, datagram[REPLY.size :], request_id)

    def call(self, datagram):
        try:
            self.send(datagram)
        except (BrokenPipeError, ConnectionResetError):
            return None
        return self.receive()


def status(connection):
    """What immured says of itself, as `immure status --json` prints it; None: not just now."""
    reply = connection.call(request(STATUS))
    return json.loads(reply.payload) if reply and reply.status == OK else None


def call(immured, key, operation, payload, **fields):
    """The reply to a request, as a client makes it: the key is introduced when it has to be."""
    with Connection(immured.socket) as connection:
        asked = request(operation, payload, key_id=key.id, **fields)
        reply = connection.call(asked)
        for _ in range(3):
            if reply.status != UNKNOWN_KEY:
                break
            found = connection.call(request(FIND_KEY, b"\x03" + key.spki, key_id=key.id))
            assert found.status == OK, found
            reply = connection.call(asked)
        return reply
