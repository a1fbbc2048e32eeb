#include <openssl/ecdsa.h>
#include <string.h>

#include "token/emsa_pss.h"
#include "token/internal.h"
#include "token/public_key.h"

#define DIGEST_INFO_PREFIX_SIZE 19

/* P-521: 66 bytes each for r and s. */
#define ECDSA_RAW_SIZE_MAX 132

/* How PKCS#11 names a digest, and the DER that stands before it in a DigestInfo (RFC 8017 9.2). */
static const struct digest {
    const char *name;
    CK_MECHANISM_TYPE mechanism;
    CK_RSA_PKCS_MGF_TYPE mgf;
    uint8_t info_prefix[DIGEST_INFO_PREFIX_SIZE];
} digests[] = {
    {"SHA256",
     CKM_SHA256,
     CKG_MGF1_SHA256,
     {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
      0x05, 0x00, 0x04, 0x20}},
    {"SHA384",
     CKM_SHA384,
     CKG_MGF1_SHA384,
     {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02,
      0x05, 0x00, 0x04, 0x30}},
    {"SHA512",
     CKM_SHA512,
     CKG_MGF1_SHA512,
     {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03,
      0x05, 0x00, 0x04, 0x40}},
};

/* One signature, in PKCS#11's terms. Not to be copied: `mechanism` and `data` point into it. */
struct operation {
    CK_OBJECT_HANDLE key;
    CK_MECHANISM mechanism;
    CK_RSA_PKCS_PSS_PARAMS pss;
    const uint8_t *data;
    size_t data_size;
    size_t signature_size; /* as the token gives it */
    uint8_t buffer[RSA_BLOCK_SIZE_MAX];
};

static const struct digest *digest_named(const char *name)
{
    for (size_t i = 0; name != NULL && i < ARRAY_SIZE(digests); i++) {
        if (strcmp(digests[i].name, name) == 0)
            return &digests[i];
    }
    return NULL;
}

static enum token_error prepare_pkcs1(struct operation *operation, const struct digest *digest,
                                      struct problem *problem)
{
    size_t prefix = digest == NULL ? 0 : DIGEST_INFO_PREFIX_SIZE;
    size_t room = operation->signature_size - PKCS1_OVERHEAD;
    if (operation->data_size == 0 || prefix + operation->data_size > room)
        return problem_set(problem, TOKEN_FAILED,
                           "%zu bytes cannot be signed: PKCS#1 v1.5 has room for 1 to %zu",
                           operation->data_size, room - prefix);
    operation->mechanism.mechanism = CKM_RSA_PKCS;
    if (digest != NULL) {
        memcpy(operation->buffer, digest->info_prefix, prefix);
        memcpy(operation->buffer + prefix, operation->data, operation->data_size);
        operation->data = operation->buffer;
        operation->data_size += prefix;
    }
    return TOKEN_OK;
}

static enum token_error prepare_pss(struct token *token, struct operation *operation,
                                    const struct digest *digest, unsigned bits,
                                    struct problem *problem)
{
    if (digest == NULL)
        return problem_set(problem, TOKEN_FAILED, "RSA-PSS is not possible without a digest");
    if (token_has_mechanism(token, CKM_RSA_PKCS_PSS, CKF_SIGN)) {
        operation->pss = (CK_RSA_PKCS_PSS_PARAMS){
            .hashAlg = digest->mechanism, .mgf = digest->mgf, .sLen = operation->data_size};
        operation->mechanism =
            (CK_MECHANISM){CKM_RSA_PKCS_PSS, &operation->pss, sizeof(operation->pss)};
        return TOKEN_OK;
    }
    if (!token_has_mechanism(token, CKM_RSA_X_509, CKF_SIGN))
        return problem_set(problem, TOKEN_UNSUPPORTED,
                           "RSA-PSS needs CKM_RSA_PKCS_PSS or CKM_RSA_X_509, and the token has "
                           "neither: use an EC key for TLS 1.3");
    if (!emsa_pss_encode(digest->name, operation->data, operation->data_size, bits,
                         operation->buffer))
        return problem_set(problem, TOKEN_FAILED, "EMSA-PSS encoding failed for %u bits", bits);
    operation->mechanism.mechanism = CKM_RSA_X_509;
    operation->data = operation->buffer;
    operation->data_size = operation->signature_size;
    return TOKEN_OK;
}

static enum token_error prepare_ecdsa(struct operation *operation, struct problem *problem)
{
    if (operation->data_size == 0 || operation->data_size > SCHEME_DIGEST_SIZE_MAX)
        return problem_set(problem, TOKEN_FAILED, "%zu bytes cannot be signed: ECDSA takes 1 to %d",
                           operation->data_size, SCHEME_DIGEST_SIZE_MAX);
    /* A longer digest is cut to the group's size (FIPS 186-4 6.4); not every token does it. */
    if (operation->data_size > operation->signature_size / 2)
        operation->data_size = operation->signature_size / 2;
    operation->mechanism.mechanism = CKM_ECDSA;
    return TOKEN_OK;
}

static size_t token_signature_size(const struct token_signing_key *key)
{
    size_t size = ((size_t)key->bits + 7) / 8;
    switch (key->type) {
    case KEY_TYPE_RSA:
        return size;
    case KEY_TYPE_EC:
    case KEY_TYPE_ED25519:
        return 2 * size;
    case KEY_TYPE_ML_DSA_44: /* FIPS 204 table 2 */
        return 2420;
    case KEY_TYPE_ML_DSA_65:
        return 3309;
    case KEY_TYPE_ML_DSA_87:
        break;
    }
    return 4627;
}

/* The token's signature must fit our buffers, and every padding must have its room. */
static bool key_is_sane(const struct token_signing_key *key)
{
    size_t size = token_signature_size(key);
    if (key->type == KEY_TYPE_RSA)
        return size >= RSA_BITS_MIN / 8 && size <= RSA_BLOCK_SIZE_MAX;
    return size > 0 &&
           size <= (key_type_is_ml_dsa(key->type) ? SIGNATURE_SIZE_MAX : ECDSA_RAW_SIZE_MAX);
}

static enum token_error prepare(struct token *token, struct operation *operation,
                                const struct token_signing_key *key, const struct scheme *scheme,
                                struct problem *problem)
{
    const struct digest *digest = digest_named(scheme->digest);
    if (scheme->key_type != key->type || !key_is_sane(key))
        return problem_set(problem, TOKEN_UNSUPPORTED, "%s is not for a key of %u bits of type %s",
                           scheme->name, key->bits, key_type_name(key->type));
    if (scheme->digest != NULL && (digest == NULL || operation->data_size != scheme->digest_size))
        return problem_set(problem, TOKEN_FAILED, "%s takes a digest of %zu bytes, not %zu",
                           scheme->name, scheme->digest_size, operation->data_size);

    operation->signature_size = token_signature_size(key);
    switch (key->type) {
    case KEY_TYPE_EC:
        return prepare_ecdsa(operation, problem);
    case KEY_TYPE_ED25519:
        operation->mechanism.mechanism = CKM_EDDSA;
        return TOKEN_OK;
    case KEY_TYPE_ML_DSA_44:
    case KEY_TYPE_ML_DSA_65:
    case KEY_TYPE_ML_DSA_87:
        operation->mechanism.mechanism = CKM_ML_DSA; /* no parameter: pure, an empty context */
        return TOKEN_OK;
    case KEY_TYPE_RSA:
        break;
    }
    if (scheme->padding == SCHEME_PADDING_PSS)
        return prepare_pss(token, operation, digest, key->bits, problem);
    return prepare_pkcs1(operation, digest, problem);
}

/* Where the signature goes, for sign_in(). */
struct signing {
    struct operation *operation;
    uint8_t *signature; /* SIGNATURE_SIZE_MAX bytes */
    CK_ULONG size;
};

static CK_RV sign_in(const struct token_session *session, void *context, bool *started)
{
    struct signing *signing = context;
    struct operation *operation = signing->operation;
    CK_FUNCTION_LIST *functions = session->functions;
    CK_RV rv = functions->C_SignInit(session->handle, &operation->mechanism, operation->key);
    if (rv != CKR_OK)
        return rv;
    *started = true;
    /* No more than it takes: NSS makes an Ed25519 signature for 64 bytes alone (nss, ec.c). */
    signing->size = operation->signature_size;
    return functions->C_Sign(session->handle, unconst(operation->data), operation->data_size,
                             signing->signature, &signing->size);
}

/*
 * From the r || s of PKCS#11 (v2.40 2.3.1) to the DER of TLS (RFC 3279 2.2.3), in place; the size,
 * 0 if r or s is zero, which no signature has.
 */
static size_t ecdsa_to_der(uint8_t signature[SIGNATURE_SIZE_MAX], size_t raw_size)
{
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, (int)raw_size / 2, NULL);
    BIGNUM *s = BN_bin2bn(signature + raw_size / 2, (int)raw_size / 2, NULL);
    int size = 0;
    if (pair != NULL && r != NULL && s != NULL && !BN_is_zero(r) && !BN_is_zero(s) &&
        ECDSA_SIG_set0(pair, r, s) == 1) {
        r = s = NULL; /* the pair's now */
        size = i2d_ECDSA_SIG(pair, &signature);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(pair);
    return size > 0 ? (size_t)size : 0;
}

/* Turns what the token gave, `raw_size` bytes in `signature`, into what TLS sends. */
static enum token_error finish(const struct operation *operation, enum key_type type,
                               uint8_t signature[SIGNATURE_SIZE_MAX], size_t raw_size, size_t *size,
                               struct problem *problem)
{
    if (raw_size != operation->signature_size)
        return problem_set(problem, TOKEN_FAILED,
                           "the token gave a signature of %zu bytes, not of %zu", raw_size,
                           operation->signature_size);
    *size = raw_size;
    if (type != KEY_TYPE_EC)
        return TOKEN_OK;

    *size = ecdsa_to_der(signature, raw_size);
    if (*size == 0)
        return problem_set(problem, TOKEN_FAILED, "the token gave an ECDSA signature with zero");
    return TOKEN_OK;
}

enum token_error token_sign(struct token *token, const struct token_signing_key *key,
                            const struct scheme *scheme, const uint8_t *input, size_t input_size,
                            uint64_t deadline, uint8_t signature[SIGNATURE_SIZE_MAX], size_t *size,
                            struct problem *problem)
{
    struct operation operation = {.key = key->handle, .data = input, .data_size = input_size};
    struct signing signing = {&operation, signature, 0};
    *size = 0;
    enum token_error error = prepare(token, &operation, key, scheme, problem);
    if (error != TOKEN_OK)
        return problem_prefix(problem, error, "token %s", token->name);
    error = session_pool_call(token, deadline, sign_in, &signing, "signing", problem);
    if (error != TOKEN_OK)
        return error;
    error = finish(&operation, key->type, signature, signing.size, size, problem);
    return error == TOKEN_OK ? error : problem_prefix(problem, error, "token %s", token->name);
}
