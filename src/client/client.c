#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/address.h"

struct client {
    int fd;      /* connected socket, or -1 */
    pid_t owner; /* the process that connected: a fork's child must not share the connection */
    uint64_t next_id;
    struct sockaddr_un address;
    uint8_t datagram[WIRE_DATAGRAM_SIZE_MAX]; /* not on the stack: an ASYNC job's is 32 KiB */
};

/* How one try ended, when it did not end the call. */
enum attempt { ATTEMPT_ANSWERED, ATTEMPT_LOST, ATTEMPT_TIMEOUT };

struct client *client_new(const char *path)
{
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return NULL;
    client->fd = -1;
    client->address = address_of_path(path);
    return client;
}

static void disconnect(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

void client_free(struct client *client)
{
    if (client == NULL)
        return;
    disconnect(client);
    free(client);
}

static int connect_once(struct client *client, struct problem *problem)
{
    client->fd = address_connect(&client->address, problem);
    client->owner = getpid();
    return client->fd >= 0 ? 0 : -1;
}

static void pause_ms(uint32_t milliseconds)
{
    struct timespec time = clock_timespec(milliseconds);
    nanosleep(&time, NULL);
}

/* 0 when the socket is ready for `events` (or has an error to be read), -1 at the deadline. */
static int wait_for(int fd, short events, uint64_t deadline)
{
    for (;;) {
        uint32_t left = clock_left_ms(deadline);
        struct pollfd descriptor = {.fd = fd, .events = events};
        int ready = poll(&descriptor, 1, left > INT32_MAX ? INT32_MAX : (int)left);
        if (ready > 0)
            return 0;
        if ((ready == 0 || errno != EINTR) && clock_left_ms(deadline) == 0)
            return -1;
    }
}

static enum attempt send_request(struct client *client, size_t size, uint64_t deadline)
{
    while (send(client->fd, client->datagram, size, MSG_NOSIGNAL) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return ATTEMPT_LOST;
        if (wait_for(client->fd, POLLOUT, deadline) != 0)
            return ATTEMPT_TIMEOUT;
    }
    return ATTEMPT_ANSWERED;
}

/*
 * Receives until the reply with this id is there. Others are answers to requests that this
 * thread gave up at their deadline.
 */
static enum attempt receive_reply(struct client *client, uint64_t id, uint64_t deadline,
                                  struct wire_reply *reply)
{
    for (;;) {
        if (wait_for(client->fd, POLLIN, deadline) != 0)
            return ATTEMPT_TIMEOUT;
        ssize_t size = recv(client->fd, client->datagram, sizeof(client->datagram), 0);
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (size <= 0 || !wire_reply_decode(client->datagram, (size_t)size, reply))
            return ATTEMPT_LOST;
        if (reply->id == id)
            return ATTEMPT_ANSWERED;
        explicit_bzero(client->datagram, (size_t)size);
    }
}

static enum attempt exchange(struct client *client, struct wire_request *request, uint64_t deadline,
                             struct wire_reply *reply, struct problem *problem)
{
    if (client->fd >= 0 && client->owner != getpid())
        disconnect(client);
    if (client->fd < 0 && connect_once(client, problem) != 0)
        return ATTEMPT_LOST;

    request->deadline_ms = clock_left_ms(deadline);
    request->id = ++client->next_id;
    size_t size = wire_request_encode(request, client->datagram, sizeof(client->datagram));
    enum attempt attempt = send_request(client, size, deadline);
    if (attempt == ATTEMPT_ANSWERED)
        attempt = receive_reply(client, request->id, deadline, reply);
    if (attempt != ATTEMPT_ANSWERED) {
        disconnect(client);
        problem_set(problem, -1, "immured at %s %s", client->address.sun_path,
                    attempt == ATTEMPT_LOST ? "closed the connection" : "did not answer in time");
    }
    return attempt;
}

static int worth_repeating(enum attempt attempt, const struct wire_reply *reply)
{
    return attempt == ATTEMPT_LOST ||
           (attempt == ATTEMPT_ANSWERED &&
            (reply->status == WIRE_BUSY || reply->status == WIRE_SHUTTING_DOWN));
}

bool client_fits(const struct wire_request *request, struct problem *problem)
{
    if (request->payload_size <= WIRE_PAYLOAD_SIZE_MAX)
        return true;
    return problem_set(problem, false, "a request of %zu bytes is over the limit of %d",
                       request->payload_size, WIRE_PAYLOAD_SIZE_MAX);
}

enum client_error client_take_reply(const struct wire_reply *reply, uint8_t *payload, size_t *size,
                                    uint16_t *status, struct problem *problem)
{
    *status = reply->status;
    if (reply->status != WIRE_OK) {
        problem_set(problem, 0, "%s: %.*s", wire_status_name(reply->status),
                    (int)reply->payload_size, (const char *)reply->payload);
        return CLIENT_REFUSED;
    }
    if (reply->payload_size > *size) {
        problem_set(problem, 0, "immured's answer of %zu bytes does not fit %zu",
                    reply->payload_size, *size);
        return CLIENT_PROTOCOL;
    }
    if (reply->payload_size > 0)
        memcpy(payload, reply->payload, reply->payload_size);
    *size = reply->payload_size;
    return CLIENT_OK;
}

static enum client_error take_reply(struct client *client, const struct wire_reply *reply,
                                    uint8_t *payload, size_t *size, uint16_t *status,
                                    struct problem *problem)
{
    enum client_error error = client_take_reply(reply, payload, size, status, problem);
    explicit_bzero(client->datagram, WIRE_REPLY_HEADER_SIZE + reply->payload_size);
    return error;
}

enum client_error client_call(struct client *client, struct wire_request *request,
                              uint32_t timeout_ms, uint8_t *payload, size_t *size, uint16_t *status,
                              struct problem *problem)
{
    struct wire_reply reply = {0};
    uint64_t deadline = clock_now_ms() + timeout_ms;
    uint32_t pause = RETRY_PAUSE_FIRST_MS;

    if (!client_fits(request, problem))
        return CLIENT_PROTOCOL;
    for (;;) {
        enum attempt attempt = exchange(client, request, deadline, &reply, problem);
        if (!worth_repeating(attempt, &reply))
            return attempt == ATTEMPT_TIMEOUT
                       ? CLIENT_TIMEOUT
                       : take_reply(client, &reply, payload, size, status, problem);
        if (clock_left_ms(deadline) <= pause)
            return attempt == ATTEMPT_LOST
                       ? CLIENT_UNREACHABLE
                       : take_reply(client, &reply, payload, size, status, problem);
        pause_ms(pause);
        pause = pause * 2 > RETRY_PAUSE_MAX_MS ? RETRY_PAUSE_MAX_MS : pause * 2;
    }
}
