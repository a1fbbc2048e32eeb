/*
 * Asymmetric encryption (provider-asym_cipher(7)) with RSA keys: immured decrypts PKCS#1 v1.5,
 * and for libssl the premaster secret of TLS 1.2's RSA key exchange; the default provider encrypts.
 */
#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <string.h>

#include "provider/provider.h"

/* RFC 5246 7.4.7.1 */
#define PREMASTER_SIZE 48

/* OpenSSL 3.2's; what it switches off would tell right padding from wrong. */
#define PARAM_IMPLICIT_REJECTION "implicit-rejection"

static OSSL_FUNC_asym_cipher_newctx_fn decryption_newctx;
static OSSL_FUNC_asym_cipher_freectx_fn decryption_freectx;
static OSSL_FUNC_asym_cipher_dupctx_fn decryption_dupctx;
static OSSL_FUNC_asym_cipher_decrypt_init_fn decryption_decrypt_init;
static OSSL_FUNC_asym_cipher_decrypt_fn decryption_decrypt;
static OSSL_FUNC_asym_cipher_encrypt_init_fn decryption_encrypt_init;
static OSSL_FUNC_asym_cipher_encrypt_fn decryption_encrypt;
static OSSL_FUNC_asym_cipher_get_ctx_params_fn decryption_get;
static OSSL_FUNC_asym_cipher_gettable_ctx_params_fn decryption_gettable;
static OSSL_FUNC_asym_cipher_set_ctx_params_fn decryption_set;
static OSSL_FUNC_asym_cipher_settable_ctx_params_fn decryption_settable;

struct decryption {
    struct provider *provider;
    struct key *key;
    int padding;              /* RSA_PKCS1_PADDING or RSA_PKCS1_WITH_TLS_PADDING */
    unsigned client_version;  /* for the latter; 0: not given yet */
    EVP_PKEY_CTX *encryption; /* the default provider's; NULL: this one decrypts */
};

static void *decryption_newctx(void *provctx)
{
    struct decryption *decryption = OPENSSL_zalloc(sizeof(*decryption));
    if (decryption != NULL)
        decryption->provider = provctx;
    return decryption;
}

static void decryption_freectx(void *context)
{
    struct decryption *decryption = context;
    if (decryption == NULL)
        return;
    EVP_PKEY_CTX_free(decryption->encryption);
    key_free(decryption->key);
    OPENSSL_free(decryption);
}

static void *decryption_dupctx(void *context)
{
    const struct decryption *from = context;
    struct decryption *to = OPENSSL_memdup(from, sizeof(*from));
    if (to == NULL)
        return NULL;
    if (to->key != NULL)
        key_up_ref(to->key);
    if (from->encryption == NULL)
        return to;
    to->encryption = EVP_PKEY_CTX_dup(from->encryption);
    if (to->encryption != NULL)
        return to;
    decryption_freectx(to);
    return NULL;
}

static bool take_key(struct decryption *decryption, void *keydata)
{
    EVP_PKEY_CTX_free(decryption->encryption);
    decryption->encryption = NULL;
    if (keydata != NULL) {
        key_free(decryption->key);
        decryption->key = key_up_ref(keydata);
    }
    return decryption->key != NULL && key_public(decryption->key) != NULL;
}

/* --- Decrypting ----------------------------------------------------------------------------- */

static int decryption_decrypt_init(void *context, void *keydata, const OSSL_PARAM params[])
{
    struct decryption *decryption = context;
    decryption->padding = RSA_PKCS1_PADDING;
    decryption->client_version = 0;
    if (!take_key(decryption, keydata) || !decryption->key->has_private) {
        PROVIDER_RAISE(decryption->provider, REASON_NO_PRIVATE_KEY, "cannot decrypt");
        return 0;
    }
    return decryption_set(decryption, params);
}

/* RFC 8017 7.2.2 step 1 and 5.1.2: what is no ciphertext for anybody need not go to immured. */
static bool is_ciphertext(const struct decryption *decryption, const uint8_t *bytes, size_t size)
{
    BIGNUM *modulus = NULL, *number = BN_bin2bn(bytes, (int)size, NULL);
    bool done =
        number != NULL &&
        EVP_PKEY_get_bn_param(key_public(decryption->key), OSSL_PKEY_PARAM_RSA_N, &modulus) == 1 &&
        BN_cmp(number, modulus) < 0;
    BN_free(number);
    BN_free(modulus);
    return done;
}

/* A shorter ciphertext has lost zeros in front, which OpenSSL forgives. */
static int decrypt(const struct decryption *decryption, const uint8_t *ciphertext, size_t size,
                   unsigned char *output, size_t *output_size)
{
    uint8_t payload[sizeof(uint16_t) + RSA_BLOCK_SIZE_MAX] = {
        (uint8_t)(decryption->client_version >> 8), (uint8_t)decryption->client_version};
    size_t modulus_size = (size_t)EVP_PKEY_get_size(key_public(decryption->key));
    uint8_t *whole = payload + sizeof(uint16_t);
    if (size > modulus_size || modulus_size > RSA_BLOCK_SIZE_MAX ||
        !is_ciphertext(decryption, ciphertext, size)) {
        PROVIDER_RAISE(decryption->provider, REASON_INPUT_SIZE,
                       "%zu bytes are no ciphertext for key '%s'", size, decryption->key->name);
        return 0;
    }
    memcpy(whole + modulus_size - size, ciphertext, size);
    if (decryption->padding == RSA_PKCS1_PADDING)
        return key_call(decryption->key, WIRE_RSA_DECRYPT, 0, whole, modulus_size, output,
                        output_size);
    return key_call(decryption->key, WIRE_TLS12_RSA_PREMASTER, 0, payload,
                    sizeof(uint16_t) + modulus_size, output, output_size) &&
           *output_size == PREMASTER_SIZE;
}

static int decryption_decrypt(void *context, unsigned char *output, size_t *output_size,
                              size_t capacity, const unsigned char *input, size_t size)
{
    struct decryption *decryption = context;
    bool is_tls = decryption->padding == RSA_PKCS1_WITH_TLS_PADDING;
    if (output == NULL) { /* the size is asked for */
        *output_size =
            is_tls ? PREMASTER_SIZE : (size_t)EVP_PKEY_get_size(key_public(decryption->key));
        return 1;
    }
    if (is_tls && decryption->client_version == 0) {
        PROVIDER_RAISE(decryption->provider, REASON_BAD_PARAMETER, "no TLS client version is set");
        return 0;
    }
    *output_size = capacity;
    return decrypt(decryption, input, size, output, output_size);
}

/* --- Encrypting ----------------------------------------------------------------------------- */

static int decryption_encrypt_init(void *context, void *keydata, const OSSL_PARAM params[])
{
    struct decryption *decryption = context;
    if (!take_key(decryption, keydata))
        return 0;
    decryption->encryption =
        EVP_PKEY_CTX_new_from_pkey(decryption->provider->libctx, key_public(decryption->key), NULL);
    return decryption->encryption != NULL &&
           EVP_PKEY_encrypt_init_ex(decryption->encryption, params) == 1;
}

static int decryption_encrypt(void *context, unsigned char *output, size_t *output_size,
                              size_t capacity, const unsigned char *input, size_t size)
{
    const struct decryption *decryption = context;
    *output_size = capacity;
    return EVP_PKEY_encrypt(decryption->encryption, output, output_size, input, size);
}

/* --- Parameters ----------------------------------------------------------------------------- */

static int set_padding(struct decryption *decryption, const OSSL_PARAM *param)
{
    int padding = 0;
    if (param->data_type != OSSL_PARAM_UTF8_STRING)
        (void)OSSL_PARAM_get_int(param, &padding);
    else if (strcmp(param->data, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0)
        padding = RSA_PKCS1_PADDING;
    if (padding == RSA_PKCS1_PADDING || padding == RSA_PKCS1_WITH_TLS_PADDING) {
        decryption->padding = padding;
        return 1;
    }
    PROVIDER_RAISE(decryption->provider, REASON_UNSUPPORTED,
                   "RSA padding mode; only pkcs1 can be decrypted");
    return 0;
}

static int set_client_version(struct decryption *decryption, const OSSL_PARAM *param)
{
    return OSSL_PARAM_get_uint(param, &decryption->client_version) == 1 &&
           decryption->client_version <= UINT16_MAX;
}

static int set_implicit_rejection(struct decryption *decryption, const OSSL_PARAM *param)
{
    unsigned wanted = 0;
    if (OSSL_PARAM_get_uint(param, &wanted) == 1 && wanted != 0)
        return 1;
    PROVIDER_RAISE(decryption->provider, REASON_UNSUPPORTED,
                   "decrypting without implicit rejection");
    return 0;
}

/*
 * OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION is passed over: it would take premaster secrets of
 * clients that break RFC 5246 7.4.7.1 (SSL_OP_TLS_ROLLBACK_BUG).
 */
static int decryption_set(void *context, const OSSL_PARAM params[])
{
    static const struct {
        const char *name;
        int (*set)(struct decryption *, const OSSL_PARAM *);
    } setters[] = {
        {OSSL_ASYM_CIPHER_PARAM_PAD_MODE, set_padding},
        {OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, set_client_version},
        {PARAM_IMPLICIT_REJECTION, set_implicit_rejection},
    };
    struct decryption *decryption = context;
    if (params == NULL)
        return 1;
    if (decryption->encryption != NULL)
        return EVP_PKEY_CTX_set_params(decryption->encryption, params);
    for (size_t i = 0; i < ARRAY_SIZE(setters); i++) {
        const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, setters[i].name);
        if (param != NULL && !setters[i].set(decryption, param))
            return 0;
    }
    return 1;
}

static const OSSL_PARAM *decryption_settable(void *context, void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_uint(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, NULL),
        OSSL_PARAM_uint(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION, NULL),
        OSSL_PARAM_uint(PARAM_IMPLICIT_REJECTION, NULL),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)context;
    (void)provctx;
    return settable;
}

static int decryption_get(void *context, OSSL_PARAM params[])
{
    const struct decryption *decryption = context;
    if (decryption->encryption != NULL)
        return EVP_PKEY_CTX_get_params(decryption->encryption, params);
    OSSL_PARAM *param = OSSL_PARAM_locate(params, OSSL_ASYM_CIPHER_PARAM_PAD_MODE);
    return param == NULL || param->data_type != OSSL_PARAM_INTEGER ||
           OSSL_PARAM_set_int(param, decryption->padding);
}

static const OSSL_PARAM *decryption_gettable(void *context, void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_int(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, NULL),
        OSSL_PARAM_END,
    };
    (void)context;
    (void)provctx;
    return gettable;
}

static const OSSL_DISPATCH decryption_functions[] = {
    {OSSL_FUNC_ASYM_CIPHER_NEWCTX, (void (*)(void))decryption_newctx},
    {OSSL_FUNC_ASYM_CIPHER_FREECTX, (void (*)(void))decryption_freectx},
    {OSSL_FUNC_ASYM_CIPHER_DUPCTX, (void (*)(void))decryption_dupctx},
    {OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT, (void (*)(void))decryption_decrypt_init},
    {OSSL_FUNC_ASYM_CIPHER_DECRYPT, (void (*)(void))decryption_decrypt},
    {OSSL_FUNC_ASYM_CIPHER_ENCRYPT_INIT, (void (*)(void))decryption_encrypt_init},
    {OSSL_FUNC_ASYM_CIPHER_ENCRYPT, (void (*)(void))decryption_encrypt},
    {OSSL_FUNC_ASYM_CIPHER_GET_CTX_PARAMS, (void (*)(void))decryption_get},
    {OSSL_FUNC_ASYM_CIPHER_GETTABLE_CTX_PARAMS, (void (*)(void))decryption_gettable},
    {OSSL_FUNC_ASYM_CIPHER_SET_CTX_PARAMS, (void (*)(void))decryption_set},
    {OSSL_FUNC_ASYM_CIPHER_SETTABLE_CTX_PARAMS, (void (*)(void))decryption_settable},
    {0, NULL},
};

const OSSL_ALGORITHM decryption_algorithms[] = {
    {SIGNATURE_NAME_RSA, PROPERTIES, decryption_functions, "RSA decryption by an HSM"},
    {NULL, NULL, NULL, NULL},
};
