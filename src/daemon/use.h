/*
 * What a key can be used for: the words of "use =" in immure.conf(5), a bit each.
 */
#ifndef IMMURE_DAEMON_USE_H
#define IMMURE_DAEMON_USE_H

#include <stddef.h>

#include "base/attributes.h"

enum use {
    USE_TLS13_SERVER = 1 << 0,      /* a TLS 1.3 server's CertificateVerify, nothing else */
    USE_TLS12_SERVER = 1 << 1,      /* a TLS 1.2 server's ServerKeyExchange with ECDHE */
    USE_TLS12_SERVER_DHE = 1 << 2,  /* the same with DHE in a well-known group */
    USE_TLS12_RSA_DECRYPT = 1 << 3, /* premaster secrets of TLS 1.2's RSA key exchange */
    USE_CSR = 1 << 4,               /* a certificate request for the key itself */
    USE_SIGN = 1 << 5,              /* any message, and digests */
    USE_DECRYPT = 1 << 6,           /* any RSA ciphertext with PKCS#1 v1.5 padding */
};
#define USE_TLS_SERVER (USE_TLS13_SERVER | USE_TLS12_SERVER)

/* The bits of a word, "tls-server" among them; 0: there is no such word. */
unsigned use_by_name(const char *name) MUST_USE;

/* The word for one bit; "unknown" for 0. */
const char *use_name(unsigned use);

/* All words, or those of the bits in `uses`, separated by ", ". Cut to `size` bytes. */
#define USE_ALL        (~0U)
#define USE_NAMES_SIZE 128
void use_names(unsigned uses, char *names, size_t size);

#endif
