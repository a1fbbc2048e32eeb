/* The client against a small server in a thread of this process, on a real socket. */
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/client.h"

/* What the server does with its requests, one character each; the last is repeated. */
struct server {
    char path[108];
    const char
        *script; /* e echo, c close, b busy, r refuse, o other id first, g garbage, s silent */
    atomic_int requests;
    atomic_bool stop;
    int listener;
    pthread_t thread;
};

static char next_action(struct server *server)
{
    int number = atomic_fetch_add(&server->requests, 1);
    size_t last = strlen(server->script) - 1;
    return server->script[(size_t)number < last ? (size_t)number : last];
}

static void send_reply(int fd, const struct wire_request *request, uint16_t status, uint64_t id)
{
    uint8_t datagram[1024];
    struct wire_reply reply = {request->operation, status, id, request->payload,
                               request->payload_size};
    size_t size = wire_reply_encode(&reply, datagram, sizeof(datagram));
    assert_int_not_equal(size, 0);
    assert_int_equal(send(fd, datagram, size, MSG_NOSIGNAL), size);
}

/* False when the connection is to be closed. */
static bool serve_one(struct server *server, int fd)
{
    uint8_t datagram[WIRE_DATAGRAM_SIZE_MAX];
    struct wire_request request;
    ssize_t size = recv(fd, datagram, sizeof(datagram), 0);
    if (size <= 0 || wire_request_decode(datagram, (size_t)size, &request) != WIRE_OK)
        return false;
    switch (next_action(server)) {
    case 'c':
        return false;
    case 'b':
        send_reply(fd, &request, WIRE_BUSY, request.id);
        break;
    case 'r':
        send_reply(fd, &request, WIRE_NOT_GRANTED, request.id);
        break;
    case 'g':
        send(fd, "garbage", 7, MSG_NOSIGNAL);
        break;
    case 's':
        break;
    case 'o':
        send_reply(fd, &request, WIRE_OK, request.id - 1);
        /* fall through */
    default:
        send_reply(fd, &request, WIRE_OK, request.id);
    }
    return true;
}

#define SERVER_CONNECTIONS 8

static void *serve(void *argument)
{
    struct server *server = argument;
    struct pollfd fds[1 + SERVER_CONNECTIONS] = {{.fd = server->listener, .events = POLLIN}};
    for (int i = 1; i <= SERVER_CONNECTIONS; i++)
        fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    while (!atomic_load(&server->stop)) {
        if (poll(fds, 1 + SERVER_CONNECTIONS, 10) <= 0)
            continue;
        for (int i = 1; i <= SERVER_CONNECTIONS; i++) {
            if (fds[i].fd >= 0 && fds[i].revents != 0 && !serve_one(server, fds[i].fd)) {
                close(fds[i].fd);
                fds[i].fd = -1;
            }
        }
        for (int i = 1; fds[0].revents != 0 && i <= SERVER_CONNECTIONS; i++) {
            if (fds[i].fd < 0) {
                fds[i].fd = accept(server->listener, NULL, NULL);
                fds[i].revents = 0;
                break;
            }
        }
    }
    for (int i = 0; i <= SERVER_CONNECTIONS; i++) {
        if (fds[i].fd >= 0)
            close(fds[i].fd);
    }
    return NULL;
}

static void server_start(struct server *server, const char *script)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(server->path, sizeof(server->path), "/tmp/immure-unit-client-%d.sock", getpid());
    unlink(server->path);
    strcpy(address.sun_path, server->path);
    server->script = script;
    atomic_init(&server->requests, 0);
    atomic_init(&server->stop, false);
    server->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(server->listener, 16), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_stop(struct server *server)
{
    atomic_store(&server->stop, true);
    pthread_join(server->thread, NULL);
    unlink(server->path);
}

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
    assert_in_range(clock_now_ms() - start, 150, 1500);
}

static void test_nobody_there_names_the_socket(void **state)
{
    struct problem problem = {""};
    uint64_t start = clock_now_ms();
    (void)state;
    struct client *client = client_new("/nonexistent/immure.sock");
    assert_int_equal(call(client, 100, &problem), CLIENT_UNREACHABLE);
    assert_non_null(strstr(problem.text, "/nonexistent/immure.sock: No such file"));
    assert_in_range(clock_now_ms() - start, 40, 1500);
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
