/*
 * The command line as data: a table of options and one of commands, from which parsing and the
 * help texts are made. Single-threaded.
 */
#ifndef IMMURE_CLI_COMMAND_H
#define IMMURE_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attributes.h"

enum exit_status { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

/* As many --san as a large certificate has names; each may list several. */
#define TEXT_LIST_MAX 256
#define OPERANDS_MAX  2

struct text_list {
    const char *items[TEXT_LIST_MAX];
    size_t count;
};

/* What was given; texts point into argv. Not given: NULL, false, empty. */
struct arguments {
    const char *config, *token, *type, *output, *subject, *socket;
    struct text_list sans;
    const char *directory, *head, *key, *user, *outcome, *since, *until; /* of audit */
    bool json, help, version, yes, force, public_key, shred, keep, decrypt, records;
    const char *operands[OPERANDS_MAX];
};

struct option_spec {
    const char *name;  /* long form, without dashes */
    const char *value; /* what the help calls its value; NULL: a flag, a bool at `offset` */
    const char *help;
    size_t offset; /* in struct arguments: bool, const char *, or struct text_list */
    char letter;   /* short form, or 0 */
    bool is_list, is_required;
};

/* A row of an options' table: long form, value or NULL, member of struct arguments, help. */
#define OPTION(option, argument, member, text)                                                     \
    .name = (option), .value = (argument), .offset = offsetof(struct arguments, member),           \
    .help = (text)

struct command {
    const char *group; /* "key", or NULL */
    const char *name;
    const char *operands[OPERANDS_MAX];
    const char *summary; /* one line */
    const char *detail;  /* further lines of its help, or NULL */
    const char *page;    /* the manual page */
    const struct option_spec *options;
    size_t option_count;
    enum exit_status (*run)(const struct arguments *arguments);
};

/*
 * Finds the command that argv names in the NULL-terminated table, reads its arguments and runs
 * it. Returns the process's exit status; errors have been reported.
 */
enum exit_status command_main(const struct command *const *commands, int argc, char **argv);

#endif
