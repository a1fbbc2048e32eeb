/*
 * The audit log's files: one chain over months, restarts, torn writes and full disks.
 */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit/chain.h"
#include "audit/files.h"
#include "daemon/audit_log.h"
#include "daemon/audit_writer.h"

/* Noon of a day in these months. */
#define NOVEMBER UINT64_C(1795608000000)
#define DECEMBER (NOVEMBER + UINT64_C(30) * 86400000)

static char directory[] = "/tmp/audit-log-XXXXXX";
static char file_path[64], table_path[64];

static const struct audit_record use = {
    .from = NOVEMBER, .to = NOVEMBER, .count = 3, .use = "sign", .outcome = "signed"};

static struct audit_log *open_log(void)
{
    struct audit_log *log;
    struct problem problem;
    if (audit_log_open(directory, &log, &problem) != 0)
        fail_msg("%s", problem.text);
    return log;
}

static int append_count(struct audit_log *log, size_t count, uint64_t now)
{
    static struct audit_record records[AUDIT_APPEND_MAX];
    struct problem problem;
    for (size_t i = 0; i < count; i++)
        records[i] = use;
    return audit_log_append(log, records, count, now, &problem);
}

static void append(struct audit_log *log, size_t count, uint64_t now)
{
    assert_int_equal(append_count(log, count, now), 0);
}

/* What is in all files; `torn` events are as many. */
static uint64_t check_chain(uint64_t torn)
{
    static struct audit_line line;
    struct audit_chain chain = {.n = 0};
    struct audit_record record;
    struct audit_files files;
    assert_true(audit_files_list(directory, &files));
    for (size_t i = 0; i < files.count; i++) {
        char path[64];
        snprintf(path, sizeof(path), "%s/%s", directory, files.names[i]);
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        while (audit_line_read(file, &line)) {
            enum audit_fault fault = audit_chain_follow(&chain, &line, &record);
            assert_true(fault == AUDIT_NO_FAULT || fault == AUDIT_UNREADABLE);
        }
        fclose(file);
    }
    audit_files_free(&files);
    assert_int_equal(chain.unread, 0);
    assert_int_equal(chain.torn, torn);
    return chain.n;
}

static void edit(const char *text, off_t cut)
{
    struct stat status;
    int file = open(file_path, O_WRONLY | O_APPEND | O_CREAT, 0640);
    assert_true(file >= 0 && fstat(file, &status) == 0);
    assert_int_equal(ftruncate(file, status.st_size - cut), 0);
    assert_int_equal(write(file, text, strlen(text)), strlen(text));
    close(file);
}

static void the_chain_goes_on_over_restarts_and_months_and_never_back(void **state)
{
    (void)state;
    static const uint64_t times[] = {NOVEMBER, NOVEMBER, DECEMBER, NOVEMBER, DECEMBER + 1};
    char head[AUDIT_HEAD_SIZE], same[AUDIT_HEAD_SIZE];
    struct audit_files files;
    for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
        struct audit_log *log = open_log();
        append(log, 2, times[i]);
        audit_log_head(log, head);
        audit_log_close(log);
        log = open_log();
        audit_log_head(log, same);
        assert_string_equal(head, same);
        audit_log_close(log);
    }
    assert_int_equal(check_chain(0), 2 * ARRAY_SIZE(times));
    assert_true(audit_files_list(directory, &files));
    assert_int_equal(files.count, 2);
    assert_string_equal(files.names[0], "audit-2026-11.log");
    assert_string_equal(files.names[1], "audit-2026-12.log");
    audit_files_free(&files);
}

static void what_a_power_failure_leaves_is_told_and_the_chain_goes_on(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        off_t cut;
        uint64_t records; /* that are left of three */
    } cases[] = {
        {"", 1, 2},                  /* the newline */
        {"", 30, 2},                 /* half a line */
        {"{\"n\":4,", 0, 3},         /* the beginning of one more */
        {"\n\n", 0, 3},              /* empty lines */
        {"\x01\x02\x03\nxx\n", 0, 3} /* blocks that were never written, with newlines by chance */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        unlink(file_path);
        struct audit_log *log = open_log();
        append(log, 3, NOVEMBER);
        audit_log_close(log);
        edit(cases[i].text, cases[i].cut);
        log = open_log();
        assert_int_equal(audit_log_n(log), cases[i].records);
        append(log, 1, NOVEMBER);
        audit_log_close(log);
        assert_int_equal(check_chain(1), cases[i].records + 2);
    }
}

static void a_first_write_of_a_month_that_was_torn_is_no_beginning(void **state)
{
    (void)state;
    struct audit_log *log = open_log();
    append(log, 2, NOVEMBER - UINT64_C(31) * 86400000);
    audit_log_close(log);
    edit("{\"n\":3", 0);
    log = open_log();
    assert_int_equal(audit_log_n(log), 2);
    append(log, 1, NOVEMBER);
    audit_log_close(log);
    assert_int_equal(check_chain(1), 4);
}

static void a_log_that_cannot_be_followed_is_not_gone_on_with(void **state)
{
    (void)state;
    static char garbage[100001];
    struct audit_log *log;
    struct problem problem;
    memset(garbage, 'x', sizeof(garbage) - 1);
    edit(garbage, 0);
    assert_int_equal(audit_log_open(directory, &log, &problem), -1);
    assert_non_null(strstr(problem.text, "hold no record"));
}

static void one_immured_at_a_time_writes(void **state)
{
    (void)state;
    struct audit_log *first = open_log(), *second;
    struct problem problem;
    assert_int_equal(audit_log_open(directory, &second, &problem), -1);
    assert_non_null(strstr(problem.text, "another immured writes"));
    audit_log_close(first);
    audit_log_close(open_log());
}

/* A full disk: write(2) writes what there is room for. */
static void set_room(rlim_t size)
{
    const struct rlimit limit = {.rlim_cur = size, .rlim_max = RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_takes_whole_records_and_tells_which(void **state)
{
    (void)state;
    struct audit_log *log = open_log();
    struct stat status;
    append(log, 3, NOVEMBER);
    assert_int_equal(stat(file_path, &status), 0);
    rlim_t line = (rlim_t)status.st_size / 3;
    set_room((rlim_t)status.st_size + 2 * line + 20);
    assert_int_equal(append_count(log, 4, NOVEMBER), -1);
    assert_int_equal(audit_log_n(log), 5);
    /* Again and again, with a few bytes of room each time. */
    for (rlim_t more = 0; more < 60; more += 10) {
        set_room((rlim_t)status.st_size + 2 * line + 20 + more);
        assert_int_equal(append_count(log, 2, NOVEMBER), -1);
        assert_int_equal(audit_log_n(log), 5);
    }
    set_room(RLIM_INFINITY);
    append(log, 2, DECEMBER);
    audit_log_close(log);
    assert_int_equal(check_chain(1), 5 + 1 + 2);
}

/* --- From the table to the files --- */

static void count_of(struct audit_table *table, uint32_t uid, const char *outcome, uint64_t now)
{
    struct audit_id id = {.uid = uid, .is_refusal = strcmp(outcome, "signed") != 0};
    audit_text(id.outcome, sizeof(id.outcome), outcome);
    if (!audit_table_count(table, &id, now))
        audit_table_add(table, &id, "www", now);
}

static void count(struct audit_table *table, uint64_t now)
{
    count_of(table, 7, "signed", now);
}

static struct audit_writer *open_writer(struct audit_table **table)
{
    struct audit_writer *writer;
    struct problem problem;
    if (audit_writer_open(directory, table_path, &writer, &problem) != 0 ||
        audit_table_open(table_path, table, &problem) != 0)
        fail_msg("%s", problem.text);
    return writer;
}

static void the_first_use_is_written_within_a_second_and_the_rest_at_the_minutes_end(void **state)
{
    (void)state;
    struct audit_table *table;
    struct audit_writer *writer = open_writer(&table);
    uint64_t n = check_chain(0); /* "start" */
    uint64_t minute = (audit_now() / 60000 + 1) * 60000;
    audit_writer_run(writer, false, minute);
    count(table, minute + 10);
    audit_writer_run(writer, true, minute + 10);
    assert_int_equal(audit_writer_descriptor(writer), -1);
    int left = audit_writer_time_left(writer, minute + 10);
    assert_uint_in_range(left, 1, 990);
    audit_writer_run(writer, false, minute + 10 + (uint64_t)left);
    assert_int_equal(check_chain(0), n + 1);
    for (uint64_t i = 0; i < 1000; i++)
        count(table, minute + 20000 + i);
    audit_writer_run(writer, false, minute + 59999);
    assert_int_equal(check_chain(0), n + 1);
    assert_int_equal(audit_writer_time_left(writer, minute + 59999), 1);
    audit_writer_run(writer, false, minute + 60000);
    assert_int_equal(check_chain(0), n + 2);
    audit_writer_run(writer, false, minute + 120000);
    assert_int_equal(check_chain(0), n + 2);
    audit_writer_close(writer);
    audit_table_close(table);
    assert_int_equal(check_chain(0), n + 3);
}

static void refusals_grow_the_log_by_one_table_a_minute(void **state)
{
    (void)state;
    struct audit_table *table;
    struct audit_writer *writer = open_writer(&table);
    uint64_t n = check_chain(0), minute = (audit_now() / 60000 + 1) * 60000, step = 500;
    uint32_t uid = 0;
    audit_writer_run(writer, false, minute);
    for (uint64_t now = minute + step; now < minute + 59000; now += 2 * step) {
        for (uint32_t end = uid + AUDIT_ROWS_REFUSED_MAX; uid < end; uid++)
            count_of(table, uid, "refused by grant", now);
        audit_writer_run(writer, true, now);
        audit_writer_run(writer, false, now + step);
    }
    assert_int_equal(check_chain(0), n + AUDIT_ROWS_REFUSED_MAX + 1); /* the one is "other" */
    count(table, minute + 59999);
    audit_writer_run(writer, false, minute + 60000);
    assert_int_equal(check_chain(0), n + AUDIT_ROWS_REFUSED_MAX + 3);
    audit_writer_close(writer);
    audit_table_close(table);
}

static void a_clock_that_is_set_back_puts_nothing_off(void **state)
{
    (void)state;
    struct audit_table *table;
    struct audit_writer *writer = open_writer(&table);
    uint64_t n = check_chain(0), minute = (audit_now() / 60000 + 1) * 60000;
    audit_writer_run(writer, false, minute);
    count(table, minute + 30000);
    audit_writer_run(writer, true, minute + 30000);
    audit_writer_run(writer, false, minute + 1);
    assert_int_equal(check_chain(0), n + 1);
    count(table, minute + 2);
    audit_writer_run(writer, false, minute - 3600000);
    assert_int_equal(check_chain(0), n + 2);
    audit_writer_close(writer);
    audit_table_close(table);
}

/* A master that counts, writes the count if it is to, and is gone before it can note that. */
static void be_killed(bool written)
{
    struct audit_table *table;
    struct audit_pending pending;
    size_t place = 0;
    pid_t child = fork();
    if (child == 0) {
        const struct audit_writer *writer = open_writer(&table);
        count(table, audit_now());
        (void)audit_writer_leave(writer); /* the lock */
        struct audit_log *log = open_log();
        if (written &&
            audit_table_take(table, true, audit_log_n(log) + 1, &place, &pending, 1) == 1)
            append(log, 1, audit_now());
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void what_a_master_that_was_killed_left_is_written_once(void **state)
{
    (void)state;
    for (uint64_t written = 0; written < 2; written++) {
        struct audit_table *table;
        uint64_t n = check_chain(0);
        be_killed(written == 1);
        assert_int_equal(check_chain(0), n + 1 + written); /* "start" */
        struct audit_writer *writer = open_writer(&table);
        assert_int_equal(check_chain(0), n + 3);
        audit_writer_close(writer);
        audit_table_close(table);
        assert_int_equal(check_chain(0), n + 4);
    }
}

static int make_directory(void **state)
{
    (void)state;
    strcpy(directory + sizeof(directory) - 7, "XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(file_path, sizeof(file_path), "%s/audit-2026-11.log", directory);
    snprintf(table_path, sizeof(table_path), "%s/table", directory);
    return 0;
}

static int remove_directory(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_chain_goes_on_over_restarts_and_months_and_never_back),
        TEST(what_a_power_failure_leaves_is_told_and_the_chain_goes_on),
        TEST(a_first_write_of_a_month_that_was_torn_is_no_beginning),
        TEST(a_log_that_cannot_be_followed_is_not_gone_on_with),
        TEST(one_immured_at_a_time_writes),
        TEST(a_full_disk_takes_whole_records_and_tells_which),
        TEST(the_first_use_is_written_within_a_second_and_the_rest_at_the_minutes_end),
        TEST(refusals_grow_the_log_by_one_table_a_minute),
        TEST(a_clock_that_is_set_back_puts_nothing_off),
        TEST(what_a_master_that_was_killed_left_is_written_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
