/*
 * threads KEY THREADS SIGNATURES: so many threads sign with one key at the same time.
 */
#include "host.h"

#include <pthread.h>

static EVP_PKEY *key;
static EVP_PKEY *public_key;
static int signatures;

static void *run(void *unused)
{
    for (int i = 0; i < signatures; i++)
        sign_and_verify(key, public_key);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    int count = argc == 4 ? atoi(argv[2]) : 0;
    if (count < 1 || count > 64)
        return 2;
    signatures = atoi(argv[3]);
    key = load_key(argv[1]);
    public_key = public_half(key);
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, run, NULL) != 0)
            die("pthread_create");
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    EVP_PKEY_free(public_key);
    EVP_PKEY_free(key);
    return 0;
}
