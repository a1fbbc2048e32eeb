#include "audit/chain.h"

#include <stdio.h>
#include <string.h>

/* An event "torn" and torn bytes belong together. */
static bool accounts_for_unread(const struct audit_chain *chain, const struct audit_record *record)
{
    char text[32];
    if (strcmp(record->event, AUDIT_EVENT_TORN) != 0)
        return chain->unread == 0;
    snprintf(text, sizeof(text), AUDIT_TORN_TEXT, chain->unread);
    return chain->unread > 0 && strcmp(record->text, text) == 0;
}

static bool follows(const struct audit_chain *chain, const struct audit_line *line,
                    const struct audit_record *record)
{
    uint8_t hash[AUDIT_HASH_SIZE];
    if (chain->n == 0 && record->n != 1)
        return true; /* what came before is no longer here */
    audit_record_hash(chain->hash, line->text, line->size, hash);
    return memcmp(hash, record->hash, sizeof(hash)) == 0;
}

enum audit_fault audit_chain_follow(struct audit_chain *chain, const struct audit_line *line,
                                    struct audit_record *record)
{
    if (!audit_line_parse(line, record)) {
        chain->unread += line->size + line->ended;
        return AUDIT_UNREADABLE;
    }
    if (chain->n != 0 && record->n != chain->n + 1)
        return record->n > chain->n ? AUDIT_GAP : AUDIT_REPEATED;
    if (!accounts_for_unread(chain, record))
        return AUDIT_TORN;
    if (!follows(chain, line, record))
        return AUDIT_CHANGED;
    if (chain->n == 0)
        chain->first = record->n;
    chain->n = record->n;
    memcpy(chain->hash, record->hash, sizeof(chain->hash));
    chain->torn += chain->unread > 0;
    chain->unread = 0;
    return AUDIT_NO_FAULT;
}
