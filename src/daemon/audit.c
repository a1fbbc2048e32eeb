#include "daemon/audit.h"

#include <stdio.h>
#include <string.h>

#include "daemon/audit_table.h"

/* What is told of an operation that was done; of none else is anything told. */
static const char *const done[] = {
    [WIRE_SIGN] = "signed",
    [WIRE_SIGN_DIGEST] = "signed",
    [WIRE_TLS12_RSA_PREMASTER] = "decrypted",
    [WIRE_RSA_DECRYPT] = "decrypted",
};

/* How a use ends that no rule refused. The others are asked for again. */
static bool is_end(enum wire_status status)
{
    return status == WIRE_OK || status == WIRE_TOKEN_UNAVAILABLE || status == WIRE_TOKEN_FAILED ||
           status == WIRE_DEADLINE_PASSED;
}

static bool is_use(const struct request *request, enum wire_status status)
{
    uint8_t operation = request->wire.operation;
    return request->worker->settings.audit != NULL && operation < ARRAY_SIZE(done) &&
           done[operation] != NULL && (request->rule != RULE_NONE || is_end(status));
}

static void fill_outcome(struct audit_id *id, const struct request *request,
                         enum wire_status status)
{
    id->is_refusal = status != WIRE_OK;
    if (request->rule != RULE_NONE)
        snprintf(id->outcome, sizeof(id->outcome), "refused by %s", rule_name(request->rule));
    else
        audit_text(id->outcome, sizeof(id->outcome),
                   status == WIRE_OK ? done[request->wire.operation] : wire_status_name(status));
}

void audit_request(const struct request *request, enum wire_status status)
{
    struct audit_table *table = request->worker->settings.audit;
    struct audit_id id = {.uid = request->connection->uid};
    char name[TOKEN_LABEL_SIZE_MAX + 1];
    if (!is_use(request, status))
        return;
    memcpy(id.key, request->wire.key_id, sizeof(id.key));
    audit_text(id.unit, sizeof(id.unit), request->connection->unit);
    audit_text(id.use, sizeof(id.use), use_name(request->use));
    fill_outcome(&id, request, status);
    uint64_t now = audit_now();
    if (audit_table_count(table, &id, now))
        return;
    /* Ids of keys that nobody knows could fill the table: they are all one. */
    if (!keyring_name(request->worker->keyring, request->wire.key_id, name))
        memset(id.key, 0, sizeof(id.key));
    audit_table_add(table, &id, name, now);
}
