/*
 * The lines of the audit log, from its first file to its last, for the commands that read it. In
 * constant memory; on a terminal, a long log shows how far it is. Single-threaded.
 */
#ifndef IMMURE_CLI_AUDIT_WALK_H
#define IMMURE_CLI_AUDIT_WALK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "audit/files.h"
#include "cli/command.h"

struct audit_walk {
    char *directory;
    struct audit_files files;
    const char *name; /* of the file that the line is in */
    uint64_t number;  /* of the line, from 1 */
    size_t next;      /* file to be opened */
    FILE *file;
    uint64_t size, done, shown; /* bytes */
    bool failed;                /* has been reported */
};

/*
 * In --directory, else the one of the configuration. Files with names before `first` are left
 * out; NULL: none. Reports what is wrong; audit_walk_close() in any case.
 */
enum exit_status audit_walk_open(const struct arguments *arguments, const char *first,
                                 struct audit_walk *walk) MUST_USE;

/* The next line; false: there is none, or the walk has failed. */
bool audit_walk_next(struct audit_walk *walk, struct audit_line *line) MUST_USE;

void audit_walk_close(struct audit_walk *walk);

#endif
