#include "daemon/latency.h"

#include <stddef.h>

/* So many calls are remembered, about. */
#define TOTAL_MAX 4096

/* The bucket above the one that holds `milliseconds` begins with more than that. */
static size_t bucket_of(uint64_t milliseconds)
{
    uint64_t value = milliseconds + 1;
    unsigned log = 63 - (unsigned)__builtin_clzll(value);
    size_t bucket = 2 * (size_t)log + (log > 0 ? value >> (log - 1) & 1 : 0);
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

static uint64_t largest_of(size_t bucket)
{
    uint64_t base = UINT64_C(1) << bucket / 2;
    uint64_t beyond = bucket % 2 == 0 ? base + (base + 1) / 2 : 2 * base;
    return beyond - 2;
}

void latency_add(struct latency *latency, uint64_t milliseconds)
{
    latency->counts[bucket_of(milliseconds)]++;
    if (++latency->total < TOTAL_MAX)
        return;
    latency->total = 0;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++)
        latency->total += latency->counts[i] /= 2;
}

uint64_t latency_quantile(const struct latency *latency, unsigned percent)
{
    uint64_t wanted = ((uint64_t)latency->total * percent + 99) / 100, seen = 0;
    for (size_t i = 0; i < LATENCY_BUCKETS && wanted > 0; i++) {
        seen += latency->counts[i];
        if (seen >= wanted)
            return largest_of(i);
    }
    return 0;
}
