#include "test.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/problem.h"
#include "base/secret.h"

static void test_problem_has_no_control_characters(void **state)
{
    struct problem problem;
    (void)state;
    assert_int_equal(problem_set(&problem, -7, "label '%s'", "a\nERROR: forged\x1b[2J"), -7);
    assert_string_equal(problem.text, "label 'a?ERROR: forged?[2J'");
    assert_int_equal(problem_prefix(&problem, -8, "token %s", "prod"), -8);
    assert_string_equal(problem.text, "token prod: label 'a?ERROR: forged?[2J'");
    assert_int_equal(problem_set(&problem, -1, "%s",
                                 "\xc2\x9b"
                                 "2J \xc2\x80 \xc2\xa0\xc3\x9b"),
                     -1);
    assert_string_equal(problem.text, "??2J ?? \xc2\xa0\xc3\x9b");
    assert_int_equal(problem_set(NULL, -9, "nobody listens"), -9);
}

static void test_problem_that_is_too_long_is_cut(void **state)
{
    struct problem problem;
    char text[PROBLEM_TEXT_SIZE * 2];
    (void)state;
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    problem_set(&problem, 0, "%s", text);
    assert_int_equal(strlen(problem.text), PROBLEM_TEXT_SIZE - 1);
    problem_prefix(&problem, 0, "%s", "context");
    assert_int_equal(strlen(problem.text), PROBLEM_TEXT_SIZE - 1);
    assert_memory_equal(problem.text, "context: xxx", 12);
}

/* Runs `write_line` with standard error in a pipe and returns what came out. */
static size_t captured(void (*write_line)(void), char *output, size_t size)
{
    int pipe_fds[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(pipe_fds), 0);
    dup2(pipe_fds[1], STDERR_FILENO);
    write_line();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipe_fds[1]);
    ssize_t length = read(pipe_fds[0], output, size - 1);
    close(pipe_fds[0]);
    assert_true(length >= 0);
    output[length] = '\0';
    return (size_t)length;
}

static void log_forged(void)
{
    log_warning("peer says '%s'", "x\n<3>forged");
}

static void log_long(void)
{
    char text[5000];
    memset(text, 'y', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    log_warning("%s", text);
}

static void test_log_line_is_one_line_whatever_is_in_it(void **state)
{
    char output[8192];
    (void)state;
    size_t size = captured(log_forged, output, sizeof(output));
    assert_non_null(strstr(output, "warning: peer says 'x?<3>forged'\n"));
    assert_ptr_equal(strchr(output, '\n'), output + size - 1);
    size = captured(log_long, output, sizeof(output));
    assert_true(size <= 1024);
    assert_ptr_equal(strchr(output, '\n'), output + size - 1);
}

static void log_at_each_level(void)
{
    log_error("level-0");
    log_warning("level-1");
    log_notice("level-2");
}

static void test_log_level_hides_what_is_above_it(void **state)
{
    char output[1024];
    enum log_level level;
    (void)state;
    assert_true(log_level_from_name("warning", &level));
    assert_false(log_level_from_name("loud", &level));
    log_set_level(level);
    captured(log_at_each_level, output, sizeof(output));
    log_set_level(LOG_LEVEL_INFO);
    assert_non_null(strstr(output, "level-0"));
    assert_non_null(strstr(output, "level-1"));
    assert_null(strstr(output, "level-2"));
}

static void test_secret_memory_is_locked_and_zeroed(void **state)
{
    (void)state;
    struct pin *pin = pin_new();
    assert_non_null(pin);
    assert_int_equal(pin->size, 0);
    memcpy(pin->text, "1234", 5);
    pin_free(pin);
    pin_free(NULL);

    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &before), 0);
    if (geteuid() == 0) /* root may lock without limit */
        return;
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    assert_null(secret_alloc(4096));
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &before), 0); /* the other tests' */
}

/* Whether a child of this process, in which `in_child` is called, finds the PIN. */
static bool child_has(struct pin *pin, int (*in_child)(void *memory, size_t size), bool grandchild)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        if (in_child != NULL && in_child(pin, sizeof(*pin)) != 0)
            _exit(2);
        _exit(grandchild ? child_has(pin, NULL, false) : strcmp(pin->text, "1234") == 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_uint_in_range(status, 0, 1 << 8);
    return WEXITSTATUS(status) == 1;
}

static void test_secret_is_left_to_those_children_alone_that_are_to_have_it(void **state)
{
    (void)state;
    struct pin *pin = pin_new();
    assert_non_null(pin);
    memcpy(pin->text, "1234", 5);
    assert_false(child_has(pin, NULL, false));
    assert_int_equal(secret_bequeath(pin, sizeof(*pin)), 0);
    assert_true(child_has(pin, NULL, true));
    assert_true(child_has(pin, secret_keep, false));
    assert_false(child_has(pin, secret_keep, true));
    pin_free(pin);
}

static void test_deadline_that_has_passed_leaves_nothing(void **state)
{
    (void)state;
    assert_int_equal(clock_left_ms(clock_now_ms() - 1), 0);
    assert_uint_in_range(clock_left_ms(clock_now_ms() + 1000), 900, 1000);
    assert_int_equal(clock_left_ms(UINT64_MAX), UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_problem_has_no_control_characters),
        cmocka_unit_test(test_problem_that_is_too_long_is_cut),
        cmocka_unit_test(test_log_line_is_one_line_whatever_is_in_it),
        cmocka_unit_test(test_log_level_hides_what_is_above_it),
        cmocka_unit_test(test_secret_memory_is_locked_and_zeroed),
        cmocka_unit_test(test_secret_is_left_to_those_children_alone_that_are_to_have_it),
        cmocka_unit_test(test_deadline_that_has_passed_leaves_nothing),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
