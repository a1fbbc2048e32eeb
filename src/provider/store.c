/*
 * Store loader (provider-storemgmt(7)) for immure:NAME and pkcs11: URIs (RFC 7512): asks immured
 * for the key and hands the answer, a key reference, to our decoder.
 */
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/params.h>
#include <openssl/store.h>
#include <string.h>

#include "base/clock.h"
#include "provider/provider.h"

#define SCHEME_IMMURE "immure:"

/* Longer than any RFC 7512 URI in use. */
#define URI_SIZE_MAX 2048

static OSSL_FUNC_store_open_fn store_open;
static OSSL_FUNC_store_settable_ctx_params_fn store_settable;
static OSSL_FUNC_store_set_ctx_params_fn store_set;
static OSSL_FUNC_store_load_fn store_load;
static OSSL_FUNC_store_eof_fn store_eof;
static OSSL_FUNC_store_close_fn store_close;

struct store {
    struct provider *provider;
    char *uri;
    bool done;
};

static void *store_open(void *provctx, const char *uri)
{
    struct provider *provider = provctx;
    if (strlen(uri) > URI_SIZE_MAX) {
        PROVIDER_RAISE(provider, REASON_INPUT_SIZE, "a URI of over %d bytes", URI_SIZE_MAX);
        return NULL;
    }
    struct store *store = OPENSSL_zalloc(sizeof(*store));
    if (store == NULL)
        return NULL;
    store->provider = provider;
    store->uri = OPENSSL_strdup(uri);
    if (store->uri == NULL) {
        OPENSSL_free(store);
        return NULL;
    }
    return store;
}

static const OSSL_PARAM *store_settable(void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_int(OSSL_STORE_PARAM_EXPECT, NULL),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return settable;
}

/* Where something else than a key is expected (a certificate, say), there is nothing to load. */
static int store_set(void *context, const OSSL_PARAM params[])
{
    struct store *store = context;
    const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, OSSL_STORE_PARAM_EXPECT);
    int expected = 0;
    if (param == NULL)
        return 1;
    if (!OSSL_PARAM_get_int(param, &expected))
        return 0;
    if (expected != 0 && expected != OSSL_STORE_INFO_PKEY)
        store->done = true;
    return 1;
}

static bool find(const struct store *store, uint8_t *reference, size_t *size)
{
    uint8_t payload[1 + URI_SIZE_MAX];
    char what[URI_SIZE_MAX + 16];
    bool by_name = OPENSSL_strncasecmp(store->uri, SCHEME_IMMURE, strlen(SCHEME_IMMURE)) == 0;
    const char *text = by_name ? store->uri + strlen(SCHEME_IMMURE) : store->uri;

    payload[0] = by_name ? WIRE_FIND_NAME : WIRE_FIND_PKCS11_URI;
    memcpy(payload + 1, text, strlen(text)); /* checked in store_open() */
    struct wire_request request = {
        .operation = WIRE_FIND_KEY,
        .payload = payload,
        .payload_size = 1 + strlen(text),
    };
    snprintf(what, sizeof(what), "loading %s", store->uri);
    uint64_t deadline = clock_now_ms() + store->provider->timeout_ms;
    return connection_call(store->provider, &request, deadline, reference, size, NULL, what);
}

static int store_load(void *context, OSSL_CALLBACK *callback, void *argument,
                      OSSL_PASSPHRASE_CALLBACK *passphrase, void *pass_argument)
{
    struct store *store = context;
    uint8_t reference[KEY_REFERENCE_SIZE_MAX];
    size_t size = sizeof(reference);
    const char *damaged;
    (void)passphrase;
    (void)pass_argument;

    store->done = true;
    if (!find(store, reference, &size))
        return 0;
    int result = reference_deliver(store->provider, reference, size, callback, argument, &damaged);
    if (damaged != NULL)
        PROVIDER_RAISE(store->provider, REASON_IMMURED_PROTOCOL, "%s: %s", store->uri, damaged);
    return result;
}

static int store_eof(void *context)
{
    return ((struct store *)context)->done;
}

static int store_close(void *context)
{
    struct store *store = context;
    OPENSSL_free(store->uri);
    OPENSSL_free(store);
    return 1;
}

static const OSSL_DISPATCH store_functions[] = {
    {OSSL_FUNC_STORE_OPEN, (void (*)(void))store_open},
    {OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS, (void (*)(void))store_settable},
    {OSSL_FUNC_STORE_SET_CTX_PARAMS, (void (*)(void))store_set},
    {OSSL_FUNC_STORE_LOAD, (void (*)(void))store_load},
    {OSSL_FUNC_STORE_EOF, (void (*)(void))store_eof},
    {OSSL_FUNC_STORE_CLOSE, (void (*)(void))store_close},
    {0, NULL},
};

const OSSL_ALGORITHM store_algorithms[] = {
    {"immure", PROPERTIES, store_functions, "keys by name"},
    {"pkcs11", PROPERTIES, store_functions, "keys by RFC 7512 URI"},
    {NULL, NULL, NULL, NULL},
};
