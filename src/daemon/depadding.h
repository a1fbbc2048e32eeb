/*
 * PKCS#1 v1.5 padding of decrypted blocks (RFC 8017 7.2.2), removed so that nobody learns whether
 * it was right: what is wrong gives a synthetic result in its place (implicit rejection), which
 * only the key's rejection key tells from a real one, and which is always the same one.
 *
 * Neither branches nor addresses nor the number of steps depend on the block. Pure functions, but
 * for OpenSSL's HMAC; from any thread. They return false when OpenSSL fails.
 */
#ifndef IMMURE_DAEMON_DEPADDING_H
#define IMMURE_DAEMON_DEPADDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "wire/scheme.h"

/* RFC 5246 7.4.7.1: client_version and 46 random bytes. */
#define PREMASTER_SIZE     48
#define REJECTION_KEY_SIZE 32
#define DEPADDING_SIZE_MAX 512

/* A block that was decrypted, `size` bytes as the modulus, and what it was decrypted from. */
struct padded {
    const uint8_t *block; /* secret */
    const uint8_t *ciphertext;
    size_t size;                  /* PKCS1_OVERHEAD to DEPADDING_SIZE_MAX */
    const uint8_t *rejection_key; /* REJECTION_KEY_SIZE bytes */
};

/*
 * The premaster secret of a TLS 1.2 ClientKeyExchange, whose first two bytes are `version`. It is
 * synthetic also where the message is not of 48 bytes or has another version (RFC 5246 7.4.7.1),
 * and another synthetic one for each version that is asked for, as it would be with a real one.
 */
bool depad_premaster(const struct padded *padded, uint16_t version,
                     uint8_t premaster[PREMASTER_SIZE]) MUST_USE;

/*
 * Any message, as in draft-irtf-cfrg-rsa-guidance (and OpenSSL 3.2). `message` has padded->size
 * bytes; *size of them are the message, the others zero. Their number is secret until the caller
 * makes it known.
 */
bool depad_message(const struct padded *padded, uint8_t *message, size_t *size) MUST_USE;

/*
 * What a key's rejection key is made of: a number below its modulus, for anybody to know, which
 * the private key turns into one that nobody else does. `size` bytes, as the modulus has.
 */
bool rejection_challenge(const uint8_t key_id[32], uint8_t *challenge, size_t size) MUST_USE;

/* The digest of what came of it. */
bool rejection_key_make(const uint8_t *response, size_t size,
                        uint8_t rejection_key[REJECTION_KEY_SIZE]) MUST_USE;

#endif
