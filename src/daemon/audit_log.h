/*
 * The audit log's end: where immured's master appends records. One thread; the directory is locked
 * against another immured.
 *
 * Nothing that is in a file is ever taken out again, so that the files may be append-only
 * (chattr(1), +a). What a failed write left there is made known by an event "torn": audit/chain.h.
 */
#ifndef IMMURE_DAEMON_AUDIT_LOG_H
#define IMMURE_DAEMON_AUDIT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audit/record.h"
#include "base/attributes.h"
#include "base/problem.h"

/* Records that one audit_log_append() takes. */
#define AUDIT_APPEND_MAX 256

struct audit_log;

/* Makes the directory (mode 0750) if only that is missing, and finds the end of the log. */
int audit_log_open(const char *directory, struct audit_log **log, struct problem *problem) MUST_USE;
void audit_log_close(struct audit_log *log);

/* After fork(), in a process that does not write: leaves the lock to the master alone. */
void audit_log_leave(const struct audit_log *log);

/* The number of the last record that is in the files, 0: there is none. */
uint64_t audit_log_n(const struct audit_log *log);

/* "N:HASH" of that record, as `immure audit verify --head` takes it. */
#define AUDIT_HEAD_SIZE (20 + 1 + AUDIT_HEX_SIZE)
void audit_log_head(const struct audit_log *log, char head[AUDIT_HEAD_SIZE]);

/*
 * Numbers the records, chains them and writes them with one write(2), at `now` (milliseconds since
 * 1970), which decides which file they go to; then fdatasync(2). -1: some or all of them are not
 * in the files; audit_log_n() tells which are. The problem says what to do.
 */
int audit_log_append(struct audit_log *log, struct audit_record *records, size_t count,
                     uint64_t now, struct problem *problem) MUST_USE;

#endif
