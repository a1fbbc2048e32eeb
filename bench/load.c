#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND             1000000000ULL /* nanoseconds, in which all times are here */
#define MILLISECOND        1000000ULL
#define EVENTS_MAX         256
#define ABORT_AFTER_MS_MAX 5
#define SWEEP_MS           20 /* how often time-outs are looked for */
#define STATUS_OK          "HTTP/1.1 200"

/* After a ClientHello, no TLS; and no TLS at all. */
static const char GARBAGE[] = "\x99 this is no TLS record, and as long as several headers";
static const char PLAIN_HTTP[] = "GET / HTTP/1.0\r\n\r\n";

struct connection {
    int fd; /* -1: not under way */
    bool is_abort;
    bool has_room;    /* in the socket's buffer, as far as we know; else epoll tells when */
    bool is_shut;     /* for writing */
    uint64_t due;     /* when it was to begin */
    uint64_t done_at; /* when the handshake was done, 0: it is not */
    uint64_t leave_at;
    const uint8_t *abort_bytes;
    size_t abort_size;
    struct tls_client tls;
};

struct load {
    const struct load_settings *settings;
    struct tally *tally;
    struct tls_crypto crypto;
    struct connection *connections;
    unsigned connection_count;  /* of those whose TLS is initialised */
    unsigned *idle, idle_count; /* indexes of connections that are not under way: a stack */
    int epoll;
    int error; /* errno of what the system refused; ends the run */
    uint64_t random;
    uint64_t start, begin, end; /* of the run; of what is measured; of both */
    uint64_t last_done, swept, started;
    struct tls_hello garbage; /* a hello with GARBAGE after it */
};

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* splitmix64: to be different each time is all that is asked of the numbers here. */
static uint64_t next_random(struct load *load)
{
    uint64_t value = load->random += 0x9e3779b97f4a7c15ULL;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

static void check(struct load *load, bool is_well)
{
    if (!is_well && load->error == 0)
        load->error = errno;
}

/* --- The end of a connection ----------------------------------------------------------------- */

static void leave(struct load *load, struct connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
    load->idle[load->idle_count++] = (unsigned)(connection - load->connections);
}

static void leave_failed(struct load *load, struct connection *connection, const char *reason)
{
    tally_failure(load->tally, reason);
    leave(load, connection);
}

static void leave_aborted(struct load *load, struct connection *connection)
{
    load->tally->aborted++;
    leave(load, connection);
}

static void leave_by_errno(struct load *load, struct connection *connection)
{
    bool is_reset = errno == ECONNRESET || errno == EPIPE;
    const char *reason = "another socket error";
    if (is_reset)
        reason = "connection reset";
    if (errno == ECONNREFUSED)
        reason = "connection refused";
    if (is_reset && connection->is_abort)
        leave_aborted(load, connection);
    else
        leave_failed(load, connection, reason);
}

static bool is_answered(const struct connection *connection)
{
    return connection->tls.start_size >= strlen(STATUS_OK) &&
           memcmp(connection->tls.start, STATUS_OK, strlen(STATUS_OK)) == 0;
}

/* The server has closed. */
static void leave_at_eof(struct load *load, struct connection *connection)
{
    uint64_t done_at = connection->done_at;
    if (done_at == 0) {
        leave_failed(load, connection, "end of file before the handshake was done");
    } else if (load->settings->request != NULL && !is_answered(connection)) {
        leave_failed(load, connection, "no " STATUS_OK " in the answer");
    } else {
        bool is_measured = done_at >= load->begin && done_at <= load->end;
        check(load, tally_success(load->tally, (uint32_t)((done_at - connection->due) / 1000),
                                  is_measured));
        leave(load, connection);
    }
}

/* --- A connection under way ------------------------------------------------------------------ */

static bool control(struct load *load, struct connection *connection, int operation)
{
    /* Who aborts does not read: what arrives must not wake us again and again. */
    uint32_t reading = connection->is_abort ? 0 : EPOLLIN;
    struct epoll_event event = {.events = reading | (connection->has_room ? 0 : EPOLLOUT),
                                .data.ptr = connection};
    return epoll_ctl(load->epoll, operation, connection->fd, &event) == 0;
}

static void set_room(struct load *load, struct connection *connection, bool has_room)
{
    if (connection->has_room == has_room)
        return;
    connection->has_room = has_room;
    check(load, control(load, connection, EPOLL_CTL_MOD));
}

/* After its close_notify a client has nothing more to say. */
static void shut(struct load *load, struct connection *connection)
{
    if (connection->done_at != 0 && load->settings->request == NULL && !connection->is_shut)
        connection->is_shut = shutdown(connection->fd, SHUT_WR) == 0;
}

/* False: the connection is left. */
static bool send_output(struct load *load, struct connection *connection)
{
    size_t size;
    const uint8_t *bytes = tls_client_output(&connection->tls, &size);
    if (size == 0)
        return true;
    ssize_t sent = send(connection->fd, bytes, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        leave_by_errno(load, connection);
        return false;
    }
    if (sent > 0)
        tls_client_sent(&connection->tls, (size_t)sent);
    set_room(load, connection, sent == (ssize_t)size);
    if (sent == (ssize_t)size)
        shut(load, connection);
    return true;
}

static void note_done(struct load *load, struct connection *connection)
{
    if (connection->done_at != 0 || connection->tls.state < TLS_CONNECTED)
        return;
    load->last_done = connection->done_at = now();
    if (load->settings->request != NULL)
        tls_client_write(&connection->tls, load->settings->request);
    else
        tls_client_close(&connection->tls);
}

static void receive(struct load *load, struct connection *connection)
{
    size_t size;
    uint8_t *room = tls_client_room(&connection->tls, &size);
    ssize_t received = recv(connection->fd, room, size, 0);
    if (received < 0) {
        if (errno != EAGAIN)
            leave_by_errno(load, connection);
        return;
    }
    if (received == 0) {
        leave_at_eof(load, connection);
        return;
    }
    tls_client_received(&connection->tls, (size_t)received);
    if (connection->tls.state != TLS_FAILED)
        note_done(load, connection);
    if (connection->tls.state == TLS_FAILED)
        leave_failed(load, connection, connection->tls.failure);
    else
        send_output(load, connection);
}

/* What is sent is shorter than any socket's buffer. */
static void send_abort(struct load *load, struct connection *connection)
{
    if (send(connection->fd, connection->abort_bytes, connection->abort_size, MSG_NOSIGNAL) < 0)
        leave_by_errno(load, connection);
    else
        set_room(load, connection, true);
}

static void progress(struct load *load, struct connection *connection, uint32_t events)
{
    if (connection->is_abort && !connection->has_room)
        send_abort(load, connection);
    else if (connection->is_abort)
        leave_aborted(load, connection);
    else if ((events & EPOLLOUT) == 0 || send_output(load, connection))
        if ((events & ~(uint32_t)EPOLLOUT) != 0)
            receive(load, connection);
}

/* --- The beginning of a connection ----------------------------------------------------------- */

static void choose_abort(struct load *load, struct connection *connection)
{
    const struct tls_hello *hello = &load->settings->hello;
    enum load_abort abort = load->settings->abort;
    if (abort == LOAD_ABORT_MIXED)
        abort =
            LOAD_ABORT_AFTER_HELLO + load->started % (LOAD_ABORT_MIXED - LOAD_ABORT_AFTER_HELLO);
    connection->abort_bytes = hello->bytes;
    connection->abort_size = hello->size;
    if (abort == LOAD_ABORT_HALF_HELLO)
        connection->abort_size = hello->size / 2;
    if (abort == LOAD_ABORT_GARBAGE) {
        connection->abort_bytes = load->garbage.bytes;
        connection->abort_size = load->garbage.size;
    }
    if (abort == LOAD_ABORT_PLAIN) {
        connection->abort_bytes = (const uint8_t *)PLAIN_HTTP;
        connection->abort_size = strlen(PLAIN_HTTP);
    }
}

static bool open_socket(struct load *load, struct connection *connection)
{
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return connection->fd >= 0 && control(load, connection, EPOLL_CTL_ADD);
}

static void prepare(struct load *load, struct connection *connection, uint64_t due)
{
    uint64_t random[TLS_RANDOM_SIZE / sizeof(uint64_t)];
    for (size_t i = 0; i < ARRAY_SIZE(random); i++)
        random[i] = next_random(load);
    connection->due = due;
    connection->done_at = 0;
    connection->is_shut = false;
    connection->is_abort = load->settings->abort != LOAD_ABORT_NEVER;
    connection->leave_at = due + load->settings->timeout_ms * MILLISECOND;
    if (connection->is_abort) {
        choose_abort(load, connection);
        connection->leave_at = now() + (1 + random[0] % ABORT_AFTER_MS_MAX) * MILLISECOND;
    } else {
        tls_client_start(&connection->tls, &load->settings->hello, (uint8_t *)random);
    }
}

static void begin(struct load *load, uint64_t due)
{
    struct connection *connection = &load->connections[load->idle[--load->idle_count]];
    const struct sockaddr *address = (const struct sockaddr *)&load->settings->address;
    prepare(load, connection, due);
    /* On the loopback interface it is connected when connect() returns: try to send at once. */
    connection->has_room = !connection->is_abort;
    load->started++;
    if (!open_socket(load, connection)) {
        check(load, false);
        leave(load, connection);
    } else if (connect(connection->fd, address, sizeof(load->settings->address)) != 0 &&
               errno != EINPROGRESS) {
        leave_by_errno(load, connection);
    } else if (!connection->is_abort) {
        send_output(load, connection);
    }
}

/* --- The run --------------------------------------------------------------------------------- */

static bool is_over(const struct load *load, uint64_t at)
{
    return load->error != 0 || at >= load->end ||
           (load->settings->count != 0 && load->started >= load->settings->count);
}

/* When the next handshake is due. */
static uint64_t next_due(const struct load *load, uint64_t at)
{
    if (load->settings->rate <= 0)
        return at;
    return load->start + (uint64_t)((double)load->started / load->settings->rate * SECOND);
}

static void begin_those_due(struct load *load)
{
    uint64_t at = now(), due;
    while (load->idle_count > 0 && !is_over(load, at) && (due = next_due(load, at)) <= at) {
        begin(load, due);
        if (load->settings->rate <= 0)
            at = now();
    }
}

static uint64_t sweep_interval(const struct load *load)
{
    return (load->settings->abort == LOAD_ABORT_NEVER ? SWEEP_MS : 1) * MILLISECOND;
}

static void sweep(struct load *load)
{
    uint64_t at = now();
    if (at - load->swept < sweep_interval(load))
        return;
    load->swept = at;
    for (unsigned i = 0; i < load->connection_count; i++) {
        struct connection *connection = &load->connections[i];
        if (connection->fd < 0 || at < connection->leave_at)
            continue;
        if (connection->is_abort)
            leave_aborted(load, connection);
        else
            leave_failed(load, connection, "timeout");
    }
}

static struct timespec until_next(const struct load *load)
{
    uint64_t at = now(), next = load->swept + sweep_interval(load);
    if (load->idle_count > 0 && !is_over(load, at) && next_due(load, at) < next)
        next = next_due(load, at);
    uint64_t left = next > at ? next - at : 0;
    return (struct timespec){.tv_sec = (time_t)(left / SECOND), .tv_nsec = (long)(left % SECOND)};
}

static void wait_and_progress(struct load *load)
{
    struct epoll_event events[EVENTS_MAX];
    struct timespec left = until_next(load);
    int count = epoll_pwait2(load->epoll, events, EVENTS_MAX, &left, NULL);
    check(load, count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++)
        progress(load, events[i].data.ptr, events[i].events);
}

static void run(struct load *load)
{
    const struct load_settings *settings = load->settings;
    load->start = load->swept = now();
    load->begin = load->start + (uint64_t)(settings->warm_up * SECOND);
    load->end = UINT64_MAX;
    if (settings->seconds > 0)
        load->end = load->start + (uint64_t)(settings->seconds * SECOND);
    begin_those_due(load);
    while (load->error == 0 && (load->idle_count < settings->clients || !is_over(load, now()))) {
        wait_and_progress(load);
        sweep(load);
        begin_those_due(load);
    }
    uint64_t end = settings->seconds > 0 ? load->end : load->last_done;
    load->tally->seconds = end > load->begin ? (double)(end - load->begin) / SECOND : 0;
}

static bool make_garbage(struct load *load)
{
    load->garbage = load->settings->hello;
    if (sizeof(GARBAGE) > sizeof(load->garbage.bytes) - load->garbage.size)
        return false;
    memcpy(load->garbage.bytes + load->garbage.size, GARBAGE, sizeof(GARBAGE));
    load->garbage.size += sizeof(GARBAGE);
    return true;
}

static bool init(struct load *load)
{
    unsigned clients = load->settings->clients;
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->connections = calloc(clients, sizeof(*load->connections));
    load->idle = calloc(clients, sizeof(*load->idle));
    if (!tls_crypto_init(&load->crypto) || load->epoll < 0 || load->connections == NULL ||
        load->idle == NULL || !make_garbage(load) ||
        getrandom(&load->random, sizeof(load->random), 0) != sizeof(load->random))
        return false;
    for (; load->connection_count < clients; load->connection_count++) {
        struct connection *connection = &load->connections[load->connection_count];
        connection->fd = -1;
        if (!tls_client_init(&connection->tls, &load->crypto))
            return false;
        load->idle[load->idle_count++] = load->connection_count;
    }
    return true;
}

static void cleanup(struct load *load)
{
    for (unsigned i = 0; i < load->connection_count; i++) {
        if (load->connections[i].fd >= 0)
            close(load->connections[i].fd);
        tls_client_free(&load->connections[i].tls);
    }
    free(load->connections);
    free(load->idle);
    if (load->epoll >= 0)
        close(load->epoll);
    tls_crypto_free(&load->crypto);
}

static double cpu_seconds(void)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

bool load_run(const struct load_settings *settings, struct tally *tally)
{
    struct load load = {.settings = settings, .tally = tally};
    bool is_ready = init(&load);
    double before = cpu_seconds();
    check(&load, is_ready);
    if (is_ready)
        run(&load);
    tally->cpu_seconds = cpu_seconds() - before;
    cleanup(&load);
    errno = load.error;
    return is_ready && load.error == 0;
}
