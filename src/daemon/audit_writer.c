#include "daemon/audit_writer.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "daemon/audit_log.h"

#define MINUTE_MS 60000
/* What comes together is written together; still within a second. */
#define GATHER_MS 500

struct audit_writer {
    struct audit_log *log;
    struct audit_table *table;
    uint64_t minute;   /* that the table's rows belong to, since 1970 */
    uint64_t write_at; /* rows are new, and written then; 0: none */
    bool failing;      /* has been logged */
    struct audit_pending pending[AUDIT_APPEND_MAX];
    struct audit_record records[AUDIT_APPEND_MAX];
};

/* --- Writing --- */

static void set_user(struct audit_record *record)
{
    char buffer[1024];
    struct passwd entry, *user = NULL;
    if (getpwuid_r(record->uid, &entry, buffer, sizeof(buffer), &user) == 0 && user != NULL)
        audit_text(record->user, sizeof(record->user), user->pw_name);
}

static void make_record(const struct audit_pending *pending, struct audit_record *record)
{
    *record =
        (struct audit_record){.from = pending->first, .to = pending->last, .count = pending->count};
    if (pending->id.is_event) {
        memcpy(record->event, pending->id.outcome, sizeof(record->event));
        memcpy(record->text, pending->name, sizeof(record->text));
        return;
    }
    memcpy(record->key, pending->id.key, sizeof(record->key));
    memcpy(record->name, pending->name, sizeof(record->name));
    memcpy(record->unit, pending->id.unit, sizeof(record->unit));
    memcpy(record->use, pending->id.use, sizeof(record->use));
    memcpy(record->outcome, pending->id.outcome, sizeof(record->outcome));
    record->uid = pending->id.uid;
    set_user(record);
}

/* How many records there were; -1: they, or some of them, are in the table still. */
static int write_some(struct audit_writer *writer, bool all, size_t *place, uint64_t now,
                      struct problem *problem)
{
    size_t count = audit_table_take(writer->table, all, audit_log_n(writer->log) + 1, place,
                                    writer->pending, AUDIT_APPEND_MAX);
    if (count == 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        make_record(&writer->pending[i], &writer->records[i]);
    int error = audit_log_append(writer->log, writer->records, count, now, problem);
    audit_table_settle(writer->table, audit_log_n(writer->log));
    return error == 0 ? (int)count : -1;
}

static void write_rows(struct audit_writer *writer, bool all, uint64_t now)
{
    struct problem problem;
    size_t place = 0;
    int written;
    while ((written = write_some(writer, all, &place, now, &problem)) > 0) {
        if (writer->failing)
            log_notice("audit log: can be written again, and no count is missing");
        writer->failing = false;
    }
    if (written < 0 && !writer->failing)
        log_error("%s", problem.text);
    writer->failing = written < 0 || writer->failing;
}

void audit_writer_run(struct audit_writer *writer, bool woken, uint64_t now)
{
    if (writer == NULL)
        return;
    bool over = now / MINUTE_MS != writer->minute;
    if (woken && writer->write_at == 0)
        writer->write_at = now + GATHER_MS;
    /* A clock that was set back must not put it off. */
    bool due =
        writer->write_at != 0 && (now >= writer->write_at || writer->write_at > now + GATHER_MS);
    if (!over && !due)
        return;
    over = over || audit_table_is_crowded(writer->table);
    writer->write_at = 0;
    write_rows(writer, over, now);
    if (!over)
        return;
    audit_table_end_minute(writer->table);
    writer->minute = now / MINUTE_MS;
}

int audit_writer_time_left(const struct audit_writer *writer, uint64_t now)
{
    uint64_t left = MINUTE_MS - now % MINUTE_MS;
    if (writer == NULL)
        return -1;
    if (writer->write_at != 0 && writer->write_at <= now)
        return 0;
    if (writer->write_at != 0 && writer->write_at - now < left)
        left = writer->write_at - now;
    return (int)left;
}

int audit_writer_descriptor(const struct audit_writer *writer)
{
    return writer != NULL && writer->write_at == 0 ? audit_table_wake_descriptor(writer->table)
                                                   : -1;
}

/* --- Life --- */

static void log_head(const struct audit_writer *writer)
{
    char head[AUDIT_HEAD_SIZE];
    audit_log_head(writer->log, head);
    log_notice("audit log: head %s", head);
}

int audit_writer_open(const char *directory, const char *table_path, struct audit_writer **writer,
                      struct problem *problem)
{
    struct audit_writer *new = calloc(1, sizeof(*new));
    if (new == NULL)
        return problem_set(problem, -1, "out of memory");
    if (audit_log_open(directory, &new->log, problem) != 0 ||
        audit_table_open(table_path, &new->table, problem) != 0) {
        audit_log_close(new->log);
        free(new);
        return -1;
    }
    new->minute = audit_now() / MINUTE_MS;
    audit_table_settle(new->table, audit_log_n(new->log));
    audit_writer_event(new, "start", "immured " IMMURE_VERSION);
    log_head(new);
    *writer = new;
    return 0;
}

struct audit_table *audit_writer_leave(const struct audit_writer *writer)
{
    if (writer == NULL)
        return NULL;
    audit_log_leave(writer->log);
    return writer->table;
}

void audit_writer_event(struct audit_writer *writer, const char *event, const char *text)
{
    if (writer == NULL)
        return;
    struct audit_id id = {.is_event = true};
    uint64_t now = audit_now();
    audit_text(id.outcome, sizeof(id.outcome), event);
    audit_table_add(writer->table, &id, text, now);
    write_rows(writer, true, now);
}

void audit_writer_close(struct audit_writer *writer)
{
    if (writer == NULL)
        return;
    audit_writer_event(writer, "stop", "");
    log_head(writer);
    audit_table_close(writer->table);
    audit_log_close(writer->log);
    free(writer);
}
