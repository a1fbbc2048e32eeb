/*
 * The master's part in the audit log: from the table to the files, in time.
 *
 * What nothing was written of in a minute is written within a second; what comes after it in the
 * same minute is one record at the minute's end. Where writing fails, the counts stay in the table.
 * All of it is the master's; `now` is in milliseconds since 1970. But for opening, `writer` may be
 * NULL, where there is no audit log: nothing happens.
 */
#ifndef IMMURE_DAEMON_AUDIT_WRITER_H
#define IMMURE_DAEMON_AUDIT_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/problem.h"
#include "daemon/audit_table.h"

struct audit_writer;

/*
 * Opens the log in the directory and the table at `table_path`, and writes what the table holds.
 * Before fork().
 */
int audit_writer_open(const char *directory, const char *table_path, struct audit_writer **writer,
                      struct problem *problem) MUST_USE;

/* Writes what is left, and says what the last record is. */
void audit_writer_close(struct audit_writer *writer);

/* After fork(), in a worker: all that it has to do with it is the table. */
struct audit_table *audit_writer_leave(const struct audit_writer *writer);

/* A record of immured's own life: "start", "reload", "stop". */
void audit_writer_event(struct audit_writer *writer, const char *event, const char *text);

/* For poll(2): readable when audit_writer_run() is wanted, and it is after so many milliseconds. */
int audit_writer_descriptor(const struct audit_writer *writer);
int audit_writer_time_left(const struct audit_writer *writer, uint64_t now);

/* Writes what is due. `woken`: the descriptor was readable. */
void audit_writer_run(struct audit_writer *writer, bool woken, uint64_t now);

#endif
