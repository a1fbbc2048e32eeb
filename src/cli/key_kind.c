#include "cli/key_kind.h"

#include <openssl/obj_mac.h>
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

static const struct key_kind kinds[] = {
    {"p256",
     KEY_TYPE_EC,
     256,
     CKK_EC,
     CKM_EC_KEY_PAIR_GEN,
     "prime256v1",
     {P256_OID},
     {sizeof(P256_OID) - 1}},
    {"p384",
     KEY_TYPE_EC,
     384,
     CKK_EC,
     CKM_EC_KEY_PAIR_GEN,
     "secp384r1",
     {P384_OID},
     {sizeof(P384_OID) - 1}},
    {"p521",
     KEY_TYPE_EC,
     521,
     CKK_EC,
     CKM_EC_KEY_PAIR_GEN,
     "secp521r1",
     {P521_OID},
     {sizeof(P521_OID) - 1}},
    {"rsa2048", KEY_TYPE_RSA, 2048, CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, {NULL}, {0}},
    {"rsa3072", KEY_TYPE_RSA, 3072, CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, {NULL}, {0}},
    {"rsa4096", KEY_TYPE_RSA, 4096, CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, {NULL}, {0}},
    {"ed25519",
     KEY_TYPE_ED25519,
     256,
     CKK_EC_EDWARDS,
     CKM_EC_EDWARDS_KEY_PAIR_GEN,
     "ED25519",
     {ED25519_NAME, ED25519_OID, ED25519_GNU},
     {sizeof(ED25519_NAME) - 1, sizeof(ED25519_OID) - 1, sizeof(ED25519_GNU) - 1}},
};

static const struct {
    enum key_type type;
    unsigned bits; /* 0: any */
    uint16_t scheme;
    int nid;
} signings[] = {
    {KEY_TYPE_EC, 256, 0x0403, NID_ecdsa_with_SHA256},
    {KEY_TYPE_EC, 384, 0x0503, NID_ecdsa_with_SHA384},
    {KEY_TYPE_EC, 521, 0x0603, NID_ecdsa_with_SHA512},
    {KEY_TYPE_RSA, 0, 0x0401, NID_sha256WithRSAEncryption},
    {KEY_TYPE_ED25519, 0, 0x0807, NID_ED25519},
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
    if (kind->type == KEY_TYPE_ED25519)
        return EVP_PKEY_is_a(pkey, "ED25519");
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
    }
}

struct key_signing key_signing_of(enum key_type type, unsigned bits)
{
    for (size_t i = 0; i < ARRAY_SIZE(signings); i++) {
        if (signings[i].type == type && (signings[i].bits == 0 || signings[i].bits == bits))
            return (struct key_signing){scheme_by_code(signings[i].scheme), signings[i].nid};
    }
    return (struct key_signing){NULL, NID_undef};
}
