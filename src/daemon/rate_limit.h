/*
 * Keeps what a bad client or token causes from filling the log.
 */
#ifndef IMMURE_DAEMON_RATE_LIMIT_H
#define IMMURE_DAEMON_RATE_LIMIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"

/* Enough to see what is going on, too few to hide the other lines. */
#define RATE_LIMIT_PER_SECOND 10

struct rate_limit {
    pthread_mutex_t lock;
    uint64_t window; /* the second that `passed` counts for */
    unsigned passed;
    unsigned suppressed;
};

/*
 * True when the event may be logged; *suppressed is then the number of those that were not,
 * since the last that was. From any thread.
 */
bool rate_limit_pass(struct rate_limit *limit, unsigned *suppressed) MUST_USE;

#endif
