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

/* Smaller ones are no longer safe; larger ones are slow, rare, and not in SIGNATURE_SIZE_MAX. */
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096
/* 65537 and its like; FIPS 186-4 allows up to 32 bytes. */
#define RSA_EXPONENT_SIZE_MAX 32

/* RSA-4096: 512 bytes of modulus, the exponent, and under 48 of DER around them. */
#define SPKI_SIZE_MAX (RSA_BITS_MAX / 8 + RSA_EXPONENT_SIZE_MAX + 48)

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

/* A point or a modulus. */
#define PUBLIC_VALUE_SIZE_MAX (RSA_BITS_MAX / 8)

/*
 * The other way: the modulus, without leading zeros, or the point, by which to search a token.
 * False: not the DER of a public key of a supported type.
 */
bool public_key_value(const uint8_t *spki, size_t spki_size, enum key_type *type,
                      uint8_t value[PUBLIC_VALUE_SIZE_MAX], size_t *value_size) MUST_USE;

#endif
