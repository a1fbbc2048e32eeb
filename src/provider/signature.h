/*
 * What signature.c and verification.c share: the context of one signature operation.
 */
#ifndef IMMURE_PROVIDER_SIGNATURE_H
#define IMMURE_PROVIDER_SIGNATURE_H

#include <openssl/params.h>

#include "provider/provider.h"

struct signature {
    struct provider *provider;
    struct key *key;

    const char *digest;      /* wire/scheme.h's name of it, or NULL */
    int padding;             /* RSA_PKCS1_PADDING or RSA_PKCS1_PSS_PADDING */
    int salt_length;         /* PSS: bytes, RSA_PSS_SALTLEN_DIGEST or RSA_PSS_SALTLEN_AUTO */
    const char *mgf1_digest; /* PSS: as `digest`; NULL: the same */

    /* Signing: the message while it is short enough to travel whole, then its running digest. */
    uint8_t *message;
    size_t message_size;
    EVP_MD_CTX *stream;

    /* Verifying, by the default provider with the public key: one of the two. */
    EVP_MD_CTX *verify_message;
    EVP_PKEY_CTX *verify_digest;
};

/* verification.c */
OSSL_FUNC_signature_verify_init_fn verification_verify_init;
OSSL_FUNC_signature_verify_fn verification_verify;
OSSL_FUNC_signature_digest_verify_init_fn verification_digest_verify_init;
OSSL_FUNC_signature_digest_verify_update_fn verification_digest_verify_update;
OSSL_FUNC_signature_digest_verify_final_fn verification_digest_verify_final;
OSSL_FUNC_signature_digest_verify_fn verification_digest_verify;

/* The verifying context that parameters go to, or NULL if this one signs. */
EVP_PKEY_CTX *verification_parameters(const struct signature *signature);

/* Copies the verifying half for OSSL_FUNC_signature_dupctx. */
bool verification_dup(const struct signature *from, struct signature *to) MUST_USE;
void verification_clear(struct signature *signature);

/*
 * Answers parameters of a signing context (the AlgorithmIdentifier, for X.509) as the default
 * provider would for the same key, digest and padding.
 */
bool verification_describe(const struct signature *signature, OSSL_PARAM params[]) MUST_USE;

#endif
