/*
 * The table of uses: no count is lost or doubled, whoever dies when.
 */
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/audit_table.h"

#define PROCESSES 3
#define THREADS   2
#define COUNTS    20000
#define KILLS     100
#define ROWS      7

static char path[] = "/tmp/audit-table-XXXXXX";

static struct audit_table *open_table(void)
{
    struct audit_table *table;
    struct problem problem;
    if (audit_table_open(path, &table, &problem) != 0)
        fail_msg("%s", problem.text);
    return table;
}

static struct audit_table *new_table(void)
{
    unlink(path);
    return open_table();
}

static struct audit_id id_of(unsigned number, const char *outcome)
{
    struct audit_id id = {.uid = number, .is_refusal = strcmp(outcome, "signed") != 0};
    audit_text(id.outcome, sizeof(id.outcome), outcome);
    return id;
}

static void count(struct audit_table *table, unsigned number, const char *outcome, uint64_t now)
{
    struct audit_id id = id_of(number, outcome);
    if (!audit_table_count(table, &id, now))
        audit_table_add(table, &id, "www", now);
}

static struct audit_pending pending[AUDIT_ROWS_MAX];

/* All that is not in the log; with `n`, the records 1 to n then are. */
static size_t take(struct audit_table *table, bool all, uint64_t n)
{
    size_t place = 0;
    size_t taken = audit_table_take(table, all, 1, &place, pending, AUDIT_ROWS_MAX);
    audit_table_settle(table, n);
    return taken;
}

static uint64_t sum(size_t taken)
{
    uint64_t all = 0;
    for (size_t i = 0; i < taken; i++)
        all += pending[i].count;
    return all;
}

static void *count_many(void *context)
{
    for (unsigned i = 0; i < COUNTS; i++)
        count(context, i % ROWS, "signed", i);
    return NULL;
}

static void count_in_threads(struct audit_table *table)
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count_many, table);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

static void counts_of_several_processes_are_all_there_once(void **state)
{
    (void)state;
    struct audit_table *table = new_table();
    uint64_t total = 0;
    for (int i = 0; i < PROCESSES; i++) {
        if (fork() == 0)
            count_in_threads(table);
    }
    /* The master writes meanwhile, and empties the table. */
    for (int left = PROCESSES; left > 0; left -= waitpid(-1, NULL, WNOHANG) > 0) {
        total += sum(take(table, true, UINT64_MAX));
        audit_table_end_minute(table);
    }
    total += sum(take(table, true, UINT64_MAX));
    assert_int_equal(total, (uint64_t)PROCESSES * THREADS * COUNTS);
    audit_table_close(table);
}

/* Counts until it is killed, and says after each how far it is. */
static pid_t count_for_ever(struct audit_table *table, atomic_uint_fast64_t *counted)
{
    pid_t child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when the test has failed */
    for (unsigned i = 0;; i++) {
        count(table, i % ROWS, "signed", i);
        atomic_fetch_add(counted, 1);
    }
}

static uint64_t kill_one(struct audit_table *table, pid_t child)
{
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    size_t taken = take(table, true, UINT64_MAX);
    assert_true(taken <= ROWS); /* each is found again */
    return sum(taken);
}

static void a_process_killed_at_any_point_takes_nothing_with_it(void **state)
{
    (void)state;
    struct audit_table *table = new_table();
    atomic_uint_fast64_t *counted =
        mmap(NULL, sizeof(*counted), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(counted, MAP_FAILED);
    pid_t children[PROCESSES];
    uint64_t total = 0;
    alarm(120); /* a lock that stays with the dead */
    for (int i = 0; i < PROCESSES; i++)
        children[i] = count_for_ever(table, counted);
    for (int i = 0; i < KILLS; i++) {
        usleep(500 + 37 * (useconds_t)i);
        total += kill_one(table, children[i % PROCESSES]);
        children[i % PROCESSES] = count_for_ever(table, counted);
        if (i % 9 == 0)
            audit_table_end_minute(table);
    }
    for (int i = 0; i < PROCESSES; i++)
        total += kill_one(table, children[i]);
    alarm(0);
    uint64_t said = atomic_load(counted);
    assert_true(said > KILLS);
    assert_true(total >= said && total <= said + KILLS + PROCESSES);
    audit_table_close(table);
}

static void what_was_being_written_when_the_master_died_is_known_by_the_log(void **state)
{
    (void)state;
    struct audit_table *table = new_table();
    for (unsigned number = 0; number < 4; number++)
        count(table, number, "signed", 5);
    size_t place = 0;
    assert_int_equal(audit_table_take(table, true, 11, &place, pending, 4), 4);
    count(table, 0, "signed", 6); /* meanwhile */
    audit_table_close(table);
    table = open_table(); /* another master, which finds record 12 in the log */
    audit_table_settle(table, 12);
    assert_int_equal(take(table, true, 0), 3);
    assert_int_equal(pending[0].id.uid, 0);
    assert_int_equal(pending[0].count, 1);
    assert_int_equal(pending[0].first, 6);
    assert_int_equal(pending[1].id.uid, 2);
    assert_int_equal(pending[1].count, 1);
    assert_int_equal(pending[1].first, 5);
    assert_string_equal(pending[1].name, "www");
    audit_table_close(table);
}

static void what_could_not_be_written_stays_with_its_times(void **state)
{
    (void)state;
    struct audit_table *table = new_table();
    size_t place = 0;
    count(table, 1, "signed", 5);
    count(table, 1, "signed", 6);
    assert_int_equal(audit_table_take(table, true, 1, &place, pending, 1), 1);
    count(table, 1, "signed", 9);
    audit_table_settle(table, 0);
    assert_int_equal(take(table, true, 1), 1);
    assert_int_equal(pending[0].count, 3);
    assert_int_equal(pending[0].first, 5);
    assert_int_equal(pending[0].last, 9);
    assert_int_equal(take(table, true, 1), 0);
    audit_table_close(table);
}

static void within_a_minute_only_the_first_use_is_taken_at_once(void **state)
{
    (void)state;
    struct audit_table *table = new_table();
    count(table, 1, "signed", 5);
    assert_int_equal(take(table, false, 1), 1);
    count(table, 1, "signed", 6);
    count(table, 2, "signed", 6);
    assert_int_equal(take(table, false, 1), 1);
    assert_int_equal(pending[0].id.uid, 2);
    assert_int_equal(take(table, true, 1), 1);
    audit_table_end_minute(table);
    count(table, 1, "signed", 7);
    assert_int_equal(take(table, false, 1), 1);
    assert_int_equal(pending[0].count, 1);
    audit_table_close(table);
}

static void the_master_is_woken_for_new_rows_alone(void **state)
{
    (void)state;
    struct audit_table *table = new_table();
    uint64_t wakes;
    int wake = audit_table_wake_descriptor(table);
    assert_int_equal(read(wake, &wakes, sizeof(wakes)), -1);
    for (unsigned number = 0; number < 10; number++)
        count(table, number % 2, "signed", 5);
    assert_int_equal(read(wake, &wakes, sizeof(wakes)), sizeof(wakes));
    assert_int_equal(wakes, 1);
    (void)!take(table, true, 99);
    count(table, 0, "signed", 6);
    assert_int_equal(read(wake, &wakes, sizeof(wakes)), -1);
    count(table, 7, "signed", 6);
    assert_int_equal(read(wake, &wakes, sizeof(wakes)), sizeof(wakes));
    audit_table_close(table);
}

static uint64_t count_of(size_t taken, const char *use, const char *outcome)
{
    uint64_t found = 0;
    for (size_t i = 0; i < taken; i++) {
        if (strcmp(pending[i].id.use, use) == 0 && strcmp(pending[i].id.outcome, outcome) == 0)
            found += pending[i].count;
    }
    return found;
}

static void what_does_not_fit_is_counted_without_its_key(void **state)
{
    (void)state;
    struct audit_table *table = new_table();
    const unsigned each = AUDIT_ROWS_MAX + 1000;
    for (unsigned number = 0; number < each; number++)
        count(table, number, "not granted", 5);
    for (unsigned number = 0; number < each; number++)
        count(table, number, "signed", 5);
    assert_true(audit_table_is_crowded(table));
    size_t taken = take(table, true, UINT64_MAX);
    assert_true(taken <= AUDIT_ROWS_MAX);
    assert_int_equal(count_of(taken, "", "not granted"), AUDIT_ROWS_REFUSED_MAX);
    assert_int_equal(count_of(taken, "other", "refused"), each - AUDIT_ROWS_REFUSED_MAX);
    assert_true(count_of(taken, "", "signed") >= AUDIT_ROWS_REFUSED_MAX - 16);
    assert_int_equal(count_of(taken, "", "signed") + count_of(taken, "other", "signed"), each);
    audit_table_end_minute(table);
    assert_false(audit_table_is_crowded(table));
    count(table, each, "signed", 6);
    assert_int_equal(count_of(take(table, true, UINT64_MAX), "", "signed"), 1);
    audit_table_close(table);
}

/* How many different uses there are when the minute had better end. */
static unsigned crowd(struct audit_table *table)
{
    unsigned number = 0;
    while (number < AUDIT_ROWS_MAX && !audit_table_is_crowded(table))
        count(table, number++, "signed", 5);
    return number;
}

static void uses_end_the_minute_while_there_is_room_for_more_and_refusals_never(void **state)
{
    (void)state;
    struct audit_table *table = new_table();
    unsigned alone = crowd(table);
    assert_int_equal(alone, AUDIT_ROWS_MAX / 2);
    (void)!take(table, true, UINT64_MAX);
    audit_table_end_minute(table);
    for (unsigned number = 0; number < 2 * AUDIT_ROWS_MAX; number++)
        count(table, number, "not granted", 5);
    assert_false(audit_table_is_crowded(table));
    unsigned besides = crowd(table);
    assert_uint_in_range(besides, 1, AUDIT_ROWS_MAX / 4);
    for (unsigned number = 0; number < 2 * besides - 16; number++)
        count(table, number, "signed", 5);
    assert_int_equal(count_of(take(table, true, UINT64_MAX), "other", "signed"), 0);
    audit_table_close(table);
}

static void a_file_that_is_no_table_is_made_one_and_a_link_is_refused(void **state)
{
    (void)state;
    struct audit_table *table;
    struct problem problem;
    char link[sizeof(path) + 5];
    unlink(path);
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(write(file, "what is this? ", 14), 14);
    close(file);
    table = open_table();
    count(table, 1, "signed", 5);
    assert_int_equal(sum(take(table, true, 1)), 1);
    audit_table_close(table);
    snprintf(link, sizeof(link), "%s.link", path);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(audit_table_open(link, &table, &problem), -1);
    unlink(link);
}

static int make_path(void **state)
{
    (void)state;
    int file = mkstemp(path);
    close(file);
    return file < 0 ? -1 : 0;
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_of_several_processes_are_all_there_once),
        cmocka_unit_test(a_process_killed_at_any_point_takes_nothing_with_it),
        cmocka_unit_test(what_was_being_written_when_the_master_died_is_known_by_the_log),
        cmocka_unit_test(what_could_not_be_written_stays_with_its_times),
        cmocka_unit_test(within_a_minute_only_the_first_use_is_taken_at_once),
        cmocka_unit_test(the_master_is_woken_for_new_rows_alone),
        cmocka_unit_test(what_does_not_fit_is_counted_without_its_key),
        cmocka_unit_test(uses_end_the_minute_while_there_is_room_for_more_and_refusals_never),
        cmocka_unit_test(a_file_that_is_no_table_is_made_one_and_a_link_is_refused),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
