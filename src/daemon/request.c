#include "daemon/request.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/audit.h"
#include "daemon/rate_limit.h"

static request_handler *const handlers[] = {
    [WIRE_SIGN] = request_sign,
    [WIRE_SIGN_DIGEST] = request_sign_digest,
    [WIRE_FIND_KEY] = request_find_key,
    [WIRE_STATUS] = request_status,
    [WIRE_TLS12_RSA_PREMASTER] = request_tls12_rsa_premaster,
    [WIRE_RSA_DECRYPT] = request_rsa_decrypt,
};

/* Refusals that an operator must see. The others are part of normal life, or told by the keeper. */
static const bool log_worthy[STATUS_COUNT] = {
    [WIRE_MALFORMED] = true,       [WIRE_UNSUPPORTED_VERSION] = true, [WIRE_NOT_GRANTED] = true,
    [WIRE_MESSAGE_REFUSED] = true, [WIRE_KEY_NOT_FOUND] = true,       [WIRE_KEY_AMBIGUOUS] = true,
    [WIRE_TOKEN_FAILED] = true,    [WIRE_OVER_RATE] = true,
};

static struct rate_limit refusals = {.lock = PTHREAD_MUTEX_INITIALIZER};

void key_id_text(const uint8_t id[KEY_ID_SIZE], char text[KEY_ID_TEXT_SIZE])
{
    for (size_t i = 0; i < KEY_ID_TEXT_SIZE / 2; i++)
        snprintf(text + 2 * i, 3, "%02x", id[i]);
}

void request_key_words(const struct request *request, const uint8_t id[KEY_ID_SIZE],
                       char words[KEY_WORDS_SIZE])
{
    char name[TOKEN_LABEL_SIZE_MAX + 1], short_id[KEY_ID_TEXT_SIZE];
    key_id_text(id, short_id);
    if (keyring_name(request->worker->keyring, id, name))
        snprintf(words, KEY_WORDS_SIZE, "'%s' (%s...)", name, short_id);
    else
        snprintf(words, KEY_WORDS_SIZE, "%s...", short_id);
}

enum wire_status request_status_of(enum token_error error)
{
    switch (error) {
    case TOKEN_OK:
        return WIRE_OK;
    case TOKEN_NO_SESSION:
    case TOKEN_BUSY:
        return WIRE_BUSY;
    case TOKEN_KEY_GONE:
        return WIRE_UNKNOWN_KEY;
    case TOKEN_BAD_URI:
        return WIRE_KEY_NOT_FOUND;
    case TOKEN_UNAVAILABLE:
    case TOKEN_PIN_INCORRECT:
    case TOKEN_PIN_LOCKED:
        return WIRE_TOKEN_UNAVAILABLE;
    case TOKEN_UNSUPPORTED:
    case TOKEN_FAILED:
        break;
    }
    return WIRE_TOKEN_FAILED;
}

void request_client_words(const struct request *request, char words[CLIENT_WORDS_SIZE])
{
    const struct connection *connection = request->connection;
    char buffer[1024];
    struct passwd entry, *user = NULL;
    if (getpwuid_r(connection->uid, &entry, buffer, sizeof(buffer), &user) != 0)
        user = NULL;
    snprintf(words, CLIENT_WORDS_SIZE, "user %.*s (uid %u, pid %d%s%s)", LOGIN_NAME_MAX,
             user != NULL ? user->pw_name : "without a name", (unsigned)connection->uid,
             (int)connection->pid, connection->unit[0] != '\0' ? ", unit " : "", connection->unit);
}

enum wire_status request_not_granted(struct request *request, const char *key)
{
    char client[CLIENT_WORDS_SIZE];
    request_client_words(request, client);
    request->rule = RULE_GRANT;
    return problem_set(&request->problem, WIRE_NOT_GRANTED,
                       "%s may not use %s%s: add a [grant] section for it to %s and reload immured "
                       "(rule %s)",
                       client, key != NULL ? "key " : "any key", key != NULL ? key : "",
                       request->worker->config->path, rule_name(request->rule));
}

static enum wire_status decode(struct request *request, bool truncated)
{
    size_t size = request->datagram_size;
    enum wire_status status = wire_request_decode(request->datagram, size, &request->wire);
    if (truncated)
        status = WIRE_MALFORMED;
    if (status == WIRE_UNSUPPORTED_VERSION)
        problem_set(&request->problem, 0,
                    "the request is not of protocol version %d: immured and its client must be of "
                    "one release",
                    WIRE_VERSION);
    else if (status != WIRE_OK)
        problem_set(&request->problem, 0,
                    "%zu bytes%s from uid %u (pid %d): the connection is closed", size,
                    truncated ? " or more" : "", (unsigned)request->connection->uid,
                    (int)request->connection->pid);
    return status;
}

static enum wire_status handle(struct request *request)
{
    uint8_t operation = request->wire.operation;
    if (operation >= ARRAY_SIZE(handlers) || handlers[operation] == NULL)
        return problem_set(&request->problem, WIRE_UNSUPPORTED_OPERATION, "unknown operation %u",
                           operation);
    if (clock_left_ms(request->deadline) == 0)
        return problem_set(&request->problem, WIRE_DEADLINE_PASSED, "the deadline had passed %s",
                           request->waited ? "before a token had room: see max-sessions"
                                           : "before the request arrived");
    return handlers[operation](request);
}

static void log_refusal(const struct request *request, enum wire_status status)
{
    const char *text = request->problem.text;
    unsigned suppressed;
    if (!log_worthy[status])
        log_debug("%s: %s", wire_status_name(status), text);
    else if (!rate_limit_pass(&refusals, &suppressed))
        return;
    else if (suppressed == 0)
        log_warning("%s: %s", wire_status_name(status), text);
    else
        log_warning("%s: %s (%u more refusals were not logged)", wire_status_name(status), text,
                    suppressed);
}

/*
 * A client that does not take its replies loses its connection: nothing waits for it. One without a
 * grant soon has no room for them, and may still take those that are there: closed with requests
 * that nobody has received, the connection would be reset.
 */
static void lose_client(struct connection *connection)
{
    if (connection_is_stranger(connection))
        connection_finish(connection);
    else
        connection_break(connection);
}

static void reply(struct request *request, enum wire_status status)
{
    uint8_t header[WIRE_REPLY_HEADER_SIZE];
    const struct wire_reply wire = {
        .operation = request->wire.operation, .status = (uint16_t)status, .id = request->wire.id};
    struct iovec parts[] = {
        {.iov_base = header, .iov_len = wire_reply_encode(&wire, header, sizeof(header))},
        {.iov_base = request->payload, .iov_len = request->payload_size},
    };
    if (status != WIRE_OK) {
        parts[1].iov_base = request->problem.text;
        parts[1].iov_len = strlen(request->problem.text);
    }
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = ARRAY_SIZE(parts)};
    if (sendmsg(request->connection->socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        lose_client(request->connection);
    explicit_bzero(request->payload, request->payload_size); /* it may have been decrypted */
}

/*
 * Whether the client has no use for it: another answer to the request was first, or what was to
 * overtake a slow call failed and leaves the answer to that one. But a device that throttles is to
 * be asked again, soon.
 */
static bool is_late(const struct request *request, enum wire_status status)
{
    struct race *race = request_race(request);
    if (race == NULL)
        return false;
    bool throttled = status == WIRE_BUSY && request->full == NULL;
    if (request->passed_over != 0 && status != WIRE_OK && !throttled)
        return true;
    return atomic_exchange(&race->answered, true);
}

/* For nobody, but what was made must be counted. */
static void end_late(struct request *request, enum wire_status status)
{
    if (status == WIRE_OK)
        audit_late(request);
    else
        log_debug("%s: %s", wire_status_name(status), request->problem.text);
    explicit_bzero(request->payload, request->payload_size);
}

static void count(const struct request *request, enum wire_status status)
{
    struct worker *worker = request->worker;
    atomic_fetch_add_explicit(&worker->replies[status], 1, memory_order_relaxed);
    if (request->rule != RULE_NONE)
        atomic_fetch_add_explicit(&worker->refusals[request->rule], 1, memory_order_relaxed);
}

/* The client asks again, and that counts. Of a race just one answer gets here. */
static void give_use_back(const struct request *request, enum wire_status status)
{
    if (status == WIRE_BUSY || status == WIRE_UNKNOWN_KEY)
        grant_meter_give_back(&request->counted);
}

static void end(struct request *request, enum wire_status status)
{
    if (is_late(request, status)) {
        end_late(request, status);
        return;
    }
    give_use_back(request, status);
    audit_request(request, status);
    count(request, status); /* first: who has the reply finds it counted, and told */
    if (status != WIRE_OK)
        log_refusal(request, status);
    reply(request, status);
}

/* --- Waiting for a token --------------------------------------------------------------------- */

enum token_error request_take_token(struct request *request, size_t index, uint64_t until,
                                    struct token **token, uint64_t *epoch, struct problem *problem)
{
    struct token_keeper *keeper = request->worker->keepers[index];
    enum token_error error =
        token_keeper_take(keeper, until, request->deadline, request->waited, token, epoch, problem);
    /* Of several, the one that works: where a token hangs, nothing is returned. */
    if (error == TOKEN_NO_SESSION &&
        (request->full == NULL ||
         token_keeper_glance(keeper).last_return > token_keeper_glance(request->full).last_return))
        request->full = keeper;
    return error;
}

bool request_wait(struct worker *worker, struct token_keeper *keeper,
                  struct backlog_request *waiting, bool again)
{
    atomic_fetch_add(&worker->waiting, 1); /* first, or whoever serves it could count it down */
    if (waiting != NULL && token_keeper_wait(keeper, waiting, again))
        return true;
    atomic_fetch_sub(&worker->waiting, 1);
    return false;
}

bool request_had_better_wait(const struct request *request, const struct token_keeper_glance *other)
{
    if (!other->slow || request->full == NULL)
        return false;
    const struct token_keeper_glance full = token_keeper_glance(request->full);
    return !full.slow || full.last_return > other->last_return;
}

static bool wait_for_token(const struct request *request)
{
    if (request->full == NULL)
        return false;
    struct backlog_request *waiting = backlog_request_new(request);
    if (request_wait(request->worker, request->full, waiting, request->waited))
        return true;
    backlog_request_free(waiting);
    return false;
}

static void serve(struct request *request)
{
    enum wire_status status = handle(request);
    if (status != WIRE_BUSY || !wait_for_token(request))
        end(request, status);
    call_leave_race(request->call);
}

static void serve_waiting(struct worker *worker, const struct backlog_request *waiting,
                          struct call *call, uint8_t *payload)
{
    struct request request = {.worker = worker,
                              .connection = waiting->connection,
                              .datagram = waiting->datagram,
                              .datagram_size = waiting->size,
                              .deadline = waiting->deadline,
                              .waited = true,
                              .passed_over = waiting->passed_over,
                              .race = waiting->race,
                              .counted = waiting->counted,
                              .call = call,
                              .payload = payload};
    if (wire_request_decode(waiting->datagram, waiting->size, &request.wire) == WIRE_OK)
        serve(&request);
}

void request_serve_backlogs(struct worker *worker, struct call *call, uint8_t *payload)
{
    size_t i = 0;
    while (i < worker->config->token_count && atomic_load(&worker->waiting) > 0) {
        struct backlog_request *waiting = token_keeper_next(worker->keepers[i++]);
        if (waiting == NULL)
            continue;
        atomic_fetch_sub(&worker->waiting, 1);
        serve_waiting(worker, waiting, call, payload);
        backlog_request_free(waiting);
        i = 0; /* it may wait for another token now, whose last user may have looked before */
    }
}

void request_serve(struct worker *worker, struct connection *connection, const uint8_t *datagram,
                   size_t size, bool truncated, struct call *call, uint8_t *payload)
{
    struct request request = {.worker = worker,
                              .connection = connection,
                              .datagram = datagram,
                              .datagram_size = size,
                              .call = call,
                              .payload = payload};
    enum wire_status status = decode(&request, truncated);
    if (status != WIRE_OK) {
        end(&request, status);
        connection_break(connection);
        return;
    }
    uint32_t left = request.wire.deadline_ms;
    request.deadline = clock_now_ms() + (left > WIRE_DEADLINE_MAX_MS ? WIRE_DEADLINE_MAX_MS : left);
    serve(&request);
    /* Each thread does so after each request, so a token with room leaves nobody waiting. */
    request_serve_backlogs(worker, call, payload);
}
