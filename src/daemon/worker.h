/*
 * The worker process: loads the PKCS#11 modules, takes requests off the clients' connections and
 * answers them.
 */
#ifndef IMMURE_DAEMON_WORKER_H
#define IMMURE_DAEMON_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/asked_pin.h"
#include "daemon/audit_table.h"
#include "daemon/config.h"
#include "daemon/connection.h"
#include "daemon/crash.h"
#include "daemon/dhe_groups.h"
#include "daemon/digest.h"
#include "daemon/grant_meter.h"
#include "daemon/keyring.h"
#include "daemon/overtake.h"
#include "daemon/pin_budget.h"
#include "daemon/rule.h"
#include "daemon/token_keeper.h"
#include "wire/message.h"

/*
 * A worker's report to its master: one of these; after READY a digit, the log level of its
 * configuration, after ERROR the problem's text.
 */
#define WORKER_READY 'R'
#define WORKER_ERROR 'E'

/* What the master passes on; all of it was made before the fork. */
struct worker_settings {
    const char *config_path;
    const char *socket_path;   /* that the listener has */
    const char *audit_path;    /* that the master writes to; NULL: none */
    bool allow_exec;           /* what the filter of system calls allows */
    struct audit_table *audit; /* or NULL */
    int listener;              /* SOCK_SEQPACKET, non-blocking */
    int report;                /* a pipe to the master */
    pid_t master;
    struct pin_budget *budget;
    struct crash_table *crashes;
    const struct asked_pins *asked_pins;
    bool wait_for_tokens; /* another worker serves meanwhile */
};

/* A host with more sessions than this in all waits for its threads. */
#define THREADS_MAX 512

#define STATUS_COUNT (WIRE_OVER_RATE + 1)

/* Searches for a key under way on a token, and those of them that read all its keys: find_key.c. */
struct searches {
    atomic_uint all, of_all_keys;
};

struct worker {
    struct worker_settings settings;
    struct config *config;
    struct keyring *keyring;
    struct token_keeper *keepers[CONFIG_TOKENS_MAX]; /* one a token of the configuration */
    struct searches searches[CONFIG_TOKENS_MAX];     /* one a token of the configuration */
    struct digests digests;
    struct dhe_groups dhe_groups;
    struct connections connections;
    int epoll;
    uint64_t started; /* base/clock.h */
    atomic_uint_fast64_t replies[STATUS_COUNT];
    atomic_uint_fast64_t refusals[RULE_COUNT];
    struct grant_meter meters[CONFIG_GRANTS_MAX]; /* one a grant of the configuration */
    atomic_uint waiting;                          /* requests in the tokens' backlogs */
    int overtakes; /* eventfd(2) that wakes a thread for each request that overtakes another */
    atomic_uint_fast64_t overtaken;
    size_t thread_count;
    atomic_size_t threads_started;
    struct call calls[THREADS_MAX]; /* one a thread; used where there are several tokens */
};

/* The life of a worker process; returns its exit status. SIGTERM is blocked by the caller. */
int worker_run(const struct worker_settings *settings);

#endif
