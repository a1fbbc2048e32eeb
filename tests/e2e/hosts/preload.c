/*
 * For LD_PRELOAD: an OpenSSL as some of nginx's hosts have it, by the environment variable PRELOAD.
 *
 * not capable: it was built without ASYNC jobs
 * no jobs:     it has them, but there is no memory for one
 *
 * Says on standard error when a job begins.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/async.h>

#define BEGINS "a job begins\n"

static int is_asked_for(const char *what)
{
    const char *asked = getenv("PRELOAD");
    return asked != NULL && strcmp(asked, what) == 0;
}

int ASYNC_is_capable(void)
{
    return !is_asked_for("not capable");
}

int ASYNC_start_job(ASYNC_JOB **job, ASYNC_WAIT_CTX *context, int *result, int (*function)(void *),
                    void *arguments, size_t size)
{
    int (*start)(ASYNC_JOB **, ASYNC_WAIT_CTX *, int *, int (*)(void *), void *, size_t);
    if (is_asked_for("no jobs") || is_asked_for("not capable"))
        return ASYNC_NO_JOBS;
    if (*job == NULL && write(STDERR_FILENO, BEGINS, sizeof(BEGINS) - 1) < 0)
        abort();
    *(void **)&start = dlsym(RTLD_NEXT, "ASYNC_start_job");
    return start(job, context, result, function, arguments, size);
}
