#include "provider/provider.h"

#include <openssl/async.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/pipeline.h"

/*
 * Pipelines that are kept while nothing is under way. Each costs three descriptors, 33 KiB and one
 * of immured's connections, and after a stall of the HSM there are as many as there were
 * handshakes; with this few, the workers that go on after many reloads do not use up what immured
 * has for one user.
 */
#define IDLE_PIPELINES_MAX 32

enum connection_state { CONNECTION_TAKEN, CONNECTION_IDLE, CONNECTION_IDLE_WITH_PIPELINE };

/*
 * A thread takes a connection at its first request and keeps it until it ends. Connections stay
 * in a list that only grows, so that threads meet in no lock, not even one that a fork() could
 * leave taken; one that an ended thread gave back is taken again by the next.
 *
 * Within an ASYNC job (ASYNC_start_job(3)) the request goes through a pipeline, and the job is
 * paused until the reply is there. A host that gave a callback gets one descriptor for all jobs
 * of a thread, and is called for each that can go on. One that watches descriptors alone could
 * not tell whose reply has come, and wants a descriptor that is this SSL's for its life (HAProxy):
 * it gets an epoll descriptor, which holds a connection while a request is under way.
 */
struct connection {
    struct connection *next;
    _Atomic(enum connection_state) state;
    struct client *client;
    struct pipeline *pipeline;
};

/* What a request needs and what comes of it. */
struct call {
    struct wire_request *request;
    uint64_t deadline; /* base/clock.h */
    uint8_t *payload;
    size_t *size;
    uint16_t status;
    struct problem problem;
};

bool connections_init(struct provider *provider)
{
    provider->has_connection_key = CRYPTO_THREAD_init_local(&provider->connection_key, NULL) == 1;
    return provider->has_connection_key;
}

void connections_free(struct provider *provider)
{
    struct connection *connection = atomic_load(&provider->connections);
    while (connection != NULL) {
        struct connection *next = connection->next;
        client_free(connection->client);
        pipeline_free(connection->pipeline);
        OPENSSL_free(connection);
        connection = next;
    }
    if (provider->has_connection_key)
        CRYPTO_THREAD_cleanup_local(&provider->connection_key);
}

static bool may_keep_pipeline(struct provider *provider)
{
    if (atomic_fetch_add(&provider->idle_pipelines, 1) < IDLE_PIPELINES_MAX)
        return true;
    atomic_fetch_sub(&provider->idle_pipelines, 1);
    return false;
}

static void give_back(struct provider *provider, struct connection *connection)
{
    if (connection->pipeline != NULL && !may_keep_pipeline(provider)) {
        pipeline_free(connection->pipeline);
        connection->pipeline = NULL;
    }
    enum connection_state state =
        connection->pipeline != NULL ? CONNECTION_IDLE_WITH_PIPELINE : CONNECTION_IDLE;
    atomic_store_explicit(&connection->state, state, memory_order_release);
}

/* Called by OpenSSL when a thread ends. */
static void end_thread(void *provctx)
{
    struct provider *provider = provctx;
    struct connection *connection = CRYPTO_THREAD_get_local(&provider->connection_key);
    if (connection == NULL)
        return;
    CRYPTO_THREAD_set_local(&provider->connection_key, NULL);
    client_free(connection->client);
    connection->client = NULL;
    give_back(provider, connection);
}

static struct connection *take_idle(struct provider *provider, enum connection_state state)
{
    struct connection *connection = atomic_load(&provider->connections);
    for (; connection != NULL; connection = connection->next) {
        enum connection_state expected = state;
        if (atomic_compare_exchange_strong(&connection->state, &expected, CONNECTION_TAKEN))
            return connection;
    }
    return NULL;
}

static struct connection *add(struct provider *provider)
{
    struct connection *connection = OPENSSL_zalloc(sizeof(*connection));
    if (connection == NULL)
        return NULL;
    atomic_init(&connection->state, CONNECTION_TAKEN);
    connection->next = atomic_load(&provider->connections);
    while (!atomic_compare_exchange_weak(&provider->connections, &connection->next, connection))
        ;
    return connection;
}

static struct connection *take(struct provider *provider)
{
    struct connection *connection = take_idle(provider, CONNECTION_IDLE_WITH_PIPELINE);
    if (connection != NULL) {
        atomic_fetch_sub(&provider->idle_pipelines, 1);
        return connection;
    }
    connection = take_idle(provider, CONNECTION_IDLE);
    return connection != NULL ? connection : add(provider);
}

/* This thread's connection, taken at its first use. */
static struct connection *thread_connection(struct provider *provider)
{
    struct connection *connection = CRYPTO_THREAD_get_local(&provider->connection_key);
    if (connection != NULL)
        return connection;

    connection = take(provider);
    if (connection == NULL)
        return NULL;
    if (CRYPTO_THREAD_set_local(&provider->connection_key, connection) == 1 &&
        provider->thread_start(provider->handle, end_thread, provider) == 1)
        return connection;
    CRYPTO_THREAD_set_local(&provider->connection_key, NULL);
    give_back(provider, connection);
    return NULL;
}

/* --- Blocking ------------------------------------------------------------------------------- */

static enum client_error call_blocking(struct provider *provider, struct call *call)
{
    struct connection *connection = thread_connection(provider);
    if (connection != NULL && connection->client == NULL)
        connection->client = client_new(provider->socket);
    if (connection == NULL || connection->client == NULL)
        return problem_set(&call->problem, CLIENT_PROTOCOL, "out of memory");
    return client_call(connection->client, call->request, clock_left_ms(call->deadline),
                       call->payload, call->size, &call->status, &call->problem);
}

/* --- In an ASYNC job ------------------------------------------------------------------------ */

/* The pipeline of this process; one that a fork() brought along is dropped. */
static struct pipeline *pipeline_of(const struct provider *provider, struct connection *connection)
{
    if (connection->pipeline != NULL && pipeline_owner(connection->pipeline) != getpid()) {
        pipeline_free(connection->pipeline);
        connection->pipeline = NULL;
    }
    if (connection->pipeline == NULL)
        connection->pipeline = pipeline_new(provider->socket);
    return connection->pipeline;
}

/* Of an SSL whose host watches descriptors alone: what its job waits for while it is paused. */
struct pending {
    struct provider *provider;
    struct connection *connection;
    struct exchange *exchange; /* or NULL: nothing is under way */
};

struct job {
    ASYNC_WAIT_CTX *wait;
    struct pending *pending;    /* or NULL: the descriptor is shared */
    ASYNC_callback_fn callback; /* or NULL: the host watches descriptors alone */
    void *callback_argument;
    bool running; /* it sees for itself what has come */
};

static void wake(void *argument)
{
    struct job *job = argument;
    if (!job->running && job->callback != NULL)
        job->callback(job->callback_argument);
}

/*
 * Called by OpenSSL when the SSL is freed. HAProxy frees one whose client has reset the connection
 * while its job is paused, in any of its threads: the job never goes on, and OpenSSL never frees
 * its stack.
 */
static void close_descriptor(ASYNC_WAIT_CTX *wait, const void *key, OSSL_ASYNC_FD descriptor,
                             void *custom)
{
    struct pending *pending = custom;
    (void)wait;
    (void)key;
    close(descriptor);
    if (pending->exchange != NULL) {
        pipeline_cancel(pending->connection->pipeline, pending->exchange);
        give_back(pending->provider, pending->connection);
    }
    OPENSSL_free(pending);
}

/* A descriptor of the SSL's own, which stays until the SSL is freed; or -1. */
static int make_descriptor(const struct provider *provider, struct job *job)
{
    struct pending *pending = OPENSSL_zalloc(sizeof(*pending));
    int descriptor = pending != NULL ? epoll_create1(EPOLL_CLOEXEC) : -1;
    if (descriptor >= 0 && ASYNC_WAIT_CTX_set_wait_fd(job->wait, provider, descriptor, pending,
                                                      close_descriptor) == 1) {
        job->pending = pending;
        return descriptor;
    }
    if (descriptor >= 0)
        close(descriptor);
    OPENSSL_free(pending);
    return -1;
}

/* The descriptor that the host watches for this job, or -1. */
static int watched_descriptor(const struct provider *provider, struct job *job,
                              const struct pipeline *pipeline)
{
    OSSL_ASYNC_FD descriptor;
    void *custom = NULL;
    bool shared = job->callback != NULL;
    bool known = ASYNC_WAIT_CTX_get_fd(job->wait, provider, &descriptor, &custom) == 1;
    job->pending = custom;
    if (known && (!shared || descriptor == pipeline_descriptor(pipeline)))
        return descriptor;
    if (!shared)
        return make_descriptor(provider, job);

    if (known)
        ASYNC_WAIT_CTX_clear_fd(job->wait, provider);
    descriptor = pipeline_descriptor(pipeline);
    return ASYNC_WAIT_CTX_set_wait_fd(job->wait, provider, descriptor, NULL, NULL) == 1 ? descriptor
                                                                                        : -1;
}

/*
 * A job that has not been paused is as one that was resumed: ASYNC_pause_job(3) returns 1 also
 * where the host forbids to pause (ASYNC_block_pause(3)). So one for which there is nothing to do
 * sleeps this long, lest it spin; those that were resumed find something.
 */
#define NOT_PAUSED_WAIT_MS 1

/* `milliseconds`: at most, or -1. */
static void wait_here(const struct pipeline *pipeline, int milliseconds)
{
    struct pollfd descriptor = {.fd = pipeline_descriptor(pipeline), .events = POLLIN};
    poll(&descriptor, 1, milliseconds);
}

static void pause_until_answered(struct provider *provider, struct connection *connection,
                                 struct exchange *exchange, struct job *job)
{
    struct pipeline *pipeline = connection->pipeline;
    int descriptor = watched_descriptor(provider, job, pipeline);
    int inner = pipeline_descriptor(pipeline);
    struct epoll_event event = {.events = EPOLLIN};
    bool watched = descriptor == inner ||
                   (descriptor >= 0 && epoll_ctl(descriptor, EPOLL_CTL_ADD, inner, &event) == 0);
    if (job->pending != NULL)
        *job->pending = (struct pending){provider, connection, exchange};
    while (exchange->state == EXCHANGE_SUBMITTED) {
        job->running = false;
        bool paused = watched && ASYNC_pause_job() == 1;
        job->running = true;
        if (exchange->state == EXCHANGE_SUBMITTED) {
            wait_here(pipeline, paused ? NOT_PAUSED_WAIT_MS : -1);
            pipeline_progress(pipeline);
        }
    }
    if (job->pending != NULL)
        job->pending->exchange = NULL;
    if (watched && descriptor != inner)
        epoll_ctl(descriptor, EPOLL_CTL_DEL, inner, NULL);
}

static enum client_error call_in_job(struct provider *provider, struct call *call,
                                     ASYNC_WAIT_CTX *wait)
{
    struct job job = {.wait = wait, .running = true};
    if (ASYNC_WAIT_CTX_get_callback(wait, &job.callback, &job.callback_argument) != 1)
        job.callback = NULL;
    bool shared = job.callback != NULL;
    struct connection *connection = shared ? thread_connection(provider) : take(provider);
    struct pipeline *pipeline = connection != NULL ? pipeline_of(provider, connection) : NULL;
    struct exchange exchange = {
        .request = *call->request,
        .payload = call->payload,
        .size = *call->size,
        .wake = wake,
        .wake_argument = &job,
    };
    if (pipeline != NULL) {
        pipeline_submit(pipeline, &exchange, clock_left_ms(call->deadline));
        pause_until_answered(provider, connection, &exchange, &job);
    }
    if (!shared && connection != NULL)
        give_back(provider, connection);
    if (pipeline == NULL)
        return call_blocking(provider, call);
    *call->size = exchange.size;
    call->status = exchange.status;
    call->problem = exchange.problem;
    return exchange.result;
}

/* --- Either --------------------------------------------------------------------------------- */

bool connection_call(struct provider *provider, struct wire_request *request, uint64_t deadline,
                     uint8_t *payload, size_t *size, bool *unknown, const char *what)
{
    static const enum reason reasons[] = {
        [-CLIENT_UNREACHABLE] = REASON_IMMURED_UNREACHABLE,
        [-CLIENT_TIMEOUT] = REASON_IMMURED_TIMEOUT,
        [-CLIENT_PROTOCOL] = REASON_IMMURED_PROTOCOL,
        [-CLIENT_REFUSED] = REASON_IMMURED_REFUSED,
    };
    struct call call = {.request = request, .deadline = deadline, .payload = payload, .size = size};
    ASYNC_JOB *job = ASYNC_get_current_job();
    enum client_error error = job != NULL ? call_in_job(provider, &call, ASYNC_get_wait_ctx(job))
                                          : call_blocking(provider, &call);
    if (error == CLIENT_OK)
        return true;
    if (error == CLIENT_REFUSED && call.status == WIRE_UNKNOWN_KEY && unknown != NULL)
        *unknown = true;
    else
        PROVIDER_RAISE(provider, reasons[-error], "%s: %s", what, call.problem.text);
    return false;
}
