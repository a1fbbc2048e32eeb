/*
 * Tells the messages that a TLS server signs in a handshake from all others.
 *
 * Pure function on the caller's memory. doc/threat-model.md says how far the check goes.
 */
#ifndef IMMURE_DAEMON_TLS_MESSAGE_H
#define IMMURE_DAEMON_TLS_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "daemon/dhe_groups.h"
#include "daemon/rule.h"

/*
 * The use (daemon/use.h) that the message, to its last byte, is for:
 *   USE_TLS13_SERVER      what a server signs in CertificateVerify (RFC 8446 4.4.3)
 *   USE_TLS12_SERVER      what it signs in ServerKeyExchange with a named curve (RFC 8422 5.4)
 *   USE_TLS12_SERVER_DHE  the same with one of the groups (RFC 5246 7.4.3)
 *   0                     none of these; *rule tells what it came to grief on, RULE_MESSAGE when
 *                         it is not like any of them
 * No message is two of them.
 */
unsigned tls_message_use(const uint8_t *message, size_t size, const struct dhe_groups *groups,
                         enum rule *rule) MUST_USE;

#endif
