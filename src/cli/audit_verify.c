/*
 * immure audit verify: whether the audit log is as immured wrote it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/chain.h"
#include "base/problem.h"
#include "cli/audit_walk.h"
#include "cli/commands.h"
#include "cli/report.h"

/* Where in the log. */
struct place {
    const char *file;
    uint64_t line;
};

struct verification {
    struct audit_walk walk;
    struct audit_chain chain;
    uint64_t from, to;
    struct place unread; /* of the first line that is no record, while chain.unread > 0 */
    const char *fault;   /* NULL: none was found */
    struct place place;  /* of the fault; file NULL: at no line */
    struct problem problem;
};

/* --- Looking --------------------------------------------------------------------------------- */

static void found(struct verification *verification, const struct place *place, const char *fault)
{
    static const struct place nowhere;
    verification->place = place != NULL ? *place : nowhere;
    verification->fault = fault;
}

/* Whether the next line has the number that was due: then the one before it does not belong. */
static bool next_is_due(struct verification *verification)
{
    struct audit_line line;
    struct audit_record record;
    return audit_walk_next(&verification->walk, &line) && audit_line_parse(&line, &record) &&
           record.n == verification->chain.n + 1;
}

static void explain_gap(struct verification *verification, const struct place *place, uint64_t n)
{
    unsigned long long due = verification->chain.n + 1, got = n;
    bool reordered = next_is_due(verification);
    found(verification, place, reordered ? "reordered" : "removed");
    if (reordered)
        problem_set(&verification->problem, 0, "record %llu stands before record %llu", got, due);
    else
        problem_set(&verification->problem, 0, "records %llu to %llu are missing before this line",
                    due, got - 1);
}

static void explain_first(struct verification *verification, const struct place *place, uint64_t n)
{
    found(verification, place, "changed");
    problem_set(
        &verification->problem, 0,
        "record %llu does not follow from record %llu of --head: it was changed, or another "
        "stood there",
        (unsigned long long)n, (unsigned long long)verification->chain.head.n);
}

static void explain_change(struct verification *verification, const struct place *place, uint64_t n)
{
    bool inserted = next_is_due(verification);
    found(verification, place, inserted ? "inserted" : "changed");
    problem_set(&verification->problem, 0, "record %llu does not follow from the one before: %s",
                (unsigned long long)n,
                inserted ? "it was inserted" : "it was changed, or another stood there");
}

static void explain(struct verification *verification, enum audit_fault fault, uint64_t n)
{
    struct place place = {verification->walk.name, verification->walk.number};
    if (verification->chain.unread > 0) {
        found(verification, &verification->unread, "torn");
        problem_set(&verification->problem, 0,
                    "what stands here is no record, and no record says that a write was cut short");
    } else if (fault == AUDIT_TORN) {
        found(verification, &place, "removed");
        problem_set(&verification->problem, 0,
                    "the torn line that this record tells of is missing");
    } else if (fault == AUDIT_REPEATED) {
        found(verification, &place, "out of sequence");
        problem_set(&verification->problem, 0, "record %llu stands after record %llu",
                    (unsigned long long)n, (unsigned long long)verification->chain.n);
    } else if (fault == AUDIT_GAP) {
        explain_gap(verification, &place, n);
    } else if (verification->chain.n == 0 && n > 1) {
        explain_first(verification, &place, n);
    } else {
        explain_change(verification, &place, n);
    }
}

static void compare_head(struct verification *verification, const struct audit_record *record)
{
    const struct audit_head *head = &verification->chain.head;
    if (record->n != head->n || memcmp(record->hash, head->hash, sizeof(record->hash)) == 0)
        return;
    const struct place place = {verification->walk.name, verification->walk.number};
    found(verification, &place, "rewritten");
    problem_set(&verification->problem, 0, "record %llu is not the one that --head knows",
                (unsigned long long)record->n);
}

static void look_at(struct verification *verification, const struct audit_line *line)
{
    struct audit_record record;
    bool was_good = verification->chain.unread == 0;
    enum audit_fault fault = audit_chain_follow(&verification->chain, line, &record);
    if (fault == AUDIT_UNREADABLE && was_good) {
        verification->unread = (struct place){verification->walk.name, verification->walk.number};
    } else if (fault == AUDIT_NO_FAULT) {
        if (verification->from == 0)
            verification->from = record.from;
        verification->to = record.to;
        compare_head(verification, &record);
    } else if (fault != AUDIT_UNREADABLE) {
        explain(verification, fault, record.n);
    }
}

static void look_at_end(struct verification *verification)
{
    const struct audit_chain *chain = &verification->chain;
    uint64_t n = chain->head.n;
    if (chain->unread > 0) {
        explain(verification, AUDIT_UNREADABLE, 0);
    } else if (n > chain->n) {
        found(verification, NULL, "cut off");
        problem_set(&verification->problem, 0,
                    "the log ends with record %llu, and --head knows record %llu",
                    (unsigned long long)chain->n, (unsigned long long)n);
    } else if (n != 0 && n + 1 < chain->first) {
        found(verification, NULL, "removed");
        problem_set(&verification->problem, 0,
                    "the log begins with record %llu, and record %llu of --head is not here",
                    (unsigned long long)chain->first, (unsigned long long)n);
    }
}

static enum exit_status look(struct verification *verification)
{
    struct audit_line line;
    while (verification->fault == NULL && audit_walk_next(&verification->walk, &line))
        look_at(verification, &line);
    if (verification->walk.failed)
        return STATUS_FAILED;
    if (verification->fault == NULL)
        look_at_end(verification);
    return STATUS_OK;
}

/* --- Telling --------------------------------------------------------------------------------- */

static void head_text(const struct audit_chain *chain, char *text, size_t size)
{
    char hash[AUDIT_HEX_SIZE];
    audit_hex_text(chain->hash, hash);
    snprintf(text, size, "%llu:%s", (unsigned long long)chain->n, hash);
}

static unsigned long long record_count(const struct audit_chain *chain)
{
    return chain->n == 0 ? 0 : chain->n - chain->first + 1;
}

static void tell_verdict(const struct verification *verification)
{
    const struct audit_chain *chain = &verification->chain;
    if (verification->fault != NULL)
        print_field("Verdict", "NOT as immured wrote it");
    else if (chain->first_unchecked)
        print_field("Verdict", "no fault found, but record %llu, the first, cannot be checked",
                    (unsigned long long)chain->first);
    else
        print_field("Verdict", "good: each record follows from the one before");
}

static void tell_beginning(const struct audit_chain *chain)
{
    unsigned long long first = chain->first;
    if (first > 1)
        print_field("Begins", "with record %llu: what came before is not here", first);
    if (chain->first_unchecked)
        print_field("Not checked", "what record %llu says, without --head %llu:HASH", first,
                    first - 1);
}

static enum exit_status tell_json(const struct verification *verification)
{
    const struct audit_chain *chain = &verification->chain;
    char head[32 + AUDIT_HEX_SIZE], from[AUDIT_TIME_SIZE], to[AUDIT_TIME_SIZE];
    head_text(chain, head, sizeof(head));
    audit_time_text(verification->from, from);
    audit_time_text(verification->to, to);
    json_t *json = json_pack(
        "{s:b, s:s, s:I, s:I, s:b, s:I, s:s, s:s, s:s}", "good", verification->fault == NULL,
        "directory", verification->walk.directory, "records", (json_int_t)record_count(chain),
        "first", (json_int_t)chain->first, "first_checked", !chain->first_unchecked, "torn_writes",
        (json_int_t)chain->torn, "from", from, "to", to, "head", head);
    if (json != NULL && verification->fault != NULL)
        json_object_update_new(
            json, json_pack("{s:s, s:s?, s:I, s:s}", "fault", verification->fault, "file",
                            verification->place.file, "line", (json_int_t)verification->place.line,
                            "problem", verification->problem.text));
    return print_json(json);
}

static void tell_text(const struct verification *verification)
{
    const struct audit_chain *chain = &verification->chain;
    char head[32 + AUDIT_HEX_SIZE], from[AUDIT_TIME_SIZE], to[AUDIT_TIME_SIZE];
    head_text(chain, head, sizeof(head));
    audit_time_text(verification->from, from);
    audit_time_text(verification->to, to);
    print_field("Audit log", "%s", verification->walk.directory);
    tell_verdict(verification);
    print_field("Records", "%llu", record_count(chain));
    print_field("Time span", "%s to %s", from, to);
    print_field("Head", "%s", head);
    tell_beginning(chain);
    if (chain->torn > 0)
        print_field("Torn writes", "%llu, each told by the record after it",
                    (unsigned long long)chain->torn);
}

static enum exit_status tell_fault(const struct verification *verification)
{
    const struct place *place = &verification->place;
    if (verification->fault == NULL)
        return STATUS_OK;
    if (place->file == NULL)
        return report_failure("%s: %s: %s", verification->walk.directory, verification->fault,
                              verification->problem.text);
    return report_failure("%s/%s, line %llu: %s: %s", verification->walk.directory, place->file,
                          (unsigned long long)place->line, verification->fault,
                          verification->problem.text);
}

static enum exit_status tell(const struct verification *verification, bool json)
{
    enum exit_status status = STATUS_OK;
    if (json)
        status = tell_json(verification);
    else
        tell_text(verification);
    return tell_fault(verification) == STATUS_OK ? status : STATUS_FAILED;
}

/* --- The command ----------------------------------------------------------------------------- */

static enum exit_status read_head(const char *text, struct audit_head *head)
{
    char *rest = NULL;
    if (text == NULL)
        return STATUS_OK;
    head->n = strtoull(text, &rest, 10);
    if (head->n == 0 || *rest != ':' || !audit_hex_parse(rest + 1, head->hash))
        return report_usage("--head %s: give N:HASH, as immured logs it", text);
    return STATUS_OK;
}

static enum exit_status run(const struct arguments *arguments)
{
    static struct verification verification;
    enum exit_status status = read_head(arguments->head, &verification.chain.head);
    if (status != STATUS_OK)
        return status;
    status = audit_walk_open(arguments, NULL, &verification.walk);
    if (status == STATUS_OK)
        status = look(&verification);
    if (status == STATUS_OK)
        status = tell(&verification, arguments->json);
    audit_walk_close(&verification.walk);
    return status;
}

static const struct option_spec options[] = {
    {OPTION("directory", "DIR", directory, "the log (default: the configuration's)")},
    {OPTION("head", "N:HASH", head,
            "a record that the log must hold or begin after, from immured's own log")},
};

const struct command command_audit_verify = {
    .group = "audit",
    .name = "verify",
    .summary = "Check that the audit log is as immured wrote it",
    .detail =
        "Says where it was first changed, if it was. That its end was cut off, or that all of\n"
        "it was written anew, shows only against a --head that was kept elsewhere. So does a\n"
        "change of the first record where those before it were put away: give the one before.",
    .page = "immure-audit(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
