/*
 * The digests of the signature schemes, fetched once: EVP_MD_fetch() takes locks and memory.
 */
#ifndef IMMURE_DAEMON_DIGEST_H
#define IMMURE_DAEMON_DIGEST_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "wire/scheme.h"

#define DIGEST_COUNT 3 /* SHA-256, SHA-384, SHA-512 */

struct digests {
    EVP_MD *md[DIGEST_COUNT];
};

/* False: OpenSSL lacks one of them. */
bool digests_fetch(struct digests *digests) MUST_USE;

/* The scheme's digest of the message, scheme->digest_size bytes. From any thread. */
bool digest_message(const struct digests *digests, const struct scheme *scheme,
                    const uint8_t *message, size_t size,
                    uint8_t digest[SCHEME_DIGEST_SIZE_MAX]) MUST_USE;

#endif
