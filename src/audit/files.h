/*
 * The audit log's files: audit-YYYY-MM.log in one directory, by the month (UTC) in which they were
 * begun; in the order of their names they are one log. A file's lines are read in constant memory.
 */
#ifndef IMMURE_AUDIT_FILES_H
#define IMMURE_AUDIT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "audit/record.h"
#include "base/attributes.h"

#define AUDIT_DIRECTORY_DEFAULT "/var/log/immure"

/* "audit-2026-11.log" */
#define AUDIT_FILE_NAME_SIZE 18

struct audit_files {
    char (*names)[AUDIT_FILE_NAME_SIZE]; /* in order */
    size_t count;
};

/* False with errno set: the directory cannot be read. Free with audit_files_free(). */
bool audit_files_list(const char *directory, struct audit_files *files) MUST_USE;
void audit_files_free(struct audit_files *files);

/* The name of the file that is begun at this time, in milliseconds since 1970. */
void audit_file_name(uint64_t milliseconds, char name[AUDIT_FILE_NAME_SIZE]);

/* A line of a file; what is longer than any record is cut in `text`, not in `size`. */
struct audit_line {
    char text[AUDIT_LINE_SIZE_MAX]; /* without newline; may hold anything */
    size_t size;                    /* without newline */
    bool ended;                     /* by a newline, not by the end of the file */
};

/* The next line; false: there is no more, or ferror(3). */
bool audit_line_read(FILE *file, struct audit_line *line) MUST_USE;

/* audit_record_parse() of a whole line. */
bool audit_line_parse(const struct audit_line *line, struct audit_record *record) MUST_USE;

#endif
