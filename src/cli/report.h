/*
 * What the operator reads: errors on standard error, data on standard output.
 *
 * Control characters in a message, a line, a field and a table become '?', so that text from a
 * token, or from whoever has the socket, cannot drive a terminal.
 */
#ifndef IMMURE_CLI_REPORT_H
#define IMMURE_CLI_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "cli/command.h"

/* Write "immure: MESSAGE" and return STATUS_FAILED or STATUS_USAGE. */
enum exit_status report_failure(const char *format, ...) PRINTF(1, 2);
enum exit_status report_usage(const char *format, ...) PRINTF(1, 2);

/* Writes "immure: warning: MESSAGE". */
void report_warning(const char *format, ...) PRINTF(1, 2);

/* Writes "immure: MESSAGE": what an operator should know, and no error. */
void report_note(const char *format, ...) PRINTF(1, 2);

/* Reports a failure with the reason that OpenSSL gives, and empties OpenSSL's error queue. */
enum exit_status report_openssl(const char *what);

/* Prints `json` and releases it; NULL, and a closed standard output, are reported. */
enum exit_status print_json(json_t *json) MUST_USE;

/* A JSON string; text that is not UTF-8 has its bytes above 0x7f replaced with '?'. */
json_t *json_text(const char *text) MUST_USE;

/* Prints a line; the format is without its end. */
void print_line(const char *format, ...) PRINTF(1, 2);

/* Prints "Label:   value" in aligned lines. */
void print_field(const char *label, const char *format, ...) PRINTF(2, 3);

/* Lower-case hexadecimal of `size` bytes; `text` has room for 2 * size + 1. */
void hex_encode(const uint8_t *bytes, size_t size, char *text);

/* Rows of cells, printed with aligned columns. Copies what it is given. */
struct table {
    size_t columns;
    char **cells;
    size_t count, capacity;
    bool failed; /* out of memory: print_table() reports it */
};

/* Adds a row of `columns` texts. */
void table_row(struct table *table, const char *const cells[]);

/* Prints the rows and frees them. */
enum exit_status print_table(struct table *table) MUST_USE;

/* The file that --output names; NULL: standard output, by "-" or by its absence. */
const char *output_file(const char *output);

/*
 * Writes a PEM text to standard output (`path` NULL), or to a file by way of a temporary
 * one beside it and rename(2), mode 0644. A file that is there and has no PEM block with this
 * label is replaced only with `force`: it may be a private key.
 */
enum exit_status write_pem(const char *path, const char *text, size_t size, const char *label,
                           bool force) MUST_USE;

#endif
