/*
 * A worker that dies inside a token's library leaves word of it, and dies as it would have.
 */
#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/crash.h"
#include "daemon/pin_budget.h"

static char one[] = "one", two[] = "two", module[] = "/m.so", uri[] = "pkcs11:";

static struct config config = {
    .tokens = {{.settings = {.name = one, .module = module, .uri = uri}},
               {.settings = {.name = two, .module = module, .uri = uri}}},
};

static void drop_handlers_of_cmocka(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        signal(numbers[i], SIG_DFL);
}

/* A worker, which does this in a child process. */
static pid_t run(struct crash_table *table, size_t token_count, void (*work)(void), int *status)
{
    config.token_count = token_count;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        drop_handlers_of_cmocka();
        crash_watch(table, &config);
        work();
        _exit(0);
    }
    assert_int_equal(waitpid(child, status, 0), child);
    return child;
}

static void die_in_one(void)
{
    crash_enter(0);
    abort();
}

static void die_in_two(void)
{
    crash_enter(1);
    abort();
}

static void die_outside(void)
{
    crash_enter(0);
    crash_leave();
    abort();
}

static void die_by_a_signal_that_is_sent(void)
{
    crash_enter(0);
    kill(getpid(), SIGFPE);
}

static void fork_and_let_that_die(void)
{
    crash_enter(0);
    pid_t child = fork();
    if (child == 0)
        abort();
    waitpid(child, NULL, 0);
}

/* NOLINTNEXTLINE(misc-no-recursion): it is to fill the stack */
static int overflow(int depth)
{
    volatile char frame[4096] = {(char)depth};
    return depth == 0 ? 0 : overflow(depth - 1) + frame[1];
}

static void overflow_the_stack(void)
{
    crash_enter(0);
    _exit(overflow(1000 * 1000));
}

static struct crash_table *new_table(void)
{
    struct crash_table *table = crash_table_new();
    assert_non_null(table);
    return table;
}

static void the_token_is_named_and_the_death_stays_the_same(void **state)
{
    (void)state;
    struct crash_table *table = new_table();
    struct crash crash;
    int status;
    pid_t worker = run(table, 2, die_in_two, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_true(crash_of_worker(table, worker, &crash));
    assert_string_equal(crash.token, "two");
    assert_string_equal(crash.module, "/m.so");
    assert_int_equal(crash.signal, SIGABRT);
    assert_false(crash_of_worker(table, worker + 1, &crash));
}

static void what_is_not_the_librarys_is_not_noted(void **state)
{
    (void)state;
    struct crash_table *table = new_table();
    struct crash crash;
    int status;
    pid_t worker = run(table, 2, die_outside, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_false(crash_of_worker(table, worker, &crash));
    worker = run(table, 2, fork_and_let_that_die, &status);
    assert_true(WIFEXITED(status));
    assert_false(crash_of_worker(table, worker, &crash));
}

static void a_signal_that_is_sent_ends_it_as_well(void **state)
{
    (void)state;
    int status;
    run(new_table(), 2, die_by_a_signal_that_is_sent, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGFPE);
}

static void a_stack_that_overflows_is_noted(void **state)
{
    (void)state;
    struct crash_table *table = new_table();
    struct crash crash;
    int status;
    pid_t worker = run(table, 2, overflow_the_stack, &status);
    assert_true(crash_of_worker(table, worker, &crash));
    assert_int_equal(crash.signal, SIGSEGV);
}

static void a_token_is_kept_out_ever_longer_and_bridged_once_each_time(void **state)
{
    (void)state;
    static const uint64_t pauses[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    struct crash_table *table = new_table();
    int status;
    for (size_t i = 0; i < ARRAY_SIZE(pauses); i++) {
        struct crash crash;
        pid_t worker = run(table, 2, die_in_one, &status);
        assert_true(crash_of_worker(table, worker, &crash));
        assert_int_equal(crash.count, i + 1);
        assert_int_equal(crash.until - crash.at, pauses[i]);
        assert_int_equal(crash.covered, i == 0); /* the others came while it was kept out */
    }
}

static void the_only_token_is_not_covered_by_others(void **state)
{
    (void)state;
    struct crash_table *table = new_table();
    struct crash crash;
    int status;
    pid_t worker = run(table, 1, die_in_one, &status);
    assert_true(crash_of_worker(table, worker, &crash));
    assert_false(crash.covered);
}

static struct pin_budget *budget;

static enum token_error begin_login_in_two(void)
{
    struct pin pin = {.size = 4, .text = "1234"};
    struct pin_attempt *attempt = NULL;
    struct problem problem;
    return pin_budget_begin(budget, &config.tokens[1].settings, &pin, &attempt, &problem);
}

static void die_in_one_in_a_login_of_two(void)
{
    if (begin_login_in_two() == TOKEN_OK)
        die_in_one();
}

static void die_in_a_login_of_two(void)
{
    if (begin_login_in_two() == TOKEN_OK)
        die_in_two();
}

static void a_pin_is_not_given_up_for_deaths_in_another_token(void **state)
{
    (void)state;
    struct crash_table *table = new_table();
    int status;
    budget = pin_budget_new();
    assert_non_null(budget);
    for (int i = 0; i < 4; i++) {
        run(table, 2, die_in_one_in_a_login_of_two, &status);
        assert_true(WIFSIGNALED(status));
    }
    for (int i = 0; i < 2; i++) {
        run(table, 2, die_in_a_login_of_two, &status);
        assert_true(WIFSIGNALED(status));
    }
    run(table, 2, die_in_a_login_of_two, &status);
    assert_true(WIFEXITED(status)); /* it was not tried any more */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_token_is_named_and_the_death_stays_the_same),
        cmocka_unit_test(what_is_not_the_librarys_is_not_noted),
        cmocka_unit_test(a_signal_that_is_sent_ends_it_as_well),
        cmocka_unit_test(a_stack_that_overflows_is_noted),
        cmocka_unit_test(a_token_is_kept_out_ever_longer_and_bridged_once_each_time),
        cmocka_unit_test(the_only_token_is_not_covered_by_others),
        cmocka_unit_test(a_pin_is_not_given_up_for_deaths_in_another_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
