#include "daemon/audit.h"

#include <stdio.h>
#include <string.h>

#include "daemon/audit_table.h"

/* What each status is called when no rule has refused the request; NULL: no use. */
static const char *const outcomes[STATUS_COUNT] = {
    [WIRE_OK] = "signed",
    [WIRE_UNSUPPORTED_SCHEME] = "unsupported scheme",
    [WIRE_NOT_GRANTED] = "not granted",
    [WIRE_MESSAGE_REFUSED] = "message refused",
    [WIRE_KEY_NOT_FOUND] = "key not found",
    [WIRE_TOKEN_UNAVAILABLE] = "token unavailable",
    [WIRE_TOKEN_FAILED] = "token failed",
    [WIRE_DEADLINE_PASSED] = "deadline passed",
    [WIRE_OVER_RATE] = "over rate",
};

static bool is_use(const struct request *request, enum wire_status status)
{
    uint8_t operation = request->wire.operation;
    return request->worker->settings.audit != NULL && outcomes[status] != NULL &&
           (operation == WIRE_SIGN || operation == WIRE_SIGN_DIGEST);
}

static void fill_outcome(struct audit_id *id, const struct request *request,
                         enum wire_status status)
{
    id->is_refusal = status != WIRE_OK;
    if (request->rule == RULE_NONE)
        audit_text(id->outcome, sizeof(id->outcome), outcomes[status]);
    else
        snprintf(id->outcome, sizeof(id->outcome), "refused by %s", rule_name(request->rule));
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
