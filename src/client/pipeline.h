/*
 * Requests of one thread that are under way at the same time, over one connection to immured.
 *
 * Nothing here waits. One descriptor tells when there is something to do: it is readable when
 * replies have come, when the connection has to be made anew, or when a deadline has passed; it
 * stays the same for the pipeline's life. What is lost with a connection is sent again on the
 * next one, within its deadline, as client.h does for one request.
 *
 * A pipeline belongs to one thread of one process; after fork() the child frees its copy, which
 * does not disturb the parent's. Links against libc alone.
 */
#ifndef IMMURE_CLIENT_PIPELINE_H
#define IMMURE_CLIENT_PIPELINE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "base/problem.h"
#include "client/client.h"
#include "wire/message.h"

/*
 * NEW -> SUBMITTED -> ANSWERED | FAILED | TIMED_OUT | CANCELLED. The last four are the end; a
 * finished exchange may be submitted again.
 */
enum exchange_state {
    EXCHANGE_NEW,
    EXCHANGE_SUBMITTED,
    EXCHANGE_ANSWERED,  /* `size` bytes are in `payload` */
    EXCHANGE_FAILED,    /* refused or not understood; `result` and `problem` say how */
    EXCHANGE_TIMED_OUT, /* `result` and `problem` say what was waited for */
    EXCHANGE_CANCELLED, /* forgotten: its memory may be freed */
};

/* One request and its reply. The caller owns it and what it points to, until it has ended. */
struct exchange {
    struct wire_request request; /* its id and deadline are set when it is sent */
    uint8_t *payload;            /* where the reply's goes */
    size_t size;                 /* its capacity; then the bytes that are there */
    enum client_error result;
    uint16_t status; /* the reply's */
    struct problem problem;
    void (*wake)(void *argument); /* called when it ends, unless it is cancelled; or NULL */
    void *wake_argument;

    enum exchange_state state;
    uint64_t deadline; /* base/clock.h */
    struct exchange *next, *previous;
};

struct pipeline;

/* A pipeline to the socket at `path` (copied); it connects when it has something to send. */
struct pipeline *pipeline_new(const char *path) MUST_USE;

/* Closes it. No exchange may be under way. `pipeline` may be NULL. */
void pipeline_free(struct pipeline *pipeline);

/* The descriptor to wait for reading on, and the process that may use it. */
int pipeline_descriptor(const struct pipeline *pipeline);
pid_t pipeline_owner(const struct pipeline *pipeline);

/*
 * Sends the request, or keeps it until it can be sent. One that does not fit a datagram has FAILED
 * when this returns, without `wake`.
 */
void pipeline_submit(struct pipeline *pipeline, struct exchange *exchange, uint32_t timeout_ms);

/* Forgets an exchange that is under way; a reply that still comes is dropped. */
void pipeline_cancel(struct pipeline *pipeline, struct exchange *exchange);

/*
 * Does what there is to do: receives, connects, sends, ends what has timed out. Calls `wake` of
 * each exchange that ends.
 */
void pipeline_progress(struct pipeline *pipeline);

#endif
