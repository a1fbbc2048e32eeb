/*
 * Tells what could be the signed part of a certificate, CRL, CSR, OCSP request or response, time
 * stamp, CMS attributes, CMP, CRMF, PKINIT or SPKAC.
 *
 * Pure function on the caller's memory.
 */
#ifndef IMMURE_DAEMON_X509_FORM_H
#define IMMURE_DAEMON_X509_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

/*
 * The message is one SEQUENCE or SET, in DER or in what parsers of BER put up with (X.690), whose
 * elements have the tags that stand at the first level of these (RFC 5280 4.1 and 5.1, RFC 2986
 * 4.1, RFC 6960 4.1.1 and 4.2.1, RFC 3161 2.4.2, RFC 5652 5.3, RFC 4210 5.1.3, RFC 4211 4.1,
 * RFC 4556 3.2.1). Where a TLS 1.2 key exchange is meant, the random numbers that it begins with
 * could be this, and what is fixed in it be in a name there; by chance that happens less than once
 * in 2^30 handshakes.
 */
bool x509_form_is(const uint8_t *message, size_t size) MUST_USE;

#endif
