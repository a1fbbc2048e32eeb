#include "daemon/signature_check.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

static bool set_padding(EVP_PKEY_CTX *context, const struct scheme *scheme)
{
    if (scheme->padding != SCHEME_PADDING_PSS)
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1;
    return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) == 1;
}

static bool set_digest(EVP_PKEY_CTX *context, const struct scheme *scheme)
{
    if (scheme->digest == NULL)
        return true;
    const OSSL_PARAM params[] = {
        /* Only read, but OSSL_PARAM has no const. */
        OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, (char *)scheme->digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_PKEY_CTX_set_params(context, params) == 1;
}

static bool check_digest(EVP_PKEY *public_key, const struct scheme *scheme, const uint8_t *input,
                         size_t input_size, const uint8_t *signature, size_t size)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, public_key, NULL);
    bool right = context != NULL && EVP_PKEY_verify_init(context) == 1 &&
                 (scheme->key_type != KEY_TYPE_RSA || set_padding(context, scheme)) &&
                 set_digest(context, scheme) &&
                 EVP_PKEY_verify(context, signature, size, input, input_size) == 1;
    EVP_PKEY_CTX_free(context);
    return right;
}

static bool check_message(EVP_PKEY *public_key, const uint8_t *message, size_t message_size,
                          const uint8_t *signature, size_t size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool right = context != NULL &&
                 EVP_DigestVerifyInit_ex(context, NULL, NULL, NULL, NULL, public_key, NULL) == 1 &&
                 EVP_DigestVerify(context, signature, size, message, message_size) == 1;
    EVP_MD_CTX_free(context);
    return right;
}

bool signature_check(EVP_PKEY *public_key, const struct scheme *scheme, const uint8_t *input,
                     size_t input_size, const uint8_t *signature, size_t size)
{
    ERR_set_mark();
    bool right = key_type_is_pure(scheme->key_type)
                     ? check_message(public_key, input, input_size, signature, size)
                     : check_digest(public_key, scheme, input, input_size, signature, size);
    ERR_pop_to_mark();
    return right;
}
