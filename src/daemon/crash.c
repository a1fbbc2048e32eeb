#include "daemon/crash.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"

/* Two configurations' worth: a token that has not crashed for longest makes room. */
#define CRASHES_MAX (2 * CONFIG_TOKENS_MAX)

/*
 * For how long a token is kept out. The next crash may cost the others' sessions, too; but a
 * device's restart and the like should not leave it out for long.
 */
#define KEPT_OUT_FIRST_MS 1000
#define KEPT_OUT_MAX_MS   30000

/* A token that has not crashed for so long is taken to be well. */
#define FORGET_MS 300000

/* For the handler, where the thread's own stack has overflowed; vector registers are saved there.
 */
#define HANDLER_STACK_SIZE ((size_t)32 * 1024)

/* What a bug in a library or its assertions, abort() most of all, ends a process with. */
static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};

/* Written by a worker that is about to die, without a lock, so that it cannot be left taken. */
struct crash_table {
    struct crash crashes[CRASHES_MAX];
};

/* Of this worker. */
static struct crash_table *shared;
static struct crash tokens[CONFIG_TOKENS_MAX]; /* names alone */
static size_t token_count;
static pid_t worker;
static struct sigaction previous[ARRAY_SIZE(signals)];
static atomic_flag dying = ATOMIC_FLAG_INIT;

static _Thread_local const struct crash *inside; /* one of `tokens`, or NULL */
static _Thread_local bool has_handler_stack;

struct crash_table *crash_table_new(void)
{
    struct crash_table *table =
        mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return table == MAP_FAILED ? NULL : table;
}

/* --- The handler: async-signal-safe functions alone (signal-safety(7)) --- */

static bool is_same(const struct crash *one, const struct crash *other)
{
    return strncmp(one->token, other->token, CRASH_TOKEN_SIZE) == 0 &&
           strncmp(one->module, other->module, CRASH_MODULE_SIZE) == 0;
}

/* The one of this token, or the oldest. */
static struct crash *find_place(const struct crash *token)
{
    struct crash *oldest = &shared->crashes[0];
    for (size_t i = 0; i < CRASHES_MAX; i++) {
        struct crash *crash = &shared->crashes[i];
        if (is_same(crash, token))
            return crash;
        if (crash->at < oldest->at)
            oldest = crash;
    }
    return oldest;
}

static uint64_t pause_after(unsigned count)
{
    uint64_t pause = KEPT_OUT_FIRST_MS;
    for (unsigned i = 1; i < count && pause < KEPT_OUT_MAX_MS; i++)
        pause *= 2;
    return pause < KEPT_OUT_MAX_MS ? pause : KEPT_OUT_MAX_MS;
}

static void note(const struct crash *token, int number)
{
    struct crash *place = find_place(token), crash = *token;
    uint64_t now = clock_now_ms();
    bool again = is_same(place, token) && now - place->at < FORGET_MS;
    crash.worker = worker;
    crash.signal = number;
    crash.count = again ? place->count + 1 : 1;
    crash.at = now;
    crash.until = now + pause_after(crash.count);
    crash.covered = token_count > 1 && (!again || now >= place->until);
    *place = crash;
}

static void restore(int number)
{
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        if (signals[i] == number)
            (void)sigaction(number, &previous[i], NULL);
    }
}

/* What was there before, usually the process's end, comes after it. */
static void on_crash(int number)
{
    const struct crash *token = inside;
    inside = NULL;
    if (token != NULL && getpid() == worker) { /* not a process that the library has forked */
        while (atomic_flag_test_and_set(&dying))
            pause(); /* for the end, which another thread is about to bring */
        note(token, number);
    }
    restore(number);
    (void)raise(number); /* blocked until this returns; or one that was sent would be ignored */
}

/* --- In a worker --- */

static void handle(size_t i)
{
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    (void)sigaction(signals[i], &action, &previous[i]); /* of numbers that there are */
}

void crash_watch(struct crash_table *table, const struct config *config)
{
    shared = table;
    worker = getpid();
    token_count = config->token_count;
    for (size_t i = 0; i < token_count; i++) {
        const struct token_settings *settings = &config->tokens[i].settings;
        snprintf(tokens[i].token, CRASH_TOKEN_SIZE, "%s", settings->name);
        snprintf(tokens[i].module, CRASH_MODULE_SIZE, "%s", settings->module);
    }
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        handle(i);
}

/* For as long as the thread lives, which is as long as the process does. */
static void set_handler_stack(void)
{
    stack_t stack;
    has_handler_stack = true;
    if (sigaltstack(NULL, &stack) != 0 || (stack.ss_flags & SS_DISABLE) == 0)
        return; /* a sanitizer has set one */
    stack = (stack_t){.ss_sp = malloc(HANDLER_STACK_SIZE), .ss_size = HANDLER_STACK_SIZE};
    if (stack.ss_sp != NULL && sigaltstack(&stack, NULL) != 0)
        free(stack.ss_sp);
}

void crash_enter(size_t token)
{
    if (!has_handler_stack)
        set_handler_stack();
    inside = &tokens[token];
}

void crash_leave(void)
{
    inside = NULL;
}

/* --- Looking --- */

/* A copy that is terminated, whatever a library may have written there. */
static void copy(struct crash *to, const struct crash *from)
{
    *to = *from;
    to->token[CRASH_TOKEN_SIZE - 1] = '\0';
    to->module[CRASH_MODULE_SIZE - 1] = '\0';
}

bool crash_of_token(size_t token, struct crash *crash)
{
    for (size_t i = 0; i < CRASHES_MAX; i++) {
        copy(crash, &shared->crashes[i]);
        if (is_same(crash, &tokens[token]) && clock_now_ms() - crash->at < FORGET_MS)
            return true;
    }
    return false;
}

bool crash_of_worker(const struct crash_table *table, pid_t pid, struct crash *crash)
{
    for (size_t i = 0; i < CRASHES_MAX; i++) {
        copy(crash, &table->crashes[i]);
        if (crash->worker == pid)
            return true;
    }
    return false;
}

bool crash_was_elsewhere(pid_t pid, const char *token)
{
    struct crash crash;
    return shared != NULL && crash_of_worker(shared, pid, &crash) &&
           strncmp(crash.token, token, CRASH_TOKEN_SIZE - 1) != 0;
}
