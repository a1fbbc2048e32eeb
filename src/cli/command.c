#include "cli/command.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/report.h"

/* The common options and the most that a command has, with room. */
#define OPTIONS_MAX 16

/* Above every char, so that a long option's value is never taken for a letter. */
#define OPTION_VALUE_BASE 256

struct option_table {
    const struct option_spec *specs[OPTIONS_MAX];
    size_t count;
};

static const struct option_spec common_options[] = {
    {OPTION("config", "FILE", config,
            "the configuration (default: $IMMURE_CONF, /etc/immure/immure.conf)"),
     .letter = 'c'},
    {OPTION("json", NULL, json, "print JSON")},
    {OPTION("help", NULL, help, "print this help"), .letter = 'h'},
};

static const struct option_spec version_option[] = {
    {OPTION("version", NULL, version, "print the version"), .letter = 'V'},
};

static void table_add(struct option_table *table, const struct option_spec *specs, size_t count)
{
    for (size_t i = 0; i < count && table->count < OPTIONS_MAX; i++)
        table->specs[table->count++] = &specs[i];
}

/* --- Help ------------------------------------------------------------------------------------ */

static void print_options(FILE *file, const struct option_spec *specs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char forms[64];
        snprintf(forms, sizeof(forms), "%c%c%s--%s%s%s", specs[i].letter ? '-' : ' ',
                 specs[i].letter ? specs[i].letter : ' ', specs[i].letter ? ", " : "  ",
                 specs[i].name, specs[i].value ? " " : "", specs[i].value ? specs[i].value : "");
        fprintf(file, "  %-22s %s\n", forms, specs[i].help);
    }
}

static void print_full_name(FILE *file, const struct command *command)
{
    fprintf(file, "immure %s%s%s", command->group ? command->group : "", command->group ? " " : "",
            command->name);
}

static void print_usage_line(FILE *file, const struct command *command)
{
    fputs("Usage: ", file);
    print_full_name(file, command);
    for (size_t i = 0; i < OPERANDS_MAX && command->operands[i] != NULL; i++)
        fprintf(file, " %s", command->operands[i]);
    for (size_t i = 0; i < command->option_count; i++) {
        if (command->options[i].is_required)
            fprintf(file, " --%s %s", command->options[i].name, command->options[i].value);
    }
    fputs(" [OPTION]...\n", file);
}

static void print_command_help(const struct command *command)
{
    print_usage_line(stdout, command);
    printf("\n%s.\n", command->summary);
    if (command->detail != NULL)
        printf("\n%s\n", command->detail);
    if (command->option_count > 0) {
        puts("\nOptions:");
        print_options(stdout, command->options, command->option_count);
    }
    puts("\nCommon options:");
    print_options(stdout, common_options, ARRAY_SIZE(common_options));
    printf("\nExit status: 0 success, 1 the operation failed, 2 bad usage. Manual page: %s\n",
           command->page);
}

/* The commands of one group, or all with `group` NULL. */
static void print_command_list(FILE *file, const struct command *const *commands, const char *group)
{
    fprintf(file, "Usage: immure %s%sCOMMAND [OPTION]...\n\nCommands:\n", group ? group : "",
            group ? " " : "");
    for (; *commands != NULL; commands++) {
        if (group != NULL && ((*commands)->group == NULL || strcmp((*commands)->group, group) != 0))
            continue;
        char name[64];
        snprintf(name, sizeof(name), "%s%s%s", (*commands)->group ? (*commands)->group : "",
                 (*commands)->group ? " " : "", (*commands)->name);
        fprintf(file, "  %-15s %s\n", name, (*commands)->summary);
    }
    fputs("\nCommon options:\n", file);
    print_options(file, common_options, ARRAY_SIZE(common_options));
    print_options(file, version_option, ARRAY_SIZE(version_option));
    fputs("\n'immure COMMAND --help' explains a command; so does immure(1).\n", file);
}

/* --- Parsing --------------------------------------------------------------------------------- */

static enum exit_status option_set(const struct option_spec *spec, const char *value,
                                   struct arguments *arguments)
{
    char *field = (char *)arguments + spec->offset;
    if (spec->is_list) {
        struct text_list *list = (struct text_list *)(void *)field;
        if (list->count == TEXT_LIST_MAX)
            return report_usage("--%s may be given %d times", spec->name, TEXT_LIST_MAX);
        list->items[list->count++] = value;
    } else if (spec->value != NULL) {
        memcpy(field, &value, sizeof(value));
    } else {
        *(bool *)field = true;
    }
    return STATUS_OK;
}

static void getopt_tables(const struct option_table *table, bool stop_at_operand,
                          struct option *long_options, char *letters)
{
    if (stop_at_operand)
        *letters++ = '+';
    *letters++ = ':';
    for (size_t i = 0; i < table->count; i++) {
        const struct option_spec *spec = table->specs[i];
        int has_value = spec->value != NULL ? required_argument : no_argument;
        long_options[i] = (struct option){spec->name, has_value, NULL, OPTION_VALUE_BASE + (int)i};
        if (spec->letter == 0)
            continue;
        *letters++ = spec->letter;
        if (spec->value != NULL)
            *letters++ = ':';
    }
    *letters = '\0';
}

static const struct option_spec *option_found(const struct option_table *table, int found)
{
    if (found >= OPTION_VALUE_BASE)
        return table->specs[found - OPTION_VALUE_BASE];
    for (size_t i = 0; i < table->count; i++) {
        if (table->specs[i]->letter == found)
            return table->specs[i];
    }
    return NULL;
}

static enum exit_status option_refuse(const struct option_table *table, int found, char **argv)
{
    const struct option_spec *spec = optopt != 0 ? option_found(table, optopt) : NULL;
    if (spec != NULL && found == ':')
        return report_usage("option --%s needs a value; see --help", spec->name);
    if (spec != NULL)
        return report_usage("option --%s takes no value; see --help", spec->name);
    if (optopt != 0)
        return report_usage("unknown option -%c; see --help", optopt);
    return report_usage("unknown or ambiguous option %s; see --help", argv[optind - 1]);
}

/* Reads options into `arguments`; optind is then the first operand's index. */
static enum exit_status parse_options(const struct option_table *table, bool stop_at_operand,
                                      int argc, char **argv, struct arguments *arguments)
{
    struct option long_options[OPTIONS_MAX + 1] = {0};
    char letters[2 * OPTIONS_MAX + 3];
    getopt_tables(table, stop_at_operand, long_options, letters);
    optind = 0; /* glibc: start again, permuting anew */
    opterr = 0;

    enum exit_status status = STATUS_OK;
    while (status == STATUS_OK) {
        int found = getopt_long(argc, argv, letters, long_options, NULL);
        if (found == -1)
            break;
        const struct option_spec *spec = option_found(table, found);
        if (found == '?' || found == ':' || spec == NULL)
            status = option_refuse(table, found, argv);
        else
            status = option_set(spec, optarg, arguments);
    }
    return status;
}

static enum exit_status parse_operands(const struct command *command, int argc, char **argv,
                                       struct arguments *arguments)
{
    int count = 0;
    for (; count < OPERANDS_MAX && command->operands[count] != NULL; count++) {
        if (optind + count >= argc)
            return report_usage("%s is missing; see --help", command->operands[count]);
        arguments->operands[count] = argv[optind + count];
    }
    if (optind + count < argc)
        return report_usage("\"%s\" is one argument too many; see --help", argv[optind + count]);
    return STATUS_OK;
}

static enum exit_status check_required(const struct command *command,
                                       const struct arguments *arguments)
{
    for (size_t i = 0; i < command->option_count; i++) {
        const struct option_spec *spec = &command->options[i];
        const char *value = NULL;
        if (!spec->is_required)
            continue;
        memcpy(&value, (const char *)arguments + spec->offset, sizeof(value));
        if (value == NULL)
            return report_usage("--%s %s is missing; see --help", spec->name, spec->value);
    }
    return STATUS_OK;
}

static enum exit_status run_command(const struct command *command, int argc, char **argv,
                                    struct arguments *arguments)
{
    struct option_table table = {0};
    table_add(&table, common_options, ARRAY_SIZE(common_options));
    table_add(&table, command->options, command->option_count);

    enum exit_status status = parse_options(&table, false, argc, argv, arguments);
    if (status != STATUS_OK)
        return status;
    if (arguments->help) {
        print_command_help(command);
        return STATUS_OK;
    }
    status = parse_operands(command, argc, argv, arguments);
    if (status == STATUS_OK)
        status = check_required(command, arguments);
    if (status == STATUS_OK)
        status = command->run(arguments);
    return status;
}

/* --- Finding the command --------------------------------------------------------------------- */

static bool is_group(const struct command *const *commands, const char *word)
{
    for (; *commands != NULL; commands++) {
        if ((*commands)->group != NULL && strcmp((*commands)->group, word) == 0)
            return true;
    }
    return false;
}

static const struct command *find_command(const struct command *const *commands, const char *group,
                                          const char *name)
{
    for (; *commands != NULL; commands++) {
        const char *own = (*commands)->group != NULL ? (*commands)->group : "";
        if (strcmp(own, group != NULL ? group : "") == 0 && strcmp((*commands)->name, name) == 0)
            return *commands;
    }
    return NULL;
}

/* Asked for help: an answer. Else a command is missing, and the list is what helps. */
static enum exit_status list_commands(const struct command *const *commands, const char *group,
                                      bool asked)
{
    print_command_list(asked ? stdout : stderr, commands, group);
    return asked ? STATUS_OK : STATUS_USAGE;
}

enum exit_status command_main(const struct command *const *commands, int argc, char **argv)
{
    struct option_table table = {0};
    table_add(&table, common_options, ARRAY_SIZE(common_options));
    table_add(&table, version_option, ARRAY_SIZE(version_option));

    struct arguments arguments = {0};
    const char *group = NULL;
    for (;;) {
        enum exit_status status = parse_options(&table, true, argc, argv, &arguments);
        if (status != STATUS_OK)
            return status;
        if (arguments.version) {
            puts("immure " IMMURE_VERSION);
            return STATUS_OK;
        }
        argc -= optind;
        argv += optind;
        if (argc == 0)
            return list_commands(commands, group, arguments.help);
        if (group == NULL && strcmp(argv[0], "help") == 0) {
            arguments.help = true;
            continue;
        }
        const struct command *command = find_command(commands, group, argv[0]);
        if (command != NULL)
            return run_command(command, argc, argv, &arguments);
        if (group != NULL || !is_group(commands, argv[0]))
            return report_usage("there is no command \"%s%s%s\"; 'immure --help' lists them",
                                group ? group : "", group ? " " : "", argv[0]);
        group = argv[0];
    }
}
