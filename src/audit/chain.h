/*
 * The chain of the audit log: whether each line follows from the one before. Constant memory; one
 * thread.
 *
 * When a write is cut short (the disk is full, the power is gone) what is in the file of it stays
 * there, because the file may be append-only. The record that immured writes after it is an event
 * "torn" whose text tells how many bytes are no records: then those are no fault.
 */
#ifndef IMMURE_AUDIT_CHAIN_H
#define IMMURE_AUDIT_CHAIN_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "audit/files.h"
#include "audit/record.h"
#include "base/attributes.h"

#define AUDIT_EVENT_TORN "torn"
#define AUDIT_TORN_TEXT  "%" PRIu64 " bytes"

enum audit_fault {
    AUDIT_NO_FAULT,
    AUDIT_UNREADABLE, /* no record; no fault yet: see audit_chain.unread */
    AUDIT_TORN,       /* lines that are no records without the event, or the event without them */
    AUDIT_GAP,        /* the number is too high: records are missing before this one */
    AUDIT_REPEATED,   /* the number is too low: it was here before, or belongs elsewhere */
    AUDIT_CHANGED,    /* the hash is not that of the line and the record before */
};

struct audit_head {
    uint64_t n;                    /* of a record; 0: of none */
    uint8_t hash[AUDIT_HASH_SIZE]; /* of that record */
};

struct audit_chain {
    struct audit_head head;        /* a record that is known from elsewhere; the caller's to set */
    uint64_t first;                /* number of the first record; 0: none was read */
    bool first_unchecked;          /* what its hash covers is not known: anything may stand in it */
    uint64_t n;                    /* of the last one */
    uint8_t hash[AUDIT_HASH_SIZE]; /* of the last one */
    uint64_t unread;               /* bytes since then that are no records, newlines included */
    uint64_t torn;                 /* events "torn" */
};

/*
 * Takes the next line, and reads it. The first record of all has number 1 and follows zeros. Of a
 * log that begins later, the first record follows the head if that is the one before; else its
 * hash is taken as it is. A faulty line is not taken: the chain stays as it was.
 */
enum audit_fault audit_chain_follow(struct audit_chain *chain, const struct audit_line *line,
                                    struct audit_record *record) MUST_USE;

#endif
