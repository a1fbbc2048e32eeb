#include <openssl/rsa.h>

#include "provider/signature.h"

static bool take_key(struct signature *signature, void *keydata)
{
    if (keydata != NULL) {
        key_free(signature->key);
        signature->key = key_up_ref(keydata);
    }
    return signature->key != NULL && key_public(signature->key) != NULL;
}

EVP_PKEY_CTX *verification_parameters(const struct signature *signature)
{
    if (signature->verify_message != NULL)
        return EVP_MD_CTX_get_pkey_ctx(signature->verify_message);
    return signature->verify_digest;
}

void verification_clear(struct signature *signature)
{
    EVP_MD_CTX_free(signature->verify_message);
    EVP_PKEY_CTX_free(signature->verify_digest);
    signature->verify_message = NULL;
    signature->verify_digest = NULL;
}

bool verification_dup(const struct signature *from, struct signature *to)
{
    to->verify_message = NULL;
    to->verify_digest = NULL;
    if (from->verify_message != NULL) {
        to->verify_message = EVP_MD_CTX_new();
        return to->verify_message != NULL &&
               EVP_MD_CTX_copy_ex(to->verify_message, from->verify_message) == 1;
    }
    if (from->verify_digest != NULL) {
        to->verify_digest = EVP_PKEY_CTX_dup(from->verify_digest);
        return to->verify_digest != NULL;
    }
    return true;
}

int verification_verify_init(void *context, void *keydata, const OSSL_PARAM params[])
{
    struct signature *signature = context;
    verification_clear(signature);
    if (!take_key(signature, keydata))
        return 0;
    signature->verify_digest =
        EVP_PKEY_CTX_new_from_pkey(signature->provider->libctx, key_public(signature->key), NULL);
    return signature->verify_digest != NULL &&
           EVP_PKEY_verify_init_ex(signature->verify_digest, params) == 1;
}

int verification_verify(void *context, const unsigned char *bytes, size_t size,
                        const unsigned char *digest, size_t digest_size)
{
    struct signature *signature = context;
    return EVP_PKEY_verify(signature->verify_digest, bytes, size, digest, digest_size);
}

int verification_digest_verify_init(void *context, const char *digest, void *keydata,
                                    const OSSL_PARAM params[])
{
    struct signature *signature = context;
    verification_clear(signature);
    if (!take_key(signature, keydata))
        return 0;
    signature->verify_message = EVP_MD_CTX_new();
    return signature->verify_message != NULL &&
           EVP_DigestVerifyInit_ex(signature->verify_message, NULL, digest,
                                   signature->provider->libctx, NULL, key_public(signature->key),
                                   params) == 1;
}

int verification_digest_verify_update(void *context, const unsigned char *bytes, size_t size)
{
    struct signature *signature = context;
    return EVP_DigestVerifyUpdate(signature->verify_message, bytes, size);
}

int verification_digest_verify_final(void *context, const unsigned char *bytes, size_t size)
{
    struct signature *signature = context;
    return EVP_DigestVerifyFinal(signature->verify_message, bytes, size);
}

int verification_digest_verify(void *context, const unsigned char *bytes, size_t size,
                               const unsigned char *message, size_t message_size)
{
    struct signature *signature = context;
    return EVP_DigestVerify(signature->verify_message, bytes, size, message, message_size);
}

bool verification_describe(const struct signature *signature, OSSL_PARAM params[])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_context = NULL;
    bool done = context != NULL && EVP_DigestVerifyInit_ex(context, &key_context, signature->digest,
                                                           signature->provider->libctx, NULL,
                                                           key_public(signature->key), NULL) == 1;
    if (done && signature->padding == RSA_PKCS1_PSS_PADDING)
        done = EVP_PKEY_CTX_set_rsa_padding(key_context, RSA_PKCS1_PSS_PADDING) == 1 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(key_context, RSA_PSS_SALTLEN_DIGEST) == 1;
    done = done && EVP_PKEY_CTX_get_params(key_context, params) == 1;
    EVP_MD_CTX_free(context);
    return done;
}
