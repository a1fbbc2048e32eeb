#include "daemon/worker.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/request.h"
#include "daemon/trusted_path.h"

/* Above the threads that tokens can take: these answer refusals and status come what may. */
#define SPARE_THREADS 4
/* Two datagrams, and room for vendors' libraries; only what is touched takes memory. */
#define THREAD_STACK_SIZE ((size_t)1024 * 1024)

/*
 * How long a reload waits for tokens before the new worker takes over without them: enough to
 * scan 10,000 keys, so that none has to be looked up while a handshake waits.
 */
#define SETTLE_MS 20000
#define DRAIN_MS  10000

/* New clients taken at a time, before requests get their turn. */
#define ACCEPT_BATCH 16
/* Pause when the system has no descriptors or memory for a new client. */
#define ACCEPT_PAUSE_US 50000

/* Clients, and as much again for what vendors' libraries open. */
#define DESCRIPTORS_WANTED ((rlim_t)2 * CONNECTION_SLOTS)

/* --- The threads --- */

static bool watch_listener(const struct worker *worker, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = NULL};
    return epoll_ctl(worker->epoll, operation, worker->settings.listener, &event) == 0;
}

static void accept_clients(struct worker *worker)
{
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int client = accept4(worker->settings.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0) {
            connections_add(&worker->connections, worker->config, worker->epoll, client);
            continue;
        }
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            log_error("cannot accept clients: %s", strerror(errno));
            usleep(ACCEPT_PAUSE_US);
        }
        break;
    }
    /* Fails, as it should, once a drain has taken the listener out. */
    (void)watch_listener(worker, EPOLL_CTL_MOD);
}

struct buffers {
    uint8_t datagram[WIRE_DATAGRAM_SIZE_MAX];
    uint8_t payload[REPLY_PAYLOAD_SIZE_MAX];
};

static void serve_client(struct worker *worker, struct connection *connection, struct call *call,
                         struct buffers *buffers)
{
    struct iovec part = {.iov_base = buffers->datagram, .iov_len = sizeof(buffers->datagram)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t size = recvmsg(connection->socket, &message, MSG_DONTWAIT);
    bool nothing_yet = size < 0 && (errno == EAGAIN || errno == EINTR);
    if ((size <= 0 && !nothing_yet) || atomic_load(&connection->broken)) {
        connection_release(connection);
        return;
    }
    connection_hold(connection); /* from here on another thread may end it */
    if (!connection_watch(connection, worker->epoll))
        connection_release(connection);
    if (!nothing_yet)
        request_serve(worker, connection, buffers->datagram, (size_t)size,
                      (message.msg_flags & MSG_TRUNC) != 0, call, buffers->payload);
    connection_release(connection);
}

static void serve_overtaking(struct worker *worker, struct call *call, struct buffers *buffers)
{
    overtake_noticed(worker);
    request_serve_backlogs(worker, call, buffers->payload);
}

static void *serve(void *context)
{
    struct worker *worker = context;
    struct call *call = &worker->calls[atomic_fetch_add(&worker->threads_started, 1)];
    struct buffers buffers;
    if (worker->config->token_count < 2)
        call = NULL;
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(worker->epoll, &event, 1, -1) != 1)
            continue; /* a signal, as when a debugger attaches */
        if (event.data.ptr == NULL)
            accept_clients(worker);
        else if (event.data.ptr == worker)
            serve_overtaking(worker, call, &buffers);
        else
            serve_client(worker, event.data.ptr, call, &buffers);
    }
    return NULL;
}

static size_t thread_count(const struct config *config)
{
    size_t count = SPARE_THREADS;
    for (size_t i = 0; i < config->token_count; i++)
        count += config->tokens[i].settings.max_sessions;
    return count < THREADS_MAX ? count : THREADS_MAX;
}

static int start_threads(struct worker *worker, struct problem *problem)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int error = 0;
    worker->thread_count = thread_count(worker->config);
    for (size_t i = 0; i < worker->thread_count; i++)
        call_init(&worker->calls[i]);
    for (size_t i = 0; i < worker->thread_count && error == 0; i++) {
        pthread_t thread;
        error = pthread_create(&thread, &attributes, serve, worker);
    }
    pthread_attr_destroy(&attributes);
    if (error == 0)
        error = overtake_start(worker);
    return error == 0 ? 0
                      : problem_set(problem, -1, "cannot start %zu threads: %s",
                                    worker->thread_count, strerror(error));
}

/* --- Starting --- */

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= DESCRIPTORS_WANTED)
        return;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS_WANTED ? limit.rlim_max : DESCRIPTORS_WANTED;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= CONNECTION_SLOTS)
        log_warning("only %llu descriptors are allowed: raise LimitNOFILE= for %d clients",
                    (unsigned long long)limit.rlim_cur, CONNECTION_SLOTS);
}

/*
 * Threads that are woken do not push those aside whom they serve: on a busy host a web server's
 * worker goes on until it has to wait, and several requests are then served in one go, with a
 * fraction of the context switches. Where a CPU is idle it changes nothing (sched(7)).
 */
static void yield_to_clients(void)
{
    const struct sched_param param = {.sched_priority = 0};
    if (sched_setscheduler(0, SCHED_BATCH, &param) != 0)
        log_info("cannot be scheduled as SCHED_BATCH: %s", strerror(errno));
}

static int start_keepers(struct worker *worker, struct problem *problem)
{
    for (size_t i = 0; i < worker->config->token_count; i++) {
        const struct token_config *token = &worker->config->tokens[i];
        const struct token_keeper_settings settings = {
            .config = token,
            .index = i,
            .count = worker->config->token_count,
            .keyring = worker->keyring,
            .budget = worker->settings.budget,
            .pin = asked_pin_of(worker->settings.asked_pins, token->settings.name),
        };
        worker->keepers[i] = token_keeper_new(&settings);
        if (worker->keepers[i] == NULL)
            return problem_set(problem, -1, "token %s: cannot start its thread: %s",
                               token->settings.name, strerror(errno));
    }
    return 0;
}

static void warn_of_vain_grants(const struct config *config)
{
    for (size_t i = 0; i < config->grant_count; i++) {
        const struct grant_config *grant = &config->grants[i];
        if ((grant->unit != NULL || grant->cgroup != NULL) && !peer_has_cgroup())
            log_warning("[grant %s] is for nobody: this kernel cannot tell safely in which unit or "
                        "cgroup a client is; it takes Linux 6.5",
                        grant->name);
    }
}

static const char *yes_or_no(bool yes)
{
    return yes ? "yes" : "no";
}

/* These are the master's, which reads the file once. */
static void tell_what_needs_a_restart(const struct worker *worker)
{
    const struct config *config = worker->config;
    const char *audit = config->audit != NULL ? config->audit : "off";
    const char *running = worker->settings.audit_path != NULL ? worker->settings.audit_path : "off";
    if (strcmp(config->socket, worker->settings.socket_path) != 0)
        log_warning("socket is now %s in %s, but immured listens on %s until it is restarted",
                    config->socket, config->path, worker->settings.socket_path);
    if (strcmp(audit, running) != 0)
        log_warning("audit is now %s in %s, but it is %s until immured is restarted", audit,
                    config->path, running);
    if (config->allow_exec != worker->settings.allow_exec)
        log_warning("allow-exec is now %s in %s, but it is %s until immured is restarted",
                    yes_or_no(config->allow_exec), config->path,
                    yes_or_no(worker->settings.allow_exec));
}

static int set_up(struct worker *worker, struct problem *problem)
{
    if (config_load(worker->settings.config_path, &worker->config, problem) != 0 ||
        trusted_path_check_config(worker->config, problem) != 0)
        return -1;
    log_set_level(worker->config->log_level);
    tell_what_needs_a_restart(worker);
    if (worker->config->token_count == 0)
        log_warning("%s names no token, so nothing can be signed: add a [token NAME] section",
                    worker->config->path);
    if (asked_pins_lock(worker->settings.asked_pins) != 0)
        return problem_set(
            problem, -1, "cannot lock PINs into memory (%s): raise LimitMEMLOCK=", strerror(errno));
    if (!digests_fetch(&worker->digests))
        return problem_set(problem, -1, "OpenSSL has no SHA-2: see OPENSSL_CONF");
    dhe_groups_load(&worker->dhe_groups);
    warn_of_vain_grants(worker->config);
    crash_watch(worker->settings.crashes, worker->config);
    worker->keyring = keyring_new(worker->config);
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    worker->overtakes = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (worker->keyring == NULL || worker->epoll < 0 || worker->overtakes < 0)
        return problem_set(problem, -1, "cannot start: %s", strerror(errno));
    return start_keepers(worker, problem);
}

static int start_serving(struct worker *worker, struct problem *problem)
{
    uint64_t deadline = clock_now_ms() + SETTLE_MS;
    for (size_t i = 0; worker->settings.wait_for_tokens && i < worker->config->token_count; i++)
        token_keeper_settle(worker->keepers[i], deadline);
    if (start_threads(worker, problem) != 0)
        return -1;
    if (!watch_listener(worker, EPOLL_CTL_ADD))
        return problem_set(problem, -1, "cannot watch the socket: %s", strerror(errno));
    return 0;
}

static void report(const struct worker *worker, char what, const char *text)
{
    char message[1 + PROBLEM_TEXT_SIZE];
    int size = snprintf(message, sizeof(message), "%c%s", what, text);
    if (write(worker->settings.report, message, (size_t)size) != size)
        log_error("cannot report to the master process: %s", strerror(errno));
    close(worker->settings.report);
}

/* --- Ending --- */

static void wait_for_term(void)
{
    sigset_t term;
    int number;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    while (sigwait(&term, &number) != 0)
        continue;
}

/* Answers what has been sent, closes the tokens, and leaves the rest to the end of the process. */
static void drain(struct worker *worker)
{
    uint64_t deadline = clock_now_ms() + DRAIN_MS;
    epoll_ctl(worker->epoll, EPOLL_CTL_DEL, worker->settings.listener, NULL);
    if (getppid() != worker->settings.master) /* killed: a new one must find nobody listening */
        shutdown(worker->settings.listener, SHUT_RDWR);
    if (!connections_drain(&worker->connections, deadline))
        log_warning("requests were still under way after %d s, and are given up", DRAIN_MS / 1000);
    for (size_t i = 0; i < worker->config->token_count; i++) {
        if (!token_keeper_stop(worker->keepers[i], deadline))
            log_warning("token %s: still in use, so it is not closed",
                        worker->config->tokens[i].settings.name);
    }
}

int worker_run(const struct worker_settings *settings)
{
    static struct worker worker; /* threads use it until the process ends */
    struct problem problem;
    worker.settings = *settings;
    worker.started = clock_now_ms();
    connections_init(&worker.connections);
    raise_descriptor_limit();
    yield_to_clients();
    if (set_up(&worker, &problem) != 0 || start_serving(&worker, &problem) != 0) {
        report(&worker, WORKER_ERROR, problem.text);
        return EXIT_FAILURE;
    }
    const char level[] = {(char)('0' + worker.config->log_level), '\0'};
    report(&worker, WORKER_READY, level);
    wait_for_term();
    drain(&worker);
    log_info("worker %d has finished", (int)getpid());
    return EXIT_SUCCESS;
}
