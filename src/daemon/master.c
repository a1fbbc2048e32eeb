#include "daemon/master.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/audit_writer.h"
#include "daemon/crash.h"
#include "daemon/listener.h"
#include "daemon/pin_budget.h"
#include "daemon/worker.h"

/* One that serves, one or two that start, and some that drain after reloads in short order. */
#define CHILDREN_MAX 8

/* A worker that has not reported by now hangs; it waits up to 20 s for its tokens. */
#define START_MS 30000
/* Longer than a worker's own drain, which takes up to 10 s. */
#define RETIRE_MS 12000

/* Pauses before a worker that dies young is started again. */
#define RESTART_FIRST_MS 100
#define RESTART_MAX_MS   5000
#define YOUNG_MS         10000

enum child_state { CHILD_NONE, CHILD_STARTING, CHILD_SERVING, CHILD_RETIRING };

struct child {
    enum child_state state;
    pid_t pid;
    bool settles;      /* before it serves: it waits for its tokens, as another one serves */
    int report;        /* -1 once it has reported */
    uint64_t started;  /* base/clock.h */
    uint64_t deadline; /* when it is killed, while it starts or retires */
};

struct master {
    const struct config *config;
    const struct asked_pins *asked_pins;
    struct pin_budget *budget;
    struct crash_table *crashes;
    struct audit_writer *audit; /* NULL: off */
    struct listener listener;
    int signals; /* signalfd(2) */
    struct child children[CHILDREN_MAX];
    bool stopping, reload_wanted;
    uint64_t restart_at; /* 0: no worker is to be started */
    uint64_t restart_pause;
};

static struct child *child_in(struct master *master, enum child_state state)
{
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        if (master->children[i].state == state)
            return &master->children[i];
    }
    return NULL;
}

/* Whether one serves, or will as soon as it is up: not one that settles, which may take long. */
static bool is_served(const struct master *master)
{
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        const struct child *child = &master->children[i];
        if (child->state == CHILD_SERVING || (child->state == CHILD_STARTING && !child->settles))
            return true;
    }
    return false;
}

/* --- Starting workers --- */

static void become_worker(const struct master *master, int report, pid_t master_pid,
                          bool wait_for_tokens)
{
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C and hang-up are for the master */
    signal(SIGHUP, SIG_IGN);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    close(master->signals);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != master_pid)
        _exit(EXIT_FAILURE); /* the master died before the line above */

    const struct worker_settings settings = {
        .config_path = master->config->path,
        .socket_path = master->config->socket,
        .audit_path = master->config->audit,
        .allow_exec = master->config->allow_exec,
        .audit = audit_writer_leave(master->audit),
        .listener = master->listener.socket,
        .report = report,
        .master = master_pid,
        .budget = master->budget,
        .crashes = master->crashes,
        .asked_pins = master->asked_pins,
        .wait_for_tokens = wait_for_tokens,
    };
    _exit(worker_run(&settings)); /* no destructors: vendors' crash at exit */
}

static bool fork_worker(struct master *master, struct child *child)
{
    int report[2];
    bool wait_for_tokens = child_in(master, CHILD_SERVING) != NULL;
    pid_t master_pid = getpid();
    /* Not to be waited for: what a module has forked may keep its end open. */
    if (pipe2(report, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    uint64_t now = clock_now_ms();
    pid_t pid = fork();
    if (pid == 0) {
        close(report[0]);
        become_worker(master, report[1], master_pid, wait_for_tokens);
    }
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return false;
    }
    *child = (struct child){.state = CHILD_STARTING,
                            .pid = pid,
                            .settles = wait_for_tokens,
                            .report = report[0],
                            .started = now,
                            .deadline = now + START_MS};
    return true;
}

static void restart_later(struct master *master, uint64_t lifetime)
{
    if (lifetime >= YOUNG_MS)
        master->restart_pause = 0;
    master->restart_at = clock_now_ms() + master->restart_pause;
    master->restart_pause =
        master->restart_pause == 0 ? RESTART_FIRST_MS : master->restart_pause * 2;
    if (master->restart_pause > RESTART_MAX_MS)
        master->restart_pause = RESTART_MAX_MS;
}

static void start_worker(struct master *master)
{
    struct child *child = child_in(master, CHILD_NONE);
    master->restart_at = 0;
    if (child != NULL && fork_worker(master, child))
        return;
    log_error("cannot start a worker: %s", child == NULL ? "too many are ending" : strerror(errno));
    if (child_in(master, CHILD_SERVING) == NULL)
        restart_later(master, 0);
    else
        sd_notify(0, "READY=1");
}

static void retire(struct child *child)
{
    kill(child->pid, SIGTERM);
    child->state = CHILD_RETIRING;
    child->deadline = clock_now_ms() + RETIRE_MS;
}

static void reload(struct master *master)
{
    char notice[64];
    if (child_in(master, CHILD_STARTING) != NULL) {
        master->reload_wanted = true; /* it may have read the old file */
        return;
    }
    master->reload_wanted = false;
    log_notice("reloading %s", master->config->path);
    audit_writer_event(master->audit, "reload", master->config->path);
    snprintf(notice, sizeof(notice), "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)clock_now_ms() * 1000);
    sd_notify(0, notice);
    start_worker(master);
}

/* --- What workers tell --- */

static void worker_is_ready(struct master *master, struct child *child, char level)
{
    struct child *previous = child_in(master, CHILD_SERVING);
    master->restart_at = 0;
    if (previous != NULL && !child->settles) {
        retire(child); /* it was to bridge the time until that one serves, which has settled */
        return;
    }
    if (level >= '0' + LOG_LEVEL_ERROR && level <= '0' + LOG_LEVEL_DEBUG)
        log_set_level((enum log_level)(level - '0'));
    child->state = CHILD_SERVING;
    if (previous != NULL)
        retire(previous);
    log_notice("worker %d serves%s", (int)child->pid,
               previous != NULL ? " in place of the one before" : "");
    sd_notify(0, "READY=1");
    if (master->reload_wanted)
        reload(master);
}

static void read_report(struct master *master, struct child *child)
{
    char text[1 + PROBLEM_TEXT_SIZE + 1] = "";
    ssize_t size = read(child->report, text, sizeof(text) - 1);
    close(child->report);
    child->report = -1;
    if (size > 0 && text[0] == WORKER_READY && child->state == CHILD_STARTING)
        worker_is_ready(master, child, text[1]);
    else if (size > 0 && text[0] == WORKER_ERROR)
        log_error("%s", text + 1);
}

static bool find_crash(const struct master *master, const struct child *child, struct crash *crash)
{
    return crash_of_worker(master->crashes, child->pid, crash) && crash->at >= child->started;
}

static void log_end(const struct child *child, int status, const struct crash *crash)
{
    if (crash != NULL)
        log_error("worker %d was ended by signal %d (%s) in a call of token %s, by its module %s",
                  (int)child->pid, WTERMSIG(status), strsignal(WTERMSIG(status)), crash->token,
                  crash->module);
    else if (WIFSIGNALED(status))
        log_error("worker %d was ended by signal %d (%s)", (int)child->pid, WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    else if (child->state == CHILD_SERVING)
        log_error("worker %d ended with status %d", (int)child->pid, WEXITSTATUS(status));
}

static void worker_has_ended(struct master *master, struct child *child, int status)
{
    if (child->report >= 0)
        read_report(master, child);
    struct child ended = *child;
    struct crash crash;
    bool crashed = WIFSIGNALED(status) && find_crash(master, &ended, &crash);
    child->state = CHILD_NONE;
    log_end(&ended, status, crashed ? &crash : NULL);
    if (master->stopping || ended.state == CHILD_RETIRING)
        return;
    if (!is_served(master)) {
        if (crashed && crash.covered) /* the token is kept out next time, ever longer */
            master->restart_at = clock_now_ms();
        else
            restart_later(master, clock_now_ms() - ended.started);
    } else if (ended.state == CHILD_STARTING && ended.settles) {
        log_error("the new configuration is not in use; the worker before goes on with the old");
        sd_notify(0, "READY=1");
        if (master->reload_wanted)
            reload(master); /* the file may have been mended meanwhile */
    }
}

static void reap(struct master *master)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < CHILDREN_MAX; i++) {
            if (master->children[i].state != CHILD_NONE && master->children[i].pid == pid)
                worker_has_ended(master, &master->children[i], status);
        }
    }
}

/* --- The loop --- */

static void stop(struct master *master)
{
    if (master->stopping)
        return;
    sd_notify(0, "STOPPING=1");
    log_notice("stopping");
    master->stopping = true;
    master->restart_at = 0;
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        if (master->children[i].state != CHILD_NONE)
            retire(&master->children[i]);
    }
}

static void read_signals(struct master *master)
{
    struct signalfd_siginfo information;
    while (read(master->signals, &information, sizeof(information)) == sizeof(information)) {
        if (information.ssi_signo == SIGCHLD)
            reap(master);
        else if (information.ssi_signo != SIGHUP)
            stop(master);
        else if (!master->stopping)
            reload(master);
    }
}

static void keep_time(struct master *master)
{
    uint64_t now = clock_now_ms();
    if (master->restart_at != 0 && now >= master->restart_at)
        start_worker(master);
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        struct child *child = &master->children[i];
        if (child->state == CHILD_NONE || child->state == CHILD_SERVING || now < child->deadline)
            continue;
        log_error("worker %d hangs and is killed", (int)child->pid);
        kill(child->pid, SIGKILL);
        child->deadline = now + RETIRE_MS;
    }
}

static int sooner(int one, int other) /* -1: never */
{
    if (one < 0 || other < 0)
        return one < 0 ? other : one;
    return one < other ? one : other;
}

/* Milliseconds until keep_time() has something to do, for poll(2). */
static int time_left(const struct master *master)
{
    uint64_t next = master->restart_at != 0 ? master->restart_at : UINT64_MAX;
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        const struct child *child = &master->children[i];
        if ((child->state == CHILD_STARTING || child->state == CHILD_RETIRING) &&
            child->deadline < next)
            next = child->deadline;
    }
    return sooner(next == UINT64_MAX ? -1 : (int)clock_left_ms(next),
                  audit_writer_time_left(master->audit, audit_now()));
}

static void wait_and_act(struct master *master)
{
    struct pollfd polled[2 + CHILDREN_MAX] = {
        [CHILDREN_MAX] = {.fd = master->signals, .events = POLLIN},
        {.fd = audit_writer_descriptor(master->audit), .events = POLLIN},
    };
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        const struct child *child = &master->children[i];
        polled[i].fd = child->state != CHILD_NONE ? child->report : -1;
        polled[i].events = POLLIN;
    }
    if (poll(polled, ARRAY_SIZE(polled), time_left(master)) < 0)
        return;
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        if (polled[i].revents != 0)
            read_report(master, &master->children[i]);
    }
    if (polled[CHILDREN_MAX].revents != 0)
        read_signals(master);
    audit_writer_run(master->audit, polled[CHILDREN_MAX + 1].revents != 0, audit_now());
    keep_time(master);
}

static bool has_children(const struct master *master)
{
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        if (master->children[i].state != CHILD_NONE)
            return true;
    }
    return false;
}

static int open_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        sigaddset(&set, numbers[i]);
    signal(SIGPIPE, SIG_IGN); /* p11-kit's client writes to sockets whose server may have died */
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int set_up(struct master *master, struct problem *problem)
{
    master->signals = open_signals();
    if (master->signals < 0)
        return problem_set(problem, -1, "cannot receive signals: %s", strerror(errno));
    master->budget = pin_budget_new();
    if (master->budget == NULL)
        return problem_set(problem, -1,
                           "cannot set up the PIN budget (%s): raise LimitMEMLOCK= (ulimit -l)",
                           strerror(errno));
    master->crashes = crash_table_new();
    if (master->crashes == NULL)
        return problem_set(problem, -1, "cannot set up the table of crashes: %s", strerror(errno));
    return listener_open(master->config->socket, &master->listener, problem);
}

/* The table is a file beside the socket. */
static int open_audit(struct master *master, struct problem *problem)
{
    char table[PATH_MAX];
    if (master->config->audit == NULL)
        return 0;
    snprintf(table, sizeof(table), "%s.audit", master->config->socket);
    return audit_writer_open(master->config->audit, table, &master->audit, problem);
}

int master_run(const struct config *config, const struct asked_pins *asked_pins)
{
    static struct master master;
    struct problem problem;
    master.config = config;
    master.asked_pins = asked_pins;
    if (set_up(&master, &problem) != 0) {
        log_error("%s", problem.text);
        return EXIT_FAILURE;
    }
    if (open_audit(&master, &problem) != 0) {
        log_error("%s", problem.text);
        listener_close(&master.listener, config->socket);
        return EXIT_FAILURE;
    }
    log_notice("immured %s, %s, listening on %s%s", IMMURE_VERSION, config->path, config->socket,
               master.listener.made_here ? "" : " or where systemd says");
    start_worker(&master);
    while (!master.stopping || has_children(&master))
        wait_and_act(&master);
    listener_close(&master.listener, config->socket);
    audit_writer_close(master.audit);
    log_notice("stopped");
    return EXIT_SUCCESS;
}
