/* Pipelines against a small server in a thread of this process, on a real socket. */
#include "server.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "client/pipeline.h"

#define MANY 600 /* more than a socket's buffer takes at a time */

struct call {
    struct exchange exchange;
    uint8_t payload[64];
    int woken;
};

static void count_wake(void *argument)
{
    struct call *call = argument;
    call->woken++;
}

static void prepare(struct call *call)
{
    *call = (struct call){
        .exchange = {.request = {.operation = WIRE_SIGN,
                                 .payload = (const uint8_t *)"hello",
                                 .payload_size = 5},
                     .payload = call->payload,
                     .size = sizeof(call->payload),
                     .wake = count_wake,
                     .wake_argument = call},
    };
}

/* Hears of each change once, as nginx does: what is left undone then is not told again. */
static int watch_changes(const struct pipeline *pipeline)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int watcher = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(epoll_ctl(watcher, EPOLL_CTL_ADD, pipeline_descriptor(pipeline), &event), 0);
    return watcher;
}

/* Waits for changes, as a host does, until all have ended or the time is over. */
static void run_watched(struct pipeline *pipeline, int watcher, struct call *calls, int count,
                        uint64_t milliseconds)
{
    uint64_t end = clock_now_ms() + milliseconds;
    int under_way = count;
    while (under_way > 0 && clock_now_ms() < end) {
        struct epoll_event event;
        if (epoll_wait(watcher, &event, 1, (int)clock_left_ms(end)) > 0)
            pipeline_progress(pipeline);
        under_way = 0;
        for (int i = 0; i < count; i++)
            under_way += calls[i].exchange.state == EXCHANGE_SUBMITTED;
    }
}

static void run(struct pipeline *pipeline, struct call *calls, int count, uint64_t milliseconds)
{
    int watcher = watch_changes(pipeline);
    run_watched(pipeline, watcher, calls, count, milliseconds);
    close(watcher);
}

/* One request, until it has ended. */
static void submit_and_run(struct pipeline *pipeline, struct call *call, uint32_t timeout_ms)
{
    prepare(call);
    pipeline_submit(pipeline, &call->exchange, timeout_ms);
    run(pipeline, call, 1, 2000);
}

static void check(const char *script, int count, uint32_t timeout_ms, enum exchange_state expected,
                  const char *text)
{
    static struct call calls[MANY];
    struct server server;
    server_start(&server, script);
    struct pipeline *pipeline = pipeline_new(server.path);
    assert_non_null(pipeline);
    for (int i = 0; i < count; i++) {
        prepare(&calls[i]);
        pipeline_submit(pipeline, &calls[i].exchange, timeout_ms);
    }
    run(pipeline, calls, count, timeout_ms + 2000);
    for (int i = 0; i < count; i++) {
        assert_int_equal(calls[i].exchange.state, expected);
        assert_int_equal(calls[i].woken, 1);
        if (expected == EXCHANGE_ANSWERED)
            assert_memory_equal(calls[i].payload, "hello", 5);
        if (text != NULL)
            assert_non_null(strstr(calls[i].exchange.problem.text, text));
    }
    pipeline_free(pipeline);
    server_stop(&server);
}

static void test_reply_comes_back(void **state)
{
    (void)state;
    check("e", 1, 2000, EXCHANGE_ANSWERED, NULL);
}

static void test_more_than_the_socket_holds_come_back(void **state)
{
    (void)state;
    check("e", MANY, 5000, EXCHANGE_ANSWERED, NULL);
}

static void test_all_under_way_are_repeated_when_the_connection_is_lost(void **state)
{
    (void)state;
    check("ssscece", 20, 5000, EXCHANGE_ANSWERED, NULL);
}

static void test_busy_and_garbage_are_repeated(void **state)
{
    (void)state;
    check("bbgbe", 3, 5000, EXCHANGE_ANSWERED, NULL);
}

static void test_busy_while_the_socket_is_full_is_repeated(void **state)
{
    char script[MANY / 2 + 2];
    (void)state;
    memset(script, 'b', MANY / 2);
    strcpy(script + MANY / 2, "e");
    check(script, MANY, 3000, EXCHANGE_ANSWERED, NULL);
}

static void test_answer_to_an_abandoned_request_is_dropped(void **state)
{
    (void)state;
    check("o", 1, 2000, EXCHANGE_ANSWERED, NULL);
}

static void test_refusal_says_why(void **state)
{
    (void)state;
    check("r", 5, 2000, EXCHANGE_FAILED, "not granted: hello");
}

static void test_silence_ends_at_the_deadline(void **state)
{
    uint64_t start = clock_now_ms();
    (void)state;
    check("s", 5, 150, EXCHANGE_TIMED_OUT, "did not answer in time");
    assert_uint_in_range(clock_now_ms() - start, 150, 1500);
}

/* Two are submitted, one after the other, and what the later deadline waits for is silent. */
static void check_that_each_deadline_is_kept(const char *script, uint32_t first_ms,
                                             uint32_t second_ms)
{
    struct server server;
    struct call calls[2];
    struct call *sooner = first_ms < second_ms ? &calls[0] : &calls[1];
    struct call *later = first_ms < second_ms ? &calls[1] : &calls[0];
    server_start(&server, script);
    struct pipeline *pipeline = pipeline_new(server.path);
    for (int i = 0; i < 2; i++) {
        prepare(&calls[i]);
        pipeline_submit(pipeline, &calls[i].exchange, i == 0 ? first_ms : second_ms);
    }
    run(pipeline, sooner, 1, 1500);
    assert_int_not_equal(sooner->exchange.state, EXCHANGE_SUBMITTED);
    assert_int_equal(later->exchange.state, EXCHANGE_SUBMITTED);
    run(pipeline, later, 1, 4000);
    assert_int_equal(later->exchange.state, EXCHANGE_TIMED_OUT);
    pipeline_free(pipeline);
    server_stop(&server);
}

static void test_a_deadline_before_that_of_an_older_one_is_kept(void **state)
{
    (void)state;
    check_that_each_deadline_is_kept("s", 2000, 100);
}

static void test_what_was_busy_and_is_behind_younger_ones_ends_at_its_deadline(void **state)
{
    (void)state;
    check_that_each_deadline_is_kept("bs", 100, 2000);
}

static void test_busy_until_the_deadline_is_a_failure(void **state)
{
    (void)state;
    check("b", 2, 150, EXCHANGE_FAILED, "busy");
}

static void test_nobody_there_ends_at_the_deadline_and_names_the_socket(void **state)
{
    struct call call;
    (void)state;
    struct pipeline *pipeline = pipeline_new("/nonexistent/immure.sock");
    submit_and_run(pipeline, &call, 120);
    assert_int_equal(call.exchange.state, EXCHANGE_TIMED_OUT);
    assert_int_equal(call.exchange.result, CLIENT_UNREACHABLE);
    assert_non_null(strstr(call.exchange.problem.text, "/nonexistent/immure.sock"));
    pipeline_free(pipeline);
    pipeline_free(NULL);
}

static void test_server_that_starts_late_is_found(void **state)
{
    struct server server;
    struct call calls[3];
    char path[108];
    (void)state;
    snprintf(path, sizeof(path), "/tmp/immure-unit-client-%d.sock", getpid());
    struct pipeline *pipeline = pipeline_new(path);
    for (int i = 0; i < 3; i++) {
        prepare(&calls[i]);
        pipeline_submit(pipeline, &calls[i].exchange, 3000);
    }
    run(pipeline, calls, 3, 100);
    server_start(&server, "e");
    run(pipeline, calls, 3, 3000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(calls[i].exchange.state, EXCHANGE_ANSWERED);
    pipeline_free(pipeline);
    server_stop(&server);
}

static void test_cancelled_exchange_is_not_woken_and_disturbs_no_other(void **state)
{
    struct server server;
    struct call calls[3];
    (void)state;
    server_start(&server, "e");
    struct pipeline *pipeline = pipeline_new(server.path);
    for (int i = 0; i < 3; i++) {
        prepare(&calls[i]);
        pipeline_submit(pipeline, &calls[i].exchange, 2000);
    }
    pipeline_cancel(pipeline, &calls[1].exchange);
    run(pipeline, calls, 3, 2000);
    assert_int_equal(calls[0].exchange.state, EXCHANGE_ANSWERED);
    assert_int_equal(calls[1].exchange.state, EXCHANGE_CANCELLED);
    assert_int_equal(calls[1].woken, 0);
    assert_int_equal(calls[2].exchange.state, EXCHANGE_ANSWERED);
    pipeline_free(pipeline);
    server_stop(&server);
}

/* A host does not progress while nothing is under way, and is not told again what it heard then. */
static void test_deadline_is_kept_after_a_quiet_time(void **state)
{
    struct server server;
    struct call call;
    struct epoll_event event;
    (void)state;
    server_start(&server, "es");
    struct pipeline *pipeline = pipeline_new(server.path);
    int watcher = watch_changes(pipeline);
    prepare(&call);
    pipeline_submit(pipeline, &call.exchange, 100);
    run_watched(pipeline, watcher, &call, 1, 2000);
    assert_int_equal(call.exchange.state, EXCHANGE_ANSWERED);
    assert_int_equal(epoll_wait(watcher, &event, 1, 2000), 1); /* the first one's deadline */

    prepare(&call);
    pipeline_submit(pipeline, &call.exchange, 100);
    run_watched(pipeline, watcher, &call, 1, 2000);
    assert_int_equal(call.exchange.state, EXCHANGE_TIMED_OUT);
    close(watcher);
    pipeline_free(pipeline);
    server_stop(&server);
}

static void test_a_request_that_fits_no_datagram_fails_and_costs_others_nothing(void **state)
{
    static const uint8_t payload[WIRE_PAYLOAD_SIZE_MAX + 1];
    struct server server;
    struct call calls[2];
    (void)state;
    server_start(&server, "e");
    struct pipeline *pipeline = pipeline_new(server.path);
    prepare(&calls[0]);
    prepare(&calls[1]);
    calls[1].exchange.request.payload = payload;
    calls[1].exchange.request.payload_size = sizeof(payload);
    pipeline_submit(pipeline, &calls[0].exchange, 2000);
    pipeline_submit(pipeline, &calls[1].exchange, 2000);
    assert_int_equal(calls[1].exchange.state, EXCHANGE_FAILED);
    assert_int_equal(calls[1].exchange.result, CLIENT_PROTOCOL);
    assert_non_null(strstr(calls[1].exchange.problem.text, "32721 bytes"));
    run(pipeline, calls, 2, 2000);
    assert_int_equal(calls[0].exchange.state, EXCHANGE_ANSWERED);
    assert_int_equal(calls[1].woken, 0);
    assert_int_equal(atomic_load(&server.requests), 1);
    pipeline_free(pipeline);
    server_stop(&server);
}

/* A process that has copies of this one's descriptors, but for those of the server. */
static pid_t fork_holder(const char *path)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (int fd = 3; fd < 64; fd++) {
            struct sockaddr_un address = {.sun_family = AF_UNSPEC};
            socklen_t size = sizeof(address);
            if (getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
                strcmp(address.sun_path, path) == 0)
                close(fd);
        }
        raise(SIGSTOP);
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
    return pid;
}

static void test_a_lost_connection_that_a_forked_process_has_keeps_nobody_awake(void **state)
{
    struct server server;
    struct call call;
    struct epoll_event event;
    (void)state;
    server_start(&server, "ece");
    struct pipeline *pipeline = pipeline_new(server.path);
    submit_and_run(pipeline, &call, 5000);
    pid_t holder = fork_holder(server.path);
    submit_and_run(pipeline, &call, 5000);
    assert_int_equal(call.exchange.state, EXCHANGE_ANSWERED);
    assert_int_equal(atomic_load(&server.requests), 3);
    pipeline_progress(pipeline); /* a timer may have fired */
    assert_int_equal(epoll_wait(pipeline_descriptor(pipeline), &event, 1, 50), 0);
    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    pipeline_free(pipeline);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reply_comes_back),
        cmocka_unit_test(test_more_than_the_socket_holds_come_back),
        cmocka_unit_test(test_all_under_way_are_repeated_when_the_connection_is_lost),
        cmocka_unit_test(test_busy_and_garbage_are_repeated),
        cmocka_unit_test(test_busy_while_the_socket_is_full_is_repeated),
        cmocka_unit_test(test_answer_to_an_abandoned_request_is_dropped),
        cmocka_unit_test(test_refusal_says_why),
        cmocka_unit_test(test_silence_ends_at_the_deadline),
        cmocka_unit_test(test_a_deadline_before_that_of_an_older_one_is_kept),
        cmocka_unit_test(test_what_was_busy_and_is_behind_younger_ones_ends_at_its_deadline),
        cmocka_unit_test(test_busy_until_the_deadline_is_a_failure),
        cmocka_unit_test(test_nobody_there_ends_at_the_deadline_and_names_the_socket),
        cmocka_unit_test(test_server_that_starts_late_is_found),
        cmocka_unit_test(test_deadline_is_kept_after_a_quiet_time),
        cmocka_unit_test(test_cancelled_exchange_is_not_woken_and_disturbs_no_other),
        cmocka_unit_test(test_a_request_that_fits_no_datagram_fails_and_costs_others_nothing),
        cmocka_unit_test(test_a_lost_connection_that_a_forked_process_has_keeps_nobody_awake),
    };
    return cmocka_run_group_tests_name("pipeline", tests, NULL, NULL);
}
