/*
 * Statistics: depadding takes as long for right blocks as for wrong ones, as far as Welch's t-test
 * can tell, which does tell where a leak is planted (Reparaz, Balasch, Verbauwhede: dude, is my
 * code constant time?, 2017).
 *
 * A busy host disturbs single measurements, not one kind of them. So what is constant is found to
 * be so in one round of several, and the leak is, too.
 */
#include "test.h"

#include <math.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <time.h>

#include "blocks.h"
#include "depadding_leak.h"

#define SAMPLES 6000 /* of both classes together */
#define ROUNDS  8
/* 4.5 is the usual limit for a leak; what is far below and far above it is what is looked for. */
#define T_CONSTANT 4.5
#define T_LEAK     10.0

typedef bool depad_function(const struct padded *padded, uint16_t version,
                            uint8_t premaster[PREMASTER_SIZE]);

static const uint8_t ciphertext[BLOCK_SIZE] = {1}, some_key[REJECTION_KEY_SIZE] = {2};

static uint32_t nanoseconds_of(depad_function *depad, const uint8_t source[BLOCK_SIZE])
{
    static uint8_t block[BLOCK_SIZE], premaster[PREMASTER_SIZE];
    const struct padded padded = {block, ciphertext, BLOCK_SIZE, some_key};
    struct timespec start, end;
    memcpy(block, source, BLOCK_SIZE); /* both classes are read from the same place */
    clock_gettime(CLOCK_MONOTONIC, &start);
    bool done = depad(&padded, VERSION, premaster);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(done);
    return (uint32_t)((end.tv_sec - start.tv_sec) * 1000000000 + end.tv_nsec - start.tv_nsec);
}

static int compare(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

struct sums {
    double count, sum, squares;
};

static double welch_t(const struct sums sums[2])
{
    double mean[2], error = 0;
    for (int i = 0; i < 2; i++) {
        mean[i] = sums[i].sum / sums[i].count;
        error += (sums[i].squares / sums[i].count - mean[i] * mean[i]) / sums[i].count;
    }
    return fabs(mean[0] - mean[1]) / sqrt(error);
}

/* Of the quicker three quarters: the others were interrupted. */
static double measure(depad_function *depad, const struct wrong *wrong)
{
    static uint8_t classes[SAMPLES], blocks[2][BLOCK_SIZE];
    static uint32_t times[SAMPLES], sorted[SAMPLES];
    struct sums sums[2] = {{0}};
    make_block(blocks[0]);
    make_wrong_block(blocks[1], wrong);
    assert_int_equal(RAND_bytes(classes, sizeof(classes)), 1);
    for (size_t i = 0; i < SAMPLES; i++)
        times[i] = nanoseconds_of(depad, blocks[classes[i] & 1]);
    memcpy(sorted, times, sizeof(times));
    qsort(sorted, SAMPLES, sizeof(sorted[0]), compare);
    for (size_t i = 0; i < SAMPLES; i++) {
        struct sums *sum = &sums[classes[i] & 1];
        if (times[i] > sorted[SAMPLES * 3 / 4])
            continue;
        sum->count++;
        sum->sum += times[i];
        sum->squares += (double)times[i] * times[i];
    }
    return welch_t(sums);
}

static void right_blocks_take_as_long_as_wrong_ones(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
        double t = measure(depad_premaster, &wrongs[i]);
        for (int round = 1; round < ROUNDS && t > T_CONSTANT; round++)
            t = measure(depad_premaster, &wrongs[i]);
        print_message("%s: t = %.1f\n", wrongs[i].what, t);
        assert_true(t <= T_CONSTANT);
    }
}

static void a_planted_leak_is_noticed(void **state)
{
    double t = 0;
    (void)state;
    for (int round = 0; round < ROUNDS && t < T_LEAK; round++)
        t = measure(depad_premaster_leaking, &wrongs[0]);
    print_message("%s: t = %.1f\n", wrongs[0].what, t);
    assert_true(t >= T_LEAK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_blocks_take_as_long_as_wrong_ones),
        cmocka_unit_test(a_planted_leak_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
