#include "daemon/audit.h"

#include <stdio.h>
#include <string.h>

#include "daemon/audit_table.h"

/* What is told of an operation that was done, whatever the padding was; of no other is anything. */
static const char *const done[] = {
    [WIRE_SIGN] = "signed",
    [WIRE_SIGN_DIGEST] = "signed",
    [WIRE_TLS12_RSA_PREMASTER] = "decrypted",
    [WIRE_RSA_DECRYPT] = "decrypted",
};

static bool is_use(const struct request *request)
{
    uint8_t operation = request->wire.operation;
    return request->worker->settings.audit != NULL && operation < ARRAY_SIZE(done) &&
           done[operation] != NULL;
}

/* How a use ends that no rule has refused. All others are asked for again. */
static bool is_end(enum wire_status status)
{
    return status == WIRE_OK || status == WIRE_TOKEN_UNAVAILABLE || status == WIRE_TOKEN_FAILED ||
           status == WIRE_DEADLINE_PASSED;
}

/* What comes after its deadline is not looked at: whoever sent it need not have had any grant. */
static bool was_allowed(const struct request *request)
{
    return request->counted.meter != NULL;
}

static void count(const struct request *request, struct audit_id *id)
{
    struct audit_table *table = request->worker->settings.audit;
    char name[TOKEN_LABEL_SIZE_MAX + 1];
    id->uid = request->connection->uid;
    memcpy(id->key, request->wire.key_id, sizeof(id->key));
    audit_text(id->unit, sizeof(id->unit), request->connection->unit);
    audit_text(id->use, sizeof(id->use), use_name(request->use));
    uint64_t now = audit_now();
    if (audit_table_count(table, id, now))
        return;
    /* Ids of keys that nobody knows could fill the table: they are all one. */
    if (!keyring_name(request->worker->keyring, request->wire.key_id, name))
        memset(id->key, 0, sizeof(id->key));
    audit_table_add(table, id, name, now);
}

void audit_request(const struct request *request, enum wire_status status)
{
    struct audit_id id = {.is_refusal = status != WIRE_OK};
    bool was_refused = request->rule != RULE_NONE;
    if (!is_use(request) || !(was_refused || (was_allowed(request) && is_end(status))))
        return;
    if (was_refused)
        snprintf(id.outcome, sizeof(id.outcome), "refused by %s", rule_name(request->rule));
    else
        audit_text(id.outcome, sizeof(id.outcome),
                   status == WIRE_OK ? done[request->wire.operation] : wire_status_name(status));
    count(request, &id);
}

void audit_late(const struct request *request)
{
    struct audit_id id = {.is_refusal = false};
    if (!is_use(request))
        return;
    snprintf(id.outcome, sizeof(id.outcome), "%s too late", done[request->wire.operation]);
    count(request, &id);
}
