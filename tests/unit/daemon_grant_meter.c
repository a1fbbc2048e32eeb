/*
 * A grant's rate lets through what it says, also from several threads, and tells what is beyond.
 */
#include "test.h"

#include <pthread.h>

#include "daemon/grant_meter.h"

#define SECOND UINT64_C(1000000000)

static const struct grant_rate ten_a_second = {.interval_ns = SECOND / 10, .burst = 5};

static void a_burst_then_the_rate_is_let_through(void **state)
{
    (void)state;
    struct grant_meter meter = {0};
    bool alarm;
    uint64_t now = 1000 * SECOND;
    for (int i = 0; i < 5; i++)
        assert_true(grant_meter_use(&meter, &ten_a_second, now, &alarm));
    assert_false(grant_meter_use(&meter, &ten_a_second, now, &alarm));
    assert_true(grant_meter_use(&meter, &ten_a_second, now + SECOND / 10, &alarm));
    assert_false(grant_meter_use(&meter, &ten_a_second, now + SECOND / 10, &alarm));
    /* a rest fills the bucket and no more */
    now += 3600 * SECOND;
    for (int i = 0; i < 5; i++)
        assert_true(grant_meter_use(&meter, &ten_a_second, now, &alarm));
    assert_false(grant_meter_use(&meter, &ten_a_second, now, &alarm));
    assert_int_equal(meter.used, 14);
    assert_int_equal(meter.over, 3);
}

static void alarms_have_a_pause_and_the_count_has_none(void **state)
{
    (void)state;
    struct grant_meter meter = {0};
    const struct grant_rate once = {.interval_ns = 3600 * SECOND, .burst = 1};
    uint64_t now = 1000 * SECOND;
    bool alarm;
    unsigned alarms = 0;
    assert_true(grant_meter_use(&meter, &once, now, &alarm));
    assert_false(alarm);
    for (int i = 0; i < 100; i++) {
        assert_false(grant_meter_use(&meter, &once, now, &alarm));
        alarms += alarm;
    }
    assert_int_equal(alarms, 1);
    assert_false(grant_meter_use(&meter, &once, now + GRANT_ALARM_PAUSE_NS, &alarm));
    assert_true(alarm);
    assert_int_equal(meter.over, 101);
}

static void without_a_rate_everything_passes(void **state)
{
    (void)state;
    struct grant_meter meter = {0};
    const struct grant_rate none = {.interval_ns = 0};
    bool alarm;
    for (int i = 0; i < 1000; i++)
        assert_true(grant_meter_use(&meter, &none, 0, &alarm));
    assert_int_equal(meter.used, 1000);
}

static void use(struct grant_meter *meter, const struct grant_rate *rate, uint64_t now,
                struct grant_use *made)
{
    bool alarm;
    *made = (struct grant_use){meter, rate, grant_meter_use(meter, rate, now, &alarm)};
}

static void what_is_given_back_can_be_used_again(void **state)
{
    (void)state;
    struct grant_meter meter = {0};
    struct grant_use made[5], one;
    uint64_t now = 1000 * SECOND;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5; i++) {
            use(&meter, &ten_a_second, now, &made[i]);
            assert_true(made[i].within);
        }
        use(&meter, &ten_a_second, now, &one);
        assert_false(one.within);
        for (int i = 0; i < 5; i++)
            grant_meter_give_back(&made[i]);
    }
    assert_int_equal(meter.used, 3); /* those that were beyond the rate */
    assert_int_equal(meter.over, 3);
    use(&meter, &ten_a_second, now, &one);
    grant_meter_give_back(&(struct grant_use){.meter = NULL});
    assert_int_equal(meter.used, 4);
}

static void what_was_beyond_the_rate_gives_nothing_back_to_it(void **state)
{
    (void)state;
    struct grant_meter meter = {0};
    struct grant_use one;
    for (int i = 0; i < 5; i++)
        use(&meter, &ten_a_second, SECOND, &one);
    for (int i = 0; i < 3; i++) {
        use(&meter, &ten_a_second, SECOND, &one);
        assert_false(one.within);
        grant_meter_give_back(&one);
    }
    assert_int_equal(meter.used, 5);
    assert_int_equal(meter.over, 0);
}

#define THREADS         4
#define USES_PER_THREAD 10000

struct uses {
    struct grant_meter *meter;
    unsigned passed;
};

static void *use_often(void *context)
{
    static const struct grant_rate rate = {.interval_ns = SECOND, .burst = 1000};
    struct uses *uses = context;
    bool alarm;
    for (int i = 0; i < USES_PER_THREAD; i++)
        uses->passed += grant_meter_use(uses->meter, &rate, SECOND, &alarm);
    return NULL;
}

static void *use_and_give_back(void *context)
{
    struct grant_meter *meter = context;
    struct grant_use one;
    for (int i = 0; i < USES_PER_THREAD; i++) {
        use(meter, &ten_a_second, (uint64_t)i, &one);
        grant_meter_give_back(&one);
    }
    return NULL;
}

static void threads_give_back_all_that_they_used(void **state)
{
    (void)state;
    struct grant_meter meter = {0};
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_and_give_back, &meter), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(meter.used, 0);
    assert_int_equal(meter.over, 0);
    assert_uint_in_range(meter.full_at, 0, USES_PER_THREAD); /* not behind the last use */
}

static void threads_together_get_no_more_than_the_burst(void **state)
{
    (void)state;
    struct grant_meter meter = {0};
    pthread_t threads[THREADS];
    struct uses uses[THREADS];
    unsigned passed = 0;
    for (size_t i = 0; i < THREADS; i++) {
        uses[i] = (struct uses){.meter = &meter};
        assert_int_equal(pthread_create(&threads[i], NULL, use_often, &uses[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        passed += uses[i].passed;
    }
    assert_int_equal(passed, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_then_the_rate_is_let_through),
        cmocka_unit_test(alarms_have_a_pause_and_the_count_has_none),
        cmocka_unit_test(without_a_rate_everything_passes),
        cmocka_unit_test(what_is_given_back_can_be_used_again),
        cmocka_unit_test(what_was_beyond_the_rate_gives_nothing_back_to_it),
        cmocka_unit_test(threads_together_get_no_more_than_the_burst),
        cmocka_unit_test(threads_give_back_all_that_they_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
