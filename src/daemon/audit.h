/*
 * What of a request is counted in the audit log: each signature or decryption, and each attempt
 * that was refused, or was allowed and failed for good. Answers that a client takes as "ask again"
 * ("busy", "unknown key") are no use of a key and not counted; neither is what comes after its own
 * deadline, nor what does not concern a key (status, searches).
 *
 * A signature is counted before it is sent: none leaves immured uncounted, whatever dies. So a
 * client whose worker is killed in between asks again and has two counted, as two were made.
 */
#ifndef IMMURE_DAEMON_AUDIT_H
#define IMMURE_DAEMON_AUDIT_H

#include "daemon/request.h"

/* The request is about to be answered with this status. From any thread; well under 1 us. */
void audit_request(const struct request *request, enum wire_status status);

/*
 * The request, which had been overtaken, was answered before this signature was made: it is not
 * sent, and counted as "signed too late". So what is "signed" are uses by clients, and both
 * together are signatures that tokens made.
 */
void audit_late(const struct request *request);

#endif
