/*
 * Clients' connections: who is at the other end, and when it ends.
 *
 * A connection is held once by the epoll instance and once by each thread that answers on it; it
 * is closed, and leaves the table, when the last of them releases it. The epoll instance's hold
 * is released by the thread that finds the end when it receives; another thread that wants the
 * connection closed breaks it, which makes the next receive find the end. From any thread.
 */
#ifndef IMMURE_DAEMON_CONNECTION_H
#define IMMURE_DAEMON_CONNECTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "daemon/config.h"
#include "daemon/grant.h"
#include "daemon/peer.h"

/* Hundreds of server workers; a connection costs a descriptor and some kernel memory. */
#define CONNECTIONS_MAX 4096
/* So that one user other than root cannot take them all. */
#define CONNECTIONS_USER_MAX 1024
/*
 * Besides, and not among those: clients that are told that they have no grant, so that they take no
 * room of those that have one, as another program of the user to whose unit a grant is bound.
 */
#define STRANGERS_MAX      256
#define STRANGERS_USER_MAX 32

/*
 * What such a client does not read stays in the kernel's memory for as long as it likes, when the
 * connection has long left the table: no more than a few refusals. Of this much the kernel takes
 * twice (socket(7)), and more than 1,000 bytes for each of them.
 */
#define STRANGERS_SEND_BUFFER_SIZE 4096

#define CONNECTION_SLOTS (CONNECTIONS_MAX + STRANGERS_MAX)

struct connections;

struct connection {
    struct connections *connections;
    int socket;
    atomic_uint references;
    atomic_bool broken;
    pid_t pid;
    uid_t uid;
    char unit[UNIT_NAME_SIZE]; /* see peer.h */
    grant_set grants;
    bool is_operator; /* root or immured's own user: may look, but not sign, without a grant */
    size_t slot;      /* in the table; CONNECTION_SLOTS: in none */
};

struct connections {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct connection *slots[CONNECTION_SLOTS];
    size_t count;
    uint64_t refused; /* beyond a limit */
    bool draining;
};

void connections_init(struct connections *connections);

/*
 * Takes over the socket of a new client, to be watched by the epoll instance with the connection
 * as its data. When a limit is reached it is closed and counted.
 */
void connections_add(struct connections *connections, const struct config *config, int epoll,
                     int socket);

/*
 * Ends all connections once what they have sent is answered, and waits for it until `deadline`
 * (base/clock.h). False: some are still open.
 */
bool connections_drain(struct connections *connections, uint64_t deadline) MUST_USE;

void connections_counts(struct connections *connections, size_t *count, uint64_t *refused);

/* For the one thread that has received its epoll event: has the next event reported. */
bool connection_watch(struct connection *connection, int epoll) MUST_USE;

/* Has no grant and is no operator: gets refusals alone. */
bool connection_is_stranger(const struct connection *connection) MUST_USE;

/* Whether nobody takes a reply any more: the client has closed its end, or this one is broken. */
bool connection_has_left(const struct connection *connection) MUST_USE;

void connection_hold(struct connection *connection);
void connection_release(struct connection *connection);

/* Takes no more requests from the client; what it has sent is answered before the end. */
void connection_finish(struct connection *connection);

/* Has the connection ended by the thread that next receives on it. */
void connection_break(struct connection *connection);

#endif
