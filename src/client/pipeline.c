#include "client/pipeline.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/address.h"

struct pipeline {
    int events; /* epoll of the two below: what the host waits for */
    int timer;
    int socket; /* or -1 */
    pid_t owner;
    uint64_t next_id;
    uint64_t timer_at;    /* when the timer fires; 0: it is not set */
    uint64_t pause_until; /* nothing is sent before; 0: no pause */
    uint32_t pause_ms;
    bool waits_for_room;           /* the socket's buffer was full */
    struct exchange *first, *last; /* under way, in the order in which they are sent */
    struct exchange *unsent;       /* the first of them that this connection has not carried */
    uint64_t earliest;             /* no deadline of theirs is before */
    struct sockaddr_un address;
    uint8_t datagram[WIRE_DATAGRAM_SIZE_MAX]; /* not on the stack: an ASYNC job's is 32 KiB */
};

/* --- Exchanges ------------------------------------------------------------------------------ */

static void link_last(struct pipeline *pipeline, struct exchange *exchange)
{
    exchange->next = NULL;
    exchange->previous = pipeline->last;
    if (pipeline->last != NULL)
        pipeline->last->next = exchange;
    else
        pipeline->first = exchange;
    pipeline->last = exchange;
    if (pipeline->unsent == NULL)
        pipeline->unsent = exchange;
}

static void unlink_exchange(struct pipeline *pipeline, struct exchange *exchange)
{
    if (pipeline->unsent == exchange)
        pipeline->unsent = exchange->next;
    if (exchange->previous != NULL)
        exchange->previous->next = exchange->next;
    else
        pipeline->first = exchange->next;
    if (exchange->next != NULL)
        exchange->next->previous = exchange->previous;
    else
        pipeline->last = exchange->previous;
}

static void end_exchange(struct pipeline *pipeline, struct exchange *exchange,
                         enum exchange_state state)
{
    unlink_exchange(pipeline, exchange);
    exchange->state = state;
    if (state != EXCHANGE_CANCELLED && exchange->wake != NULL)
        exchange->wake(exchange->wake_argument);
}

/* --- The connection ------------------------------------------------------------------------- */

static void start_pause(struct pipeline *pipeline)
{
    uint32_t twice = pipeline->pause_ms * 2;
    if (twice < RETRY_PAUSE_FIRST_MS)
        twice = RETRY_PAUSE_FIRST_MS;
    pipeline->pause_ms = twice > RETRY_PAUSE_MAX_MS ? RETRY_PAUSE_MAX_MS : twice;
    pipeline->pause_until = clock_now_ms() + pipeline->pause_ms;
}

static bool watch(const struct pipeline *pipeline, int operation, int fd, uint32_t what)
{
    struct epoll_event event = {.events = what};
    return epoll_ctl(pipeline->events, operation, fd, &event) == 0;
}

static void wait_for_room(struct pipeline *pipeline, bool wanted)
{
    if (pipeline->waits_for_room != wanted)
        watch(pipeline, EPOLL_CTL_MOD, pipeline->socket, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
    pipeline->waits_for_room = wanted;
}

/* All that is under way goes out again on the next connection. */
static void disconnect(struct pipeline *pipeline)
{
    if (pipeline->socket < 0)
        return;
    /* A forked process may have it, too, and would keep the epoll awake. */
    watch(pipeline, EPOLL_CTL_DEL, pipeline->socket, 0);
    close(pipeline->socket);
    pipeline->socket = -1;
    pipeline->waits_for_room = false;
    pipeline->unsent = pipeline->first;
    start_pause(pipeline);
}

static bool connect_now(struct pipeline *pipeline, struct problem *problem)
{
    pipeline->socket = address_connect(&pipeline->address, problem);
    if (pipeline->socket >= 0 && watch(pipeline, EPOLL_CTL_ADD, pipeline->socket, EPOLLIN))
        return true;
    if (pipeline->socket >= 0) {
        problem_set(problem, 0, "cannot watch the connection to immured");
        close(pipeline->socket);
        pipeline->socket = -1;
    }
    start_pause(pipeline);
    return false;
}

/* False: no more can be sent for now. */
static bool send_one(struct pipeline *pipeline, struct exchange *exchange)
{
    exchange->request.id = ++pipeline->next_id;
    exchange->request.deadline_ms = clock_left_ms(exchange->deadline);
    size_t size =
        wire_request_encode(&exchange->request, pipeline->datagram, sizeof(pipeline->datagram));
    ssize_t sent;
    do {
        sent = send(pipeline->socket, pipeline->datagram, size, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return true;
    if (errno == EAGAIN)
        wait_for_room(pipeline, true);
    else
        disconnect(pipeline);
    return false;
}

static void send_all(struct pipeline *pipeline)
{
    if (pipeline->unsent == NULL || clock_now_ms() < pipeline->pause_until)
        return;
    if (pipeline->socket < 0 && !connect_now(pipeline, &pipeline->unsent->problem))
        return;
    while (pipeline->unsent != NULL && send_one(pipeline, pipeline->unsent))
        pipeline->unsent = pipeline->unsent->next;
    if (pipeline->unsent == NULL && pipeline->socket >= 0)
        wait_for_room(pipeline, false);
}

/* --- Replies -------------------------------------------------------------------------------- */

/* Replies come in about the order of their requests, so it is one of the first. */
static struct exchange *find(const struct pipeline *pipeline, uint64_t id)
{
    struct exchange *exchange = pipeline->first;
    while (exchange != pipeline->unsent && exchange->request.id != id)
        exchange = exchange->next;
    return exchange != pipeline->unsent ? exchange : NULL;
}

static void repeat_later(struct pipeline *pipeline, struct exchange *exchange)
{
    unlink_exchange(pipeline, exchange);
    link_last(pipeline, exchange);
    if (clock_now_ms() >= pipeline->pause_until) /* many are told so at a time: one pause for all */
        start_pause(pipeline);
    wait_for_room(pipeline, false); /* the pause's end is awaited, and the timer tells it */
}

static void take_reply(struct pipeline *pipeline, const struct wire_reply *reply)
{
    struct exchange *exchange = find(pipeline, reply->id);
    if (exchange == NULL)
        return; /* cancelled or timed out */
    bool transient = reply->status == WIRE_BUSY || reply->status == WIRE_SHUTTING_DOWN;
    exchange->result = client_take_reply(reply, exchange->payload, &exchange->size,
                                         &exchange->status, &exchange->problem);
    if (transient) {
        repeat_later(pipeline, exchange);
        return;
    }
    pipeline->pause_ms = 0;
    end_exchange(pipeline, exchange,
                 exchange->result == CLIENT_OK ? EXCHANGE_ANSWERED : EXCHANGE_FAILED);
}

static void receive_all(struct pipeline *pipeline)
{
    while (pipeline->socket >= 0) {
        struct wire_reply reply;
        ssize_t size = recv(pipeline->socket, pipeline->datagram, sizeof(pipeline->datagram), 0);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno == EAGAIN)
            return;
        if (size > 0 && wire_reply_decode(pipeline->datagram, (size_t)size, &reply)) {
            take_reply(pipeline, &reply);
            explicit_bzero(pipeline->datagram, (size_t)size);
        } else {
            disconnect(pipeline);
        }
    }
}

/* --- Time ----------------------------------------------------------------------------------- */

static void heed_deadline(struct pipeline *pipeline, const struct exchange *exchange)
{
    if (exchange->deadline < pipeline->earliest)
        pipeline->earliest = exchange->deadline;
}

static void end_late_ones(struct pipeline *pipeline)
{
    uint64_t now = clock_now_ms();
    struct exchange *exchange = pipeline->first;
    if (now < pipeline->earliest)
        return;
    pipeline->earliest = UINT64_MAX;
    while (exchange != NULL) {
        if (exchange->deadline > now) {
            heed_deadline(pipeline, exchange);
            exchange = exchange->next;
            continue;
        }
        bool refused = exchange->result == CLIENT_REFUSED; /* busy all the time */
        if (!refused)
            exchange->result = pipeline->socket < 0 ? CLIENT_UNREACHABLE : CLIENT_TIMEOUT;
        if (exchange->result == CLIENT_TIMEOUT)
            problem_set(&exchange->problem, 0, "immured at %s did not answer in time",
                        pipeline->address.sun_path);
        end_exchange(pipeline, exchange, refused ? EXCHANGE_FAILED : EXCHANGE_TIMED_OUT);
        exchange = pipeline->first; /* waking may have changed the list */
    }
}

/* A timer that fires too early does no harm, so it is seldom set. */
static void set_timer(struct pipeline *pipeline)
{
    uint64_t at = pipeline->first != NULL ? pipeline->earliest : 0;
    bool paused = pipeline->unsent != NULL && !pipeline->waits_for_room;
    if (paused && pipeline->pause_until < at)
        at = pipeline->pause_until;
    if (at == 0 || (pipeline->timer_at != 0 && pipeline->timer_at <= at))
        return;
    struct itimerspec when = {.it_value = clock_timespec(at)};
    when.it_value.tv_nsec++; /* never zero, which would stop the timer */
    if (timerfd_settime(pipeline->timer, TFD_TIMER_ABSTIME, &when, NULL) == 0)
        pipeline->timer_at = at;
}

static void read_timer(struct pipeline *pipeline)
{
    uint64_t expirations;
    if (pipeline->timer_at == 0 || clock_now_ms() < pipeline->timer_at)
        return;
    if (read(pipeline->timer, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
        return;
    pipeline->timer_at = 0;
}

/* --- For the host --------------------------------------------------------------------------- */

struct pipeline *pipeline_new(const char *path)
{
    struct pipeline *pipeline = calloc(1, sizeof(*pipeline));
    if (pipeline == NULL)
        return NULL;
    pipeline->socket = -1;
    pipeline->owner = getpid();
    pipeline->address = address_of_path(path);
    pipeline->events = epoll_create1(EPOLL_CLOEXEC);
    pipeline->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (pipeline->events >= 0 && pipeline->timer >= 0 &&
        watch(pipeline, EPOLL_CTL_ADD, pipeline->timer, EPOLLIN))
        return pipeline;
    pipeline_free(pipeline);
    return NULL;
}

void pipeline_free(struct pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    if (pipeline->socket >= 0)
        close(pipeline->socket);
    if (pipeline->timer >= 0)
        close(pipeline->timer);
    if (pipeline->events >= 0)
        close(pipeline->events);
    free(pipeline);
}

int pipeline_descriptor(const struct pipeline *pipeline)
{
    return pipeline->events;
}

pid_t pipeline_owner(const struct pipeline *pipeline)
{
    return pipeline->owner;
}

void pipeline_submit(struct pipeline *pipeline, struct exchange *exchange, uint32_t timeout_ms)
{
    if (!client_fits(&exchange->request, &exchange->problem)) {
        exchange->state = EXCHANGE_FAILED;
        exchange->result = CLIENT_PROTOCOL;
        return;
    }
    exchange->state = EXCHANGE_SUBMITTED;
    exchange->result = CLIENT_OK;
    exchange->deadline = clock_now_ms() + timeout_ms;
    if (pipeline->first == NULL)
        pipeline->earliest = UINT64_MAX; /* those that it was of have ended */
    heed_deadline(pipeline, exchange);
    link_last(pipeline, exchange);
    send_all(pipeline);
    read_timer(pipeline); /* it may have fired while nothing was under way, and nobody listened */
    set_timer(pipeline);
}

void pipeline_cancel(struct pipeline *pipeline, struct exchange *exchange)
{
    if (exchange->state == EXCHANGE_SUBMITTED)
        end_exchange(pipeline, exchange, EXCHANGE_CANCELLED);
}

void pipeline_progress(struct pipeline *pipeline)
{
    read_timer(pipeline);
    receive_all(pipeline);
    end_late_ones(pipeline);
    send_all(pipeline);
    set_timer(pipeline);
}
