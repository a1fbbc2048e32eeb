#include "daemon/digest.h"

bool digests_fetch(struct digests *digests)
{
    static const char *const names[DIGEST_COUNT] = {"SHA256", "SHA384", "SHA512"};
    for (size_t i = 0; i < DIGEST_COUNT; i++) {
        digests->md[i] = EVP_MD_fetch(NULL, names[i], NULL);
        if (digests->md[i] == NULL)
            return false;
    }
    return true;
}

/* A thread's own, so that a request costs no allocation; threads last as long as the process. */
static EVP_MD_CTX *thread_context(void)
{
    static _Thread_local EVP_MD_CTX *context;
    if (context == NULL)
        context = EVP_MD_CTX_new();
    return context;
}

bool digest_message(const struct digests *digests, const struct scheme *scheme,
                    const uint8_t *message, size_t size, uint8_t digest[SCHEME_DIGEST_SIZE_MAX])
{
    EVP_MD_CTX *context = thread_context();
    size_t i = 0;
    while (i < DIGEST_COUNT && (size_t)EVP_MD_get_size(digests->md[i]) != scheme->digest_size)
        i++;
    return i < DIGEST_COUNT && context != NULL &&
           EVP_DigestInit_ex2(context, digests->md[i], NULL) == 1 &&
           EVP_DigestUpdate(context, message, size) == 1 &&
           EVP_DigestFinal_ex(context, digest, NULL) == 1;
}
