#include "cli/report.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/problem.h"

/* The widest label, "Always sensitive:", and a space. */
#define FIELD_WIDTH 20

/* A file that is overwritten is searched for its label this far: no PEM here is longer. */
#define PEM_FILE_SIZE_MAX 65536

/* --- Messages -------------------------------------------------------------------------------- */

PRINTF(2, 0) static void report(const char *kind, const char *format, va_list arguments)
{
    char text[PROBLEM_TEXT_SIZE];
    vsnprintf(text, sizeof(text), format, arguments);
    struct problem line;
    problem_set(&line, 0, "%s", text);
    fflush(stdout); /* in order where both go to one place */
    fprintf(stderr, "immure: %s%s\n", kind, line.text);
}

enum exit_status report_failure(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report("", format, arguments);
    va_end(arguments);
    return STATUS_FAILED;
}

enum exit_status report_usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report("", format, arguments);
    va_end(arguments);
    return STATUS_USAGE;
}

void report_warning(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report("warning: ", format, arguments);
    va_end(arguments);
}

void report_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report("", format, arguments);
    va_end(arguments);
}

enum exit_status report_openssl(const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    report_failure("%s: %s", what, reason != NULL ? reason : "OpenSSL gives no reason");
    ERR_clear_error();
    return STATUS_FAILED;
}

/* --- Data ------------------------------------------------------------------------------------ */

enum exit_status print_json(json_t *json)
{
    int rc = json != NULL ? json_dumpf(json, stdout, JSON_INDENT(2)) : -1;
    json_decref(json);
    if (rc != 0)
        return report_failure("cannot print JSON: out of memory, or standard output is closed");
    putchar('\n');
    return STATUS_OK;
}

json_t *json_text(const char *text)
{
    json_t *json = json_string(text);
    if (json != NULL)
        return json;
    char *copy = strdup(text);
    for (char *at = copy; at != NULL && *at != '\0'; at++) {
        if ((unsigned char)*at > 0x7f)
            *at = '?';
    }
    json = copy != NULL ? json_string(copy) : NULL;
    free(copy);
    return json;
}

PRINTF(1, 0) static void print_cleaned(const char *format, va_list arguments)
{
    char *text = NULL;
    if (vasprintf(&text, format, arguments) < 0) {
        report_failure("out of memory");
        return;
    }
    problem_clean(text);
    puts(text);
    free(text);
}

void print_line(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_cleaned(format, arguments);
    va_end(arguments);
}

void print_field(const char *label, const char *format, ...)
{
    printf("%s:%*s", label, (int)(FIELD_WIDTH - strlen(label) - 1), "");
    va_list arguments;
    va_start(arguments, format);
    print_cleaned(format, arguments);
    va_end(arguments);
}

void hex_encode(const uint8_t *bytes, size_t size, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        *text++ = digits[bytes[i] >> 4];
        *text++ = digits[bytes[i] & 15];
    }
    *text = '\0';
}

static bool table_reserve(struct table *table)
{
    if (table->count + table->columns <= table->capacity)
        return true;
    size_t capacity = 2 * table->capacity + 8 * table->columns;
    char **cells = reallocarray(table->cells, capacity, sizeof(*cells));
    if (cells == NULL)
        return false;
    table->cells = cells;
    table->capacity = capacity;
    return true;
}

void table_row(struct table *table, const char *const cells[])
{
    if (!table_reserve(table)) {
        table->failed = true;
        return;
    }
    for (size_t i = 0; i < table->columns; i++) {
        char *copy = strdup(cells[i]);
        if (copy != NULL)
            problem_clean(copy);
        else
            table->failed = true;
        table->cells[table->count++] = copy;
    }
}

/* Columns on a terminal: characters, not bytes. */
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void print_row(const struct table *table, size_t first, const size_t *widths)
{
    for (size_t column = 0; column < table->columns; column++) {
        const char *cell = table->cells[first + column];
        bool is_last = column + 1 == table->columns;
        size_t padding = is_last ? 0 : widths[column] - text_width(cell) + 2;
        printf("%s%*s", cell, (int)padding, "");
    }
    putchar('\n');
}

/* `widths`: zeros, one a column. */
static void print_rows(const struct table *table, size_t *widths)
{
    for (size_t i = 0; i < table->count; i++) {
        size_t width = text_width(table->cells[i]);
        if (width > widths[i % table->columns])
            widths[i % table->columns] = width;
    }
    for (size_t i = 0; i < table->count; i += table->columns)
        print_row(table, i, widths);
}

enum exit_status print_table(struct table *table)
{
    size_t *widths = calloc(table->columns, sizeof(*widths));
    if (widths == NULL)
        table->failed = true;
    else if (!table->failed)
        print_rows(table, widths);
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(widths);
    return table->failed ? report_failure("out of memory") : STATUS_OK;
}

/* --- Files ----------------------------------------------------------------------------------- */

static bool file_has_label(const char *path, const char *label)
{
    static char content[PEM_FILE_SIZE_MAX + 1];
    char begin[64];
    snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);

    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t size = fread(content, 1, PEM_FILE_SIZE_MAX, file);
    fclose(file);
    bool found = memmem(content, size, begin, strlen(begin)) != NULL &&
                 memmem(content, size, "PRIVATE KEY-----", 16) == NULL;
    explicit_bzero(content, sizeof(content));
    return found;
}

static enum exit_status check_replaceable(const char *path, const char *label, bool force)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return STATUS_OK; /* not there, or creating it will say why it cannot be */
    if (!S_ISREG(status.st_mode))
        return report_failure("%s is not a regular file; name another with -o", path);
    if (!force && !file_has_label(path, label))
        return report_failure("%s is there and is no %s; name another file, or add --force", path,
                              label);
    return STATUS_OK;
}

static bool write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, text, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        text += written;
        size -= (size_t)written;
    }
    return true;
}

static enum exit_status replace_file(const char *path, const char *text, size_t size)
{
    enum exit_status status = STATUS_OK;
    char *temporary = NULL;
    int fd = -1;

    if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
        return report_failure("out of memory");
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0 || !write_all(fd, text, size) || fchmod(fd, 0644) != 0 || fsync(fd) != 0 ||
        rename(temporary, path) != 0) {
        status = report_failure("cannot write %s: %s", path, strerror(errno));
        if (fd >= 0)
            unlink(temporary);
    }
    if (fd >= 0)
        close(fd);
    free(temporary);
    return status;
}

const char *output_file(const char *output)
{
    return output == NULL || strcmp(output, "-") == 0 ? NULL : output;
}

enum exit_status write_pem(const char *path, const char *text, size_t size, const char *label,
                           bool force)
{
    if (path == NULL) {
        fwrite(text, 1, size, stdout); /* main() looks at stdout's error */
        return STATUS_OK;
    }
    enum exit_status status = check_replaceable(path, label, force);
    return status == STATUS_OK ? replace_file(path, text, size) : status;
}
