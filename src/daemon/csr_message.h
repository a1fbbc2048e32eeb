/*
 * Tells certificate requests for a certain key from all other messages.
 *
 * Pure function on the caller's memory.
 */
#ifndef IMMURE_DAEMON_CSR_MESSAGE_H
#define IMMURE_DAEMON_CSR_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "daemon/rule.h"
#include "wire/message.h"

/*
 * USE_CSR: the message is, to its last byte, a well-formed CertificationRequestInfo (RFC 2986 4.1)
 * in DER whose public key has this key id. 0: it is not, and *rule tells why; RULE_MESSAGE when it
 * is no DER SEQUENCE at all.
 */
unsigned csr_message_use(const uint8_t *message, size_t size, const uint8_t key_id[KEY_ID_SIZE],
                         enum rule *rule) MUST_USE;

#endif
