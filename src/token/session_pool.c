#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "token/internal.h"

bool session_pool_init(struct session_pool *pool, unsigned max)
{
    pthread_condattr_t attributes;
    pool->max = max;
    pool->idle = calloc(max, sizeof(*pool->idle));
    if (pool->idle == NULL)
        return false;
    /* None of these fails on Linux, where they set fields of the objects alone. */
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->returned, &attributes);
    pthread_condattr_destroy(&attributes);
    return true;
}

void session_pool_clear(struct token *token)
{
    struct session_pool *pool = &token->pool;
    if (pool->idle == NULL)
        return;
    for (unsigned i = 0; i < pool->idle_count; i++)
        token->functions->C_CloseSession(pool->idle[i]);
    pthread_cond_destroy(&pool->returned);
    pthread_mutex_destroy(&pool->lock);
    free(pool->idle);
}

static CK_RV open_session(struct token *token, struct token_session *session)
{
    session->functions = token->functions;
    CK_RV rv = token->functions->C_OpenSession(token->slot.id, token->session_flags, NULL, NULL,
                                               &session->handle);
    if (rv == CKR_OK)
        atomic_fetch_add(&token->pool.opened, 1);
    else
        session->handle = CK_INVALID_HANDLE;
    return rv;
}

static void close_session(struct token_session *session)
{
    if (session->handle != CK_INVALID_HANDLE)
        session->functions->C_CloseSession(session->handle);
    session->handle = CK_INVALID_HANDLE;
}

enum claim { CLAIM_IDLE, CLAIM_OPEN, CLAIM_NONE };

/* Waits for an idle session, or the right to open one, until the deadline. */
static enum claim claim_session(struct session_pool *pool, uint64_t deadline, bool may_open,
                                CK_SESSION_HANDLE *handle)
{
    struct timespec until = clock_timespec(deadline);
    enum claim claim = CLAIM_NONE;
    int waited = 0;

    pthread_mutex_lock(&pool->lock);
    while (pool->idle_count == 0 && (!may_open || pool->open >= pool->max) && waited == 0)
        waited = pthread_cond_timedwait(&pool->returned, &pool->lock, &until);
    if (pool->idle_count > 0) {
        *handle = pool->idle[--pool->idle_count];
        claim = CLAIM_IDLE;
    } else if (may_open && pool->open < pool->max) {
        pool->open++;
        claim = CLAIM_OPEN;
    }
    pthread_mutex_unlock(&pool->lock);
    return claim;
}

/* Takes one from the count; returns how many are left. */
static unsigned forget_session(struct session_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    unsigned left = --pool->open;
    pthread_cond_broadcast(&pool->returned); /* not every waiter may open one */
    pthread_mutex_unlock(&pool->lock);
    return left;
}

enum token_error token_session_take(struct token *token, uint64_t deadline,
                                    struct token_session *session, struct problem *problem)
{
    struct session_pool *pool = &token->pool;
    *session = (struct token_session){.functions = token->functions};
    enum claim claim = claim_session(pool, deadline, true, &session->handle);
    if (claim == CLAIM_OPEN) {
        CK_RV rv = open_session(token, session);
        if (rv == CKR_OK)
            return TOKEN_OK;
        /* The device allows fewer sessions than configured: share those that are open. */
        bool share = forget_session(pool) > 0 && rv == CKR_SESSION_COUNT;
        if (!share)
            return token_error_of(token, rv, "opening a session", problem);
        claim = claim_session(pool, deadline, false, &session->handle);
    }
    if (claim == CLAIM_NONE)
        return problem_set(problem, TOKEN_NO_SESSION,
                           "token %s: all sessions (max-sessions = %u) stayed in use until the "
                           "deadline",
                           token->name, pool->max);
    return TOKEN_OK;
}

/*
 * Drops a broken session. The last one is closed only after another is open: without any, the
 * token would log us out (PKCS#11 v2.40 5.6.2). True: *session is that other one.
 */
static bool replace_broken(struct token *token, struct token_session *session)
{
    struct session_pool *pool = &token->pool;
    struct token_session broken = *session;

    pthread_mutex_lock(&pool->lock);
    bool last = pool->open == 1;
    if (!last)
        pool->open--;
    pthread_cond_broadcast(&pool->returned);
    pthread_mutex_unlock(&pool->lock);

    bool replaced = last && open_session(token, session) == CKR_OK;
    close_session(&broken);
    if (last && !replaced)
        forget_session(pool);
    return replaced;
}

void token_session_return(struct token *token, struct token_session *session, bool broken)
{
    struct session_pool *pool = &token->pool;
    if (broken && !replace_broken(token, session))
        return;

    pthread_mutex_lock(&pool->lock);
    pool->idle[pool->idle_count++] = session->handle;
    pthread_cond_signal(&pool->returned);
    pthread_mutex_unlock(&pool->lock);
    session->handle = CK_INVALID_HANDLE;
}

uint64_t token_sessions_opened(struct token *token)
{
    return atomic_load(&token->pool.opened);
}

void token_session_counts(struct token *token, unsigned *open, unsigned *in_use)
{
    struct session_pool *pool = &token->pool;
    pthread_mutex_lock(&pool->lock);
    *open = pool->open;
    *in_use = pool->open - pool->idle_count;
    pthread_mutex_unlock(&pool->lock);
}

bool session_is_gone(CK_RV rv)
{
    return rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_SESSION_CLOSED;
}

CK_RV session_pool_reopen(struct token *token, struct token_session *session)
{
    /* Not closed: openCryptoki gives the numbers of lost sessions to new ones. */
    return open_session(token, session);
}

enum token_error session_pool_check(struct token *token, struct token_session *session,
                                    struct problem *problem)
{
    CK_SESSION_INFO info = {0};
    CK_RV rv = session->functions->C_GetSessionInfo(session->handle, &info);
    if (session_is_gone(rv)) {
        rv = session_pool_reopen(token, session);
        if (rv == CKR_OK)
            rv = session->functions->C_GetSessionInfo(session->handle, &info);
    }
    if (rv == CKR_OK && token->logged_in && info.state != CKS_RO_USER_FUNCTIONS &&
        info.state != CKS_RW_USER_FUNCTIONS)
        rv = CKR_USER_NOT_LOGGED_IN;
    return token_error_of(token, rv, "using a session", problem);
}

enum token_error token_check(struct token *token, struct problem *problem)
{
    struct token_session session;
    enum token_error error = token_session_take(token, clock_now_ms(), &session, problem);
    if (error != TOKEN_OK)
        return error;
    error = session_pool_check(token, &session, problem);
    token_session_return(token, &session, error != TOKEN_OK);
    return error;
}

/* Errors of C_SignInit and C_DecryptInit that say something of the key or the mechanism alone. */
static bool session_is_whole(CK_RV rv)
{
    return rv == CKR_KEY_HANDLE_INVALID || rv == CKR_OBJECT_HANDLE_INVALID ||
           rv == CKR_MECHANISM_INVALID || rv == CKR_MECHANISM_PARAM_INVALID ||
           rv == CKR_KEY_TYPE_INCONSISTENT || rv == CKR_KEY_FUNCTION_NOT_PERMITTED ||
           rv == CKR_KEY_SIZE_RANGE;
}

enum token_error session_pool_call(struct token *token, uint64_t deadline, session_call *call,
                                   void *context, const char *what, struct problem *problem)
{
    struct token_session session;
    enum token_error error = token_session_take(token, deadline, &session, problem);
    if (error != TOKEN_OK)
        return error;

    bool started = false;
    CK_RV rv = call(&session, context, &started);
    if (session_is_gone(rv)) {
        started = false;
        rv = session_pool_reopen(token, &session);
        if (rv == CKR_OK)
            rv = call(&session, context, &started);
    }
    error = token_error_of(token, rv, what, problem);
    /* Private keys vanish with the login: then it is not this key that is gone. */
    if (error == TOKEN_KEY_GONE) {
        enum token_error lost = session_pool_check(token, &session, problem);
        error = lost == TOKEN_OK ? error : lost;
    }
    token_session_return(token, &session, rv != CKR_OK && (started || !session_is_whole(rv)));
    return error;
}
