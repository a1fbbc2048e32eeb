#include "tally.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_FIRST 65536

bool tally_success(struct tally *tally, uint32_t latency_us, bool is_measured)
{
    tally->handshakes++;
    if (!is_measured)
        return true;
    if (tally->measured == tally->capacity) {
        size_t capacity = tally->capacity == 0 ? CAPACITY_FIRST : 2 * tally->capacity;
        uint32_t *larger = reallocarray(tally->latencies, capacity, sizeof(*larger));
        if (larger == NULL)
            return false;
        tally->latencies = larger;
        tally->capacity = capacity;
    }
    tally->latencies[tally->measured++] = latency_us;
    return true;
}

void tally_failure(struct tally *tally, const char *reason)
{
    tally->failed++;
    for (size_t i = 0; i < ARRAY_SIZE(tally->reasons); i++) {
        if (tally->reasons[i].text == NULL)
            tally->reasons[i].text = reason;
        if (strcmp(tally->reasons[i].text, reason) == 0) {
            tally->reasons[i].count++;
            return;
        }
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static double milliseconds(const struct tally *sorted, unsigned percent)
{
    if (sorted->measured == 0)
        return 0;
    uint64_t index = (sorted->measured - 1) * percent / 100;
    return sorted->latencies[index] / 1e3;
}

static double rate(const struct tally *tally)
{
    return tally->seconds > 0 ? (double)tally->measured / tally->seconds : 0;
}

static double cpu_microseconds(const struct tally *tally)
{
    uint64_t all = tally->handshakes + tally->failed + tally->aborted;
    return all > 0 ? tally->cpu_seconds * 1e6 / (double)all : 0;
}

static void sort(struct tally *tally)
{
    if (tally->measured > 0)
        qsort(tally->latencies, tally->measured, sizeof(*tally->latencies), compare);
}

bool tally_print(struct tally *tally)
{
    sort(tally);
    printf("handshakes  %" PRIu64 "\nfailed      %" PRIu64 "\n", tally->handshakes, tally->failed);
    for (size_t i = 0; i < ARRAY_SIZE(tally->reasons) && tally->reasons[i].text != NULL; i++)
        printf("            %" PRIu64 " %s\n", tally->reasons[i].count, tally->reasons[i].text);
    printf("aborted     %" PRIu64 "\nrate        %.1f/s in %.3f s\n", tally->aborted, rate(tally),
           tally->seconds);
    printf("latency     p50 %.3f ms, p90 %.3f ms, p99 %.3f ms, max %.3f ms\n",
           milliseconds(tally, 50), milliseconds(tally, 90), milliseconds(tally, 99),
           milliseconds(tally, 100));
    printf("own CPU     %.3f s, %.1f us each\n", tally->cpu_seconds, cpu_microseconds(tally));
    return fflush(stdout) == 0;
}

static json_t *reasons_json(const struct tally *tally)
{
    json_t *reasons = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(tally->reasons) && tally->reasons[i].text != NULL; i++)
        if (json_object_set_new(reasons, tally->reasons[i].text,
                                json_integer((json_int_t)tally->reasons[i].count)) != 0)
            break;
    return reasons;
}

bool tally_print_json(struct tally *tally)
{
    sort(tally);
    json_t *json = json_pack(
        "{s:I, s:I, s:o, s:I, s:f, s:f, s:{s:f, s:f, s:f, s:f}, s:f, s:f}", "handshakes",
        (json_int_t)tally->handshakes, "failed", (json_int_t)tally->failed, "failures",
        reasons_json(tally), "aborted", (json_int_t)tally->aborted, "seconds", tally->seconds,
        "rate", rate(tally), "latency_ms", "p50", milliseconds(tally, 50), "p90",
        milliseconds(tally, 90), "p99", milliseconds(tally, 99), "max", milliseconds(tally, 100),
        "cpu_seconds", tally->cpu_seconds, "cpu_us_each", cpu_microseconds(tally));
    bool written = json != NULL &&
                   json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 &&
                   printf("\n") == 1 && fflush(stdout) == 0;
    json_decref(json);
    return written;
}

void tally_free(struct tally *tally)
{
    free(tally->latencies);
}
