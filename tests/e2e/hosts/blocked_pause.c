/*
 * blocked_pause KEY: signs within an ASYNC job that must not be paused, and mostly sleeps
 * meanwhile.
 */
#include "host.h"

#include <openssl/async.h>
#include <time.h>

static EVP_PKEY *key;
static EVP_PKEY *public_key;

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int run(void *unused)
{
    (void)unused;
    double start = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
    ASYNC_block_pause();
    sign_and_verify(key, public_key);
    ASYNC_unblock_pause();
    start = seconds(CLOCK_MONOTONIC) - start;
    cpu = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
    printf("%.3f s of CPU in %.3f s\n", cpu, start);
    return cpu < start / 8;
}

int main(int argc, char **argv)
{
    ASYNC_JOB *job = NULL;
    ASYNC_WAIT_CTX *wait = ASYNC_WAIT_CTX_new();
    int slept = 0;
    if (argc != 2 || wait == NULL)
        return 2;
    key = load_key(argv[1]);
    public_key = public_half(key);
    if (ASYNC_start_job(&job, wait, &slept, run, NULL, 0) != ASYNC_FINISH)
        die("finishing the job at once");
    ASYNC_WAIT_CTX_free(wait);
    EVP_PKEY_free(public_key);
    EVP_PKEY_free(key);
    return slept ? 0 : 1;
}
