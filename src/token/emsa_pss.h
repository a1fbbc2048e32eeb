/*
 * EMSA-PSS (RFC 8017 9.1.1) in software, for tokens that have CKM_RSA_X_509 and no
 * CKM_RSA_PKCS_PSS. MGF1 with the same digest, salt as long as the digest (RFC 8446 4.2.3).
 */
#ifndef IMMURE_TOKEN_EMSA_PSS_H
#define IMMURE_TOKEN_EMSA_PSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

/* RSA-4096. */
#define EMSA_PSS_SIZE_MAX 512

/*
 * Encodes `digest`, made with the digest of this OpenSSL name, for a modulus of `modulus_bits`
 * bits. `encoded` gets the ceil(modulus_bits / 8) bytes that RSA takes, with a leading zero where
 * the encoding is a byte shorter. False: a wrong size, or libcrypto failed. Any thread.
 */
bool emsa_pss_encode(const char *digest_name, const uint8_t *digest, size_t digest_size,
                     unsigned modulus_bits, uint8_t encoded[EMSA_PSS_SIZE_MAX]) MUST_USE;

#endif
