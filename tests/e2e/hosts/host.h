/*
 * What the test programs share. Each is a program that uses OpenSSL as any host does, and knows
 * of the provider only by the key's name.
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/store.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noreturn)) static inline void die(const char *what)
{
    fprintf(stderr, "%s failed\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* The private key that a file or URI names. */
static inline EVP_PKEY *load_key(const char *uri)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
    EVP_PKEY *key = NULL;
    while (store != NULL && key == NULL && !OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        if (info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
            key = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    if (key == NULL)
        die(uri);
    return key;
}

/* Its public half as a key of the default provider, which verifies what ours has signed. */
static inline EVP_PKEY *public_half(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int size = i2d_PUBKEY(key, &der);
    const unsigned char *at = der;
    EVP_PKEY *public_key = size > 0 ? d2i_PUBKEY(NULL, &at, size) : NULL;
    OPENSSL_free(der);
    if (public_key == NULL)
        die("public half");
    return public_key;
}

static inline const char *digest_for(EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, "ED25519") ? NULL : "SHA256";
}

/* Signs a message and verifies the signature; dies when either fails. */
static inline void sign_and_verify(EVP_PKEY *key, EVP_PKEY *public_key)
{
    unsigned char message[100], signature[1024];
    size_t size = sizeof(signature);
    memset(message, getpid() & 0xff, sizeof(message));

    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (EVP_DigestSignInit_ex(context, NULL, digest_for(key), NULL, NULL, key, NULL) != 1 ||
        EVP_DigestSign(context, signature, &size, message, sizeof(message)) != 1)
        die("signing");
    EVP_MD_CTX_free(context);

    context = EVP_MD_CTX_new();
    if (EVP_DigestVerifyInit_ex(context, NULL, digest_for(key), NULL, NULL, public_key, NULL) !=
            1 ||
        EVP_DigestVerify(context, signature, size, message, sizeof(message)) != 1)
        die("verifying");
    EVP_MD_CTX_free(context);
    if (ERR_peek_error() != 0)
        die("leaving the error queue clean");
}
