#include "daemon/permission.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "daemon/csr_message.h"
#include "daemon/tls_message.h"

#define MESSAGE_USES (USE_TLS_SERVER | USE_TLS12_SERVER_DHE | USE_CSR)

enum wire_status permission_refuse(struct request *request, enum wire_status status, enum rule rule,
                                   const char *format, ...)
{
    char text[PROBLEM_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    request->rule = rule;
    return problem_set(&request->problem, status, "%s (rule %s)", text, rule_name(rule));
}

/* "user www-data (uid 33, pid 4711) may use key 'www' (3fa2...) for tls-server": what is so. */
struct standing {
    char client[CLIENT_WORDS_SIZE], key[KEY_WORDS_SIZE], uses[USE_NAMES_SIZE];
};

static grant_set grants_of(const struct request *request, const struct keyring_key *key)
{
    return request->connection->grants & key->grants;
}

static void fill_standing(struct standing *standing, const struct request *request,
                          const struct keyring_key *key)
{
    const struct config *config = request->worker->config;
    request_client_words(request, standing->client);
    request_key_words(request, request->wire.key_id, standing->key);
    use_names(grants_uses(config, grants_of(request, key)), standing->uses, sizeof(standing->uses));
}

/* Whoever has a certificate knows its key's id, and learns no name by it without any grant. */
static void key_words(const struct request *request, char words[KEY_WORDS_SIZE])
{
    char id[KEY_ID_TEXT_SIZE];
    key_id_text(request->wire.key_id, id);
    if (request->connection->grants != 0)
        request_key_words(request, request->wire.key_id, words);
    else
        snprintf(words, KEY_WORDS_SIZE, "%s...", id);
}

enum wire_status permission_of_key(struct request *request, struct keyring_key *key)
{
    char words[KEY_WORDS_SIZE];
    bool known = keyring_get(request->worker->keyring, request->wire.key_id, key);
    if (known && grants_of(request, key) != 0)
        return WIRE_OK;
    key_words(request, words);
    if (!known && request->connection->grants != 0)
        return problem_set(&request->problem, WIRE_UNKNOWN_KEY, "key %s has not been looked up yet",
                           words);
    return request_not_granted(request, words);
}

/* --- How often --- */

static void raise_alarm(const struct request *request, const struct grant_config *grant,
                        const struct grant_meter *meter)
{
    char client[CLIENT_WORDS_SIZE], key[KEY_WORDS_SIZE];
    request_client_words(request, client);
    request_key_words(request, request->wire.key_id, key);
    log_warning("alarm: [grant %s] is used more often than its rate allows, now by %s with key %s: "
                "%llu uses were beyond it so far%s",
                grant->name, client, key, (unsigned long long)atomic_load(&meter->over),
                grant->rate.refuse ? ", and refused" : "");
}

/* False: the grant's rate forbids it. */
static bool meter_use(struct request *request, size_t grant)
{
    const struct grant_config *config = &request->worker->config->grants[grant];
    struct grant_meter *meter = &request->worker->meters[grant];
    struct timespec now = {.tv_sec = 0};
    bool alarm;
    if (config->rate.interval_ns != 0)
        clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    bool within = grant_meter_use(meter, &config->rate, now_ns, &alarm);
    if (alarm)
        raise_alarm(request, config, meter);
    if (!within && config->rate.refuse)
        return false;
    request->counted = (struct grant_use){meter, &config->rate, within};
    return true;
}

/* A request that comes back, from a backlog or to overtake itself, has been counted. */
static bool is_counted(const struct request *request)
{
    return request->counted.meter != NULL;
}

enum wire_status permission_to_use(struct request *request, const struct keyring_key *key,
                                   unsigned use)
{
    const struct config *config = request->worker->config;
    grant_set grants = grants_of(request, key);
    unsigned uses = use | (use & MESSAGE_USES ? USE_SIGN : 0);
    struct standing standing;
    size_t grant;
    enum rule rule = RULE_USE;
    request->use = use;
    while ((grant = grants_first(config, grants, uses)) < config->grant_count) {
        if (is_counted(request) || meter_use(request, grant))
            return WIRE_OK;
        rule = RULE_RATE;
        grants &= ~((grant_set)1 << grant);
    }
    fill_standing(&standing, request, key);
    if (rule == RULE_RATE)
        return permission_refuse(request, WIRE_OVER_RATE, rule,
                                 "%s uses key %s more often than the rate of its grant allows",
                                 standing.client, standing.key);
    return permission_refuse(
        request, WIRE_MESSAGE_REFUSED, rule,
        "%s may use key %s for %s, not for %s: add that to the use of a grant if it is "
        "meant to be",
        standing.client, standing.key, standing.uses, use_name(use));
}

/* --- What it is --- */

static bool sign_is_granted(const struct request *request, const struct keyring_key *key)
{
    return (grants_uses(request->worker->config, grants_of(request, key)) & USE_SIGN) != 0;
}

/* RFC 8446 4.2.3: in TLS 1.3 the scheme names the curve, and PKCS#1 v1.5 is not for handshakes. */
static bool scheme_is_for_tls13(const struct scheme *scheme, const struct keyring_key *key)
{
    return scheme->padding != SCHEME_PADDING_PKCS1 &&
           (scheme->group_bits == 0 || scheme->group_bits == key->bits);
}

/* draft-ietf-tls-mldsa 3: ML-DSA is for TLS 1.3 alone. RFC 5246 7.4.3: DHE is with RSA or DSA. */
static enum rule scheme_rule(const struct scheme *scheme, const struct keyring_key *key,
                             unsigned use)
{
    if (use == USE_TLS13_SERVER)
        return scheme_is_for_tls13(scheme, key) ? RULE_NONE : RULE_TLS13_SCHEME;
    bool is_wrong = (use == USE_TLS12_SERVER && key_type_is_ml_dsa(scheme->key_type)) ||
                    (use == USE_TLS12_SERVER_DHE && scheme->key_type != KEY_TYPE_RSA);
    return is_wrong ? RULE_SCHEME : RULE_NONE;
}

static unsigned message_use(const struct request *request, enum rule *rule)
{
    const struct wire_request *wire = &request->wire;
    unsigned use =
        tls_message_use(wire->payload, wire->payload_size, &request->worker->dhe_groups, rule);
    const enum rule of_tls = *rule;
    if (of_tls == RULE_MESSAGE || of_tls == RULE_TLS12_DER)
        use = csr_message_use(wire->payload, wire->payload_size, wire->key_id, rule);
    /* That it is no request for a certificate says less about what was meant to be signed. */
    if (use == 0 && of_tls == RULE_TLS12_DER)
        *rule = of_tls;
    return use;
}

enum wire_status permission_to_sign(struct request *request, const struct keyring_key *key,
                                    const struct scheme *scheme)
{
    enum rule rule;
    struct standing standing;
    unsigned use = message_use(request, &rule);
    if (rule == RULE_NONE)
        rule = scheme_rule(scheme, key, use);
    if (rule == RULE_NONE)
        return permission_to_use(request, key, use);
    if (sign_is_granted(request, key))
        return permission_to_use(request, key, USE_SIGN);
    request->use = use;
    fill_standing(&standing, request, key);
    return permission_refuse(request, WIRE_MESSAGE_REFUSED, rule,
                             "%s may use key %s for %s, and this is none of that: %s",
                             standing.client, standing.key, standing.uses, rule_text(rule));
}

static bool digest_fits(const struct scheme *scheme, size_t size)
{
    if (scheme->code == SCHEME_RSA_PKCS1_RAW)
        return size > 0 && size <= SCHEME_RSA_PKCS1_RAW_SIZE_MAX;
    if (scheme->code == SCHEME_ECDSA_RAW)
        return size > 0 && size <= SCHEME_DIGEST_SIZE_MAX;
    return size == scheme->digest_size;
}

enum wire_status permission_to_sign_digest(struct request *request, const struct keyring_key *key,
                                           const struct scheme *scheme)
{
    if (sign_is_granted(request, key) && !digest_fits(scheme, request->wire.payload_size))
        return permission_refuse(request, WIRE_MESSAGE_REFUSED, RULE_DIGEST,
                                 "%zu bytes are no input for %s", request->wire.payload_size,
                                 scheme->name);
    return permission_to_use(request, key, USE_SIGN);
}
