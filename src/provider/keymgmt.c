/*
 * Key management (provider-keymgmt(7)): keys come from the decoder, or, public only, from an
 * import, which OpenSSL makes to compare a certificate's key with ours. Whatever concerns the
 * public key is answered by the default provider's key inside.
 */
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <string.h>

#include "provider/provider.h"

/* A parameter of our own: the key's name, for access logs (src/nginx). */
#define PARAM_NAME "immure-name"

static OSSL_FUNC_keymgmt_free_fn keymgmt_free;
static OSSL_FUNC_keymgmt_dup_fn keymgmt_dup;
static OSSL_FUNC_keymgmt_load_fn keymgmt_load;
static OSSL_FUNC_keymgmt_has_fn keymgmt_has;
static OSSL_FUNC_keymgmt_match_fn keymgmt_match;
static OSSL_FUNC_keymgmt_validate_fn keymgmt_validate;
static OSSL_FUNC_keymgmt_import_fn keymgmt_import;
static OSSL_FUNC_keymgmt_export_fn keymgmt_export;
static OSSL_FUNC_keymgmt_get_params_fn keymgmt_get_params;
static OSSL_FUNC_keymgmt_import_types_fn rsa_types, ec_types, pure_types;
static OSSL_FUNC_keymgmt_gettable_params_fn rsa_gettable, ec_gettable, pure_gettable;
static OSSL_FUNC_keymgmt_query_operation_name_fn rsa_operation, ec_operation, ed25519_operation,
    ml_dsa_operation;

static void keymgmt_free(void *keydata)
{
    key_free(keydata);
}

static void *keymgmt_dup(const void *keydata, int selection)
{
    (void)selection; /* immutable, so sharing is copying */
    return key_up_ref((struct key *)keydata);
}

/* The decoder passes a struct key_pointer; taking the key empties it. */
static void *keymgmt_load(const void *reference, size_t size)
{
    struct key_pointer *pointer = (struct key_pointer *)reference;
    if (size != sizeof(*pointer))
        return NULL;
    struct key *key = pointer->key;
    pointer->key = NULL;
    return key;
}

static int keymgmt_has(const void *keydata, int selection)
{
    const struct key *key = keydata;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && !key->has_private)
        return 0;
    return (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) == 0 || key->params != NULL;
}

/* Whether `key` has each of `params`, byte for byte. */
static bool has_params(const struct key *key, const OSSL_PARAM *params)
{
    for (; params->key != NULL; params++) {
        const OSSL_PARAM *own = OSSL_PARAM_locate_const(key->params, params->key);
        if (own == NULL || own->data_size != params->data_size ||
            memcmp(own->data, params->data, params->data_size) != 0)
            return false;
    }
    return true;
}

/*
 * The parameters of a reference are all that matters, and OpenSSL writes those of a certificate's
 * key alike: a look at the bytes is then enough, and far quicker than to make a key of them.
 */
static int keymgmt_match(const void *keydata1, const void *keydata2, int selection)
{
    const struct key *key1 = keydata1, *key2 = keydata2;
    if (key1->params == NULL || key2->params == NULL)
        return 0;
    if ((key1->has_private && has_params(key2, key1->params)) ||
        (key2->has_private && has_params(key1, key2->params)))
        return 1;
    EVP_PKEY *public1 = key_public(key1), *public2 = key_public(key2);
    if (public1 == NULL || public2 == NULL)
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0)
        return EVP_PKEY_eq(public1, public2) == 1;
    return EVP_PKEY_parameters_eq(public1, public2) == 1;
}

/* The private half was made and checked by the token; what can be checked here is the public. */
static int keymgmt_validate(const void *keydata, int selection, int check_type)
{
    const struct key *key = keydata;
    (void)selection;
    EVP_PKEY_CTX *context =
        EVP_PKEY_CTX_new_from_pkey(key->provider->libctx, key_public(key), NULL);
    int valid = context != NULL && (check_type == OSSL_KEYMGMT_VALIDATE_QUICK_CHECK
                                        ? EVP_PKEY_public_check_quick(context)
                                        : EVP_PKEY_public_check(context)) == 1;
    EVP_PKEY_CTX_free(context);
    return valid;
}

static int keymgmt_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    struct key *key = keydata;
    if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) == 0 || key->params != NULL ||
        OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PRIV_KEY) != NULL ||
        OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_D) != NULL)
        return 0; /* no error raised: OpenSSL goes on to the key's own provider */

    key->params = OSSL_PARAM_dup(params);
    return key->params != NULL;
}

/* OpenSSL also tries this where it goes on in another way, and then drops the error itself. */
static int keymgmt_export(void *keydata, int selection, OSSL_CALLBACK *callback, void *argument)
{
    const struct key *key = keydata;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && key->has_private) {
        PROVIDER_RAISE(key->provider, REASON_NOT_EXPORTABLE, "key '%s'", key->name);
        return 0;
    }
    EVP_PKEY *public = key_public(key);
    return public != NULL && EVP_PKEY_export(public, selection & ~OSSL_KEYMGMT_SELECT_PRIVATE_KEY,
                                             callback, argument) == 1;
}

static int keymgmt_get_params(void *keydata, OSSL_PARAM params[])
{
    const struct key *key = keydata;
    OSSL_PARAM *name = OSSL_PARAM_locate(params, PARAM_NAME);
    if (name != NULL && (key->name == NULL || !OSSL_PARAM_set_utf8_string(name, key->name)))
        return 0;
    EVP_PKEY *public = key_public(key);
    return public != NULL && EVP_PKEY_get_params(public, params) == 1;
}

static const OSSL_PARAM *rsa_types(int selection)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)selection;
    return types;
}

static const OSSL_PARAM *ec_types(int selection)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)selection;
    return types;
}

static const OSSL_PARAM *pure_types(int selection)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)selection;
    return types;
}

#define COMMON_GETTABLE                                                                            \
    OSSL_PARAM_utf8_string(PARAM_NAME, NULL, 0), OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),       \
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),                                       \
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL)

static const OSSL_PARAM *rsa_gettable(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        COMMON_GETTABLE,
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return gettable;
}

static const OSSL_PARAM *ec_gettable(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        COMMON_GETTABLE,
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_X, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_Y, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return gettable;
}

static const OSSL_PARAM *pure_gettable(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        COMMON_GETTABLE,
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return gettable;
}

static const char *rsa_operation(int operation)
{
    bool is_ours = operation == OSSL_OP_SIGNATURE || operation == OSSL_OP_ASYM_CIPHER;
    return is_ours ? SIGNATURE_NAME_RSA : "RSA";
}

static const char *ec_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? SIGNATURE_NAME_ECDSA : "EC";
}

static const char *ed25519_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? SIGNATURE_NAME_ED25519 : "ED25519";
}

/* NULL: of the key's own name. */
static const char *ml_dsa_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? SIGNATURE_NAME_ML_DSA : NULL;
}

#define KEYMGMT(type, key_type, form, algorithm)                                                   \
    static OSSL_FUNC_keymgmt_new_fn type##_new;                                                    \
    static void *type##_new(void *provctx)                                                         \
    {                                                                                              \
        return key_new(provctx, key_type);                                                         \
    }                                                                                              \
    static const OSSL_DISPATCH type##_keymgmt[] = {                                                \
        {OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))type##_new},                                       \
        {OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))keymgmt_free},                                    \
        {OSSL_FUNC_KEYMGMT_DUP, (void (*)(void))keymgmt_dup},                                      \
        {OSSL_FUNC_KEYMGMT_LOAD, (void (*)(void))keymgmt_load},                                    \
        {OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))keymgmt_has},                                      \
        {OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))keymgmt_match},                                  \
        {OSSL_FUNC_KEYMGMT_VALIDATE, (void (*)(void))keymgmt_validate},                            \
        {OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))keymgmt_import},                                \
        {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))form##_types},                            \
        {OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))keymgmt_export},                                \
        {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))form##_types},                            \
        {OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))keymgmt_get_params},                        \
        {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))form##_gettable},                      \
        {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))algorithm##_operation},           \
        {0, NULL},                                                                                 \
    }

KEYMGMT(rsa, KEY_TYPE_RSA, rsa, rsa);
KEYMGMT(ec, KEY_TYPE_EC, ec, ec);
KEYMGMT(ed25519, KEY_TYPE_ED25519, pure, ed25519);
KEYMGMT(ml_dsa_44, KEY_TYPE_ML_DSA_44, pure, ml_dsa);
KEYMGMT(ml_dsa_65, KEY_TYPE_ML_DSA_65, pure, ml_dsa);
KEYMGMT(ml_dsa_87, KEY_TYPE_ML_DSA_87, pure, ml_dsa);

/* The names and OIDs of the default provider, so that its keys and ours are of one kind. */
const OSSL_ALGORITHM keymgmt_algorithms[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTIES, rsa_keymgmt, "RSA keys in an HSM"},
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", PROPERTIES, ec_keymgmt, "EC keys in an HSM"},
    {"ED25519:1.3.101.112", PROPERTIES, ed25519_keymgmt, "Ed25519 keys in an HSM"},
    {"ML-DSA-44:MLDSA44:2.16.840.1.101.3.4.3.17:id-ml-dsa-44", PROPERTIES, ml_dsa_44_keymgmt,
     "ML-DSA-44 keys in an HSM"},
    {"ML-DSA-65:MLDSA65:2.16.840.1.101.3.4.3.18:id-ml-dsa-65", PROPERTIES, ml_dsa_65_keymgmt,
     "ML-DSA-65 keys in an HSM"},
    {"ML-DSA-87:MLDSA87:2.16.840.1.101.3.4.3.19:id-ml-dsa-87", PROPERTIES, ml_dsa_87_keymgmt,
     "ML-DSA-87 keys in an HSM"},
    {NULL, NULL, NULL, NULL},
};
