/*
 * Uses of keys, counted until the master has written them to the audit log.
 *
 * The table is in memory that the master and its workers share, so a worker that crashes takes no
 * count with it; the memory is a file beside the socket, so neither do all of immured when they
 * are killed. (It is not in the log's directory: a page that is on its way to a busy disk would
 * make the next signature wait for it. Where the socket is, there is no disk, as a rule.)
 *
 * A row is found by who did what with which key. It keeps how often that was so, and how often of
 * it is in the log; it stays at least until the end of its minute. From any thread and process,
 * but what says so is the master's alone.
 */
#ifndef IMMURE_DAEMON_AUDIT_TABLE_H
#define IMMURE_DAEMON_AUDIT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audit/record.h"
#include "base/attributes.h"
#include "base/problem.h"

/*
 * 2 MB. More different uses in half a second than this are counted without their key; more in a
 * minute are written before it ends.
 */
#define AUDIT_ROWS_MAX 4096
/*
 * So that refusals, which anybody can cause, never take the last rows from uses. More in a minute
 * than this are counted without their key, and not written before it ends: else who is refused
 * could have the log grow by so many records each half second.
 */
#define AUDIT_ROWS_REFUSED_MAX (AUDIT_ROWS_MAX / 2)

/* What a row counts; compared as bytes, so texts are padded with NULs: see audit_text(). */
struct audit_id {
    uint8_t key[KEY_ID_SIZE];
    char unit[AUDIT_UNIT_SIZE], use[AUDIT_WORD_SIZE];
    char outcome[AUDIT_WORD_SIZE]; /* or what the event is */
    uint32_t uid;
    uint8_t is_event, is_refusal, reserved[2];
};

/* A copy of what is to be written. */
struct audit_pending {
    struct audit_id id;
    char name[AUDIT_NAME_SIZE]; /* the key's, or an event's text */
    uint64_t first, last;       /* milliseconds since 1970 */
    uint64_t count;
};

struct audit_table;

/* Fills a text of an audit_id: cut if it is too long, and padded. */
void audit_text(char *text, size_t size, const char *from);

/*
 * By the master, before it forks. Takes over what is in the file, unless the host was restarted
 * since, or another version of immured made it.
 */
int audit_table_open(const char *path, struct audit_table **table,
                     struct problem *problem) MUST_USE;

/* What is in the table stays in its file. `table` may be NULL. */
void audit_table_close(struct audit_table *table);

/* Milliseconds since 1970. */
uint64_t audit_now(void);

/* Counts one more in the row, at `now`; false: there is none yet, see audit_table_add(). */
bool audit_table_count(struct audit_table *table, const struct audit_id *id, uint64_t now) MUST_USE;

/* The same in a new row if need be, and wakes the master for it. */
void audit_table_add(struct audit_table *table, const struct audit_id *id, const char *name,
                     uint64_t now);

/* The master's: readable when there are new rows. Cleared by audit_table_take(). */
int audit_table_wake_descriptor(const struct audit_table *table);

/*
 * The master's: copies rows with something to be written, `max` at most, beginning with row
 * *place, which is moved on; without `all`, only such as nothing was written of in this minute.
 * They will be the records `n`, n + 1 ...; the table notes it for audit_table_settle().
 */
size_t audit_table_take(struct audit_table *table, bool all, uint64_t n, size_t *place,
                        struct audit_pending *pending, size_t max) MUST_USE;

/*
 * The master's, when the log's last record is number `n`: of what was taken, that is in the log
 * and no longer to be written, and the rest is. True of a master that was killed in between, too.
 */
void audit_table_settle(struct audit_table *table, uint64_t n);

/* The master's, when a minute has ended and all is settled: removes rows that nothing is in. */
void audit_table_end_minute(struct audit_table *table);

/* The master's: the minute had better end now, or uses will have no room. Never for refusals. */
bool audit_table_is_crowded(struct audit_table *table) MUST_USE;

#endif
