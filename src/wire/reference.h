/*
 * Key references: a public key and a name, in place of a private key.
 *
 *     ImmureKeyReference ::= SEQUENCE {
 *         version               INTEGER (1),
 *         subjectPublicKeyInfo  SubjectPublicKeyInfo,      -- RFC 5280 4.1
 *         name                  UTF8String,
 *         uri                   UTF8String OPTIONAL }      -- RFC 7512
 *
 * In a file it is PEM under a label of its own. Pure functions on memory, no I/O.
 */
#ifndef IMMURE_WIRE_REFERENCE_H
#define IMMURE_WIRE_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "wire/message.h"

#define KEY_REFERENCE_PEM_LABEL "IMMURE KEY REFERENCE"

/* An RSA-4096 SubjectPublicKeyInfo is 550 bytes; names and URIs are short. */
#define KEY_REFERENCE_SIZE_MAX 8192
#define KEY_NAME_SIZE_MAX      255

struct key_reference {
    uint8_t *spki; /* DER SubjectPublicKeyInfo */
    size_t spki_size;
    char *name; /* NUL-terminated UTF-8, no control characters, 1 to KEY_NAME_SIZE_MAX bytes */
    char *uri;  /* NUL-terminated, or NULL */
};

/*
 * Reads exactly `size` bytes of DER. True on success; `reference` then owns memory, to be freed
 * with key_reference_clear(). False: not a reference, nothing to free. OpenSSL's error queue is
 * left as it was. The public key inside is checked for its outer shape only.
 */
bool key_reference_decode(const uint8_t *der, size_t size,
                          struct key_reference *reference) MUST_USE;

/* DER of the reference in memory of OPENSSL_malloc(), or NULL. The caller frees it. */
uint8_t *key_reference_encode(const struct key_reference *reference, size_t *size) MUST_USE;

void key_reference_clear(struct key_reference *reference);

/* The key id: SHA-256 of the SubjectPublicKeyInfo. False only if SHA-256 fails. */
bool key_id_of_spki(const uint8_t *spki, size_t size, uint8_t id[KEY_ID_SIZE]) MUST_USE;

#endif
