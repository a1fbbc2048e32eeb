/*
 * The local protocol's messages: one datagram a request, one datagram a reply, over a
 * SOCK_SEQPACKET Unix socket. doc/protocol.md describes them to the byte.
 *
 * Pure functions: no I/O, no allocation; decoded payloads point into the caller's datagram.
 */
#ifndef IMMURE_WIRE_MESSAGE_H
#define IMMURE_WIRE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

#define WIRE_VERSION 1

/* Where immured listens, and its clients connect, unless configured otherwise. */
#define IMMURE_SOCKET_DEFAULT "/run/immure/immure.sock"

/* SHA-256 of the DER SubjectPublicKeyInfo (RFC 5280 4.1). */
#define KEY_ID_SIZE 32

/* version 1, operation 1, scheme 2, deadline 4, request id 8, key id 32 */
#define WIRE_REQUEST_HEADER_SIZE 48
/* version 1, operation 1, status 2, reserved 4, request id 8 */
#define WIRE_REPLY_HEADER_SIZE 16

/* Holds a handshake's message (at most 2,119 bytes), a CSR, a status; fits a thread's stack. */
#define WIRE_DATAGRAM_SIZE_MAX 32768
#define WIRE_PAYLOAD_SIZE_MAX  (WIRE_DATAGRAM_SIZE_MAX - WIRE_REQUEST_HEADER_SIZE)

/* The longest deadline that immured keeps, in ms; a longer one is cut to it. */
#define WIRE_DEADLINE_MAX_MS 60000

enum wire_operation {
    WIRE_SIGN = 1,        /* payload: the message; immured hashes it */
    WIRE_SIGN_DIGEST = 2, /* payload: the digest, or the bytes of a raw scheme */
    WIRE_FIND_KEY = 3,    /* payload: one byte wire_find, then its text or bytes */
    WIRE_STATUS = 4,      /* no payload; the reply's is JSON */
    /* RFC 5246 7.4.7.1. Payload: client_version, 2 bytes, then the EncryptedPreMasterSecret. */
    WIRE_TLS12_RSA_PREMASTER = 5, /* the reply's: 48 bytes, whatever was encrypted */
    WIRE_RSA_DECRYPT = 6, /* payload: a ciphertext; the reply's: a message, whatever it was */
};

/* How FIND_KEY names a key. The reply's payload is a key reference in DER (wire/reference.h). */
enum wire_find {
    WIRE_FIND_NAME = 1,       /* its label (CKA_LABEL), UTF-8 */
    WIRE_FIND_PKCS11_URI = 2, /* RFC 7512 */
    WIRE_FIND_PUBLIC_KEY = 3, /* its DER SubjectPublicKeyInfo */
};

/* How a request ended. The payload of a reply with another status than WIRE_OK is UTF-8 text. */
enum wire_status {
    WIRE_OK = 0,
    WIRE_MALFORMED = 1,
    WIRE_UNSUPPORTED_VERSION = 2,
    WIRE_UNSUPPORTED_OPERATION = 3,
    WIRE_UNSUPPORTED_SCHEME = 4, /* unknown, or not for this key */
    WIRE_NOT_GRANTED = 5,
    WIRE_MESSAGE_REFUSED = 6,    /* not what the grant allows to sign, or no ciphertext */
    WIRE_UNKNOWN_KEY = 7,        /* not seen yet: name its public key with FIND_KEY, then repeat */
    WIRE_KEY_NOT_FOUND = 8,      /* on no token */
    WIRE_KEY_AMBIGUOUS = 9,      /* the name fits several keys */
    WIRE_TOKEN_UNAVAILABLE = 10, /* the tokens that hold it do not answer */
    WIRE_TOKEN_FAILED = 11,      /* the token refused this operation */
    WIRE_BUSY = 12,              /* a bound was reached; repeat after a moment */
    WIRE_SHUTTING_DOWN = 13,     /* repeat on a new connection */
    WIRE_DEADLINE_PASSED = 14,
    WIRE_OVER_RATE = 15, /* the grant's rate is used up */
};

struct wire_request {
    uint8_t operation;    /* enum wire_operation, or an unknown one */
    uint16_t scheme;      /* wire/scheme.h; 0 for operations that do not sign */
    uint32_t deadline_ms; /* time left when it was sent */
    uint64_t id;          /* chosen by the client, repeated in the reply */
    uint8_t key_id[KEY_ID_SIZE];
    const uint8_t *payload;
    size_t payload_size;
};

struct wire_reply {
    uint8_t operation;
    uint16_t status; /* enum wire_status, or one of a later version */
    uint64_t id;
    const uint8_t *payload;
    size_t payload_size;
};

/* A short name of the status for logs ("not granted"); never NULL. */
const char *wire_status_name(uint16_t status);

/*
 * Write one datagram and return its size in bytes, or 0 if it does not fit `size` bytes or
 * WIRE_DATAGRAM_SIZE_MAX.
 */
size_t wire_request_encode(const struct wire_request *request, uint8_t *datagram,
                           size_t size) MUST_USE;
size_t wire_reply_encode(const struct wire_reply *reply, uint8_t *datagram, size_t size) MUST_USE;

/*
 * Read one datagram. A request gives WIRE_OK, WIRE_MALFORMED or WIRE_UNSUPPORTED_VERSION; in the
 * last case `id` is set if the datagram is long enough to hold one, so that an error can be sent.
 * Unknown operations and schemes are left to the caller.
 */
enum wire_status wire_request_decode(const uint8_t *datagram, size_t size,
                                     struct wire_request *request) MUST_USE;
bool wire_reply_decode(const uint8_t *datagram, size_t size, struct wire_reply *reply) MUST_USE;

#endif
