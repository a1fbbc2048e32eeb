#include "token/public_key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>
#include <string.h>

/* Takes the builder, which may be NULL, and is not used unless it is `complete`. */
static EVP_PKEY *public_key_from(const char *type, OSSL_PARAM_BLD *builder, bool complete)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *parameters = complete ? OSSL_PARAM_BLD_to_param(builder) : NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (context != NULL && parameters != NULL && EVP_PKEY_fromdata_init(context) == 1 &&
        EVP_PKEY_fromdata(context, &pkey, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(builder);
    return pkey;
}

static EVP_PKEY *rsa_pkey(const BIGNUM *modulus, const BIGNUM *exponent)
{
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    bool complete = builder != NULL &&
                    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
                    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent) == 1;
    return public_key_from("RSA", builder, complete);
}

static EVP_PKEY *ec_pkey(const struct group *group, const uint8_t *point)
{
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    bool complete =
        builder != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, group->name, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point,
                                         group->point_size) == 1;
    return public_key_from("EC", builder, complete);
}

/* Takes pkey, which may be NULL. */
static bool write_spki(EVP_PKEY *pkey, struct public_key *key)
{
    unsigned char *der = NULL;
    int size = pkey == NULL ? -1 : i2d_PUBKEY(pkey, &der);
    bool fits = size > 0 && (size_t)size <= sizeof(key->spki);
    if (fits) {
        memcpy(key->spki, der, (size_t)size);
        key->spki_size = (size_t)size;
    }
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
    return fits;
}

bool public_key_of_rsa(const uint8_t *modulus, size_t modulus_size, const uint8_t *exponent,
                       size_t exponent_size, struct public_key *key)
{
    /* One more byte: some devices put a zero before the modulus. */
    if (modulus_size > RSA_BITS_MAX / 8 + 1 || exponent_size > RSA_EXPONENT_SIZE_MAX)
        return false;

    ERR_set_mark();
    BIGNUM *n = BN_bin2bn(modulus, (int)modulus_size, NULL);
    BIGNUM *e = BN_bin2bn(exponent, (int)exponent_size, NULL);
    int bits = n == NULL ? 0 : BN_num_bits(n);
    *key = (struct public_key){.type = KEY_TYPE_RSA, .bits = (unsigned)bits};
    bool done = e != NULL && bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX && BN_is_odd(n) &&
                BN_is_odd(e) && !BN_is_one(e) && write_spki(rsa_pkey(n, e), key);
    BN_free(n);
    BN_free(e);
    ERR_pop_to_mark();
    return done;
}

/* What stands before a key's bytes in a SubjectPublicKeyInfo: RFC 8410 4 and 10.1, RFC 9881 4. */
#define ML_DSA_SPKI_START_SIZE 22
static const struct bytes_type {
    enum key_type type;
    size_t size, start_size;
    uint8_t start[ML_DSA_SPKI_START_SIZE];
} bytes_types[] = {
    {KEY_TYPE_ED25519,
     32,
     12,
     {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}},
    {KEY_TYPE_ML_DSA_44, 1312, ML_DSA_SPKI_START_SIZE, {0x30, 0x82, 0x05, 0x32, 0x30, 0x0b,
                                                        0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                                        0x65, 0x03, 0x04, 0x03, 0x11, 0x03,
                                                        0x82, 0x05, 0x21, 0x00}},
    {KEY_TYPE_ML_DSA_65, 1952, ML_DSA_SPKI_START_SIZE, {0x30, 0x82, 0x07, 0xb2, 0x30, 0x0b,
                                                        0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                                        0x65, 0x03, 0x04, 0x03, 0x12, 0x03,
                                                        0x82, 0x07, 0xa1, 0x00}},
    {KEY_TYPE_ML_DSA_87, 2592, ML_DSA_SPKI_START_SIZE, {0x30, 0x82, 0x0a, 0x32, 0x30, 0x0b,
                                                        0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                                        0x65, 0x03, 0x04, 0x03, 0x13, 0x03,
                                                        0x82, 0x0a, 0x21, 0x00}},
};

bool public_key_of_bytes(const uint8_t *bytes, size_t size, struct public_key *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(bytes_types); i++) {
        const struct bytes_type *type = &bytes_types[i];
        if (type->size != size)
            continue;
        key->type = type->type;
        key->bits = (unsigned)size * 8;
        key->spki_size = type->start_size + size;
        memcpy(key->spki, type->start, type->start_size);
        memcpy(key->spki + type->start_size, bytes, size);
        return true;
    }
    return false;
}

/* X9.62 4.3.6. OpenSSL reads the hybrid form as well, and writes it in this one. */
#define POINT_UNCOMPRESSED 0x04

bool public_key_of_point(const struct group *group, const uint8_t *point, struct public_key *key)
{
    if (group->type == KEY_TYPE_ED25519)
        return public_key_of_bytes(point, group->point_size, key);
    if (point[0] != POINT_UNCOMPRESSED)
        return false;
    ERR_set_mark();
    *key = (struct public_key){.type = group->type, .bits = group->bits};
    bool done = write_spki(ec_pkey(group, point), key);
    ERR_pop_to_mark();
    return done;
}

static bool rsa_value(const EVP_PKEY *pkey, uint8_t *value, size_t *size)
{
    BIGNUM *modulus = NULL;
    if (EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &modulus) != 1)
        return false;
    *size = (size_t)BN_num_bytes(modulus);
    bool fits = *size > 0 && *size <= PUBLIC_VALUE_SIZE_MAX && BN_bn2bin(modulus, value) > 0;
    BN_free(modulus);
    return fits;
}

static bool read_value(const EVP_PKEY *pkey, enum key_type *type, uint8_t *value, size_t *size)
{
    if (EVP_PKEY_is_a(pkey, "RSA")) {
        *type = KEY_TYPE_RSA;
        return rsa_value(pkey, value, size);
    }
    *type = KEY_TYPE_EC;
    return EVP_PKEY_is_a(pkey, "EC") &&
           EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, value,
                                           PUBLIC_VALUE_SIZE_MAX, size) == 1;
}

static bool bytes_value(const uint8_t *spki, size_t spki_size, enum key_type *type, uint8_t *value,
                        size_t *size)
{
    for (size_t i = 0; i < ARRAY_SIZE(bytes_types); i++) {
        const struct bytes_type *row = &bytes_types[i];
        if (spki_size != row->start_size + row->size ||
            memcmp(spki, row->start, row->start_size) != 0)
            continue;
        *type = row->type;
        *size = row->size;
        memcpy(value, spki + row->start_size, row->size);
        return true;
    }
    return false;
}

bool public_key_value(const uint8_t *spki, size_t spki_size, enum key_type *type,
                      uint8_t value[PUBLIC_VALUE_SIZE_MAX], size_t *value_size)
{
    if (spki_size > SPKI_SIZE_MAX)
        return false;
    if (bytes_value(spki, spki_size, type, value, value_size))
        return true;
    ERR_set_mark();
    const unsigned char *at = spki;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)spki_size);
    bool done = pkey != NULL && read_value(pkey, type, value, value_size);
    EVP_PKEY_free(pkey);
    ERR_pop_to_mark();
    return done;
}
