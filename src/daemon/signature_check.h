/*
 * Whether a signature that a token made is right.
 *
 * A faulty one must never leave the host: one wrong RSA signature made with the Chinese remainder
 * theorem gives the private key away (Boneh, DeMillo, Lipton: On the Importance of Checking
 * Cryptographic Protocols for Faults, 1997). From any thread.
 */
#ifndef IMMURE_DAEMON_SIGNATURE_CHECK_H
#define IMMURE_DAEMON_SIGNATURE_CHECK_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "wire/scheme.h"

/*
 * `input` is what token_sign() took: the digest, the message for a pure one, or the bytes of a
 * raw scheme; the signature is in the form that TLS sends. False also when OpenSSL fails. Leaves
 * OpenSSL's error queue clean.
 */
bool signature_check(EVP_PKEY *public_key, const struct scheme *scheme, const uint8_t *input,
                     size_t input_size, const uint8_t *signature, size_t size) MUST_USE;

#endif
