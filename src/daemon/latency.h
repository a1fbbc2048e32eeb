/*
 * How long a token's calls take, for telling when one takes too long. Not for several threads at
 * once.
 */
#ifndef IMMURE_DAEMON_LATENCY_H
#define IMMURE_DAEMON_LATENCY_H

#include <stdint.h>

/* Two a doubling, from 1 ms to above a minute. */
#define LATENCY_BUCKETS 36

/* What was seen long ago counts for less and less. */
struct latency {
    uint32_t counts[LATENCY_BUCKETS];
    uint32_t total;
};

void latency_add(struct latency *latency, uint64_t milliseconds);

/* No more than this many milliseconds were taken by `percent` of the calls; 0: by none yet. */
uint64_t latency_quantile(const struct latency *latency, unsigned percent);

#endif
