#include "daemon/connection.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/rate_limit.h"

static struct rate_limit refusals = {.lock = PTHREAD_MUTEX_INITIALIZER};

void connections_init(struct connections *connections)
{
    memset(connections, 0, sizeof(*connections));
    pthread_mutex_init(&connections->lock, NULL);
    pthread_cond_init(&connections->changed, NULL);
}

void connections_counts(struct connections *connections, size_t *count, uint64_t *refused)
{
    pthread_mutex_lock(&connections->lock);
    *count = connections->count;
    *refused = connections->refused;
    pthread_mutex_unlock(&connections->lock);
}

static struct connection *connection_new(struct connections *connections,
                                         const struct config *config, int socket)
{
    struct peer peer;
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL || !peer_of(socket, &peer)) {
        log_warning("a client was turned away: %s", strerror(errno));
        free(connection);
        return NULL;
    }
    connection->connections = connections;
    connection->slot = CONNECTION_SLOTS;
    connection->socket = socket;
    atomic_init(&connection->references, 1);
    atomic_init(&connection->broken, false);
    connection->pid = peer.pid;
    connection->uid = peer.uid;
    memcpy(connection->unit, peer.unit, sizeof(connection->unit));
    connection->is_operator = peer.uid == 0 || peer.uid == geteuid();
    connection->grants = grants_of_peer(config, &peer);
    free(peer.groups);
    return connection;
}

bool connection_is_stranger(const struct connection *connection)
{
    return connection->grants == 0 && !connection->is_operator;
}

/* Of how many of its kind a new connection may be one. */
static const struct quota {
    size_t all, user;
    const char *whose;
} quotas[] = {
    [false] = {CONNECTIONS_MAX, CONNECTIONS_USER_MAX, ""},
    [true] = {STRANGERS_MAX, STRANGERS_USER_MAX, " by users without a grant"},
};

static bool has_room(const struct connections *connections, const struct connection *new)
{
    bool stranger = connection_is_stranger(new);
    size_t all = 0, user = 0;
    for (size_t i = 0; i < CONNECTION_SLOTS; i++) {
        const struct connection *other = connections->slots[i];
        if (other == NULL || connection_is_stranger(other) != stranger)
            continue;
        all++;
        user += other->uid == new->uid;
    }
    return all < quotas[stranger].all && (new->uid == 0 || user < quotas[stranger].user);
}

static bool enter_table(struct connections *connections, struct connection *connection)
{
    if (!has_room(connections, connection))
        return false;
    size_t slot = 0;
    while (connections->slots[slot] != NULL)
        slot++;
    connections->slots[slot] = connection;
    connections->count++;
    connection->slot = slot;
    return true;
}

/* Before the socket is closed, so that a drain never shuts down a descriptor of another's. */
static void leave_table(struct connection *connection)
{
    struct connections *connections = connection->connections;
    if (connection->slot == CONNECTION_SLOTS)
        return; /* it was turned away */
    pthread_mutex_lock(&connections->lock);
    connections->slots[connection->slot] = NULL;
    connections->count--;
    pthread_cond_broadcast(&connections->changed);
    pthread_mutex_unlock(&connections->lock);
}

static bool register_connection(struct connections *connections, struct connection *connection)
{
    const struct quota *quota = &quotas[connection_is_stranger(connection)];
    unsigned suppressed;
    pthread_mutex_lock(&connections->lock);
    bool draining = connections->draining;
    bool good = !draining && enter_table(connections, connection);
    connections->refused += !good && !draining;
    pthread_mutex_unlock(&connections->lock);
    if (!good && !draining && rate_limit_pass(&refusals, &suppressed))
        log_warning("a client was turned away: uid %u (pid %d): more than %zu connections of one "
                    "user or %zu in all are open%s (%u more such since the last line)",
                    (unsigned)connection->uid, (int)connection->pid, quota->user, quota->all,
                    quota->whose, suppressed);
    return good;
}

/* Without it, a client is served as well. */
static void bound_unread_refusals(const struct connection *connection)
{
    const int size = STRANGERS_SEND_BUFFER_SIZE;
    if (connection_is_stranger(connection) &&
        setsockopt(connection->socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) != 0)
        log_warning("SO_SNDBUF: %s", strerror(errno));
}

void connections_add(struct connections *connections, const struct config *config, int epoll,
                     int socket)
{
    struct connection *connection = connection_new(connections, config, socket);
    if (connection == NULL) {
        close(socket);
        return;
    }
    if (!register_connection(connections, connection)) {
        connection_release(connection);
        return;
    }
    bound_unread_refusals(connection);
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) != 0) {
        log_error("a client was turned away: epoll_ctl: %s", strerror(errno));
        connection_release(connection);
    }
}

bool connections_drain(struct connections *connections, uint64_t deadline)
{
    struct timespec until = clock_timespec(deadline);
    int error = 0;
    pthread_mutex_lock(&connections->lock);
    connections->draining = true;
    for (size_t i = 0; i < CONNECTION_SLOTS; i++) {
        if (connections->slots[i] != NULL)
            connection_finish(connections->slots[i]);
    }
    while (connections->count > 0 && error == 0)
        error = pthread_cond_clockwait(&connections->changed, &connections->lock, CLOCK_MONOTONIC,
                                       &until);
    bool empty = connections->count == 0;
    pthread_mutex_unlock(&connections->lock);
    return empty;
}

bool connection_watch(struct connection *connection, int epoll)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = connection};
    return epoll_ctl(epoll, EPOLL_CTL_MOD, connection->socket, &event) == 0;
}

bool connection_has_left(const struct connection *connection)
{
    struct pollfd poll_for = {.fd = connection->socket};
    return poll(&poll_for, 1, 0) > 0; /* POLLHUP: a drain alone, of one direction, is none */
}

void connection_hold(struct connection *connection)
{
    atomic_fetch_add(&connection->references, 1);
}

void connection_release(struct connection *connection)
{
    if (atomic_fetch_sub(&connection->references, 1) != 1)
        return;
    leave_table(connection);
    close(connection->socket);
    free(connection);
}

void connection_finish(struct connection *connection)
{
    /* The client's next send fails; what it has sent before is still received. */
    shutdown(connection->socket, SHUT_RD);
}

void connection_break(struct connection *connection)
{
    atomic_store(&connection->broken, true);
    shutdown(connection->socket, SHUT_RDWR);
}
