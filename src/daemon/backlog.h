/*
 * Requests that wait until a token has room, oldest first. The token's keeper owns it and locks it.
 */
#ifndef IMMURE_DAEMON_BACKLOG_H
#define IMMURE_DAEMON_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "daemon/connection.h"
#include "daemon/grant_meter.h"
#include "wire/message.h"
#include "wire/reference.h"

/*
 * What a few busy servers have under way. With 16 sessions and 20 ms a signature the last of them
 * waits 1.3 s, which is inside a client's 2 s; more would be signed for nobody.
 */
#define BACKLOG_MAX 1024
/* Beyond that, for requests that had a place already: as many threads may put one back at once. */
#define BACKLOG_AGAIN_MAX 512
/*
 * The largest FIND_KEY: a byte that says how the key is named, and a public key. A handshake's
 * message has at most 2,119 bytes (TLS 1.2, DHE with 8,192 bits). What is larger, such as a request
 * for a certificate with many names, comes again.
 */
#define BACKLOG_REQUEST_SIZE_MAX (WIRE_REQUEST_HEADER_SIZE + 1 + KEY_REFERENCE_SIZE_MAX)

struct backlog_request {
    struct backlog_request *next;
    struct connection *connection; /* held */
    uint64_t deadline;             /* base/clock.h */
    uint32_t passed_over;          /* as in struct request */
    struct race *race;             /* held; or NULL */
    struct grant_use counted;      /* as in struct request */
    size_t size;
    uint8_t datagram[];
};

struct backlog {
    struct backlog_request *first, *last;
    size_t count;
};

struct request;

/* A copy, which holds the connection; NULL: too large, or no memory. */
struct backlog_request *backlog_request_new(const struct request *request) MUST_USE;

/* Releases the connection. `request` may be NULL. */
void backlog_request_free(struct backlog_request *request);

/*
 * Takes the request over, unless the backlog is full (false). `again`: it had its turn, and comes
 * before the others.
 */
bool backlog_add(struct backlog *backlog, struct backlog_request *request, bool again) MUST_USE;

/* The oldest, which is the caller's then; NULL if there is none. */
struct backlog_request *backlog_take(struct backlog *backlog) MUST_USE;

#endif
