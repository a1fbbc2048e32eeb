/*
 * first_thread_key: the process's first thread key keeps its value when the provider does not
 * start.
 */
#include "host.h"

#include <openssl/provider.h>
#include <pthread.h>

int main(void)
{
    pthread_key_t first;
    int value;
    if (pthread_key_create(&first, NULL) != 0 || first != 0 ||
        pthread_setspecific(first, &value) != 0)
        die("making the first thread key");
    OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
    if (OSSL_PROVIDER_available(NULL, "immure") != 0)
        die("refusing a bad configuration");
    if (pthread_getspecific(first) != &value)
        die("keeping the host's thread key");
    return 0;
}
