/*
 * Times as operators give them.
 */
#include "test.h"

#include "cli/audit_time.h"

#define NOW UINT64_C(1795641000000) /* 2026-11-25T21:10:00Z */

static void times_are_read_and_what_is_none_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        uint64_t milliseconds;
    } cases[] = {
        {"2026-11-25T21:10:00Z", true, NOW},
        {"2026-11-25T21:10:00.25Z", true, NOW + 250},
        {"2026-11-25T21:10:00.123456Z", true, NOW + 123},
        {"2026-11-25T22:40:00+01:30", true, NOW},
        {"2026-11-25T13:10:00-0800", true, NOW},
        {"2026-11-25", true, NOW - 76200000},
        {"1970-01-01", true, 0},
        {"90s", true, NOW - 90000},
        {"5m", true, NOW - 300000},
        {"2h", true, NOW - 7200000},
        {"7d", true, NOW - 604800000},
        {"1w", true, NOW - 604800000},
        {"99999999999w", true, 0},
        {"2026-11-25T21:10:00", false, 0}, /* of which place? */
        {"2026-13-25", false, 0},
        {"2026-11-25 21:10", false, 0},
        {"7", false, 0},
        {"7y", false, 0},
        {"7dd", false, 0},
        {"-7d", false, 0},
        {"d", false, 0},
        {"", false, 0},
        {"yesterday", false, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t milliseconds = 0;
        bool good = audit_time_option(cases[i].text, NOW, &milliseconds);
        if (good != cases[i].good || (good && milliseconds != cases[i].milliseconds))
            fail_msg("%s: %d %llu", cases[i].text, good, (unsigned long long)milliseconds);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_read_and_what_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
