#include "daemon/overtake.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/crash.h"
#include "daemon/request.h"
#include "daemon/worker.h"

/* Well under any deadline, and rare enough to cost nothing. */
#define LOOK_MS 5

/* Requests taken from a slow token's backlog at a time, so that calls are looked at between. */
#define BACKLOG_BATCH 64

void call_init(struct call *call)
{
    *call = (struct call){.request = NULL};
    pthread_mutex_init(&call->lock, NULL);
}

void call_begin(struct call *call, const struct request *request, size_t token)
{
    crash_enter(token);
    if (call == NULL)
        return;
    pthread_mutex_lock(&call->lock);
    call->request = request;
    call->token = token;
    call->since = clock_now_ms();
    call->overtaken = false;
    pthread_mutex_unlock(&call->lock);
}

void call_end(struct call *call)
{
    crash_leave();
    if (call == NULL)
        return;
    pthread_mutex_lock(&call->lock);
    call->request = NULL;
    pthread_mutex_unlock(&call->lock);
}

struct race *race_hold(struct race *race)
{
    if (race != NULL)
        atomic_fetch_add(&race->holders, 1);
    return race;
}

void race_leave(struct race *race)
{
    if (race != NULL && atomic_fetch_sub(&race->holders, 1) == 1)
        free(race);
}

struct race *request_race(const struct request *request)
{
    if (request->race != NULL)
        return request->race;
    return request->call != NULL ? request->call->race : NULL;
}

void call_leave_race(struct call *call)
{
    if (call == NULL)
        return;
    race_leave(call->race);
    call->race = NULL;
}

/* Wakes one thread that serves. */
static void notice(struct worker *worker)
{
    const uint64_t one = 1;
    if (write(worker->overtakes, &one, sizeof(one)) != sizeof(one))
        log_error("cannot wake a thread"); /* the counter is full: enough have been woken */
}

void overtake_noticed(struct worker *worker)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = worker};
    uint64_t count;
    (void)!read(worker->overtakes, &count, sizeof(count)); /* another thread may have been first */
    (void)epoll_ctl(worker->epoll, EPOLL_CTL_MOD, worker->overtakes, &event);
}

/* A token other than `slow` that answers, if possible one that has room; NULL if there is none. */
static struct token_keeper *find_other(const struct worker *worker, size_t slow)
{
    struct token_keeper *best = NULL;
    unsigned least = 0;
    for (size_t i = 0; i < worker->config->token_count; i++) {
        const struct token_keeper_glance glance = token_keeper_glance(worker->keepers[i]);
        if (i == slow || glance.state != TOKEN_READY || glance.slow)
            continue;
        unsigned load = glance.in_flight + (glance.has_room ? 0 : TOKEN_MAX_SESSIONS_LIMIT);
        if (best == NULL || load < least) {
            best = worker->keepers[i];
            least = load;
        }
    }
    return best;
}

static bool hand_over(struct worker *worker, struct token_keeper *keeper,
                      struct backlog_request *request, bool first)
{
    if (!request_wait(worker, keeper, request, first))
        return false;
    notice(worker);
    return true;
}

static bool has_race(struct call *call)
{
    if (request_race(call->request) == NULL &&
        (call->race = calloc(1, sizeof(*call->race))) != NULL)
        atomic_init(&call->race->holders, 1);
    return request_race(call->request) != NULL;
}

/* The call's lock is held. */
static void overtake(struct worker *worker, struct call *call)
{
    const struct request *request = call->request;
    struct token_keeper *other = find_other(worker, call->token);
    if (other == NULL || !has_race(call))
        return;
    struct backlog_request *copy = backlog_request_new(request);
    if (copy != NULL)
        copy->passed_over |= UINT32_C(1) << call->token;
    if (hand_over(worker, other, copy, true)) {
        call->overtaken = true;
        atomic_fetch_add_explicit(&worker->overtaken, 1, memory_order_relaxed);
    } else {
        backlog_request_free(copy);
    }
}

static void look_at_call(struct worker *worker, struct call *call)
{
    pthread_mutex_lock(&call->lock);
    if (call->request != NULL && !call->overtaken) {
        struct token_keeper *keeper = worker->keepers[call->token];
        uint64_t taken = clock_now_ms() - call->since;
        bool searches = call->request->wire.operation == WIRE_FIND_KEY;
        if (taken > token_keeper_patience(keeper, searches)) {
            token_keeper_set_slow(keeper, taken);
            overtake(worker, call);
        }
    }
    pthread_mutex_unlock(&call->lock);
}

static void look_at_backlog(struct worker *worker, size_t token)
{
    struct token_keeper *other;
    if (!token_keeper_glance(worker->keepers[token]).slow)
        return;
    for (int i = 0; i < BACKLOG_BATCH && (other = find_other(worker, token)) != NULL; i++) {
        struct backlog_request *request = token_keeper_evict(worker->keepers[token]);
        if (request == NULL)
            return;
        atomic_fetch_sub(&worker->waiting, 1);
        if (hand_over(worker, other, request, false))
            continue;
        /* That one's backlog is full, and this one's takes again what it had. */
        if (!hand_over(worker, worker->keepers[token], request, true))
            backlog_request_free(request);
        return;
    }
}

static void *look(void *context)
{
    struct worker *worker = context;
    const struct timespec pause = clock_timespec(LOOK_MS);
    for (;;) {
        nanosleep(&pause, NULL);
        for (size_t i = 0; i < worker->thread_count; i++)
            look_at_call(worker, &worker->calls[i]);
        for (size_t i = 0; i < worker->config->token_count; i++)
            look_at_backlog(worker, i);
    }
    return NULL;
}

int overtake_start(struct worker *worker)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = worker};
    pthread_t thread;
    if (worker->config->token_count < 2)
        return 0;
    if (epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->overtakes, &event) != 0)
        return errno;
    int error = pthread_create(&thread, NULL, look, worker);
    return error != 0 ? error : pthread_detach(thread);
}
