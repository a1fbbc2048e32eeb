/* The client against a small server in a thread of this process, on a real socket. */
#include "server.h"

#include <stdlib.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "client/client.h"

static enum client_error call(struct client *client, uint32_t timeout_ms, struct problem *problem)
{
    struct wire_request request = {
        .operation = WIRE_SIGN, .payload = (const uint8_t *)"hello", .payload_size = 5};
    uint8_t payload[64];
    size_t size = sizeof(payload);
    uint16_t status = 0;
    enum client_error error =
        client_call(client, &request, timeout_ms, payload, &size, &status, problem);
    if (error == CLIENT_OK) {
        assert_int_equal(size, 5);
        assert_memory_equal(payload, "hello", 5);
    }
    return error;
}

static void check(const char *script, uint32_t timeout_ms, enum client_error expected,
                  const char *text)
{
    struct server server;
    struct problem problem = {""};
    server_start(&server, script);
    struct client *client = client_new(server.path);
    assert_non_null(client);
    assert_int_equal(call(client, timeout_ms, &problem), expected);
    if (text != NULL)
        assert_non_null(strstr(problem.text, text));
    client_free(client);
    server_stop(&server);
}

static void test_reply_comes_back(void **state)
{
    (void)state;
    check("e", 2000, CLIENT_OK, NULL);
}

static void test_lost_connection_is_repeated(void **state)
{
    (void)state;
    check("cce", 2000, CLIENT_OK, NULL);
}

static void test_busy_is_repeated(void **state)
{
    (void)state;
    check("bbbe", 2000, CLIENT_OK, NULL);
}

static void test_garbage_is_repeated_on_a_new_connection(void **state)
{
    (void)state;
    check("ge", 2000, CLIENT_OK, NULL);
}

static void test_answer_to_an_abandoned_request_is_dropped(void **state)
{
    (void)state;
    check("o", 2000, CLIENT_OK, NULL);
}

static void test_refusal_is_not_repeated_and_says_why(void **state)
{
    (void)state;
    check("re", 2000, CLIENT_REFUSED, "not granted: hello");
}

static void test_busy_until_the_deadline_is_refused(void **state)
{
    (void)state;
    check("b", 100, CLIENT_REFUSED, "busy");
}

static void test_silence_ends_at_the_deadline(void **state)
{
    uint64_t start = clock_now_ms();
    (void)state;
    check("s", 150, CLIENT_TIMEOUT, "did not answer in time");
    assert_uint_in_range(clock_now_ms() - start, 150, 1500);
}

static void test_nobody_there_names_the_socket(void **state)
{
    struct problem problem = {""};
    uint64_t start = clock_now_ms();
    (void)state;
    struct client *client = client_new("/nonexistent/immure.sock");
    assert_int_equal(call(client, 100, &problem), CLIENT_UNREACHABLE);
    assert_non_null(strstr(problem.text, "/nonexistent/immure.sock: No such file"));
    assert_uint_in_range(clock_now_ms() - start, 40, 1500);
    client_free(client);
    client_free(NULL);
}

static void test_path_that_does_not_fit_is_not_cut(void **state)
{
    char path[300];
    struct problem problem = {""};
    (void)state;
    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    struct client *client = client_new(path);
    assert_int_equal(call(client, 10, &problem), CLIENT_UNREACHABLE);
    assert_non_null(strstr(problem.text, "path"));
    client_free(client);
}

static void test_server_that_starts_late_is_found(void **state)
{
    struct server server;
    struct problem problem = {""};
    (void)state;
    char path[108];
    snprintf(path, sizeof(path), "/tmp/immure-unit-client-%d.sock", getpid());
    struct client *client = client_new(path);
    pid_t waiter = fork();
    if (waiter == 0)
        _exit(call(client, 3000, &problem) == CLIENT_OK ? 0 : 1);
    usleep(200000);
    server_start(&server, "e");
    int status;
    assert_int_equal(waitpid(waiter, &status, 0), waiter);
    assert_int_equal(status, 0);
    client_free(client);
    server_stop(&server);
}

/* The child must not use, nor shut down, the parent's connection. */
static void test_connection_is_not_shared_over_fork(void **state)
{
    struct server server;
    struct problem problem = {""};
    (void)state;
    server_start(&server, "e");
    struct client *client = client_new(server.path);
    assert_int_equal(call(client, 2000, &problem), CLIENT_OK);
    pid_t child = fork();
    if (child == 0) {
        int failed = 0;
        for (int i = 0; i < 100; i++)
            failed += call(client, 2000, &problem) != CLIENT_OK;
        client_free(client);
        _exit(failed);
    }
    for (int i = 0; i < 100; i++)
        assert_int_equal(call(client, 2000, &problem), CLIENT_OK);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(call(client, 2000, &problem), CLIENT_OK);
    client_free(client);
    server_stop(&server);
}

static void test_answer_that_does_not_fit_is_refused(void **state)
{
    struct server server;
    struct problem problem = {""};
    struct wire_request request = {
        .operation = WIRE_SIGN, .payload = (const uint8_t *)"hello", .payload_size = 5};
    uint8_t payload[4];
    size_t size = sizeof(payload);
    uint16_t status;
    (void)state;
    server_start(&server, "e");
    struct client *client = client_new(server.path);
    assert_int_equal(client_call(client, &request, 2000, payload, &size, &status, &problem),
                     CLIENT_PROTOCOL);
    client_free(client);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reply_comes_back),
        cmocka_unit_test(test_lost_connection_is_repeated),
        cmocka_unit_test(test_busy_is_repeated),
        cmocka_unit_test(test_garbage_is_repeated_on_a_new_connection),
        cmocka_unit_test(test_answer_to_an_abandoned_request_is_dropped),
        cmocka_unit_test(test_refusal_is_not_repeated_and_says_why),
        cmocka_unit_test(test_busy_until_the_deadline_is_refused),
        cmocka_unit_test(test_silence_ends_at_the_deadline),
        cmocka_unit_test(test_nobody_there_names_the_socket),
        cmocka_unit_test(test_path_that_does_not_fit_is_not_cut),
        cmocka_unit_test(test_server_that_starts_late_is_found),
        cmocka_unit_test(test_connection_is_not_shared_over_fork),
        cmocka_unit_test(test_answer_that_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
