/*
 * reloads CERTIFICATE KEY COUNT [OPENSSL_CONF]: loads a server's configuration so many times, as
 * a server does that is reloaded. With OPENSSL_CONF each load is into a library context of its
 * own, with its own copy of the provider. Fails when memory goes on growing.
 */
#include "host.h"

#include <malloc.h>
#include <openssl/ssl.h>

/* The first third of the loads fills OpenSSL's caches. After it nothing may stay. */
#define WARM_UP(count) ((count) / 3)
/* The caches' last gains; over 2,000 loads less than any object that could be left behind. */
#define GROWTH_MAX 65536

static void load(const char *certificate, const char *key, const char *conf)
{
    OSSL_LIB_CTX *library = NULL;
    if (conf != NULL) {
        library = OSSL_LIB_CTX_new();
        if (library == NULL || OSSL_LIB_CTX_load_config(library, conf) != 1)
            die(conf);
    }
    SSL_CTX *context = SSL_CTX_new_ex(library, NULL, TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1)
        die("loading the configuration");
    SSL_CTX_free(context);
    OSSL_LIB_CTX_free(library);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    size_t before = 0;
    int count = atoi(argv[3]);
    for (int i = 0; i < count; i++) {
        if (i == WARM_UP(count))
            before = mallinfo2().uordblks;
        load(argv[1], argv[2], argv[4]);
    }
    size_t after = mallinfo2().uordblks;
    printf("%zu bytes before, %zu after\n", before, after);
    return after > before + GROWTH_MAX;
}
