#include "daemon/audit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/chain.h"
#include "audit/files.h"
#include "base/log.h"

/* How far back the last record is searched for: several writes that were cut short. */
#define TAIL_SIZE (16 * AUDIT_LINE_SIZE_MAX)

/* No record ends in this. It counts as torn itself. */
#define TORN_END "~\n"

struct audit_log {
    char *path;
    int directory;                                      /* locked */
    char file[AUDIT_FILE_NAME_SIZE];                    /* the newest; "": none yet */
    uint64_t size;                                      /* of it */
    uint64_t n;                                         /* of the last record */
    uint8_t hash[AUDIT_HASH_SIZE];                      /* of the last record */
    uint64_t torn;                                      /* bytes after it that are no record */
    char lines[AUDIT_APPEND_MAX * AUDIT_LINE_SIZE_MAX]; /* takes memory as far as it is used */
};

/* --- Finding the end --- */

static ssize_t read_tail(int directory, const char *name, char tail[TAIL_SIZE], uint64_t *size)
{
    struct stat status;
    ssize_t got = -1;
    int file = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file >= 0 && fstat(file, &status) == 0) {
        off_t start = status.st_size > TAIL_SIZE ? status.st_size - TAIL_SIZE : 0;
        *size = (uint64_t)status.st_size;
        got = pread(file, tail, TAIL_SIZE, start);
    }
    if (file >= 0)
        close(file);
    return got;
}

/* The last line that is a record; what comes after it is torn. */
static bool find_last(struct audit_log *log, const char *tail, size_t size)
{
    struct audit_record record;
    size_t end = size;
    for (; end > 0; end--) {
        if (tail[end - 1] != '\n')
            continue;
        const char *before = memrchr(tail, '\n', end - 1);
        const char *line = before != NULL ? before + 1 : tail;
        if (!audit_record_parse(line, (size_t)(tail + end - 1 - line), &record))
            continue;
        log->n = record.n;
        memcpy(log->hash, record.hash, sizeof(log->hash));
        break;
    }
    log->torn += size - end;
    return end > 0;
}

/* A file without a record is one whose first write was cut short, or not begun. */
static int find_end(struct audit_log *log, struct audit_files *files, struct problem *problem)
{
    static char tail[TAIL_SIZE];
    bool found = false;
    for (size_t i = files->count; i-- > 0 && !found;) {
        uint64_t size = 0;
        ssize_t got = read_tail(log->directory, files->names[i], tail, &size);
        if (got < 0)
            return problem_set(problem, -1, "audit log %s/%s: cannot be read: %s", log->path,
                               files->names[i], strerror(errno));
        if (i + 1 == files->count) {
            memcpy(log->file, files->names[i], sizeof(log->file));
            log->size = size;
        }
        found = find_last(log, tail, (size_t)got);
        if (!found && size > TAIL_SIZE)
            return problem_set(problem, -1,
                               "audit log %s/%s: its last %d bytes hold no record: move the files "
                               "elsewhere, and see what became of them",
                               log->path, files->names[i], TAIL_SIZE);
    }
    return 0;
}

/* --- The directory --- */

/* Whoever can write to the directory can put another log there; so that is for immured alone. */
static int check_directory(const struct audit_log *log, struct problem *problem)
{
    struct stat status;
    if (fstat(log->directory, &status) != 0)
        return problem_set(problem, -1, "the audit log's directory %s: %s", log->path,
                           strerror(errno));
    bool ours = status.st_uid == geteuid() || status.st_uid == 0;
    if (ours && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return 0;
    return problem_set(problem, -1,
                       "the audit log's directory %s can be written by others than immured (owner "
                       "%u, mode %03o): \"chown immure %s; chmod go-w %s\"",
                       log->path, (unsigned)status.st_uid, (unsigned)status.st_mode & 0777U,
                       log->path, log->path);
}

static int open_directory(struct audit_log *log, struct problem *problem)
{
    const char *const advice = "make it for immured's user alone, as in \"install -d -m 750 -o "
                               "immure -g immure DIRECTORY\", or set audit in [immured]";
    bool made = mkdir(log->path, 0750) == 0;
    if (!made && errno != EEXIST)
        return problem_set(problem, -1, "the audit log's directory %s cannot be made (%s): %s",
                           log->path, strerror(errno), advice);
    log->directory = open(log->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->directory < 0 || faccessat(log->directory, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return problem_set(problem, -1, "the audit log's directory %s cannot be used (%s): %s",
                           log->path, strerror(errno), advice);
    if (made && fchmod(log->directory, 0750) != 0) /* past the umask, which knows no readers */
        log_warning("%s is for immured's user alone: %s", log->path, strerror(errno));
    if (check_directory(log, problem) != 0)
        return -1;
    if (flock(log->directory, LOCK_EX | LOCK_NB) != 0)
        return problem_set(problem, -1,
                           "another immured writes the audit log in %s (%s): stop it, or set audit "
                           "in [immured] to another directory",
                           log->path, strerror(errno));
    return 0;
}

static int open_at_end(struct audit_log *log, struct problem *problem)
{
    struct audit_files files;
    if (open_directory(log, problem) != 0)
        return -1;
    if (!audit_files_list(log->path, &files))
        return problem_set(problem, -1, "the audit log's directory %s cannot be read: %s",
                           log->path, strerror(errno));
    int result = find_end(log, &files, problem);
    audit_files_free(&files);
    return result;
}

int audit_log_open(const char *directory, struct audit_log **log, struct problem *problem)
{
    *log = calloc(1, sizeof(**log));
    if (*log == NULL)
        return problem_set(problem, -1, "out of memory");
    (*log)->directory = -1;
    (*log)->path = strdup(directory);
    if ((*log)->path != NULL && open_at_end(*log, problem) == 0)
        return 0;
    audit_log_close(*log);
    *log = NULL;
    return -1;
}

void audit_log_leave(const struct audit_log *log)
{
    close(log->directory);
}

void audit_log_close(struct audit_log *log)
{
    if (log == NULL)
        return;
    if (log->directory >= 0)
        close(log->directory);
    free(log->path);
    free(log);
}

uint64_t audit_log_n(const struct audit_log *log)
{
    return log->n;
}

void audit_log_head(const struct audit_log *log, char head[AUDIT_HEAD_SIZE])
{
    char hash[AUDIT_HEX_SIZE];
    audit_hex_text(log->hash, hash);
    snprintf(head, AUDIT_HEAD_SIZE, "%llu:%s", (unsigned long long)log->n, hash);
}

/* --- Writing --- */

static int fail(const struct audit_log *log, struct problem *problem)
{
    return problem_set(problem, -1,
                       "audit log %s/%s: cannot be written (%s): make room, or mend it; what is "
                       "counted is kept, and tried again each minute",
                       log->path, log->file, strerror(errno));
}

/* Never back to an older month, whatever the clock says: the files' order is the records'. */
static void choose_file(struct audit_log *log, uint64_t now)
{
    char name[AUDIT_FILE_NAME_SIZE], head[AUDIT_HEAD_SIZE];
    audit_file_name(now, name);
    if (strcmp(name, log->file) <= 0)
        return;
    memcpy(log->file, name, sizeof(log->file));
    log->size = 0;
    audit_log_head(log, head);
    log_notice("audit log: %s/%s begins after head %s", log->path, log->file, head);
}

/* Opened for each write, so that one that was removed or moved away is not written on unseen. */
static int open_file(struct audit_log *log)
{
    struct stat status;
    int file = openat(log->directory, log->file,
                      O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (file < 0)
        return -1;
    if (fstat(file, &status) != 0) {
        close(file);
        return -1;
    }
    if ((uint64_t)status.st_size != log->size) {
        log_error("audit log %s/%s: was changed by somebody else: it has %lld bytes, and had %llu: "
                  "see immure audit verify",
                  log->path, log->file, (long long)status.st_size, (unsigned long long)log->size);
        log->size = (uint64_t)status.st_size;
    }
    if (status.st_size == 0 && fchmod(file, 0640) != 0) /* as above */
        log_warning("%s/%s is for immured's user alone: %s", log->path, log->file, strerror(errno));
    return file;
}

/* How many bytes have been written; fewer than `size`: errno says why. */
static size_t write_lines(struct audit_log *log, const char *lines, size_t size)
{
    int file = open_file(log);
    if (file < 0)
        return 0;
    ssize_t written;
    do
        written = write(file, lines, size);
    while (written < 0 && errno == EINTR);
    int error = written >= 0 ? ENOSPC : errno;
    if (written < 0)
        written = 0;
    if ((size_t)written == size && fdatasync(file) != 0 && errno != EINVAL)
        log_error("audit log %s/%s: may not be on the disk: %s", log->path, log->file,
                  strerror(errno));
    close(file);
    log->size += (uint64_t)written;
    errno = error;
    return (size_t)written;
}

/* The size of the line, which follows from the record before; 0: out of memory. */
static size_t format(struct audit_record *record, const struct audit_record *before, char *line)
{
    record->n = before->n + 1;
    return audit_record_format(record, before->hash, line);
}

/* The last record that is in the files as a whole. */
static void accept(struct audit_log *log, const struct audit_record *record)
{
    log->n = record->n;
    memcpy(log->hash, record->hash, sizeof(log->hash));
}

/* Writes what `records` are, and accepts those of which all bytes were written. */
static int write_records(struct audit_log *log, struct audit_record *records, size_t count,
                         const char *opening)
{
    struct audit_record last = {.n = log->n};
    size_t ends[AUDIT_APPEND_MAX], size = strlen(opening);
    memcpy(last.hash, log->hash, sizeof(last.hash));
    memcpy(log->lines, opening, size);
    for (size_t i = 0; i < count; i++) {
        size_t line = format(&records[i], i > 0 ? &records[i - 1] : &last, log->lines + size);
        errno = ENOMEM;
        if (line == 0)
            return -1;
        size += line;
        ends[i] = size;
    }
    size_t written = write_lines(log, log->lines, size), whole = 0;
    for (size_t i = 0; i < count && ends[i] <= written; i++) {
        accept(log, &records[i]);
        whole = ends[i];
        log->torn = 0;
    }
    log->torn += written - whole;
    return written == size ? 0 : -1;
}

/* What is torn is ended, so that it cannot be taken for a record even if it is whole, and told. */
static int tell_torn(struct audit_log *log, uint64_t now)
{
    struct audit_record record = {.from = now, .to = now, .count = 1, .event = AUDIT_EVENT_TORN};
    snprintf(record.text, sizeof(record.text), AUDIT_TORN_TEXT, log->torn + strlen(TORN_END));
    if (write_records(log, &record, 1, TORN_END) != 0)
        return -1;
    log_warning("audit log %s/%s: a write was cut short: %s are no record", log->path, log->file,
                record.text);
    return 0;
}

int audit_log_append(struct audit_log *log, struct audit_record *records, size_t count,
                     uint64_t now, struct problem *problem)
{
    if (log->torn > 0 && tell_torn(log, now) != 0)
        return fail(log, problem);
    choose_file(log, now);
    return write_records(log, records, count, "") == 0 ? 0 : fail(log, problem);
}
