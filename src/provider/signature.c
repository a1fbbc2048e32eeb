/*
 * Signature (provider-signature(7)). The message goes to immured whole whenever OpenSSL gives it
 * to us whole and it fits a datagram, as libssl's do; else its digest.
 */
#include "provider/signature.h"

#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

static OSSL_FUNC_signature_newctx_fn signature_newctx;
static OSSL_FUNC_signature_freectx_fn signature_freectx;
static OSSL_FUNC_signature_dupctx_fn signature_dupctx;
static OSSL_FUNC_signature_sign_init_fn signature_sign_init;
static OSSL_FUNC_signature_sign_fn signature_sign;
static OSSL_FUNC_signature_digest_sign_init_fn signature_digest_sign_init;
static OSSL_FUNC_signature_digest_sign_update_fn signature_digest_sign_update;
static OSSL_FUNC_signature_digest_sign_final_fn signature_digest_sign_final;
static OSSL_FUNC_signature_digest_sign_fn signature_digest_sign;
static OSSL_FUNC_signature_get_ctx_params_fn signature_get;
static OSSL_FUNC_signature_gettable_ctx_params_fn signature_gettable;
static OSSL_FUNC_signature_set_ctx_params_fn signature_set;
static OSSL_FUNC_signature_settable_ctx_params_fn signature_settable;

#define SALT_LENGTH_REFUSED "PSS salt length; it is always the digest's (rsa_pss_saltlen:digest)"
#define MGF1_DIGEST_REFUSED "MGF1 digest; it is always the message's"

/* OpenSSL's other names of the digests in wire/scheme.h. */
static const char *const digest_names[][3] = {
    {"SHA256", "SHA2-256", "SHA-256"},
    {"SHA384", "SHA2-384", "SHA-384"},
    {"SHA512", "SHA2-512", "SHA-512"},
};

static const char *digest_of_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(digest_names); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(digest_names[i]); j++) {
            if (OPENSSL_strcasecmp(digest_names[i][j], name) == 0)
                return digest_names[i][0];
        }
    }
    return NULL;
}

static void *signature_newctx(void *provctx, const char *properties)
{
    (void)properties; /* there is one immured */
    struct signature *signature = OPENSSL_zalloc(sizeof(*signature));
    if (signature != NULL)
        signature->provider = provctx;
    return signature;
}

static void forget_message(struct signature *signature)
{
    OPENSSL_clear_free(signature->message, signature->message_size);
    EVP_MD_CTX_free(signature->stream);
    signature->message = NULL;
    signature->message_size = 0;
    signature->stream = NULL;
}

static void signature_freectx(void *context)
{
    struct signature *signature = context;
    if (signature == NULL)
        return;
    forget_message(signature);
    verification_clear(signature);
    key_free(signature->key);
    OPENSSL_free(signature);
}

static void *signature_dupctx(void *context)
{
    const struct signature *from = context;
    struct signature *to = OPENSSL_memdup(from, sizeof(*from));
    if (to == NULL)
        return NULL;
    if (to->key != NULL)
        key_up_ref(to->key);
    to->message = NULL;
    to->stream = NULL;
    bool done = verification_dup(from, to);
    if (done && from->message != NULL) {
        to->message = OPENSSL_memdup(from->message, from->message_size);
        done = to->message != NULL;
    }
    if (done && from->stream != NULL) {
        to->stream = EVP_MD_CTX_new();
        done = to->stream != NULL && EVP_MD_CTX_copy_ex(to->stream, from->stream) == 1;
    }
    if (done)
        return to;
    signature_freectx(to);
    return NULL;
}

static int set_digest(struct signature *signature, const char *name)
{
    if (signature->key != NULL && key_type_is_pure(signature->key->type)) {
        if (name[0] == '\0')
            return 1;
        PROVIDER_RAISE(signature->provider, REASON_UNSUPPORTED,
                       "%s takes no digest; '%s' was given", key_type_name(signature->key->type),
                       name);
        return 0;
    }
    signature->digest = digest_of_name(name);
    if (signature->digest == NULL)
        PROVIDER_RAISE(signature->provider, REASON_UNSUPPORTED,
                       "digest '%s'; use SHA256, SHA384 or SHA512", name);
    return signature->digest != NULL;
}

/* Begins to sign. `digest` may be NULL: none, or the one of an earlier init. */
static int begin(struct signature *signature, struct key *key, const char *digest,
                 const OSSL_PARAM params[])
{
    forget_message(signature);
    verification_clear(signature);
    if (key != NULL) {
        key_free(signature->key);
        signature->key = key_up_ref(key);
        signature->padding = RSA_PKCS1_PADDING;
        signature->salt_length = RSA_PSS_SALTLEN_DIGEST;
        signature->mgf1_digest = NULL;
    }
    if (signature->key == NULL || !signature->key->has_private) {
        PROVIDER_RAISE(signature->provider, REASON_NO_PRIVATE_KEY, "cannot sign");
        return 0;
    }
    if (digest != NULL && !set_digest(signature, digest))
        return 0;
    return params == NULL || signature_set(signature, params);
}

static int signature_sign_init(void *context, void *keydata, const OSSL_PARAM params[])
{
    struct signature *signature = context;
    signature->digest = NULL;
    return begin(signature, keydata, NULL, params);
}

static int signature_digest_sign_init(void *context, const char *digest, void *keydata,
                                      const OSSL_PARAM params[])
{
    return begin(context, keydata, digest, params);
}

/* PSS has one salt length and one MGF1 digest for each digest, as in TLS (RFC 8446 4.2.3). */
static bool pss_fits(const struct signature *signature, const struct scheme *scheme)
{
    int length = signature->salt_length;
    if (length >= 0 && (size_t)length != scheme->digest_size) {
        PROVIDER_RAISE(signature->provider, REASON_UNSUPPORTED, SALT_LENGTH_REFUSED);
        return false;
    }
    if (signature->mgf1_digest != NULL && signature->mgf1_digest != signature->digest) {
        PROVIDER_RAISE(signature->provider, REASON_UNSUPPORTED, MGF1_DIGEST_REFUSED);
        return false;
    }
    return true;
}

/* The scheme for what was set, or NULL and an error. */
static const struct scheme *scheme_of(const struct signature *signature)
{
    enum scheme_padding padding = SCHEME_PADDING_NONE;
    if (signature->key->type == KEY_TYPE_RSA)
        padding =
            signature->padding == RSA_PKCS1_PSS_PADDING ? SCHEME_PADDING_PSS : SCHEME_PADDING_PKCS1;
    const struct scheme *scheme = scheme_find(signature->key->type, padding, signature->digest);
    if (scheme == NULL)
        PROVIDER_RAISE(signature->provider, REASON_UNSUPPORTED,
                       "no signature scheme for a %s key with digest %s%s",
                       key_type_name(signature->key->type),
                       signature->digest != NULL ? signature->digest : "none",
                       padding == SCHEME_PADDING_PSS ? " and PSS padding" : "");
    else if (padding == SCHEME_PADDING_PSS && !pss_fits(signature, scheme))
        return NULL;
    return scheme;
}

/* OpenSSL asks for the size with `bytes` NULL first. */
static int finish(struct signature *signature, enum wire_operation operation, const uint8_t *input,
                  size_t input_size, unsigned char *bytes, size_t *size, size_t capacity)
{
    const struct scheme *scheme = scheme_of(signature);
    if (scheme == NULL)
        return 0;
    if (operation == WIRE_SIGN_DIGEST && scheme->digest != NULL &&
        input_size != scheme->digest_size) {
        PROVIDER_RAISE(signature->provider, REASON_INPUT_SIZE,
                       "%zu bytes, where a %s digest has %zu", input_size, scheme->digest,
                       scheme->digest_size);
        return 0;
    }
    *size = capacity;
    return key_call(signature->key, operation, scheme->code, input, input_size, bytes, size);
}

static bool size_is_asked(const struct signature *signature, const unsigned char *bytes,
                          size_t *size)
{
    if (bytes == NULL)
        *size = (size_t)EVP_PKEY_get_size(key_public(signature->key));
    return bytes == NULL;
}

static int signature_sign(void *context, unsigned char *bytes, size_t *size, size_t capacity,
                          const unsigned char *digest, size_t digest_size)
{
    struct signature *signature = context;
    if (size_is_asked(signature, bytes, size))
        return 1;
    return finish(signature, WIRE_SIGN_DIGEST, digest, digest_size, bytes, size, capacity);
}

static int start_stream(struct signature *signature)
{
    if (signature->digest == NULL) {
        PROVIDER_RAISE(signature->provider, REASON_INPUT_SIZE,
                       "a message for %s must be given whole, of at most %d bytes",
                       key_type_name(signature->key->type), WIRE_PAYLOAD_SIZE_MAX);
        return 0;
    }
    EVP_MD *digest = EVP_MD_fetch(signature->provider->libctx, signature->digest, NULL);
    signature->stream = EVP_MD_CTX_new();
    int done =
        digest != NULL && signature->stream != NULL &&
        EVP_DigestInit_ex2(signature->stream, digest, NULL) == 1 &&
        EVP_DigestUpdate(signature->stream, signature->message, signature->message_size) == 1;
    EVP_MD_free(digest);
    return done;
}

static int signature_digest_sign_update(void *context, const unsigned char *bytes, size_t size)
{
    struct signature *signature = context;
    if (size == 0)
        return 1;
    if (signature->stream == NULL && size <= WIRE_PAYLOAD_SIZE_MAX - signature->message_size) {
        uint8_t *message = OPENSSL_clear_realloc(signature->message, signature->message_size,
                                                 signature->message_size + size);
        if (message == NULL)
            return 0;
        memcpy(message + signature->message_size, bytes, size);
        signature->message = message;
        signature->message_size += size;
        return 1;
    }
    if (signature->stream == NULL && !start_stream(signature))
        return 0;
    return EVP_DigestUpdate(signature->stream, bytes, size);
}

static int signature_digest_sign_final(void *context, unsigned char *bytes, size_t *size,
                                       size_t capacity)
{
    struct signature *signature = context;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_size = 0;

    if (size_is_asked(signature, bytes, size))
        return 1;
    if (signature->stream == NULL)
        return finish(signature, WIRE_SIGN, signature->message, signature->message_size, bytes,
                      size, capacity);
    return EVP_DigestFinal_ex(signature->stream, digest, &digest_size) == 1 &&
           finish(signature, WIRE_SIGN_DIGEST, digest, digest_size, bytes, size, capacity);
}

static int signature_digest_sign(void *context, unsigned char *bytes, size_t *size, size_t capacity,
                                 const unsigned char *message, size_t message_size)
{
    struct signature *signature = context;
    if (size_is_asked(signature, bytes, size))
        return 1;
    if (message_size <= WIRE_PAYLOAD_SIZE_MAX)
        return finish(signature, WIRE_SIGN, message, message_size, bytes, size, capacity);
    return signature_digest_sign_update(context, message, message_size) == 1 &&
           signature_digest_sign_final(context, bytes, size, capacity) == 1;
}

/* --- Parameters ----------------------------------------------------------------------------- */

struct option {
    const char *text;
    int number;
};

static const struct option paddings[] = {
    {OSSL_PKEY_RSA_PAD_MODE_PKCSV15, RSA_PKCS1_PADDING},
    {OSSL_PKEY_RSA_PAD_MODE_PSS, RSA_PKCS1_PSS_PADDING},
};

/* "auto" lets the signer choose. Not "max": whoever says it wants another length. */
static const struct option salt_lengths[] = {
    {OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST, RSA_PSS_SALTLEN_DIGEST},
    {OSSL_PKEY_RSA_PSS_SALT_LEN_AUTO, RSA_PSS_SALTLEN_AUTO},
    {"auto-digestmax", RSA_PSS_SALTLEN_DIGEST},
};

/* A parameter that is a number or one of OpenSSL's words for it. */
static bool read_option(const OSSL_PARAM *param, const struct option *options, size_t count,
                        int *number)
{
    if (param->data_type != OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_get_int(param, number) == 1;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(options[i].text, param->data) == 0) {
            *number = options[i].number;
            return true;
        }
    }
    char *end;
    long value = strtol(param->data, &end, 10);
    *number = (int)value;
    return end != param->data && *end == '\0' && value >= 0 && value <= SIGNATURE_SIZE_MAX;
}

static int set_padding(struct signature *signature, const OSSL_PARAM *param)
{
    int padding;
    if (read_option(param, paddings, ARRAY_SIZE(paddings), &padding) &&
        (padding == RSA_PKCS1_PADDING || padding == RSA_PKCS1_PSS_PADDING)) {
        signature->padding = padding;
        return 1;
    }
    PROVIDER_RAISE(signature->provider, REASON_UNSUPPORTED, "RSA padding mode; use pkcs1 or pss");
    return 0;
}

/* Whether these two fit the digest is seen when signing: it may be set after them. */
static int set_salt_length(struct signature *signature, const OSSL_PARAM *param)
{
    int length;
    if (read_option(param, salt_lengths, ARRAY_SIZE(salt_lengths), &length) &&
        (length >= 0 || length == RSA_PSS_SALTLEN_DIGEST || length == RSA_PSS_SALTLEN_AUTO)) {
        signature->salt_length = length;
        return 1;
    }
    PROVIDER_RAISE(signature->provider, REASON_UNSUPPORTED, SALT_LENGTH_REFUSED);
    return 0;
}

static int set_mgf1_digest(struct signature *signature, const OSSL_PARAM *param)
{
    const char *name = NULL;
    const char *digest = OSSL_PARAM_get_utf8_string_ptr(param, &name) ? digest_of_name(name) : NULL;
    if (digest != NULL) {
        signature->mgf1_digest = digest;
        return 1;
    }
    PROVIDER_RAISE(signature->provider, REASON_UNSUPPORTED, MGF1_DIGEST_REFUSED);
    return 0;
}

static int set_digest_param(struct signature *signature, const OSSL_PARAM *param)
{
    const char *name = NULL;
    return OSSL_PARAM_get_utf8_string_ptr(param, &name) && set_digest(signature, name);
}

static int signature_set(void *context, const OSSL_PARAM params[])
{
    static const struct {
        const char *name;
        int (*set)(struct signature *, const OSSL_PARAM *);
    } setters[] = {
        {OSSL_SIGNATURE_PARAM_DIGEST, set_digest_param},
        {OSSL_SIGNATURE_PARAM_PAD_MODE, set_padding},
        {OSSL_SIGNATURE_PARAM_PSS_SALTLEN, set_salt_length},
        {OSSL_SIGNATURE_PARAM_MGF1_DIGEST, set_mgf1_digest},
    };
    struct signature *signature = context;
    if (params == NULL)
        return 1;
    EVP_PKEY_CTX *verify = verification_parameters(signature);
    if (verify != NULL)
        return EVP_PKEY_CTX_set_params(verify, params);
    for (size_t i = 0; i < ARRAY_SIZE(setters); i++) {
        const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, setters[i].name);
        if (param != NULL && !setters[i].set(signature, param))
            return 0;
    }
    return 1;
}

static const OSSL_PARAM *signature_settable(void *context, void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)context;
    (void)provctx;
    return settable;
}

static int signature_get(void *context, OSSL_PARAM params[])
{
    struct signature *signature = context;
    EVP_PKEY_CTX *verify = verification_parameters(signature);
    if (verify != NULL)
        return EVP_PKEY_CTX_get_params(verify, params);
    return signature->key != NULL && verification_describe(signature, params);
}

static const OSSL_PARAM *signature_gettable(void *context, void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)context;
    (void)provctx;
    return gettable;
}

#define COMMON_FUNCTIONS                                                                           \
    {OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))signature_newctx},                                \
        {OSSL_FUNC_SIGNATURE_FREECTX, (void (*)(void))signature_freectx},                          \
        {OSSL_FUNC_SIGNATURE_DUPCTX, (void (*)(void))signature_dupctx},                            \
        {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (void (*)(void))signature_digest_sign_init},        \
        {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (void (*)(void))signature_digest_sign},                  \
        {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, (void (*)(void))verification_digest_verify_init}, \
        {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY, (void (*)(void))verification_digest_verify},           \
        {OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, (void (*)(void))signature_get},                       \
        {OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, (void (*)(void))signature_gettable},             \
        {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (void (*)(void))signature_set},                       \
    {                                                                                              \
        OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (void (*)(void))signature_settable                \
    }

/* RSA and ECDSA: of digests, and of messages in pieces, too. */
static const OSSL_DISPATCH digest_signature[] = {
    COMMON_FUNCTIONS,
    {OSSL_FUNC_SIGNATURE_SIGN_INIT, (void (*)(void))signature_sign_init},
    {OSSL_FUNC_SIGNATURE_SIGN, (void (*)(void))signature_sign},
    {OSSL_FUNC_SIGNATURE_VERIFY_INIT, (void (*)(void))verification_verify_init},
    {OSSL_FUNC_SIGNATURE_VERIFY, (void (*)(void))verification_verify},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, (void (*)(void))signature_digest_sign_update},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, (void (*)(void))signature_digest_sign_final},
    {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, (void (*)(void))verification_digest_verify_update},
    {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL, (void (*)(void))verification_digest_verify_final},
    {0, NULL},
};

/* Ed25519 (RFC 8032) and ML-DSA (FIPS 204): of whole messages only. */
static const OSSL_DISPATCH message_signature[] = {COMMON_FUNCTIONS, {0, NULL}};

const OSSL_ALGORITHM signature_algorithms[] = {
    {SIGNATURE_NAME_RSA, PROPERTIES, digest_signature, "RSA signatures by an HSM"},
    {SIGNATURE_NAME_ECDSA, PROPERTIES, digest_signature, "ECDSA signatures by an HSM"},
    {SIGNATURE_NAME_ED25519, PROPERTIES, message_signature, "Ed25519 signatures by an HSM"},
    {SIGNATURE_NAME_ML_DSA, PROPERTIES, message_signature, "ML-DSA signatures by an HSM"},
    {NULL, NULL, NULL, NULL},
};
