/*
 * For LD_PRELOAD: an OpenSSL as some of nginx's hosts have it, by the environment variable PRELOAD.
 *
 * not capable: it was built without ASYNC jobs
 * no jobs:     it has them, but there is no memory for one
 * hello waits: the first time that it is asked, a module's callback for the client's hello has
 *              handshakes wait, and the second time it has them go on
 *
 * Says on standard error when a job begins.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/async.h>
#include <openssl/ssl.h>

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

/* Of nginx, from 1.29 on; comes after the wait. */
static SSL_client_hello_cb_fn own_callback;
static void *own_argument;

static int wait_once(SSL *ssl, int *alert, void *data)
{
    static int asked;
    (void)data;
    if (asked++ == 0)
        return SSL_CLIENT_HELLO_RETRY;
    return own_callback != NULL ? own_callback(ssl, alert, own_argument) : SSL_CLIENT_HELLO_SUCCESS;
}

void SSL_CTX_set_client_hello_cb(SSL_CTX *context, SSL_client_hello_cb_fn callback, void *argument)
{
    void (*set)(SSL_CTX *, SSL_client_hello_cb_fn, void *);
    *(void **)&set = dlsym(RTLD_NEXT, "SSL_CTX_set_client_hello_cb");
    if (!is_asked_for("hello waits")) {
        set(context, callback, argument);
        return;
    }
    own_callback = callback;
    own_argument = argument;
    set(context, wait_once, NULL);
}

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
    SSL_CTX *(*make)(const SSL_METHOD *);
    *(void **)&make = dlsym(RTLD_NEXT, "SSL_CTX_new");
    SSL_CTX *context = make(method);
    if (context != NULL && is_asked_for("hello waits"))
        SSL_CTX_set_client_hello_cb(context, NULL, NULL);
    return context;
}
