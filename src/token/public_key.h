/*
 * Public keys: from PKCS#11 attributes to DER SubjectPublicKeyInfo and back.
 *
 * The DER is the one that OpenSSL's i2d_PUBKEY() writes, so that the same key has the same key
 * id everywhere. OpenSSL's error queue is left as it was. Any thread; no ownership.
 */
#ifndef IMMURE_TOKEN_PUBLIC_KEY_H
#define IMMURE_TOKEN_PUBLIC_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "token/quirks.h"

/* Smaller ones are no longer safe; larger ones are slow, rare, and not in RSA_BLOCK_SIZE_MAX. */
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096
/* 65537 and its like; FIPS 186-4 allows up to 32 bytes. */
#define RSA_EXPONENT_SIZE_MAX 32

/* A point, a modulus or, longest of all, an ML-DSA-87 key (FIPS 204 table 2). */
#define PUBLIC_VALUE_SIZE_MAX 2592

/* RSA-4096 has an exponent besides; under 48 bytes of DER are around them. */
#define SPKI_SIZE_MAX (PUBLIC_VALUE_SIZE_MAX + 48)

struct public_key {
    enum key_type type;
    unsigned bits;
    uint8_t spki[SPKI_SIZE_MAX];
    size_t spki_size;
};

/* CKA_MODULUS and CKA_PUBLIC_EXPONENT, big-endian. False: not a key that Immure takes. */
bool public_key_of_rsa(const uint8_t *modulus, size_t modulus_size, const uint8_t *exponent,
                       size_t exponent_size, struct public_key *key) MUST_USE;

/* A point of group->point_size bytes (quirk_point()). False: not a point of the group. */
bool public_key_of_point(const struct group *group, const uint8_t *point,
                         struct public_key *key) MUST_USE;

/*
 * Of an Ed25519 or ML-DSA key (RFC 8032 5.1.5, FIPS 204 5.3), whose number of bytes tells its type.
 * False: as many has none. Any bytes are taken, and OpenSSL need not know the type.
 */
bool public_key_of_bytes(const uint8_t *bytes, size_t size, struct public_key *key) MUST_USE;

/*
 * The other way: the modulus, without leading zeros, or the point, by which to search a token.
 * False: not the DER of a public key of a supported type.
 */
bool public_key_value(const uint8_t *spki, size_t spki_size, enum key_type *type,
                      uint8_t value[PUBLIC_VALUE_SIZE_MAX], size_t *value_size) MUST_USE;

#endif
