/*
 * first_keys KEY THREADS: so many threads load the process's first key at the same time.
 */
#include "host.h"

#include <pthread.h>

static const char *uri;
static pthread_barrier_t together;

static void *run(void *unused)
{
    pthread_barrier_wait(&together);
    EVP_PKEY_free(load_key(uri));
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    int count = argc == 3 ? atoi(argv[2]) : 0;
    if (count < 1 || count > 64 || pthread_barrier_init(&together, NULL, (unsigned)count) != 0)
        return 2;
    uri = argv[1];
    OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, run, NULL) != 0)
            die("pthread_create");
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
