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

/* The hash before record `n`, which is next; NULL: that record is neither here nor known. */
static const uint8_t *hash_before(const struct audit_chain *chain, uint64_t n)
{
    if (chain->n == n - 1)
        return chain->hash;
    return chain->head.n == n - 1 ? chain->head.hash : NULL;
}

static bool follows(const uint8_t *before, const struct audit_line *line,
                    const struct audit_record *record)
{
    uint8_t hash[AUDIT_HASH_SIZE];
    if (before == NULL)
        return true;
    audit_record_hash(before, line->text, line->size, hash);
    return memcmp(hash, record->hash, sizeof(hash)) == 0;
}

static void begin(struct audit_chain *chain, uint64_t n, bool checked)
{
    chain->first = n;
    chain->first_unchecked = !checked;
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
    const uint8_t *before = hash_before(chain, record->n);
    if (!follows(before, line, record))
        return AUDIT_CHANGED;
    if (chain->n == 0)
        begin(chain, record->n, before != NULL);
    chain->n = record->n;
    memcpy(chain->hash, record->hash, sizeof(chain->hash));
    chain->torn += chain->unread > 0;
    chain->unread = 0;
    return AUDIT_NO_FAULT;
}
