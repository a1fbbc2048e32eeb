/* A small immured in a thread of the test's process, on a real socket, that plays a script. */
#ifndef IMMURE_TESTS_UNIT_SERVER_H
#define IMMURE_TESTS_UNIT_SERVER_H

#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/message.h"

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

#endif
