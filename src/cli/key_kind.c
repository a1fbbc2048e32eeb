#include "cli/key_kind.h"

#include <stdio.h>
#include <string.h>

#define P256_OID "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
#define P384_OID "\x06\x05\x2b\x81\x04\x00\x22"
#define P521_OID "\x06\x05\x2b\x81\x04\x00\x23"
/* PKCS#11 3.0 2.3.5 allows the name; SoftHSM knows nothing else. */
#define ED25519_NAME                                                                               \
    "\x13\x0c"                                                                                     \
    "edwards25519"
#define ED25519_OID "\x06\x03\x2b\x65\x70"                         /* RFC 8410 */
#define ED25519_GNU "\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01" /* PKCS#11 3.0's example */

static const CK_ULONG ml_dsa_44 = CKP_ML_DSA_44, ml_dsa_65 = CKP_ML_DSA_65,
                      ml_dsa_87 = CKP_ML_DSA_87;

#define RSA .type = KEY_TYPE_RSA, .key_type = CKK_RSA, .generation = CKM_RSA_PKCS_KEY_PAIR_GEN
#define EC                                                                                         \
    .type = KEY_TYPE_EC, .key_type = CKK_EC, .generation = CKM_EC_KEY_PAIR_GEN,                    \
    .params_type = CKA_EC_PARAMS
#define ED25519                                                                                    \
    .type = KEY_TYPE_ED25519, .key_type = CKK_EC_EDWARDS,                                          \
    .generation = CKM_EC_EDWARDS_KEY_PAIR_GEN, .params_type = CKA_EC_PARAMS
#define ML_DSA                                                                                     \
    .key_type = CKK_ML_DSA, .generation = CKM_ML_DSA_KEY_PAIR_GEN,                                 \
    .params_type = CKA_PARAMETER_SET, .params_sizes = {sizeof(CK_ULONG)}

static const struct key_kind kinds[] = {
    {"p256", EC, .bits = 256, .group = "prime256v1", .params = {P256_OID},
     .params_sizes = {sizeof(P256_OID) - 1}},
    {"p384", EC, .bits = 384, .group = "secp384r1", .params = {P384_OID},
     .params_sizes = {sizeof(P384_OID) - 1}},
    {"p521", EC, .bits = 521, .group = "secp521r1", .params = {P521_OID},
     .params_sizes = {sizeof(P521_OID) - 1}},
    {"rsa2048", RSA, .bits = 2048},
    {"rsa3072", RSA, .bits = 3072},
    {"rsa4096", RSA, .bits = 4096},
    {"ed25519", ED25519, .params = {ED25519_NAME, ED25519_OID, ED25519_GNU},
     .params_sizes = {sizeof(ED25519_NAME) - 1, sizeof(ED25519_OID) - 1, sizeof(ED25519_GNU) - 1}},
    {"mldsa44", ML_DSA, .type = KEY_TYPE_ML_DSA_44, .params = {&ml_dsa_44}},
    {"mldsa65", ML_DSA, .type = KEY_TYPE_ML_DSA_65, .params = {&ml_dsa_65}},
    {"mldsa87", ML_DSA, .type = KEY_TYPE_ML_DSA_87, .params = {&ml_dsa_87}},
};

/* The algorithms by OpenSSL's names; it has those of ML-DSA from 3.5 on. */
static const struct {
    enum key_type type;
    unsigned bits; /* 0: any */
    uint16_t scheme;
    const char *algorithm;
} signings[] = {
    {KEY_TYPE_EC, 256, 0x0403, "ecdsa-with-SHA256"},
    {KEY_TYPE_EC, 384, 0x0503, "ecdsa-with-SHA384"},
    {KEY_TYPE_EC, 521, 0x0603, "ecdsa-with-SHA512"},
    {KEY_TYPE_RSA, 0, 0x0401, "RSA-SHA256"},
    {KEY_TYPE_ED25519, 0, 0x0807, "ED25519"},
    {KEY_TYPE_ML_DSA_44, 0, 0x0904, "ML-DSA-44"},
    {KEY_TYPE_ML_DSA_65, 0, 0x0905, "ML-DSA-65"},
    {KEY_TYPE_ML_DSA_87, 0, 0x0906, "ML-DSA-87"},
};

const struct key_kind *key_kind_by_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    }
    return NULL;
}

static bool pkey_is_of(const EVP_PKEY *pkey, const struct key_kind *kind)
{
    char group[32];
    size_t length;

    if (kind->type == KEY_TYPE_RSA) /* "RSA" alone: a key for PSS only has a type of its own */
        return EVP_PKEY_is_a(pkey, "RSA") && EVP_PKEY_get_bits(pkey) == (int)kind->bits;
    if (key_type_is_pure(kind->type))
        return EVP_PKEY_is_a(pkey, key_type_name(kind->type));
    return EVP_PKEY_is_a(pkey, "EC") &&
           EVP_PKEY_get_group_name(pkey, group, sizeof(group), &length) == 1 &&
           strcmp(group, kind->group) == 0;
}

const struct key_kind *key_kind_of_pkey(const EVP_PKEY *pkey)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (pkey_is_of(pkey, &kinds[i]))
            return &kinds[i];
    }
    return NULL;
}

void key_type_text(enum key_type type, unsigned bits, char text[KEY_TYPE_TEXT_SIZE])
{
    switch (type) {
    case KEY_TYPE_RSA:
        snprintf(text, KEY_TYPE_TEXT_SIZE, "RSA %u", bits);
        break;
    case KEY_TYPE_EC:
        snprintf(text, KEY_TYPE_TEXT_SIZE, "EC P-%u", bits);
        break;
    case KEY_TYPE_ED25519:
        snprintf(text, KEY_TYPE_TEXT_SIZE, "Ed25519");
        break;
    case KEY_TYPE_ML_DSA_44:
    case KEY_TYPE_ML_DSA_65:
    case KEY_TYPE_ML_DSA_87:
        snprintf(text, KEY_TYPE_TEXT_SIZE, "%s", key_type_name(type));
        break;
    }
}

struct key_signing key_signing_of(enum key_type type, unsigned bits)
{
    for (size_t i = 0; i < ARRAY_SIZE(signings); i++) {
        if (signings[i].type == type && (signings[i].bits == 0 || signings[i].bits == bits))
            return (struct key_signing){scheme_by_code(signings[i].scheme), signings[i].algorithm};
    }
    return (struct key_signing){NULL, NULL};
}
