/*
 * immure audit show: who used which keys, and how often.
 */
#include <ctype.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/problem.h"
#include "cli/audit_time.h"
#include "cli/audit_walk.h"
#include "cli/commands.h"
#include "cli/report.h"

/* Enough of a key id to tell keys apart; --json has the whole. */
#define SHORT_ID "%.16s..."

struct showing {
    const struct arguments *arguments;
    struct audit_walk walk;
    uint64_t since, until;
    uint8_t key[KEY_ID_SIZE]; /* of --key, if it is an id */
    bool by_id;
    void *sums; /* tsearch(3), of struct audit_record by compare(): their counts are summed */
    uint64_t total, answered;
    uint64_t unreadable; /* lines */
    bool failed;         /* out of memory */
    json_t *json;        /* array, with --json */
    struct table table;
};

/* --- What is asked for ----------------------------------------------------------------------- */

static enum exit_status read_time(const char *option, const char *text, uint64_t *milliseconds)
{
    uint64_t now = (uint64_t)time(NULL) * 1000;
    if (text == NULL || audit_time_option(text, now, milliseconds))
        return STATUS_OK;
    return report_usage(
        "--%s %s: give a time (2026-11-25T21:00:00Z), a date, or how long ago: 90m, "
        "24h, 7d",
        option, text);
}

/* In a record an id is lower-case; for an operator case makes no difference, as elsewhere. */
static bool read_id(const char *text, uint8_t id[KEY_ID_SIZE])
{
    char lower[AUDIT_HEX_SIZE] = "";
    if (strlen(text) != sizeof(lower) - 1)
        return false;
    for (size_t i = 0; text[i] != '\0'; i++)
        lower[i] = (char)tolower((unsigned char)text[i]);
    return audit_hex_parse(lower, id);
}

static enum exit_status read_filters(struct showing *showing)
{
    const struct arguments *arguments = showing->arguments;
    showing->until = UINT64_MAX;
    showing->by_id = arguments->key != NULL && read_id(arguments->key, showing->key);
    enum exit_status status = read_time("since", arguments->since, &showing->since);
    return status == STATUS_OK ? read_time("until", arguments->until, &showing->until) : status;
}

static bool is_key(const struct showing *showing, const struct audit_record *record)
{
    if (showing->arguments->key == NULL)
        return true;
    return showing->by_id ? memcmp(record->key, showing->key, sizeof(record->key)) == 0
                          : strcmp(record->name, showing->arguments->key) == 0;
}

/* By name or number. */
static bool is_user(const struct showing *showing, const struct audit_record *record)
{
    char uid[16];
    const char *user = showing->arguments->user;
    snprintf(uid, sizeof(uid), "%u", (unsigned)record->uid);
    return user == NULL || strcmp(record->user, user) == 0 || strcmp(uid, user) == 0;
}

static bool is_wanted(const struct showing *showing, const struct audit_record *record)
{
    const struct arguments *arguments = showing->arguments;
    const char *outcome = arguments->outcome;
    if (record->to < showing->since || record->from > showing->until)
        return false;
    if (record->event[0] != '\0')
        return arguments->records && arguments->key == NULL && arguments->user == NULL &&
               outcome == NULL;
    return is_key(showing, record) && is_user(showing, record) &&
           (outcome == NULL || strcmp(record->outcome, outcome) == 0);
}

/* --- Sums ------------------------------------------------------------------------------------ */

/* In the order in which they are printed. */
static int compare(const void *one, const void *other)
{
    const struct audit_record *a = one, *b = other;
    int order = strcmp(a->name, b->name);
    order = order != 0 ? order : memcmp(a->key, b->key, sizeof(a->key));
    order = order != 0 ? order : (a->uid > b->uid) - (a->uid < b->uid);
    order = order != 0 ? order : strcmp(a->unit, b->unit);
    order = order != 0 ? order : strcmp(a->use, b->use);
    return order != 0 ? order : strcmp(a->outcome, b->outcome);
}

static void add(struct audit_record *sum, const struct audit_record *record)
{
    sum->count += record->count;
    if (record->from < sum->from)
        sum->from = record->from;
    if (record->to > sum->to)
        sum->to = record->to;
}

static void sum_up(struct showing *showing, const struct audit_record *record)
{
    struct audit_record **found = tfind(record, &showing->sums, compare);
    if (found != NULL) {
        add(*found, record);
        return;
    }
    struct audit_record *sum = malloc(sizeof(*sum));
    if (sum != NULL && tsearch(memcpy(sum, record, sizeof(*sum)), &showing->sums, compare) != NULL)
        return; /* cppcheck-suppress memleak // the tree has it */
    free(sum);
    showing->failed = true;
}

static void key_text(const struct audit_record *record, char *text, size_t size)
{
    static const uint8_t unknown[KEY_ID_SIZE];
    char id[AUDIT_HEX_SIZE];
    audit_hex_text(record->key, id);
    if (record->name[0] != '\0')
        snprintf(text, size, "%s", record->name);
    else if (memcmp(record->key, unknown, sizeof(unknown)) == 0)
        snprintf(text, size, "(unknown)");
    else
        snprintf(text, size, SHORT_ID, id);
}

static void user_text(const struct audit_record *record, char *text, size_t size)
{
    if (record->user[0] != '\0')
        snprintf(text, size, "%s", record->user);
    else
        snprintf(text, size, "%u", (unsigned)record->uid);
}

static void sum_row(struct showing *showing, const struct audit_record *sum)
{
    char key[AUDIT_NAME_SIZE], user[AUDIT_USER_SIZE], count[24];
    char first[AUDIT_TIME_SIZE], last[AUDIT_TIME_SIZE];
    key_text(sum, key, sizeof(key));
    user_text(sum, user, sizeof(user));
    snprintf(count, sizeof(count), "%llu", (unsigned long long)sum->count);
    audit_time_text(sum->from, first);
    audit_time_text(sum->to, last);
    const char *const cells[] = {key,      user,         sum->unit[0] != '\0' ? sum->unit : "-",
                                 sum->use, sum->outcome, count,
                                 first,    last};
    table_row(&showing->table, cells);
}

static void sum_json(struct showing *showing, const struct audit_record *sum)
{
    char key[AUDIT_HEX_SIZE], first[AUDIT_TIME_SIZE], last[AUDIT_TIME_SIZE];
    audit_hex_text(sum->key, key);
    audit_time_text(sum->from, first);
    audit_time_text(sum->to, last);
    json_t *json = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:I, s:s, s:s}", "key", key,
                             "name", sum->name, "uid", (json_int_t)sum->uid, "user", sum->user,
                             "unit", sum->unit, "use", sum->use, "outcome", sum->outcome, "count",
                             (json_int_t)sum->count, "first", first, "last", last);
    if (json_array_append_new(showing->json, json) != 0)
        showing->failed = true;
}

static void visit(const void *node, VISIT which, void *closure)
{
    struct showing *showing = closure;
    const struct audit_record *const *sum = node;
    if (which != postorder && which != leaf) /* that is, in order: tsearch(3) */
        return;
    if (showing->json != NULL)
        sum_json(showing, *sum);
    else
        sum_row(showing, *sum);
}

static void print_total(const struct showing *showing)
{
    printf("\n%llu uses: %llu answered, %llu refused, failed or too late\n",
           (unsigned long long)showing->total, (unsigned long long)showing->answered,
           (unsigned long long)(showing->total - showing->answered));
}

static enum exit_status print_sums(struct showing *showing)
{
    static const char *const heading[] = {"KEY",     "USER",  "UNIT",  "USE",
                                          "OUTCOME", "COUNT", "FIRST", "LAST"};
    showing->table.columns = ARRAY_SIZE(heading);
    if (showing->json == NULL)
        table_row(&showing->table, heading);
    twalk_r(showing->sums, visit, showing);
    if (showing->failed)
        return report_failure("out of memory");
    if (showing->json != NULL)
        return print_json(json_pack("{s:O, s:I, s:I}", "uses", showing->json, "total",
                                    (json_int_t)showing->total, "unreadable_lines",
                                    (json_int_t)showing->unreadable));
    enum exit_status status = print_table(&showing->table);
    print_total(showing);
    return status;
}

/* --- Records --------------------------------------------------------------------------------- */

static void print_record(const struct audit_record *record)
{
    char key[AUDIT_NAME_SIZE], user[AUDIT_USER_SIZE], from[AUDIT_TIME_SIZE];
    audit_time_text(record->from, from);
    printf("%8llu  %s  %8llu  ", (unsigned long long)record->n, from,
           (unsigned long long)record->count);
    if (record->event[0] != '\0') {
        printf("%s %s\n", record->event, record->text);
        return;
    }
    key_text(record, key, sizeof(key));
    user_text(record, user, sizeof(user));
    printf("%s: %s by %s%s%s for %s\n", record->outcome, key, user,
           record->unit[0] != '\0' ? " in " : "", record->unit, record->use);
}

/* Whoever could write to the log must not drive a terminal with it. */
static void clean(struct audit_record *record)
{
    char *const texts[] = {record->name,    record->user,  record->unit, record->use,
                           record->outcome, record->event, record->text};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        problem_clean(texts[i]);
}

static void show_record(struct showing *showing, const struct audit_line *line,
                        struct audit_record *record)
{
    clean(record);
    if (record->event[0] == '\0') {
        showing->total += record->count;
        if (strcmp(record->outcome, "signed") == 0 || strcmp(record->outcome, "decrypted") == 0)
            showing->answered += record->count;
    }
    if (!showing->arguments->records)
        sum_up(showing, record);
    else if (showing->arguments->json)
        printf("%.*s\n", (int)line->size, line->text);
    else
        print_record(record);
}

static enum exit_status show(struct showing *showing)
{
    static struct audit_line line;
    struct audit_record record;
    const struct arguments *arguments = showing->arguments;
    while (audit_walk_next(&showing->walk, &line)) {
        if (!audit_line_parse(&line, &record))
            showing->unreadable++;
        else if (is_wanted(showing, &record))
            show_record(showing, &line, &record);
    }
    if (showing->walk.failed)
        return STATUS_FAILED;
    if (showing->unreadable > 0)
        report_warning("%llu lines are no records: see immure audit verify",
                       (unsigned long long)showing->unreadable);
    if (!arguments->records)
        return print_sums(showing);
    if (!arguments->json)
        print_total(showing);
    return STATUS_OK;
}

/* --- The command ----------------------------------------------------------------------------- */

static enum exit_status run(const struct arguments *arguments)
{
    static struct showing showing;
    char first[AUDIT_FILE_NAME_SIZE];
    showing.arguments = arguments;
    enum exit_status status = read_filters(&showing);
    if (status != STATUS_OK)
        return status;
    if (arguments->json && (showing.json = json_array()) == NULL)
        return report_failure("out of memory");
    audit_file_name(showing.since, first);
    status = audit_walk_open(arguments, first, &showing.walk);
    if (status == STATUS_OK)
        status = show(&showing);
    audit_walk_close(&showing.walk);
    tdestroy(showing.sums, free);
    json_decref(showing.json);
    return status;
}

static const struct option_spec options[] = {
    {OPTION("key", "NAME", key, "only of this key, by its name or its id")},
    {OPTION("user", "USER", user, "only by this user, by name or number")},
    {OPTION("outcome", "OUTCOME", outcome, "only with this outcome, such as \"signed\"")},
    {OPTION("since", "TIME", since, "from then on: 2026-11-25T21:00:00Z, 2026-11-25, 7d (ago)")},
    {OPTION("until", "TIME", until, "up to then")},
    {OPTION("records", NULL, records,
            "a line a record in place of sums, with immured's own events")},
    {OPTION("directory", "DIR", directory, "the log (default: the configuration's)")},
};

const struct command command_audit_show = {
    .group = "audit",
    .name = "show",
    .summary = "Show who used which keys, for what, with what outcome and how often",
    .page = "immure-audit(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
