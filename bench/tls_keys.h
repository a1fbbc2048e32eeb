/*
 * Keys of TLS 1.3 with TLS_AES_128_GCM_SHA256: the key schedule (RFC 8446 7.1) and the protection
 * of records (5.2). For measuring only: nothing here is wiped, and no secret is worth keeping.
 *
 * OpenSSL's contexts are made once, in struct tls_crypto, and used again for each connection of
 * the one thread that owns it. Functions return false when OpenSSL fails, or a record does.
 */
#ifndef IMMURE_BENCH_TLS_KEYS_H
#define IMMURE_BENCH_TLS_KEYS_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

#define TLS_HASH_SIZE   32
#define TLS_KEY_SIZE    16
#define TLS_IV_SIZE     12
#define TLS_TAG_SIZE    16
#define TLS_HEADER_SIZE 5 /* of a record: type, version, length */

/* Bytes of a protected record on top of its content: header, inner content type, tag. */
#define TLS_RECORD_OVERHEAD (TLS_HEADER_SIZE + 1 + TLS_TAG_SIZE)

struct tls_crypto {
    EVP_MD *sha256;
    EVP_MD_CTX *scratch;
    EVP_MAC_CTX *hmac;
    EVP_CIPHER *aes;
    EVP_CIPHER_CTX *seal, *open;
    uint8_t empty_hash[TLS_HASH_SIZE];
    uint8_t early_derived[TLS_HASH_SIZE]; /* Derive-Secret(Early Secret, "derived", ""), no PSK */
};

/* One direction's traffic keys. */
struct tls_traffic {
    uint8_t secret[TLS_HASH_SIZE];
    uint8_t key[TLS_KEY_SIZE];
    uint8_t iv[TLS_IV_SIZE];
    uint64_t sequence;
};

/* On failure, too, tls_crypto_free() is to be called. */
bool tls_crypto_init(struct tls_crypto *crypto) MUST_USE;
void tls_crypto_free(struct tls_crypto *crypto);

/* The hash of what a transcript has taken so far; it may be added to afterwards. */
bool tls_transcript_hash(struct tls_crypto *crypto, const EVP_MD_CTX *transcript,
                         uint8_t hash[TLS_HASH_SIZE]) MUST_USE;

/*
 * From the shared secret and the hash of ClientHello..ServerHello: both directions' handshake
 * traffic keys, and the Master Secret.
 */
bool tls_handshake_keys(struct tls_crypto *crypto, const uint8_t shared[TLS_HASH_SIZE],
                        const uint8_t hash[TLS_HASH_SIZE], struct tls_traffic *client,
                        struct tls_traffic *server, uint8_t master[TLS_HASH_SIZE]) MUST_USE;

/* From the Master Secret and the hash of ClientHello..server Finished: the application's keys. */
bool tls_application_keys(struct tls_crypto *crypto, const uint8_t master[TLS_HASH_SIZE],
                          const uint8_t hash[TLS_HASH_SIZE], struct tls_traffic *client,
                          struct tls_traffic *server) MUST_USE;

/* verify_data of a Finished message (RFC 8446 4.4.4) by the owner of `traffic`. */
bool tls_finished(struct tls_crypto *crypto, const struct tls_traffic *traffic,
                  const uint8_t hash[TLS_HASH_SIZE], uint8_t verify[TLS_HASH_SIZE]) MUST_USE;

/* Writes the protected record of `content`: size + TLS_RECORD_OVERHEAD bytes. */
bool tls_seal(struct tls_crypto *crypto, struct tls_traffic *traffic, uint8_t type,
              const uint8_t *content, size_t size, uint8_t *record) MUST_USE;

/*
 * Decrypts a whole protected record of `size` bytes, header included, in place. The content is
 * at record + TLS_HEADER_SIZE.
 */
bool tls_open(struct tls_crypto *crypto, struct tls_traffic *traffic, uint8_t *record, size_t size,
              uint8_t *type, size_t *content_size) MUST_USE;

#endif
