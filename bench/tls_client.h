/*
 * A TLS 1.3 client (RFC 8446) that costs next to nothing, to load a server with handshakes: one
 * connection as a state machine over bytes. No I/O, no clock, no randomness of its own.
 *
 * It is cheap because it is no client to trust: its private key for the key exchange is always 1,
 * so that its share is the generator of secp256r1 and the shared secret is what the server sends;
 * it does NOT verify the server's certificate or the signature by it. All else is as the standard
 * has it: it decrypts the server's flight, checks its Finished, and sends its own. Server bytes
 * are not trusted: every length is checked.
 *
 *     tls_client_start(), then until it has ended:
 *         send tls_client_output(), say tls_client_sent()
 *         receive to tls_client_room(), say tls_client_received()
 *
 * One cipher suite (TLS_AES_128_GCM_SHA256) and one group; no resumption, no client certificate,
 * no HelloRetryRequest, no KeyUpdate: a server that wants one of them fails.
 */
#ifndef IMMURE_BENCH_TLS_CLIENT_H
#define IMMURE_BENCH_TLS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "tls_hello.h"
#include "tls_keys.h"

#define TLS_RECORD_MAX (TLS_HEADER_SIZE + 16384 + 256) /* RFC 8446 5.2 */
#define TLS_FLIGHT_MAX (2 * TLS_RECORD_MAX) /* a certificate chain may be longer than a record */
#define TLS_OUTPUT_MAX TLS_HELLO_MAX        /* or Finished, a request and close_notify */
#define TLS_START_MAX  16                   /* bytes kept of what the server's application sends */

/* In this order; the message that is awaited, until CONNECTED. */
enum tls_state {
    TLS_SERVER_HELLO,
    TLS_ENCRYPTED_EXTENSIONS,
    TLS_CERTIFICATE,
    TLS_CERTIFICATE_VERIFY,
    TLS_FINISHED,
    TLS_CONNECTED, /* the server's Finished is good, and ours is in the output */
    TLS_CLOSED,    /* by the server's close_notify, after TLS_CONNECTED */
    TLS_FAILED,    /* `failure` says why */
};

struct tls_client {
    enum tls_state state;
    const char *failure; /* static text */
    struct tls_crypto *crypto;
    EVP_MD_CTX *transcript;
    struct tls_traffic reading, writing;
    bool is_protected; /* what is read from now on */
    uint8_t master[TLS_HASH_SIZE];
    size_t input_size, flight_size, output_size, output_sent;
    uint8_t start[TLS_START_MAX]; /* of the server's application data */
    size_t start_size;
    uint8_t output[TLS_OUTPUT_MAX];
    uint8_t input[TLS_RECORD_MAX];  /* the record that is being received, and what follows it */
    uint8_t flight[TLS_FLIGHT_MAX]; /* handshake messages, until they are whole */
};

/* `crypto` stays the caller's and is used until tls_client_free(). False: out of memory. */
bool tls_client_init(struct tls_client *client, struct tls_crypto *crypto) MUST_USE;
void tls_client_free(struct tls_client *client);

/* Begins a connection, whatever became of the one before; its hello is in the output. */
void tls_client_start(struct tls_client *client, const struct tls_hello *hello,
                      const uint8_t random[TLS_RANDOM_SIZE]);

/* Where received bytes are to be put, at most *size; then how many there were. */
uint8_t *tls_client_room(struct tls_client *client, size_t *size);
void tls_client_received(struct tls_client *client, size_t size);

/* What is to be sent, *size bytes; then how many of them were. */
const uint8_t *tls_client_output(const struct tls_client *client, size_t *size);
void tls_client_sent(struct tls_client *client, size_t size);

/* From TLS_CONNECTED on: adds application data, or close_notify, to the output. */
void tls_client_write(struct tls_client *client, const char *text);
void tls_client_close(struct tls_client *client);

#endif
