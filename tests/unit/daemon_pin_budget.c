/*
 * A refused PIN is not tried again by any process, and one that kills workers is tried twice.
 */
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/pin_budget.h"

static const struct token_settings settings = {
    .name = "prod", .module = "/m.so", .uri = "pkcs11:token=prod"};

static struct pin pin_of(const char *text)
{
    struct pin pin = {.size = strlen(text)};
    memcpy(pin.text, text, pin.size);
    return pin;
}

static enum token_error begin(struct pin_budget *budget, const struct token_settings *token,
                              const char *text, struct pin_attempt **attempt)
{
    struct pin pin = pin_of(text);
    struct problem problem;
    return pin_budget_begin(budget, token, &pin, attempt, &problem);
}

static enum token_error try_pin(struct pin_budget *budget, const struct token_settings *token,
                                const char *text, bool refused)
{
    struct pin_attempt *attempt = NULL;
    enum token_error error = begin(budget, token, text, &attempt);
    if (error == TOKEN_OK)
        pin_budget_end(attempt, refused);
    return error;
}

/* What a child process, such as another worker, is told; it then leaves or dies in the login. */
static enum token_error try_in_child(struct pin_budget *budget, bool die)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct pin_attempt *attempt = NULL;
        enum token_error error = begin(budget, &settings, "1234", &attempt);
        if (error == TOKEN_OK && !die)
            pin_budget_end(attempt, false);
        _exit(-error);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

static void a_refused_pin_is_not_tried_again(void **state)
{
    (void)state;
    struct pin_budget *budget = pin_budget_new();
    assert_non_null(budget);
    assert_int_equal(try_pin(budget, &settings, "1234", true), TOKEN_OK);
    assert_int_equal(try_pin(budget, &settings, "1234", true), TOKEN_PIN_INCORRECT);
    assert_int_equal(try_in_child(budget, false), TOKEN_PIN_INCORRECT);
}

static void a_good_pin_is_tried_any_number_of_times(void **state)
{
    (void)state;
    struct pin_budget *budget = pin_budget_new();
    assert_non_null(budget);
    for (int i = 0; i < 200; i++)
        assert_int_equal(try_pin(budget, &settings, "1234", false), TOKEN_OK);
}

static void a_changed_pin_or_configuration_is_tried(void **state)
{
    (void)state;
    struct pin_budget *budget = pin_budget_new();
    assert_non_null(budget);
    struct token_settings changed[] = {settings, settings, settings};
    changed[0].name = "other";
    changed[1].module = "/n.so";
    changed[2].uri = "pkcs11:token=other";
    assert_int_equal(try_pin(budget, &settings, "1234", true), TOKEN_OK);
    assert_int_equal(try_pin(budget, &settings, "1235", true), TOKEN_OK);
    for (size_t i = 0; i < ARRAY_SIZE(changed); i++)
        assert_int_equal(try_pin(budget, &changed[i], "1234", true), TOKEN_OK);
    assert_int_equal(try_pin(budget, &settings, "1234", true), TOKEN_PIN_INCORRECT);
}

static void a_pin_that_kills_two_workers_is_given_up(void **state)
{
    (void)state;
    struct pin_budget *budget = pin_budget_new();
    assert_non_null(budget);
    assert_int_equal(try_in_child(budget, true), TOKEN_OK);
    assert_int_equal(try_in_child(budget, true), TOKEN_OK);
    assert_int_equal(try_in_child(budget, true), TOKEN_PIN_INCORRECT);
    assert_int_equal(try_in_child(budget, false), TOKEN_PIN_INCORRECT);
}

static void one_death_is_forgiven_after_a_login(void **state)
{
    (void)state;
    struct pin_budget *budget = pin_budget_new();
    assert_non_null(budget);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(try_in_child(budget, true), TOKEN_OK);
        assert_int_equal(try_in_child(budget, false), TOKEN_OK);
    }
}

static void refused_pins_are_never_forgotten_for_new_ones(void **state)
{
    (void)state;
    struct pin_budget *budget = pin_budget_new();
    assert_non_null(budget);
    char text[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), "%d", 100000 + i);
        enum token_error error = try_pin(budget, &settings, text, true);
        assert_true(error == TOKEN_OK || error == TOKEN_PIN_INCORRECT);
    }
    assert_int_equal(try_pin(budget, &settings, "100000", true), TOKEN_PIN_INCORRECT);
    assert_int_equal(try_pin(budget, &settings, "999999", true), TOKEN_PIN_INCORRECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_pin_is_not_tried_again),
        cmocka_unit_test(a_good_pin_is_tried_any_number_of_times),
        cmocka_unit_test(a_changed_pin_or_configuration_is_tried),
        cmocka_unit_test(a_pin_that_kills_two_workers_is_given_up),
        cmocka_unit_test(one_death_is_forgiven_after_a_login),
        cmocka_unit_test(refused_pins_are_never_forgotten_for_new_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
