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

bool digest_message(const struct digests *digests, const struct scheme *scheme,
                    const uint8_t *message, size_t size, uint8_t digest[SCHEME_DIGEST_SIZE_MAX])
{
    for (size_t i = 0; i < DIGEST_COUNT; i++) {
        if ((size_t)EVP_MD_get_size(digests->md[i]) == scheme->digest_size)
            return EVP_Digest(message, size, digest, NULL, digests->md[i], NULL) == 1;
    }
    return false;
}
