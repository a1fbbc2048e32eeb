/*
 * The one ClientHello that the client of these measurements sends (RFC 8446 4.1.2): TLS 1.3,
 * TLS_AES_128_GCM_SHA256, secp256r1, and as its share in the key exchange the generator.
 */
#ifndef IMMURE_BENCH_TLS_HELLO_H
#define IMMURE_BENCH_TLS_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

#define TLS_RANDOM_SIZE  32
#define TLS_NAME_MAX     255  /* bytes of a host's name, and of an ALPN protocol's */
#define TLS_HELLO_MAX    2048 /* more than one with both has */
#define TLS_HELLO_RANDOM 11   /* where its random bytes are: after two headers and the version */

/* The record, all but the random bytes. */
struct tls_hello {
    uint8_t bytes[TLS_HELLO_MAX];
    size_t size;
};

/* Server name `name` and ALPN protocol `alpn` (or NULL). False: one of them is too long. */
bool tls_hello_make(struct tls_hello *hello, const char *name, const char *alpn) MUST_USE;

#endif
