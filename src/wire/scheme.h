/*
 * Signature schemes: IANA's TLS SignatureScheme code points (RFC 8446 4.2.3) that Immure's keys
 * can make, and two of its own from the private-use range for signatures without a hash.
 */
#ifndef IMMURE_WIRE_SCHEME_H
#define IMMURE_WIRE_SCHEME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

enum key_type {
    KEY_TYPE_RSA,
    KEY_TYPE_EC,
    KEY_TYPE_ED25519,
    KEY_TYPE_ML_DSA_44, /* FIPS 204's parameter sets */
    KEY_TYPE_ML_DSA_65,
    KEY_TYPE_ML_DSA_87,
};

/* "RSA", "EC", "ED25519", "ML-DSA-44": also OpenSSL's names of the key types. */
const char *key_type_name(enum key_type type);

bool key_type_is_ml_dsa(enum key_type type);

/* Signs messages and no digests: Ed25519 (RFC 8032), and ML-DSA, with an empty context. */
bool key_type_is_pure(enum key_type type);

enum scheme_padding { SCHEME_PADDING_NONE, SCHEME_PADDING_PKCS1, SCHEME_PADDING_PSS };

/* The longest digest, SHA-512's. */
#define SCHEME_DIGEST_SIZE_MAX 64

/* The longest signature, ML-DSA-87's (FIPS 204 table 2). */
#define SIGNATURE_SIZE_MAX 4627

/* The longest modulus, and block that RSA gives: RSA-4096's. */
#define RSA_BLOCK_SIZE_MAX 512

/* The least that PKCS#1 v1.5 padding adds to a message (RFC 8017 7.2.1, 9.2). */
#define PKCS1_OVERHEAD 11

/* Private-use code points (RFC 8446 11: 0xFE00 to 0xFFFF), valid in SIGN_DIGEST only. */
#define SCHEME_RSA_PKCS1_RAW 0xFE01 /* PKCS#1 v1.5 padding of the given bytes, no DigestInfo */
#define SCHEME_ECDSA_RAW     0xFE02 /* ECDSA of the given bytes, as they are */

/*
 * With as many bytes of their choice as fit into a block, two signatures decrypt any ciphertext, or
 * sign any message: a two-dimensional lattice yields them. The known attacks need a third of the
 * modulus (Brier, Clavier, Coron, Naccache: Cryptanalysis of RSA Signatures with Fixed-Pattern
 * Padding, 2001), and this is less for 2048 bits: a DigestInfo with SHA-512, the longest in use.
 */
#define SCHEME_RSA_PKCS1_RAW_SIZE_MAX 83

struct scheme {
    uint16_t code;
    const char *name; /* IANA's description */
    enum key_type key_type;
    enum scheme_padding padding; /* for RSA keys; PSS: MGF1 with the same digest, salt as long */
    const char *digest;          /* OpenSSL's name of it; NULL: none (pure and raw schemes) */
    size_t digest_size;          /* bytes; 0 with no digest */
    size_t group_bits;           /* the curve that TLS 1.3 demands: 256, 384, 521; else 0 */
};

/* The scheme with this code point, or NULL. */
const struct scheme *scheme_by_code(uint16_t code) MUST_USE;

/*
 * The scheme for this kind of key, padding (SCHEME_PADDING_NONE for other keys than RSA) and
 * digest (OpenSSL's name, NULL for none), or NULL if there is none.
 */
const struct scheme *scheme_find(enum key_type type, enum scheme_padding padding,
                                 const char *digest) MUST_USE;

#endif
