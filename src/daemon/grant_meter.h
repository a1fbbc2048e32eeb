/*
 * How often a grant is used: counts, and its rate with a burst (a token bucket).
 *
 * One for each grant of a worker; its memory begins as zeros. From any thread, without a lock.
 */
#ifndef IMMURE_DAEMON_GRANT_METER_H
#define IMMURE_DAEMON_GRANT_METER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "daemon/config.h"

/* Between two alarm lines of one grant; the counter says how many there were. */
#define GRANT_ALARM_PAUSE_NS UINT64_C(10000000000)

struct grant_meter {
    atomic_uint_fast64_t used, over; /* uses in all, and those beyond the rate */
    atomic_uint_fast64_t full_at;    /* ns: when the bucket would be full, if nobody used it */
    atomic_uint_fast64_t alarm_at;   /* ns: not before then */
};

/* A use that has been let through: part of a request, which what it points to outlives. */
struct grant_use {
    struct grant_meter *meter; /* NULL: none has */
    const struct grant_rate *rate;
    bool within; /* the rate, which has spent something for it */
};

/*
 * One use at `now_ns` (of CLOCK_MONOTONIC). False: it is beyond the rate, which does not spend
 * anything; *alarm tells whether it is to be logged.
 */
bool grant_meter_use(struct grant_meter *meter, const struct grant_rate *rate, uint64_t now_ns,
                     bool *alarm) MUST_USE;

/*
 * Takes back a use that came to nothing, once; none if there is none. One that is taken back long
 * after it was made, when the bucket is full again, can be had in addition to a burst.
 */
void grant_meter_give_back(const struct grant_use *use);

#endif
