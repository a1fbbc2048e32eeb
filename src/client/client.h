/*
 * A connection to immured, for one thread, blocking.
 *
 * Signing is idempotent: when the connection cannot be made or is lost, when immured is busy or
 * shutting down, the request is sent again, on a new connection, until the deadline. A client
 * that was inherited over fork() notices, drops its copy of the descriptor and connects anew.
 *
 * Links against libc alone; never prints, prompts, exits, or changes signals of the host.
 */
#ifndef IMMURE_CLIENT_CLIENT_H
#define IMMURE_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/problem.h"
#include "wire/message.h"

/* As long as an operator lets a handshake wait for an HSM, and no longer. */
#define CLIENT_TIMEOUT_DEFAULT_MS 2000

enum client_error {
    CLIENT_OK = 0,
    CLIENT_UNREACHABLE = -1, /* no connection before the deadline */
    CLIENT_TIMEOUT = -2,     /* connected, but no answer before the deadline */
    CLIENT_PROTOCOL = -3,    /* an answer that is none */
    CLIENT_REFUSED = -4,     /* an error reply; `status` and the problem say which */
};

struct client;

/* A client of the socket at `path` (copied). It does not connect yet. NULL: out of memory. */
struct client *client_new(const char *path) MUST_USE;

/* Closes the connection. `client` may be NULL. Not while another thread uses it. */
void client_free(struct client *client);

/*
 * Sends the request (its id and deadline are set here) and waits for the reply, at most
 * `timeout_ms`. CLIENT_OK: `size` bytes of payload were copied to `payload`, whose capacity was
 * `*size` before; no other copy of them stays here. CLIENT_REFUSED: `*status` is the reply's, and
 * the problem holds its text.
 */
enum client_error client_call(struct client *client, struct wire_request *request,
                              uint32_t timeout_ms, uint8_t *payload, size_t *size, uint16_t *status,
                              struct problem *problem) MUST_USE;

/*
 * Whether the request fits a datagram; if not, the problem says so, and nothing is to be sent.
 * Shared with pipeline.c.
 */
bool client_fits(const struct wire_request *request, struct problem *problem) MUST_USE;

/*
 * What a reply is for its caller: CLIENT_OK, CLIENT_REFUSED or CLIENT_PROTOCOL, with `payload`,
 * `*size`, `*status` and the problem as for client_call(). Shared with pipeline.c.
 */
enum client_error client_take_reply(const struct wire_reply *reply, uint8_t *payload, size_t *size,
                                    uint16_t *status, struct problem *problem) MUST_USE;

#endif
