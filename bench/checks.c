/*
 * What immured does of its own for each signature, beside the signature: whether the message may be
 * signed, with a grant that has a rate, and the count in the audit log. JSON, in ns of CPU a call.
 *
 *     checks [--calls N] [--threads N] DIRECTORY     which the audit log's table is made in
 */
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "daemon/audit.h"
#include "daemon/audit_table.h"
#include "daemon/permission.h"

#define CALLS_DEFAULT 1000000
#define THREADS_LIMIT 64

static const uint8_t tls13_message[] =
    "                                                                "
    "TLS 1.3, server CertificateVerify\0a hash of SHA-256, of 32 bytes..";
#define TLS13_SIZE (64 + 34 + 32)

static uint8_t tls12_message[64 + 4 + 65] = {[64] = 3, 0, 23, 65, 4};

static char name[] = "bench", all[] = "*", *keys[] = {all, NULL};

static struct config config = {
    .grants = {{.name = name,
                .keys = keys,
                .uses = USE_TLS_SERVER,
                .rate = {.count = 1000000, .interval_ns = 1000, .burst = 1000000}}},
    .grant_count = 1,
};
static const struct keyring_key key = {.type = KEY_TYPE_EC, .bits = 256, .grants = 1};
static struct connection connection = {.grants = 1, .unit = "nginx.service"};

struct task {
    struct worker *worker;
    const uint8_t *message;
    size_t size;
    unsigned long calls;
    bool audit; /* the count, rather than the check */
    bool done;
};

static void *perform(void *context)
{
    struct task *task = context;
    struct request request = {
        .worker = task->worker,
        .connection = &connection,
        .use = USE_TLS13_SERVER,
        .wire = {.operation = WIRE_SIGN, .payload = task->message, .payload_size = task->size}};
    const struct scheme *scheme = scheme_by_code(0x0403);
    task->done = true;
    for (unsigned long i = 0; i < task->calls && task->done; i++) {
        if (task->audit)
            audit_request(&request, WIRE_OK);
        else
            task->done = permission_to_sign(&request, &key, scheme) == WIRE_OK;
    }
    return NULL;
}

static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* What a call takes when so many threads make them; negative: it failed. */
static double measure(const struct task *task, unsigned threads)
{
    pthread_t ids[THREADS_LIMIT];
    struct task tasks[THREADS_LIMIT];
    bool done = true;
    double start = cpu_ns();
    for (unsigned i = 0; i < threads; i++) {
        tasks[i] = *task;
        if (pthread_create(&ids[i], NULL, perform, &tasks[i]) != 0)
            return -1;
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        done = done && tasks[i].done;
    }
    return done ? (cpu_ns() - start) / (double)(task->calls * threads) : -1;
}

static bool set_up(struct worker *worker, const char *directory)
{
    char path[PATH_MAX];
    struct problem problem = {""};
    log_set_level(LOG_LEVEL_ERROR);
    snprintf(path, sizeof(path), "%s/table", directory);
    dhe_groups_load(&worker->dhe_groups);
    worker->config = &config;
    worker->keyring = keyring_new(&config);
    if (worker->keyring != NULL && audit_table_open(path, &worker->settings.audit, &problem) == 0)
        return true;
    fprintf(stderr, "checks: %s\n", problem.text);
    return false;
}

static unsigned long number_of(const char *text)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    return *end == '\0' ? number : 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"calls", required_argument, NULL, 'c'},
                                            {"threads", required_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    static struct worker worker;
    unsigned long calls = CALLS_DEFAULT, threads = 1;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c')
            calls = number_of(optarg);
        else if (option == 't')
            threads = number_of(optarg);
        else
            return 2;
    }
    if (optind != argc - 1 || calls == 0 || threads == 0 || threads > THREADS_LIMIT)
        return fputs("usage: checks [--calls N] [--threads N] DIRECTORY\n", stderr), 2;
    if (!set_up(&worker, argv[optind]))
        return EXIT_FAILURE;
    const struct task tls13 = {&worker, tls13_message, TLS13_SIZE, calls, false, true};
    const struct task tls12 = {&worker, tls12_message, sizeof(tls12_message), calls, false, true};
    const struct task audit = {&worker, tls13_message, TLS13_SIZE, calls, true, true};
    const double ns[] = {measure(&tls13, (unsigned)threads), measure(&tls12, (unsigned)threads),
                         measure(&audit, (unsigned)threads)};
    printf("{\"tls13\": %.1f, \"tls12\": %.1f, \"audit\": %.1f}\n", ns[0], ns[1], ns[2]);
    return ns[0] > 0 && ns[1] > 0 && ns[2] > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
