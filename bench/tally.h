/*
 * What became of the handshakes, counted: successes with their latencies, failures by reason.
 * Single-threaded.
 */
#ifndef IMMURE_BENCH_TALLY_H
#define IMMURE_BENCH_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

#define TALLY_REASONS_MAX 48 /* more than there are texts for failures */

struct tally {
    uint64_t handshakes, failed, aborted;
    uint64_t measured;   /* of the handshakes, those that ended in the measured time */
    double seconds;      /* the measured time; the rate is measured / seconds */
    double cpu_seconds;  /* of this process, over the whole run */
    uint32_t *latencies; /* of the measured ones, in microseconds */
    size_t capacity;
    struct {
        const char *text; /* static */
        uint64_t count;
    } reasons[TALLY_REASONS_MAX];
};

/* `is_measured`: it ended in the measured time. False: out of memory. */
bool tally_success(struct tally *tally, uint32_t latency_us, bool is_measured) MUST_USE;
void tally_failure(struct tally *tally, const char *reason);

/* Write the result to standard output. False: it could not be written. */
bool tally_print(struct tally *tally) MUST_USE;
bool tally_print_json(struct tally *tally) MUST_USE;

void tally_free(struct tally *tally);

#endif
