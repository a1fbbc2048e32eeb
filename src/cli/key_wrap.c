#include "cli/key_wrap.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "cli/key_object.h"
#include "token/public_key.h"

/* PKCS#11 v3.0 2.13; p11-kit's header knows only the older name of a like mechanism. */
#ifndef CKM_AES_KEY_WRAP_KWP
#define CKM_AES_KEY_WRAP_KWP 0x210bUL
#endif

/* As strong as AES-128 (NIST SP 800-57 5.6.1): the pair lives for seconds. */
#define TRANSPORT_RSA_BITS 3072
#define TRANSPORT_RSA_SIZE (TRANSPORT_RSA_BITS / 8)
#define TRANSPORT_AES_SIZE 32

/* RFC 5649 3: at most 7 bytes of padding and 8 of integrity check. */
#define WRAP_OVERHEAD 16

static const uint8_t public_exponent[] = {1, 0, 1}; /* 65537 */

/* SoftHSM 2.6 takes SHA-1 alone (SoftHSMv2 #474); FIPS tokens may not take it. */
static const struct oaep {
    CK_MECHANISM_TYPE hash;
    CK_RSA_PKCS_MGF_TYPE mgf;
    const char *digest;
} oaep_variants[] = {
    {CKM_SHA256, CKG_MGF1_SHA256, "SHA256"},
    {CKM_SHA_1, CKG_MGF1_SHA1, "SHA1"},
};

/* CKM_AES_KEY_WRAP_PAD is RFC 5649 in SoftHSM; later standards call that KWP. */
static const CK_MECHANISM_TYPE wrap_mechanisms[] = {CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD};

struct transport {
    struct key_pair *pair;
    CK_OBJECT_HANDLE rsa_public, rsa_private, aes; /* session objects */
    EVP_PKEY *rsa;                                 /* the public key */
    uint8_t key[TRANSPORT_AES_SIZE];
};

/* CK_UNAVAILABLE_INFORMATION: the token has none. */
static CK_MECHANISM_TYPE wrap_mechanism(struct token *token)
{
    for (size_t i = 0; i < ARRAY_SIZE(wrap_mechanisms); i++) {
        if (token_has_mechanism(token, wrap_mechanisms[i], CKF_UNWRAP))
            return wrap_mechanisms[i];
    }
    return CK_UNAVAILABLE_INFORMATION;
}

bool key_wrap_available(struct token *token)
{
    return wrap_mechanism(token) != CK_UNAVAILABLE_INFORMATION &&
           token_has_mechanism(token, CKM_RSA_PKCS_OAEP, CKF_UNWRAP) &&
           token_has_mechanism(token, CKM_RSA_PKCS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR);
}

static EVP_PKEY *rsa_public(const uint8_t *modulus, size_t size)
{
    struct public_key key;
    const unsigned char *at = key.spki;
    return public_key_of_rsa(modulus, size, public_exponent, sizeof(public_exponent), &key)
               ? d2i_PUBKEY(NULL, &at, (long)key.spki_size)
               : NULL;
}

static enum token_error make_rsa_pair(struct transport *transport, struct problem *problem)
{
    struct key_pair *pair = transport->pair;
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    static const CK_ULONG bits = TRANSPORT_RSA_BITS;
    static const CK_BBOOL no = CK_FALSE, yes = CK_TRUE;
    struct template public_template = {0}, private_template = {0};
    template_add(&public_template, CKA_TOKEN, &no, sizeof(no));
    template_add(&public_template, CKA_WRAP, &yes, sizeof(yes));
    template_add(&public_template, CKA_MODULUS_BITS, &bits, sizeof(bits));
    template_add(&public_template, CKA_PUBLIC_EXPONENT, public_exponent, sizeof(public_exponent));
    template_add_session_unwrap(&private_template);

    CK_RV rv = pair->session.functions->C_GenerateKeyPair(
        pair->session.handle, &mechanism, public_template.attributes, public_template.count,
        private_template.attributes, private_template.count, &transport->rsa_public,
        &transport->rsa_private);
    rv = key_pair_made(key_pair_made(rv, &transport->rsa_public), &transport->rsa_private);
    if (rv != CKR_OK)
        return token_error_of(pair->token, rv, "making an RSA pair to wrap with", problem);

    uint8_t modulus[TRANSPORT_RSA_SIZE];
    CK_ATTRIBUTE attribute = {CKA_MODULUS, modulus, sizeof(modulus)};
    rv = pair->session.functions->C_GetAttributeValue(pair->session.handle, transport->rsa_public,
                                                      &attribute, 1);
    if (rv != CKR_OK)
        return token_error_of(pair->token, rv, "reading the public key to wrap with", problem);
    if (attribute.ulValueLen > sizeof(modulus))
        return problem_set(problem, TOKEN_FAILED, "the token's RSA modulus is too long");
    transport->rsa = rsa_public(modulus, attribute.ulValueLen);
    return transport->rsa != NULL ? TOKEN_OK : openssl_failed("reading the modulus", problem);
}

static bool encrypt_oaep(const struct transport *transport, const char *digest,
                         uint8_t output[TRANSPORT_RSA_SIZE], size_t *size)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(transport->rsa, NULL);
    *size = TRANSPORT_RSA_SIZE;
    bool done =
        context != NULL && EVP_PKEY_encrypt_init(context) == 1 &&
        EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) == 1 &&
        EVP_PKEY_CTX_set_rsa_oaep_md_name(context, digest, NULL) == 1 &&
        EVP_PKEY_CTX_set_rsa_mgf1_md_name(context, digest, NULL) == 1 &&
        EVP_PKEY_encrypt(context, output, size, transport->key, sizeof(transport->key)) == 1;
    EVP_PKEY_CTX_free(context);
    return done;
}

static CK_RV unwrap_aes(struct transport *transport, const struct oaep *oaep, uint8_t *wrapped,
                        size_t size)
{
    const struct token_session *session = &transport->pair->session;
    CK_RSA_PKCS_OAEP_PARAMS params = {oaep->hash, oaep->mgf, CKZ_DATA_SPECIFIED, NULL, 0};
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &params, sizeof(params)};
    static const CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    static const CK_KEY_TYPE type = CKK_AES;
    struct template template = {0};
    template_add(&template, CKA_CLASS, &class, sizeof(class));
    template_add(&template, CKA_KEY_TYPE, &type, sizeof(type));
    template_add_session_unwrap(&template);
    CK_RV rv = session->functions->C_UnwrapKey(session->handle, &mechanism, transport->rsa_private,
                                               wrapped, size, template.attributes, template.count,
                                               &transport->aes);
    return key_pair_made(rv, &transport->aes);
}

static enum token_error bring_aes(struct transport *transport, struct problem *problem)
{
    if (RAND_priv_bytes(transport->key, sizeof(transport->key)) != 1)
        return openssl_failed("drawing an AES key", problem);
    CK_RV rv = CKR_OK;
    for (size_t i = 0; i < ARRAY_SIZE(oaep_variants); i++) {
        uint8_t wrapped[TRANSPORT_RSA_SIZE];
        size_t size;
        if (!encrypt_oaep(transport, oaep_variants[i].digest, wrapped, &size))
            return openssl_failed("encrypting an AES key", problem);
        rv = unwrap_aes(transport, &oaep_variants[i], wrapped, size);
        if (rv == CKR_OK || !template_refused(rv))
            break;
    }
    return rv == CKR_OK
               ? TOKEN_OK
               : token_error_of(transport->pair->token, rv, "unwrapping an AES key", problem);
}

/* RFC 5649. The output has room for size + WRAP_OVERHEAD; its length, or 0. */
static size_t wrap_padded(const uint8_t *key, const uint8_t *input, size_t size, uint8_t *output)
{
    int length = 0, rest = 0;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (context != NULL)
        EVP_CIPHER_CTX_set_flags(context, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    bool done = context != NULL &&
                EVP_EncryptInit_ex2(context, EVP_aes_256_wrap_pad(), key, NULL, NULL) == 1 &&
                EVP_EncryptUpdate(context, output, &length, input, (int)size) == 1 &&
                EVP_EncryptFinal_ex(context, output + length, &rest) == 1;
    EVP_CIPHER_CTX_free(context);
    return done ? (size_t)(length + rest) : 0;
}

/* The key's PKCS#8 under the AES key, to be freed with OPENSSL_free(); NULL on failure. */
static uint8_t *wrap_pkcs8(const struct transport *transport, const EVP_PKEY *pkey, size_t *size)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
    unsigned char *der = NULL;
    int der_size = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &der) : -1;
    uint8_t *wrapped = der_size > 0 ? OPENSSL_malloc((size_t)der_size + WRAP_OVERHEAD) : NULL;
    *size = 0;
    if (wrapped != NULL)
        *size = wrap_padded(transport->key, der, (size_t)der_size, wrapped);
    if (*size == 0) {
        OPENSSL_free(wrapped);
        wrapped = NULL;
    }
    if (der_size > 0)
        OPENSSL_clear_free(der, (size_t)der_size);
    PKCS8_PRIV_KEY_INFO_free(info); /* wipes its copy */
    return wrapped;
}

static CK_RV unwrap_once(struct transport *transport, const struct key_kind *kind, uint8_t *wrapped,
                         size_t size, bool all)
{
    struct key_pair *pair = transport->pair;
    CK_MECHANISM mechanism = {wrap_mechanism(pair->token), NULL, 0};
    struct template template = {0};
    template_add_private_key(pair, kind, all, &template);
    CK_RV rv = pair->session.functions->C_UnwrapKey(
        pair->session.handle, &mechanism, transport->aes, wrapped, size, template.attributes,
        template.count, &pair->private_handle);
    return key_pair_made(rv, &pair->private_handle);
}

/*
 * openCryptoki 3.27 unwraps a key as if the template said nothing of these. Where a token does not
 * let them be set either, key_pair_check() will see it.
 */
static void protect(const struct key_pair *pair)
{
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE attributes[] = {
        {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_EXTRACTABLE, &no, sizeof(no)},
    };
    (void)pair->session.functions->C_SetAttributeValue(pair->session.handle, pair->private_handle,
                                                       attributes, ARRAY_SIZE(attributes));
}

static enum token_error bring_private_key(struct transport *transport, const struct key_kind *kind,
                                          const EVP_PKEY *pkey, struct problem *problem)
{
    size_t size;
    uint8_t *wrapped = wrap_pkcs8(transport, pkey, &size);
    if (wrapped == NULL)
        return openssl_failed("wrapping the private key", problem);
    CK_RV rv = unwrap_once(transport, kind, wrapped, size, true);
    if (template_refused(rv))
        rv = unwrap_once(transport, kind, wrapped, size, false);
    OPENSSL_free(wrapped);
    if (rv != CKR_OK)
        return token_error_of(transport->pair->token, rv, "unwrapping the private key", problem);
    protect(transport->pair);
    return TOKEN_OK;
}

/* Session objects would go with the session, but the pool may keep that. */
static void transport_end(struct transport *transport)
{
    const CK_OBJECT_HANDLE handles[] = {transport->aes, transport->rsa_private,
                                        transport->rsa_public};
    const struct token_session *session = &transport->pair->session;
    for (size_t i = 0; i < ARRAY_SIZE(handles); i++) {
        if (handles[i] != CK_INVALID_HANDLE)
            (void)session->functions->C_DestroyObject(session->handle, handles[i]);
    }
    EVP_PKEY_free(transport->rsa);
    OPENSSL_cleanse(transport->key, sizeof(transport->key));
}

enum token_error key_wrap_import(struct key_pair *pair, const struct key_kind *kind,
                                 const EVP_PKEY *pkey, struct problem *problem)
{
    struct transport transport = {.pair = pair};
    enum token_error error = make_rsa_pair(&transport, problem);
    if (error == TOKEN_OK)
        error = bring_aes(&transport, problem);
    if (error == TOKEN_OK)
        error = bring_private_key(&transport, kind, pkey, problem);
    transport_end(&transport);
    return error;
}
