/*
 * ECDSA signatures: from the r || s of PKCS#11 (v2.40 2.3.1) to the DER of TLS.
 *
 *     ECDSA-Sig-Value ::= SEQUENCE { r INTEGER, s INTEGER }    -- RFC 3279 2.2.3
 */
#ifndef IMMURE_TOKEN_ECDSA_SIGNATURE_H
#define IMMURE_TOKEN_ECDSA_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

/* P-521: 66 bytes each for r and s. */
#define ECDSA_RAW_SIZE_MAX 132

/*
 * Writes minimal DER of `raw_size` bytes of r || s and returns its size; 0 if it does not fit
 * `size` bytes, if raw_size is odd or over ECDSA_RAW_SIZE_MAX, or if r or s is zero, which no
 * signature has. Pure; `raw` and `der` must not overlap.
 */
size_t ecdsa_signature_encode(const uint8_t *raw, size_t raw_size, uint8_t *der,
                              size_t size) MUST_USE;

#endif
