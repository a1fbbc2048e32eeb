/*
 * forks ORDER KEY...: forks at different times; parent, children and grandchildren all sign.
 *     before   children are made before the first signature
 *     after    after it, so that they inherit a connection in use; two generations
 *     threads  between the signatures of other threads, whose connections the children inherit
 */
#define _GNU_SOURCE
#include "host.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define CHILDREN 8
/* A child that hangs is ended by SIGALRM, and so is seen to fail. */
#define CHILD_SECONDS 20

static EVP_PKEY *key;
static EVP_PKEY *public_key;
static atomic_bool stop;

/*
 * Held for writing while forking: libcrypto's own locks do not survive a fork() in the middle of
 * another thread's call, with any provider and with a key in a file just the same.
 */
static pthread_rwlock_t in_libcrypto = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static void sign_some(void)
{
    for (int i = 0; i < 20; i++)
        sign_and_verify(key, public_key);
}

static pid_t spawn(void (*work)(void))
{
    pthread_rwlock_wrlock(&in_libcrypto);
    pid_t pid = fork();
    if (pid != 0)
        pthread_rwlock_unlock(&in_libcrypto);
    if (pid == 0) {
        pthread_rwlock_init(&in_libcrypto, NULL); /* its waiters are not here */
        alarm(CHILD_SECONDS);
        work();
        exit(0);
    }
    if (pid < 0)
        die("fork");
    return pid;
}

static void wait_for(pid_t pid)
{
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        die("a child");
}

/* Parent and children sign at the same time. */
static void sign_with_children(void (*work)(void))
{
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        children[i] = spawn(work);
    sign_some();
    for (int i = 0; i < CHILDREN; i++)
        wait_for(children[i]);
}

static void sign_and_fork(void)
{
    sign_some();
    wait_for(spawn(sign_some));
    sign_some();
}

static void *sign_until_stopped(void *unused)
{
    while (!stop) {
        pthread_rwlock_rdlock(&in_libcrypto);
        sign_and_verify(key, public_key);
        pthread_rwlock_unlock(&in_libcrypto);
    }
    return unused;
}

static void fork_while_threads_sign(void)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, sign_until_stopped, NULL) != 0)
            die("pthread_create");
    for (int round = 0; round < 5; round++)
        sign_with_children(sign_some);
    stop = true;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    key = load_key(argv[2]);
    public_key = public_half(key);
    if (strcmp(argv[1], "before") == 0) {
        sign_with_children(sign_some);
    } else if (strcmp(argv[1], "after") == 0) {
        sign_some();
        sign_with_children(sign_and_fork);
    } else {
        fork_while_threads_sign();
    }
    EVP_PKEY_free(public_key);
    EVP_PKEY_free(key);
    return 0;
}
