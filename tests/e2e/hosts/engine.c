/*
 * engine ID LOADS: threads load a key from the engine at the same time, so often, and sign with it;
 * then a child process does. Nothing else of OpenSSL is used before.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "host.h"

#include <openssl/engine.h>
#include <pthread.h>

#define THREADS 8

static ENGINE *engine;
static const char *id;
static int loads;

static void *load_and_sign(void *unused)
{
    for (int i = 0; i < loads; i++) {
        EVP_PKEY *key = ENGINE_load_private_key(engine, id, NULL, NULL);
        if (key == NULL || ERR_peek_error() != 0)
            die("loading with a clean error queue");
        EVP_PKEY *public_key = public_half(key);
        sign_and_verify(key, public_key);
        EVP_PKEY_free(public_key);
        EVP_PKEY_free(key);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    if (argc != 3)
        return 2;
    id = argv[1];
    loads = atoi(argv[2]);
    engine = ENGINE_by_id("immure");
    if (engine == NULL || ENGINE_init(engine) != 1)
        die("finding the engine");
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, load_and_sign, NULL) != 0)
            die("pthread_create");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);

    pid_t child = fork();
    if (child == 0) {
        load_and_sign(NULL);
        exit(0);
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        die("the child");
    load_and_sign(NULL);
    ENGINE_finish(engine);
    ENGINE_free(engine);
    return 0;
}
