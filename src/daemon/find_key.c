/*
 * FIND_KEY: from a name, a PKCS#11 URI or a public key to a key reference.
 */
#include <ctype.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/request.h"
#include "wire/cursor.h"
#include "wire/reference.h"

/* Fits a URI with every attribute of RFC 7512. */
#define URI_SIZE_MAX 2048

/* How long one of the tokens that start is waited for before the others have their turn. */
#define SEARCH_TURN_MS 20

/*
 * Of a token's sessions, at least one: a search takes many calls, and signatures must find room
 * however many keys are asked for. By anything but a public key or a name it reads all the keys,
 * and such searches must not keep a handshake from finding its key.
 */
#define SEARCHES_MAX(sessions) ((sessions) / 2)
#define ALL_KEYS_MAX(sessions) ((sessions) / 4)

struct search {
    struct request *request;
    struct token_key_query query;
    enum wire_find by;
    const uint8_t *wanted_id;     /* or NULL; others are passed over */
    char text[URI_SIZE_MAX];      /* the name or URI asked for */
    char words[URI_SIZE_MAX + 2]; /* what is asked for, for messages */

    size_t token_index; /* where the search is just now */
    struct token *token;
    uint64_t epoch;

    uint32_t left;  /* bit i: token i is to be asked */
    unsigned found; /* different public keys */
    uint8_t id[KEY_ID_SIZE];
    bool failed;   /* no memory for a key or its reference */
    bool hidden;   /* there is one that is not granted */
    bool crowded;  /* on a token are as many searches as may be */
    bool given_up; /* not all keys were looked at: nobody waits for the answer any more */
};

/* --- What is asked for --- */

static bool may_look(const struct request *request, const char *name)
{
    const struct connection *connection = request->connection;
    return connection->is_operator ||
           (connection->grants & grants_of_key(request->worker->config, name)) != 0;
}

static bool parse_id(const char *text, uint8_t id[KEY_ID_SIZE])
{
    for (size_t i = 0; i < KEY_ID_SIZE; i++) {
        const unsigned char *digits = (const unsigned char *)text + 2 * i;
        if (!isxdigit(digits[0]) || !isxdigit(digits[1]))
            return false;
        const char pair[] = {(char)digits[0], (char)digits[1], '\0'};
        id[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return text[(size_t)2 * KEY_ID_SIZE] == '\0';
}

static enum wire_status query_by_public_key(struct search *search, const uint8_t *spki, size_t size,
                                            uint8_t id[KEY_ID_SIZE])
{
    struct request *request = search->request;
    if (size == 0 || size > KEY_REFERENCE_SIZE_MAX || !key_id_of_spki(spki, size, id))
        return problem_set(&request->problem, WIRE_KEY_NOT_FOUND,
                           "%zu bytes are no public key to look for", size);
    search->query.spki = spki;
    search->query.spki_size = size;
    search->wanted_id = id;
    request_key_words(request, id, search->words);
    return WIRE_OK;
}

static enum wire_status query_by_text(struct search *search, const uint8_t *text, size_t size,
                                      uint8_t id[KEY_ID_SIZE])
{
    struct request *request = search->request;
    bool by_name = search->by == WIRE_FIND_NAME;
    size_t size_max = by_name ? TOKEN_LABEL_SIZE_MAX : URI_SIZE_MAX - 1;
    if (size == 0 || size > size_max || memchr(text, '\0', size) != NULL)
        return problem_set(&request->problem, WIRE_KEY_NOT_FOUND,
                           "a %s has 1 to %zu characters and no NUL", by_name ? "name" : "URI",
                           size_max);
    memcpy(search->text, text, size);
    search->text[size] = '\0';
    snprintf(search->words, sizeof(search->words), "'%s'", search->text);
    if (!by_name)
        search->query.uri = search->text;
    else if (parse_id(search->text, id))
        search->wanted_id = id;
    else if (!may_look(request, search->text))
        return request_not_granted(request, search->words);
    else
        search->query.label = search->text;
    return WIRE_OK;
}

static enum wire_status read_query(struct search *search, uint8_t id[KEY_ID_SIZE])
{
    struct request *request = search->request;
    struct reader reader = reader_of(request->wire.payload, request->wire.payload_size);
    search->by = reader_u8(&reader);
    size_t size = reader.left;
    const uint8_t *bytes = reader_bytes(&reader, size);
    if (!request->connection->is_operator && request->connection->grants == 0)
        return request_not_granted(request, NULL);
    switch (search->by) {
    case WIRE_FIND_PUBLIC_KEY:
        return query_by_public_key(search, bytes, size, id);
    case WIRE_FIND_NAME:
    case WIRE_FIND_PKCS11_URI:
        return query_by_text(search, bytes, size, id);
    }
    return problem_set(&request->problem, WIRE_UNSUPPORTED_OPERATION,
                       "keys cannot be looked up by way %u", (unsigned)search->by);
}

/* --- The search --- */

static bool encode_reference(struct search *search, const uint8_t *spki, size_t spki_size,
                             char *name, char *uri)
{
    struct request *request = search->request;
    struct key_reference reference = {.spki_size = spki_size, .name = name, .uri = uri};
    reference.spki = OPENSSL_memdup(spki, spki_size);
    uint8_t *der = NULL;
    size_t size = 0;
    if (reference.spki != NULL)
        der = key_reference_encode(&reference, &size);
    bool good = der != NULL && size <= REPLY_PAYLOAD_SIZE_MAX;
    if (good) {
        memcpy(request->payload, der, size);
        request->payload_size = size;
    }
    OPENSSL_free(der);
    OPENSSL_free(reference.spki);
    return good;
}

static bool take_key(struct search *search, const struct token_key *key)
{
    char name[TOKEN_LABEL_SIZE_MAX + 1], uri[URI_SIZE_MAX];
    snprintf(name, sizeof(name), "%s", key->label);
    token_key_uri(search->token, key, uri, sizeof(uri));
    search->found = 1;
    memcpy(search->id, key->id, KEY_ID_SIZE);
    return encode_reference(search, key->spki, key->spki_size, name, uri);
}

static void look_at(struct search *search, const struct token_key *key)
{
    struct request *request = search->request;
    search->failed |=
        !keyring_put(request->worker->keyring, key, search->token_index, search->epoch);
    if (!may_look(request, key->label)) {
        search->hidden = true;
        if (search->by == WIRE_FIND_PUBLIC_KEY) /* who has that may know its name, no others */
            snprintf(search->words, sizeof(search->words), "'%s'", key->label);
    } else if (search->found == 0) {
        search->failed |= !take_key(search, key);
    } else if (memcmp(search->id, key->id, KEY_ID_SIZE) != 0) {
        char first[KEY_ID_TEXT_SIZE], second[KEY_ID_TEXT_SIZE];
        key_id_text(search->id, first);
        key_id_text(key->id, second);
        search->found++;
        problem_set(&request->problem, 0,
                    "%s fits several keys, among them %s... and %s...: name the one that is meant "
                    "by its id (see immure key list) or by a URI with its id=",
                    search->words, first, second);
    }
}

/* A token_key_callback. */
static bool on_key(const struct token_key *key, void *context)
{
    struct search *search = context;
    const struct request *request = search->request;
    bool fits = search->wanted_id == NULL || memcmp(search->wanted_id, key->id, KEY_ID_SIZE) == 0;
    if (fits)
        look_at(search, key);
    if (search->found > 1 || (fits && search->wanted_id != NULL))
        return false;
    search->given_up =
        clock_left_ms(request->deadline) == 0 || connection_has_left(request->connection);
    return !search->given_up;
}

static bool enter(atomic_uint *under_way, unsigned max)
{
    if (atomic_fetch_add(under_way, 1) < (max > 0 ? max : 1))
        return true;
    atomic_fetch_sub(under_way, 1);
    return false;
}

static bool reads_all_keys(const struct search *search)
{
    return search->query.spki == NULL && search->query.label == NULL;
}

static bool begin(struct search *search, size_t index)
{
    struct searches *searches = &search->request->worker->searches[index];
    unsigned sessions = search->request->worker->config->tokens[index].settings.max_sessions;
    if (!enter(&searches->all, SEARCHES_MAX(sessions)))
        return false;
    if (!reads_all_keys(search) || enter(&searches->of_all_keys, ALL_KEYS_MAX(sessions)))
        return true;
    atomic_fetch_sub(&searches->all, 1);
    return false;
}

static void end(struct search *search, size_t index)
{
    struct searches *searches = &search->request->worker->searches[index];
    if (reads_all_keys(search))
        atomic_fetch_sub(&searches->of_all_keys, 1);
    atomic_fetch_sub(&searches->all, 1);
}

static enum token_error search_with_room(struct search *search, size_t index, uint32_t wait_ms,
                                         struct problem *problem)
{
    uint64_t until = wait_ms > 0 ? clock_now_ms() + wait_ms : 0;
    struct token_keeper *keeper = search->request->worker->keepers[index];
    enum token_error error =
        request_take_token(search->request, index, until, &search->token, &search->epoch, problem);
    if (error != TOKEN_OK)
        return error;
    search->token_index = index;
    call_begin(search->request->call, search->request, index);
    error = token_find_keys(search->token, &search->query, search->request->deadline, on_key,
                            search, NULL, problem);
    call_end(search->request->call);
    if (token_keeper_return(keeper, &(struct token_use){.error = error, .is_search = true}))
        token_keeper_lost(keeper, search->epoch, problem);
    return error;
}

static enum token_error search_token(struct search *search, size_t index, uint32_t wait_ms,
                                     struct problem *problem)
{
    if (!begin(search, index)) {
        search->crowded = true;
        return problem_set(problem, TOKEN_NO_SESSION,
                           "token %s: as many searches for keys as may be are under way on it",
                           search->request->worker->config->tokens[index].settings.name);
    }
    enum token_error error = search_with_room(search, index, wait_ms, problem);
    end(search, index);
    return error;
}

/* Nothing more is asked of tokens that start or hang. */
static bool is_over(const struct search *search)
{
    return search->found > 0 || search->request->full != NULL || search->crowded ||
           search->given_up;
}

/*
 * Asks the tokens that have not been asked yet: first those that are ready and answer, at another
 * time all, until one has the key, and waits up to SEARCH_TURN_MS for each. True: there are more.
 */
static bool search_round(struct search *search, bool first, enum token_error *result,
                         struct problem *problem)
{
    struct request *request = search->request;
    bool more = false;
    *result = TOKEN_OK;
    for (size_t i = 0; i < request->worker->config->token_count; i++) {
        struct token_keeper *keeper = request->worker->keepers[i];
        if ((search->left & UINT32_C(1) << i) == 0)
            continue;
        if (search->given_up || (!first && is_over(search)))
            break;
        bool later = first && token_keeper_glance(keeper).slow;
        enum token_error error =
            later ? TOKEN_OK : search_token(search, i, first ? 0 : SEARCH_TURN_MS, problem);
        more |= later || (error != TOKEN_OK && token_keeper_may_come_up(keeper, request->deadline));
        if (error != TOKEN_OK)
            *result = error;
        else if (!later)
            search->left &= ~(UINT32_C(1) << i);
    }
    return more;
}

/*
 * If none that is ready has the key, those that hang are asked, and those that start are waited for
 * in turns: one that does not come up keeps no other's keys from being found. Where one has no
 * room, the request waits for it, but not here; where there are too many searches, the client comes
 * again, as a backlog is served whenever there is room for a signature.
 */
static enum token_error search_tokens(struct search *search, struct problem *problem)
{
    struct request *request = search->request;
    enum token_error result;
    search->left = ~request->passed_over;
    bool more = search_round(search, true, &result, problem);
    while (more && !is_over(search) && clock_left_ms(request->deadline) > 0)
        more = search_round(search, false, &result, problem);
    return request->full != NULL || search->crowded ? TOKEN_NO_SESSION : result;
}

static enum wire_status conclude(struct search *search, enum token_error error,
                                 const struct problem *token_problem)
{
    struct request *request = search->request;
    if (search->failed)
        return problem_set(&request->problem, WIRE_BUSY, "out of memory");
    if (search->given_up)
        return problem_set(&request->problem, WIRE_DEADLINE_PASSED,
                           "the deadline passed before key %s was found", search->words);
    if (search->found == 1)
        return WIRE_OK;
    if (search->found > 1)
        return WIRE_KEY_AMBIGUOUS; /* the problem is set already */
    if (search->hidden)
        return request_not_granted(request, search->words);
    if (error != TOKEN_OK) {
        request->problem = *token_problem;
        return request_status_of(error);
    }
    if (search->by == WIRE_FIND_PUBLIC_KEY && request->passed_over == 0)
        keyring_set_missing(request->worker->keyring, search->wanted_id);
    return problem_set(&request->problem, WIRE_KEY_NOT_FOUND,
                       "key %s is on no token: it was destroyed, or belongs to a token that %s "
                       "does not name, or its files are not readable for immured's user",
                       search->words, request->worker->config->path);
}

/* A public key whose place was found meanwhile, for another client, needs no search. */
static bool answer_from_keyring(struct search *search)
{
    struct request *request = search->request;
    struct worker *worker = request->worker;
    struct keyring_key key;
    char name[TOKEN_LABEL_SIZE_MAX + 1];
    if (!keyring_get(worker->keyring, search->wanted_id, &key) ||
        !keyring_name(worker->keyring, search->wanted_id, name) || !may_look(request, name))
        return false;
    for (size_t i = 0; i < worker->config->token_count; i++) {
        if (token_keeper_has_epoch(worker->keepers[i], key.places[i].epoch))
            return encode_reference(search, search->query.spki, search->query.spki_size, name,
                                    NULL);
    }
    return false;
}

enum wire_status request_find_key(struct request *request)
{
    struct search search = {.request = request};
    struct problem problem = {.text = ""};
    uint8_t id[KEY_ID_SIZE];
    enum wire_status status = read_query(&search, id);
    if (status != WIRE_OK)
        return status;
    if (search.by == WIRE_FIND_PUBLIC_KEY) {
        if (answer_from_keyring(&search))
            return WIRE_OK;
        if (keyring_is_missing(request->worker->keyring, id))
            return conclude(&search, TOKEN_OK, &problem);
    }
    enum token_error error = search_tokens(&search, &problem);
    return conclude(&search, error, &problem);
}
