/*
 * Tells the messages that a TLS server signs in a handshake from all others.
 *
 * Pure function on the caller's memory.
 */
#ifndef IMMURE_DAEMON_TLS_MESSAGE_H
#define IMMURE_DAEMON_TLS_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

/*
 * USE_TLS13_SERVER (daemon/config.h): the message is, to its last byte, what a server signs in
 * CertificateVerify (RFC 8446 4.4.3). USE_TLS12_SERVER: what it signs in ServerKeyExchange with
 * a named curve (RFC 8422 5.4). 0: neither. No message is both.
 */
unsigned tls_message_use(const uint8_t *message, size_t size) MUST_USE;

#endif
