/*
 * Calls that hang. A PKCS#11 call cannot be interrupted: one that takes much longer than its
 * token's calls do is made a second time on another token, and the client takes the answer that
 * comes first. Until a call of the slow token ends well, others are preferred to it, and what
 * waits for it is given to them.
 */
#ifndef IMMURE_DAEMON_OVERTAKE_H
#define IMMURE_DAEMON_OVERTAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

struct request;
struct worker;

/* Between a request that has been overtaken and what overtakes it: whose answer is the first. */
struct race {
    atomic_uint holders;
    atomic_bool answered;
};

/* May be called with NULL: no race. */
struct race *race_hold(struct race *race);
void race_leave(struct race *race);

/* What a thread is having a token do. */
struct call {
    pthread_mutex_t lock;          /* covers what follows */
    const struct request *request; /* NULL: nothing */
    size_t token;                  /* its place in the configuration */
    uint64_t since;                /* base/clock.h */
    bool overtaken;
    struct race *race; /* held from when the request is first overtaken until it ends; or NULL */
};

void call_init(struct call *call);

/* Around each of the thread's own calls of a token, also for crash.h. `call` may be NULL. */
void call_begin(struct call *call, const struct request *request, size_t token);
void call_end(struct call *call);

/* The race that the request is in, or NULL. By the thread that serves it, outside of a call. */
struct race *request_race(const struct request *request);

/* When the thread is done with a request. */
void call_leave_race(struct call *call);

/*
 * Starts the thread that looks for calls that hang, where there are several tokens. 0, or the
 * error of pthread_create().
 */
int overtake_start(struct worker *worker) MUST_USE;

/*
 * For the threads that serve: what the worker's epoll instance reports with `worker` itself as
 * its data. Watches for the next one, before it is served.
 */
void overtake_noticed(struct worker *worker);

#endif
