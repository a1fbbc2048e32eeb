/*
 * A quantile is never under what the calls took, and never far above; old calls are forgotten.
 */
#include "test.h"

#include "daemon/latency.h"

static void a_quantile_is_close_above_the_calls(void **state)
{
    (void)state;
    for (uint64_t milliseconds = 0; milliseconds < 100000;
         milliseconds = milliseconds * 3 / 2 + 1) {
        struct latency latency = {.total = 0};
        latency_add(&latency, milliseconds);
        uint64_t quantile = latency_quantile(&latency, 99);
        assert_true(quantile >= milliseconds && quantile <= milliseconds * 3 / 2 + 1);
    }
}

static void few_outliers_do_not_count(void **state)
{
    struct latency latency = {.total = 0};
    (void)state;
    assert_int_equal(latency_quantile(&latency, 99), 0);
    for (int i = 0; i < 995; i++)
        latency_add(&latency, 2);
    for (int i = 0; i < 5; i++)
        latency_add(&latency, 1000);
    assert_uint_in_range(latency_quantile(&latency, 99), 2, 3);
    assert_true(latency_quantile(&latency, 100) >= 1000);
}

static void a_token_that_became_slower_is_known_to_be(void **state)
{
    struct latency latency = {.total = 0};
    (void)state;
    for (int i = 0; i < 100000; i++)
        latency_add(&latency, 1);
    for (int i = 0; i < 10000; i++)
        latency_add(&latency, 40);
    assert_uint_in_range(latency_quantile(&latency, 50), 40, 62);
    latency_add(&latency, UINT64_MAX / 4); /* beyond the last bucket */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quantile_is_close_above_the_calls),
        cmocka_unit_test(few_outliers_do_not_count),
        cmocka_unit_test(a_token_that_became_slower_is_known_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
