/*
 * Whether a client may have done what it asks for: first its grants, then what the message is,
 * then how often. One place for all operations that use a private key.
 *
 * All set request->use, when it is known what the request is for; and, with another status than
 * WIRE_OK, request->rule and the problem, which names the client, the key (to a client without any
 * grant by its id alone) and the rule.
 */
#ifndef IMMURE_DAEMON_PERMISSION_H
#define IMMURE_DAEMON_PERMISSION_H

#include "base/attributes.h"
#include "daemon/keyring.h"
#include "daemon/request.h"
#include "wire/message.h"
#include "wire/scheme.h"

/*
 * The request's key, if any grant covers it and the client. WIRE_UNKNOWN_KEY: it may, perhaps, but
 * the key has not been looked up. WIRE_NOT_GRANTED.
 */
enum wire_status permission_of_key(struct request *request, struct keyring_key *key) MUST_USE;

/*
 * Counts a use of the key in the first grant that allows it, in request->counted, unless that has
 * been done before: `use` is one bit of enum use. With USE_SIGN granted every message may be
 * signed. WIRE_MESSAGE_REFUSED: no grant allows it; WIRE_OVER_RATE: those that do are used up for
 * now.
 */
enum wire_status permission_to_use(struct request *request, const struct keyring_key *key,
                                   unsigned use) MUST_USE;

/* permission_to_use() for what the message, or the digest, in the request's payload is. */
enum wire_status permission_to_sign(struct request *request, const struct keyring_key *key,
                                    const struct scheme *scheme) MUST_USE;
enum wire_status permission_to_sign_digest(struct request *request, const struct keyring_key *key,
                                           const struct scheme *scheme) MUST_USE;

/* Refuses by this rule: the problem is the words and, in parentheses, the rule's name. */
enum wire_status permission_refuse(struct request *request, enum wire_status status, enum rule rule,
                                   const char *format, ...) PRINTF(4, 5);

#endif
