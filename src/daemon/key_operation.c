#include "daemon/key_operation.h"

#include "base/clock.h"

static const char *key_words(struct key_operation *operation)
{
    request_key_words(operation->request, operation->request->wire.key_id, operation->words);
    return operation->words;
}

/* The order in which tokens are taken. */
static int rank(const struct token_keeper_glance *glance)
{
    if (glance->state == TOKEN_READY)
        return glance->is_due ? 0 : glance->slow ? 2 : 1;
    return glance->state == TOKEN_STARTING ? 3 : 4;
}

/*
 * Between equals the fewest calls in flight decide, then the longest rest: so all are in use, and
 * what befalls one is known before it is needed. Of those that are slow it is the one that
 * answered last.
 */
static bool is_better(const struct token_keeper_glance *glance,
                      const struct token_keeper_glance *best)
{
    if (rank(glance) != rank(best))
        return rank(glance) < rank(best);
    if (glance->slow)
        return glance->last_return > best->last_return;
    if (glance->in_flight != best->in_flight)
        return glance->in_flight < best->in_flight;
    return glance->last_return < best->last_return;
}

static bool choose_token(const struct key_operation *operation, size_t *chosen)
{
    const struct worker *worker = operation->request->worker;
    struct token_keeper_glance best = {.in_flight = 0};
    bool found = false;
    for (size_t i = 0; i < worker->config->token_count; i++) {
        if (operation->key->places[i].epoch == 0 || (operation->tried & UINT32_C(1) << i) != 0)
            continue;
        const struct token_keeper_glance glance = token_keeper_glance(worker->keepers[i]);
        if (request_had_better_wait(operation->request, &glance) ||
            (found && !is_better(&glance, &best)))
            continue;
        found = true;
        best = glance;
        *chosen = i;
    }
    return found;
}

void key_operation_right(struct key_operation *operation, size_t index)
{
    const struct key_place *place = &operation->key->places[index];
    if (operation->stale || !place->verified)
        keyring_set_verified(operation->request->worker->keyring, operation->request->wire.key_id,
                             index, place, operation->sessions);
}

/* A handle that may have come to name another key is looked up again before a token is blamed. */
enum token_error key_operation_wrong(struct key_operation *operation, size_t index, uint64_t epoch,
                                     const char *made)
{
    struct request *request = operation->request;
    if (operation->stale)
        return TOKEN_KEY_GONE;
    problem_set(&request->problem, 0,
                "token %s: %s with key %s, and is not used before immured is reloaded: have the "
                "device examined",
                request->worker->config->tokens[index].settings.name, made, key_words(operation));
    token_keeper_condemn(request->worker->keepers[index], epoch, &request->problem);
    return TOKEN_FAILED;
}

/*
 * The place is out of date; the keeper looks at all keys again, or, if no other token has this one,
 * the client has it looked up by its public key and asks again.
 */
static enum wire_status forget_place(struct key_operation *operation, size_t index)
{
    struct request *request = operation->request;
    keyring_forget(request->worker->keyring, request->wire.key_id, index,
                   &operation->key->places[index]);
    token_keeper_rescan(request->worker->keepers[index], operation->key->places[index].epoch);
    return problem_set(&request->problem, WIRE_UNKNOWN_KEY,
                       "key %s must be looked up again on token %s", key_words(operation),
                       request->worker->config->tokens[index].settings.name);
}

/* What a handle that has come to name something else can cause. */
static bool is_by_wrong_key(const struct key_operation *operation, enum token_error error)
{
    return error == TOKEN_KEY_GONE ||
           (operation->stale && (error == TOKEN_FAILED || error == TOKEN_UNSUPPORTED));
}

static enum token_error perform(struct key_operation *operation, struct token *token,
                                const struct key_place *place)
{
    operation->sessions = token_sessions_opened(token);
    enum token_error error = operation->perform(operation, token, place);
    operation->stale = token_sessions_opened(token) != place->sessions;
    return error;
}

/* `until`: how long it may wait for the token to come up. */
static enum wire_status perform_on(struct key_operation *operation, size_t index, uint64_t until)
{
    struct request *request = operation->request;
    struct token_keeper *keeper = request->worker->keepers[index];
    const struct key_place *place = &operation->key->places[index];
    struct token *token = NULL;
    uint64_t epoch = 0;
    enum token_error error =
        request_take_token(request, index, until, &token, &epoch, &request->problem);
    if (error != TOKEN_OK)
        return request_status_of(error);
    bool current = epoch == place->epoch;
    uint64_t start = clock_now_ms();
    call_begin(request->call, request, index);
    if (current)
        error = perform(operation, token, place);
    call_end(request->call);
    const struct token_use use = {.error = error, .milliseconds = clock_now_ms() - start};
    bool is_gone = token_keeper_return(keeper, current ? &use : NULL);
    if (!current)
        return forget_place(operation, index);

    if (error == TOKEN_OK)
        error = operation->check(operation, index, epoch);
    if (is_gone)
        token_keeper_lost(keeper, epoch, &request->problem);
    if (error == TOKEN_UNAVAILABLE || is_by_wrong_key(operation, error))
        return forget_place(operation, index);
    return request_status_of(error);
}

/* What there is still hope in tells the client, or has the request wait here, before all else. */
static int hope_in(enum wire_status status)
{
    if (status == WIRE_BUSY)
        return 2;
    return status == WIRE_UNKNOWN_KEY ? 1 : 0;
}

enum wire_status key_operation_run(struct key_operation *operation)
{
    struct request *request = operation->request;
    struct problem worst;
    enum wire_status result = WIRE_UNKNOWN_KEY;
    size_t index = 0;
    operation->tried = request->passed_over;
    for (bool first = true; choose_token(operation, &index); first = false) {
        if (clock_left_ms(request->deadline) == 0)
            return problem_set(&request->problem, WIRE_DEADLINE_PASSED,
                               "the deadline passed before a token was free for key %s",
                               key_words(operation));
        /* Nobody waits for a token to come up where another has no room or is to be asked again. */
        bool patient = request->full == NULL && (first || hope_in(result) == 0);
        enum wire_status status = perform_on(operation, index, patient ? request->deadline : 0);
        if (status == WIRE_OK)
            return WIRE_OK;
        if (first || hope_in(status) >= hope_in(result)) {
            result = status;
            worst = request->problem;
        }
        operation->tried |= UINT32_C(1) << index;
    }
    if (operation->tried == request->passed_over)
        return problem_set(&request->problem, WIRE_UNKNOWN_KEY, "key %s must be looked up again",
                           key_words(operation));
    request->problem = worst;
    return result;
}
