/*
 * The kinds of key that Immure makes and imports, and how a key of any kind signs here.
 */
#ifndef IMMURE_CLI_KEY_KIND_H
#define IMMURE_CLI_KEY_KIND_H

#include <openssl/evp.h>

#include "token/token.h"

/* What tokens want as parameters differs for Ed25519. */
#define KEY_KIND_PARAMS_MAX 3

struct key_kind {
    const char *name; /* of --type */
    enum key_type type;
    unsigned bits; /* of RSA and EC keys */
    CK_KEY_TYPE key_type;
    CK_MECHANISM_TYPE generation;
    const char *group;                       /* OpenSSL's name of the curve; else NULL */
    CK_ATTRIBUTE_TYPE params_type;           /* CKA_EC_PARAMS, or CKA_PARAMETER_SET */
    const void *params[KEY_KIND_PARAMS_MAX]; /* its values, to be tried in this order; RSA: none */
    uint8_t params_sizes[KEY_KIND_PARAMS_MAX];
};

/* All names, for messages. */
#define KEY_KIND_NAMES                                                                             \
    "p256, p384, p521, rsa2048, rsa3072, rsa4096, ed25519, mldsa44, mldsa65, mldsa87"

/* NULL if there is none. */
const struct key_kind *key_kind_by_name(const char *name) MUST_USE;
const struct key_kind *key_kind_of_pkey(const EVP_PKEY *pkey) MUST_USE;

/* "EC P-256", "RSA 2048", "Ed25519", "ML-DSA-65". */
#define KEY_TYPE_TEXT_SIZE 24
void key_type_text(enum key_type type, unsigned bits, char text[KEY_TYPE_TEXT_SIZE]);

/* How a key signs certificate requests: SHA-2 as strong as its curve; RSA with PKCS#1 v1.5. */
struct key_signing {
    const struct scheme *scheme;
    const char *algorithm; /* OpenSSL's name of the signature algorithm */
};
struct key_signing key_signing_of(enum key_type type, unsigned bits) MUST_USE;

#endif
