#include "wire/scheme.h"

#include <string.h>

#define RSA_PKCS1 KEY_TYPE_RSA, SCHEME_PADDING_PKCS1
#define RSA_PSS   KEY_TYPE_RSA, SCHEME_PADDING_PSS
#define ECDSA     KEY_TYPE_EC, SCHEME_PADDING_NONE
#define PURE      SCHEME_PADDING_NONE, NULL, 0, 0

static const struct scheme schemes[] = {
    {0x0401, "rsa_pkcs1_sha256", RSA_PKCS1, "SHA256", 32, 0},
    {0x0501, "rsa_pkcs1_sha384", RSA_PKCS1, "SHA384", 48, 0},
    {0x0601, "rsa_pkcs1_sha512", RSA_PKCS1, "SHA512", 64, 0},
    {0x0403, "ecdsa_secp256r1_sha256", ECDSA, "SHA256", 32, 256},
    {0x0503, "ecdsa_secp384r1_sha384", ECDSA, "SHA384", 48, 384},
    {0x0603, "ecdsa_secp521r1_sha512", ECDSA, "SHA512", 64, 521},
    {0x0804, "rsa_pss_rsae_sha256", RSA_PSS, "SHA256", 32, 0},
    {0x0805, "rsa_pss_rsae_sha384", RSA_PSS, "SHA384", 48, 0},
    {0x0806, "rsa_pss_rsae_sha512", RSA_PSS, "SHA512", 64, 0},
    {0x0807, "ed25519", KEY_TYPE_ED25519, PURE},
    /* draft-ietf-tls-mldsa 3; for TLS 1.3 alone */
    {0x0904, "mldsa44", KEY_TYPE_ML_DSA_44, PURE},
    {0x0905, "mldsa65", KEY_TYPE_ML_DSA_65, PURE},
    {0x0906, "mldsa87", KEY_TYPE_ML_DSA_87, PURE},
    {SCHEME_RSA_PKCS1_RAW, "rsa_pkcs1_raw", RSA_PKCS1, NULL, 0, 0},
    {SCHEME_ECDSA_RAW, "ecdsa_raw", ECDSA, NULL, 0, 0},
};

const char *key_type_name(enum key_type type)
{
    static const char *const names[] = {"RSA",       "EC",        "ED25519",
                                        "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"};
    return names[type];
}

bool key_type_is_ml_dsa(enum key_type type)
{
    return type >= KEY_TYPE_ML_DSA_44;
}

bool key_type_is_pure(enum key_type type)
{
    return type == KEY_TYPE_ED25519 || key_type_is_ml_dsa(type);
}

const struct scheme *scheme_by_code(uint16_t code)
{
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        if (schemes[i].code == code)
            return &schemes[i];
    }
    return NULL;
}

static int same_digest(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

const struct scheme *scheme_find(enum key_type type, enum scheme_padding padding,
                                 const char *digest)
{
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        const struct scheme *scheme = &schemes[i];
        if (scheme->key_type == type && scheme->padding == padding &&
            same_digest(scheme->digest, digest))
            return scheme;
    }
    return NULL;
}
