/*
 * SIGN and SIGN_DIGEST: with which scheme, and on which token.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/permission.h"
#include "daemon/request.h"
#include "daemon/signature_check.h"
#include "wire/scheme.h"

struct signing {
    struct request *request;
    const struct scheme *scheme;
    struct keyring_key key;
    const uint8_t *input; /* what the token signs */
    size_t input_size;
    uint32_t tried;             /* bit i: token i */
    uint64_t sessions;          /* token_sessions_opened() before the signature */
    bool stale;                 /* sessions were opened since the handle was shown to be right */
    char words[KEY_WORDS_SIZE]; /* key_words()'s */
};

static const char *key_words(struct signing *signing)
{
    request_key_words(signing->request, signing->request->wire.key_id, signing->words);
    return signing->words;
}

static bool is_raw(const struct scheme *scheme)
{
    return scheme->code == SCHEME_RSA_PKCS1_RAW || scheme->code == SCHEME_ECDSA_RAW;
}

static enum wire_status check_scheme(struct signing *signing)
{
    struct request *request = signing->request;
    bool digest_given = request->wire.operation == WIRE_SIGN_DIGEST;
    const struct scheme *scheme = scheme_by_code(request->wire.scheme);
    request->rule = RULE_SCHEME;
    if (scheme == NULL)
        return problem_set(&request->problem, WIRE_UNSUPPORTED_SCHEME,
                           "signature scheme 0x%04x is unknown", request->wire.scheme);
    signing->scheme = scheme;
    if (scheme->key_type != signing->key.type)
        return problem_set(&request->problem, WIRE_UNSUPPORTED_SCHEME,
                           "%s is not for key %s, which is of type %s", scheme->name,
                           key_words(signing), key_type_name(signing->key.type));
    if (digest_given ? scheme->key_type == KEY_TYPE_ED25519 : is_raw(scheme))
        return problem_set(&request->problem, WIRE_UNSUPPORTED_SCHEME, "%s is for %s only",
                           scheme->name, digest_given ? "messages" : "digests");
    request->rule = RULE_NONE;
    return WIRE_OK;
}

/* --- On which token --- */

/* The order in which tokens are taken. */
static int rank(const struct token_keeper_glance *glance)
{
    if (glance->state == TOKEN_READY)
        return glance->slow ? 1 : 0;
    return glance->state == TOKEN_STARTING ? 2 : 3;
}

/*
 * Between equals the fewest calls in flight decide, then the longest rest: so all are in use, and
 * what befalls one is known before it is needed.
 */
static bool is_better(const struct token_keeper_glance *glance,
                      const struct token_keeper_glance *best)
{
    if (rank(glance) != rank(best))
        return rank(glance) < rank(best);
    if (glance->in_flight != best->in_flight)
        return glance->in_flight < best->in_flight;
    return glance->last_return < best->last_return;
}

static bool choose_token(const struct signing *signing, size_t *chosen)
{
    const struct worker *worker = signing->request->worker;
    struct token_keeper_glance best = {.in_flight = 0};
    bool found = false;
    for (size_t i = 0; i < worker->config->token_count; i++) {
        if (signing->key.places[i].epoch == 0 || (signing->tried & UINT32_C(1) << i) != 0)
            continue;
        const struct token_keeper_glance glance = token_keeper_glance(worker->keepers[i]);
        if (found && !is_better(&glance, &best))
            continue;
        found = true;
        best = glance;
        *chosen = i;
    }
    return found;
}

static enum token_error sign_with(struct signing *signing, struct token *token,
                                  const struct key_place *place)
{
    struct request *request = signing->request;
    const struct token_signing_key key = {
        .handle = place->handle, .type = signing->key.type, .bits = signing->key.bits};
    signing->sessions = token_sessions_opened(token);
    enum token_error error =
        token_sign(token, &key, signing->scheme, signing->input, signing->input_size,
                   request->deadline, request->payload, &request->payload_size, &request->problem);
    signing->stale = token_sessions_opened(token) != place->sessions;
    return error;
}

/*
 * RSA's always: see signature_check.h. Others' once from each place and after each opening of a
 * session, unless configured.
 */
static bool needs_check(const struct signing *signing, size_t index)
{
    const struct token_config *token = &signing->request->worker->config->tokens[index];
    return signing->key.type == KEY_TYPE_RSA || token->verify_always || signing->stale ||
           !signing->key.places[index].verified;
}

/*
 * A wrong signature is wiped, and ends the token's service; but a handle that may have come to
 * name another key is looked up again first.
 */
static enum token_error check_signature(struct signing *signing, size_t index, uint64_t epoch)
{
    struct request *request = signing->request;
    struct worker *worker = request->worker;
    const uint8_t *id = request->wire.key_id;
    if (!needs_check(signing, index))
        return TOKEN_OK;
    EVP_PKEY *public_key = keyring_public_key(worker->keyring, id);
    bool right = public_key != NULL &&
                 signature_check(public_key, signing->scheme, signing->input, signing->input_size,
                                 request->payload, request->payload_size);
    EVP_PKEY_free(public_key);
    if (right && (signing->stale || !signing->key.places[index].verified))
        keyring_set_verified(worker->keyring, id, index, &signing->key.places[index],
                             signing->sessions);
    if (right)
        return TOKEN_OK;
    OPENSSL_cleanse(request->payload, request->payload_size);
    if (signing->stale)
        return TOKEN_KEY_GONE;
    problem_set(&request->problem, 0,
                "token %s: made a wrong signature with key %s, and is not used before immured is "
                "reloaded: have the device examined",
                worker->config->tokens[index].settings.name, key_words(signing));
    if (public_key != NULL) /* else it is our own failure */
        token_keeper_condemn(worker->keepers[index], epoch, &request->problem);
    return TOKEN_FAILED;
}

/*
 * The place is out of date; the keeper looks at all keys again, or, if no other token has this one,
 * the client has it looked up by its public key and asks again.
 */
static enum wire_status forget_place(struct signing *signing, size_t index)
{
    struct request *request = signing->request;
    keyring_forget(request->worker->keyring, request->wire.key_id, index,
                   &signing->key.places[index]);
    token_keeper_rescan(request->worker->keepers[index], signing->key.places[index].epoch);
    return problem_set(&request->problem, WIRE_UNKNOWN_KEY,
                       "key %s must be looked up again on token %s", key_words(signing),
                       request->worker->config->tokens[index].settings.name);
}

/* What a handle that has come to name something else can cause. */
static bool is_by_wrong_key(const struct signing *signing, enum token_error error)
{
    return error == TOKEN_KEY_GONE ||
           (signing->stale && (error == TOKEN_FAILED || error == TOKEN_UNSUPPORTED));
}

static enum wire_status sign_on(struct signing *signing, size_t index)
{
    struct request *request = signing->request;
    struct token_keeper *keeper = request->worker->keepers[index];
    const struct key_place *place = &signing->key.places[index];
    struct token *token = NULL;
    uint64_t epoch = 0;
    /* Nobody waits for a token to come up where another one just has no room. */
    uint64_t until = request->full == NULL ? request->deadline : 0;
    enum token_error error =
        request_take_token(request, index, until, &token, &epoch, &request->problem);
    if (error != TOKEN_OK)
        return request_status_of(error);
    bool current = epoch == place->epoch;
    uint64_t start = clock_now_ms();
    call_begin(request->call, request, index);
    if (current)
        error = sign_with(signing, token, place);
    call_end(request->call);
    const struct token_use use = {.success = error == TOKEN_OK,
                                  .milliseconds = clock_now_ms() - start};
    token_keeper_return(keeper, current ? &use : NULL);
    if (!current)
        return forget_place(signing, index);

    if (error == TOKEN_OK)
        error = check_signature(signing, index, epoch);
    if (error == TOKEN_UNAVAILABLE)
        token_keeper_lost(keeper, epoch, &request->problem);
    if (error == TOKEN_UNAVAILABLE || is_by_wrong_key(signing, error))
        return forget_place(signing, index);
    return request_status_of(error);
}

/* What there is still hope in tells the client, or has the request wait here, before all else. */
static int hope_in(enum wire_status status)
{
    if (status == WIRE_BUSY)
        return 2;
    return status == WIRE_UNKNOWN_KEY ? 1 : 0;
}

/* Tries one token after the other. */
static enum wire_status sign_on_any(struct signing *signing)
{
    struct request *request = signing->request;
    struct problem worst;
    enum wire_status result = WIRE_UNKNOWN_KEY;
    size_t index = 0;
    for (bool first = true; choose_token(signing, &index); first = false) {
        if (clock_left_ms(request->deadline) == 0)
            return problem_set(&request->problem, WIRE_DEADLINE_PASSED,
                               "the deadline passed before a token was free for key %s",
                               key_words(signing));
        enum wire_status status = sign_on(signing, index);
        if (status == WIRE_OK)
            return WIRE_OK;
        if (first || hope_in(status) >= hope_in(result)) {
            result = status;
            worst = request->problem;
        }
        signing->tried |= UINT32_C(1) << index;
    }
    if (signing->tried == request->passed_over)
        return problem_set(&request->problem, WIRE_UNKNOWN_KEY, "key %s must be looked up again",
                           key_words(signing));
    request->problem = worst;
    return result;
}

static enum wire_status prepare(struct signing *signing)
{
    struct request *request = signing->request;
    enum wire_status status = permission_of_key(request, &signing->key);
    if (status == WIRE_OK)
        status = check_scheme(signing);
    if (status != WIRE_OK)
        return status;
    return request->wire.operation == WIRE_SIGN_DIGEST
               ? permission_to_sign_digest(request, &signing->key, signing->scheme)
               : permission_to_sign(request, &signing->key, signing->scheme);
}

enum wire_status request_sign(struct request *request)
{
    struct signing signing = {.request = request,
                              .tried = request->passed_over,
                              .input = request->wire.payload,
                              .input_size = request->wire.payload_size};
    uint8_t digest[SCHEME_DIGEST_SIZE_MAX];
    enum wire_status status = prepare(&signing);
    if (status != WIRE_OK)
        return status;
    if (signing.scheme->digest != NULL) {
        if (!digest_message(&request->worker->digests, signing.scheme, request->wire.payload,
                            request->wire.payload_size, digest))
            return problem_set(&request->problem, WIRE_TOKEN_FAILED,
                               "OpenSSL cannot make a %s digest", signing.scheme->digest);
        signing.input = digest;
        signing.input_size = signing.scheme->digest_size;
    }
    return sign_on_any(&signing);
}

enum wire_status request_sign_digest(struct request *request)
{
    struct signing signing = {.request = request,
                              .tried = request->passed_over,
                              .input = request->wire.payload,
                              .input_size = request->wire.payload_size};
    enum wire_status status = prepare(&signing);
    return status == WIRE_OK ? sign_on_any(&signing) : status;
}
