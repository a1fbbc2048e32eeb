/*
 * Public keys without OpenSSL's d2i_PUBKEY_ex(), which looks through all its decoders for each:
 * a reference would then take longer to load than a key in a file.
 */
#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>
#include <string.h>

#include "provider/provider.h"

/* A SEQUENCE of two values of these types, and nothing after it, or NULL. */
static ASN1_SEQUENCE_ANY *parse_pair(const uint8_t *der, size_t size, int type1, int type2)
{
    const unsigned char *at = der;
    ASN1_SEQUENCE_ANY *pair = d2i_ASN1_SEQUENCE_ANY(NULL, &at, (long)size);
    if (pair != NULL && at == der + size && sk_ASN1_TYPE_num(pair) == 2 &&
        sk_ASN1_TYPE_value(pair, 0)->type == type1 && sk_ASN1_TYPE_value(pair, 1)->type == type2)
        return pair;
    sk_ASN1_TYPE_pop_free(pair, ASN1_TYPE_free);
    return NULL;
}

/* Takes the builder, which may be NULL, and is not used unless it is `complete`. */
static OSSL_PARAM *params_of(OSSL_PARAM_BLD *builder, bool complete)
{
    OSSL_PARAM *params = complete ? OSSL_PARAM_BLD_to_param(builder) : NULL;
    OSSL_PARAM_BLD_free(builder);
    return params;
}

/* RSAPublicKey (RFC 8017 A.1.1) */
static OSSL_PARAM *rsa_params(const X509_ALGOR *algorithm, const ASN1_BIT_STRING *bits)
{
    (void)algorithm;
    ASN1_SEQUENCE_ANY *pair =
        parse_pair(ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits), V_ASN1_INTEGER,
                   V_ASN1_INTEGER);
    if (pair == NULL)
        return NULL;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    BIGNUM *n = ASN1_INTEGER_to_BN(sk_ASN1_TYPE_value(pair, 0)->value.integer, NULL);
    BIGNUM *e = ASN1_INTEGER_to_BN(sk_ASN1_TYPE_value(pair, 1)->value.integer, NULL);
    bool complete = builder != NULL && n != NULL && e != NULL &&
                    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
                    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1;
    OSSL_PARAM *params = params_of(builder, complete);
    BN_free(n);
    BN_free(e);
    sk_ASN1_TYPE_pop_free(pair, ASN1_TYPE_free);
    return params;
}

static bool push_point(OSSL_PARAM_BLD *builder, const ASN1_BIT_STRING *point)
{
    return builder != NULL && OSSL_PARAM_BLD_push_octet_string(
                                  builder, OSSL_PKEY_PARAM_PUB_KEY, ASN1_STRING_get0_data(point),
                                  (size_t)ASN1_STRING_length(point)) == 1;
}

/* RFC 5480 2.1.1 and 2.2; the curve is a named one. */
static OSSL_PARAM *ec_params(const X509_ALGOR *algorithm, const ASN1_BIT_STRING *point)
{
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    const void *group;
    int type;
    X509_ALGOR_get0(NULL, &type, &group, algorithm);
    bool complete = type == V_ASN1_OBJECT && push_point(builder, point) &&
                    OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME,
                                                    OBJ_nid2sn(OBJ_obj2nid(group)), 0) == 1;
    return params_of(builder, complete);
}

/* RFC 8410 4, RFC 9881 4 */
static OSSL_PARAM *pure_params(const X509_ALGOR *algorithm, const ASN1_BIT_STRING *bytes)
{
    (void)algorithm;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    return params_of(builder, push_point(builder, bytes));
}

static OSSL_PARAM *params_for(const X509_ALGOR *algorithm, const ASN1_BIT_STRING *bits,
                              enum key_type *type)
{
    static const struct {
        const char *algorithm; /* in numbers: OpenSSL before 3.5 has no name for all of them */
        OSSL_PARAM *(*params)(const X509_ALGOR *, const ASN1_BIT_STRING *);
    } types[] = {
        [KEY_TYPE_RSA] = {"1.2.840.113549.1.1.1", rsa_params},
        [KEY_TYPE_EC] = {"1.2.840.10045.2.1", ec_params},
        [KEY_TYPE_ED25519] = {"1.3.101.112", pure_params},
        [KEY_TYPE_ML_DSA_44] = {"2.16.840.1.101.3.4.3.17", pure_params},
        [KEY_TYPE_ML_DSA_65] = {"2.16.840.1.101.3.4.3.18", pure_params},
        [KEY_TYPE_ML_DSA_87] = {"2.16.840.1.101.3.4.3.19", pure_params},
    };
    char numbers[32]; /* longer ones are none of them */
    OBJ_obj2txt(numbers, sizeof(numbers), algorithm->algorithm, 1);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        *type = (enum key_type)i;
        if (strcmp(types[i].algorithm, numbers) == 0)
            return types[i].params(algorithm, bits);
    }
    return NULL;
}

OSSL_PARAM *public_key_params(const uint8_t *spki, size_t size, enum key_type *type)
{
    ASN1_SEQUENCE_ANY *pair = parse_pair(spki, size, V_ASN1_SEQUENCE, V_ASN1_BIT_STRING);
    if (pair == NULL)
        return NULL;
    const ASN1_STRING *sequence = sk_ASN1_TYPE_value(pair, 0)->value.sequence;
    const unsigned char *at = ASN1_STRING_get0_data(sequence);
    X509_ALGOR *algorithm = d2i_X509_ALGOR(NULL, &at, ASN1_STRING_length(sequence));
    OSSL_PARAM *params = NULL;
    if (algorithm != NULL)
        params = params_for(algorithm, sk_ASN1_TYPE_value(pair, 1)->value.bit_string, type);
    X509_ALGOR_free(algorithm);
    sk_ASN1_TYPE_pop_free(pair, ASN1_TYPE_free);
    return params;
}

static EVP_PKEY *from_params(struct provider *provider, enum key_type type, int selection,
                             const OSSL_PARAM *params)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(provider->libctx, key_type_name(type), NULL);
    if (context != NULL && EVP_PKEY_fromdata_init(context) == 1 &&
        EVP_PKEY_fromdata(context, &pkey, selection, (OSSL_PARAM *)params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(context);
    return pkey;
}

/* What is in the slot already, or `made` from now on; takes `made`. */
static EVP_PKEY *put_once(pkey_slot *slot, EVP_PKEY *made)
{
    EVP_PKEY *there = NULL;
    if (atomic_compare_exchange_strong(slot, &there, made))
        return made;
    EVP_PKEY_free(made); /* another thread was first */
    return there;
}

/* Which of the provider's groups; GROUP_COUNT: none, Immure does not sign with this curve. */
static size_t find_group(const OSSL_PARAM *params)
{
    static const char *const names[GROUP_COUNT] = {"prime256v1", "secp384r1", "secp521r1"};
    const OSSL_PARAM *name = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME);
    size_t i = name != NULL ? 0 : GROUP_COUNT;
    while (i < GROUP_COUNT && (name->data_size != strlen(names[i]) ||
                               memcmp(name->data, names[i], name->data_size) != 0))
        i++;
    return i;
}

/* Making a curve's group takes OpenSSL longer than all the rest, so keys copy one made before. */
static EVP_PKEY *copy_group(struct provider *provider, pkey_slot *slot, const OSSL_PARAM *params)
{
    const OSSL_PARAM *point = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY);
    EVP_PKEY *group = atomic_load_explicit(slot, memory_order_acquire);
    if (group == NULL)
        group = put_once(slot, from_params(provider, KEY_TYPE_EC, EVP_PKEY_KEY_PARAMETERS, params));
    EVP_PKEY *public = group != NULL && point != NULL ? EVP_PKEY_dup(group) : NULL;
    if (public != NULL &&
        EVP_PKEY_set1_encoded_public_key(public, point->data, point->data_size) == 1)
        return public;
    EVP_PKEY_free(public);
    return NULL;
}

EVP_PKEY *public_key_make(struct provider *provider, enum key_type type, const OSSL_PARAM *params,
                          pkey_slot *slot)
{
    size_t group = type == KEY_TYPE_EC ? find_group(params) : GROUP_COUNT;
    return put_once(slot, group < GROUP_COUNT
                              ? copy_group(provider, &provider->groups[group], params)
                              : from_params(provider, type, EVP_PKEY_PUBLIC_KEY, params));
}
