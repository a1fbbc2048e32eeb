/*
 * Crashes of vendors' libraries: a worker that dies of a signal while a thread of it is inside a
 * token's library leaves word of that in memory which the master and all workers share. So the log
 * can name the token, and the next worker keeps it out for a while where other tokens can serve:
 * one whose library crashes each time would take them down with it.
 *
 * What cannot be told: a crash in a thread of the library's own, or later, of memory that it has
 * overwritten; and where the library has a handler of its own for the signal.
 */
#ifndef IMMURE_DAEMON_CRASH_H
#define IMMURE_DAEMON_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "daemon/config.h"

/* Longer ones are cut. */
#define CRASH_TOKEN_SIZE  64
#define CRASH_MODULE_SIZE 256

struct crash {
    char token[CRASH_TOKEN_SIZE]; /* names as in the configuration, NUL-terminated */
    char module[CRASH_MODULE_SIZE];
    uint64_t at;    /* the last one (base/clock.h) */
    uint64_t until; /* the token is kept out */
    pid_t worker;   /* that died of it last */
    int signal;
    unsigned count; /* crashes in a row */
    bool covered;   /* it was not to be kept out just then, and there are others: see master.c */
};

struct crash_table;

/* By the master, before it starts workers. NULL with errno set. Lives as long as the process. */
struct crash_table *crash_table_new(void) MUST_USE;

/* By a worker, before it has threads, once: from now on crashes are noted. */
void crash_watch(struct crash_table *table, const struct config *config);

/*
 * The calling thread is inside the library of the token with this place in the configuration, or
 * no longer. From any thread of a worker.
 */
void crash_enter(size_t token);
void crash_leave(void);

/* In a worker, the last crash in this token, if it was not long ago. From any thread. */
bool crash_of_token(size_t token, struct crash *crash) MUST_USE;

/* The crash that has ended this worker, if one is known. */
bool crash_of_worker(const struct crash_table *table, pid_t worker, struct crash *crash) MUST_USE;

/* In a worker: whether that worker is known to have died in another token than this. */
bool crash_was_elsewhere(pid_t worker, const char *token) MUST_USE;

#endif
