/*
 * What a signature costs on top of the token's own C_Sign: latency and CPU time of EVP_DigestSign()
 * with a key of Immure's, from 1 or more threads, next to a bare round trip of datagrams of the
 * same size between two processes. The two take turns, so that each pair met the same machine.
 *
 *     OPENSSL_CONF=openssl.cnf signatures [--threads N] [--rounds N] [--immured PID] REFERENCE
 *
 * The token behind immured should do nothing (tests/fault/hsm.c, IMMURE_HSM_KEY). PID is of
 * immured's worker, whose CPU time is counted in. The result is one line of JSON; times are in
 * microseconds, medians over the rounds.
 */
#include <getopt.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX    64
#define ROUNDS_MAX     100
#define ROUND_MS       400
#define CALLS_MAX      200000 /* a thread and round; more are not kept */
#define SIGNATURE_SIZE 1024

/* What TLS 1.3 signs with SHA-256 (RFC 8446 4.4.3), and the datagrams that it makes. */
#define MESSAGE_SIZE 130
#define REQUEST_SIZE (48 + MESSAGE_SIZE)
#define REPLY_SIZE   (16 + 72)

struct caller {
    pthread_t thread;
    bool (*call)(struct caller *);
    uint64_t until;
    float *latencies;
    size_t count;
    int socket; /* of a bare round trip */
    bool failed;
};

struct figures {
    double p50, p99, rate, client_cpu, immured_cpu;
};

static EVP_PKEY *key;
static uint8_t message[MESSAGE_SIZE];
static struct caller callers[THREADS_MAX];

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "signatures: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(EXIT_FAILURE);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- The two things that are measured ------------------------------------------------------- */

/* As libssl does for a handshake. */
static bool sign(struct caller *caller)
{
    uint8_t signature[SIGNATURE_SIZE];
    size_t size = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context != NULL &&
                EVP_DigestSignInit_ex(context, NULL, "SHA256", NULL, NULL, key, NULL) == 1 &&
                EVP_DigestSign(context, signature, &size, message, sizeof(message)) == 1;
    EVP_MD_CTX_free(context);
    (void)caller;
    return good;
}

static bool round_trip(struct caller *caller)
{
    uint8_t datagram[REQUEST_SIZE] = {0};
    return send(caller->socket, datagram, REQUEST_SIZE, 0) == REQUEST_SIZE &&
           recv(caller->socket, datagram, sizeof(datagram), 0) == REPLY_SIZE;
}

static void *answer(void *argument)
{
    int socket = *(int *)argument;
    uint8_t datagram[REQUEST_SIZE];
    while (recv(socket, datagram, sizeof(datagram), 0) == REQUEST_SIZE &&
           send(socket, datagram, REPLY_SIZE, 0) == REPLY_SIZE)
        continue;
    return NULL;
}

/* The other process: a thread for each caller, until the sockets are closed. */
_Noreturn static void answer_all(int *sockets, int count)
{
    pthread_t threads[THREADS_MAX];
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, answer, &sockets[i]) != 0)
            _exit(EXIT_FAILURE);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    _exit(EXIT_SUCCESS);
}

static pid_t start_answering(int count)
{
    int theirs[THREADS_MAX];
    for (int i = 0; i < count; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
            die("socketpair");
        callers[i].socket = pair[0];
        theirs[i] = pair[1];
    }
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    for (int i = 0; i < count; i++)
        close(pid == 0 ? callers[i].socket : theirs[i]);
    if (pid == 0)
        answer_all(theirs, count);
    return pid;
}

/* --- One round ------------------------------------------------------------------------------ */

static void *run(void *argument)
{
    struct caller *caller = argument;
    uint64_t start = now_ns();
    while (start < caller->until && !caller->failed) {
        caller->failed = !caller->call(caller);
        uint64_t end = now_ns();
        if (caller->count < CALLS_MAX)
            caller->latencies[caller->count++] = (float)(end - start) / 1000;
        start = end;
    }
    return NULL;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double own_cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* To the nanosecond where the process has a clock; 0 without a process. */
static double cpu_us_of(pid_t pid)
{
    clockid_t clock;
    struct timespec used;
    if (pid == 0)
        return 0;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        die("no such process as --immured names");
    return (double)used.tv_sec * 1e6 + (double)used.tv_nsec / 1e3;
}

static void sum_up(int threads, float *all, struct figures *figures)
{
    size_t count = 0;
    for (int i = 0; i < threads; i++) {
        if (callers[i].failed)
            die("a call failed");
        memcpy(all + count, callers[i].latencies, callers[i].count * sizeof(*all));
        count += callers[i].count;
    }
    if (count == 0)
        die("no call ended in time");
    qsort(all, count, sizeof(*all), compare_floats);
    figures->p50 = all[count / 2];
    figures->p99 = all[count - 1 - count / 100];
    figures->rate = (double)count * 1000 / ROUND_MS;
    figures->client_cpu /= (double)count;
    figures->immured_cpu /= (double)count;
}

static struct figures measure(bool (*call)(struct caller *), int threads, pid_t immured, float *all)
{
    struct figures figures = {.client_cpu = -own_cpu_us(), .immured_cpu = -cpu_us_of(immured)};
    uint64_t until = now_ns() + (uint64_t)ROUND_MS * 1000000;
    for (int i = 0; i < threads; i++) {
        callers[i].call = call;
        callers[i].until = until;
        callers[i].count = 0;
        if (pthread_create(&callers[i].thread, NULL, run, &callers[i]) != 0)
            die("pthread_create");
    }
    for (int i = 0; i < threads; i++)
        pthread_join(callers[i].thread, NULL);
    figures.client_cpu += own_cpu_us();
    figures.immured_cpu += cpu_us_of(immured);
    sum_up(threads, all, &figures);
    return figures;
}

/* --- All rounds ----------------------------------------------------------------------------- */

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof(*values), compare_doubles);
    return values[count / 2];
}

/* The median over the rounds of the figure that stands at this place in struct figures. */
static double median_of(const struct figures *rounds, int count, size_t offset)
{
    double values[ROUNDS_MAX] = {0};
    for (int i = 0; i < count; i++)
        memcpy(&values[i], (const char *)&rounds[i] + offset, sizeof(double));
    return median(values, count);
}

static void print_figures(const char *name, const struct figures *rounds, int count)
{
    static const struct {
        const char *name;
        size_t offset;
    } columns[] = {
        {"p50", offsetof(struct figures, p50)},
        {"p99", offsetof(struct figures, p99)},
        {"rate", offsetof(struct figures, rate)},
        {"client_cpu", offsetof(struct figures, client_cpu)},
        {"immured_cpu", offsetof(struct figures, immured_cpu)},
    };
    printf("\"%s\": {", name);
    for (size_t i = 0; i < sizeof(columns) / sizeof(*columns); i++)
        printf("%s\"%s\": %.1f", i == 0 ? "" : ", ", columns[i].name,
               median_of(rounds, count, columns[i].offset));
    printf("}, ");
}

static void measure_all(int threads, int count, pid_t immured)
{
    struct figures bare[ROUNDS_MAX], signing[ROUNDS_MAX];
    double ratios[ROUNDS_MAX] = {0};
    float *all = calloc((size_t)threads * CALLS_MAX, sizeof(*all));
    for (int i = 0; i < threads; i++)
        callers[i].latencies = calloc(CALLS_MAX, sizeof(float));
    if (all == NULL || callers[threads - 1].latencies == NULL)
        die("out of memory");
    measure(sign, threads, immured, all); /* connections are made */
    for (int i = 0; i < count; i++) {
        bare[i] = measure(round_trip, threads, 0, all);
        signing[i] = measure(sign, threads, immured, all);
        ratios[i] = signing[i].p50 / bare[i].p50;
    }
    printf("{\"threads\": %d, ", threads);
    print_figures("round_trip", bare, count);
    print_figures("signature", signing, count);
    printf("\"p50_ratio\": %.2f}\n", median(ratios, count));
}

static EVP_PKEY *load_key(const char *path)
{
    BIO *file = BIO_new_file(path, "r");
    EVP_PKEY *loaded = file != NULL ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;
    BIO_free(file);
    if (loaded == NULL)
        die("cannot load the key");
    return loaded;
}

static void make_message(void)
{
    static const char context[] = "TLS 1.3, server CertificateVerify"; /* with its NUL */
    memset(message, ' ', 64);
    memcpy(message + 64, context, sizeof(context));
}

/* A number from 1 to `max`, or the end. */
static int number(const char *text, int max)
{
    long value = strtol(text, NULL, 10);
    if (value < 1 || value > max)
        die("a number is missing or out of range");
    return (int)value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"threads", required_argument, NULL, 't'},
        {"rounds", required_argument, NULL, 'r'},
        {"immured", required_argument, NULL, 'i'},
        {NULL, 0, NULL, 0},
    };
    int threads = 1, rounds = 9, option;
    pid_t immured = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == '?')
            return 2;
        *(option == 't'   ? &threads
          : option == 'r' ? &rounds
                          : &immured) = number(optarg, option == 't'   ? THREADS_MAX
                                                       : option == 'r' ? ROUNDS_MAX
                                                                       : INT32_MAX);
    }
    if (optind + 1 != argc) {
        fprintf(stderr, "usage: signatures [--threads N] [--rounds N] [--immured PID] REFERENCE\n");
        return 2;
    }
    pid_t answering = start_answering(threads); /* before OpenSSL has any state */
    make_message();
    key = load_key(argv[optind]);
    measure_all(threads, rounds, immured);
    kill(answering, SIGTERM);
    waitpid(answering, NULL, 0);
    return 0;
}
