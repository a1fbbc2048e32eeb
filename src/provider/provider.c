#include "provider/provider.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "provider/version.h"

/* The longest time-out that a configuration may set, as immured keeps it. */
#define TIMEOUT_MAX_MS WIRE_DEADLINE_MAX_MS

static OSSL_FUNC_provider_teardown_fn teardown;
static OSSL_FUNC_provider_gettable_params_fn gettable_params;
static OSSL_FUNC_provider_get_params_fn get_params;
static OSSL_FUNC_provider_query_operation_fn query_operation;
static OSSL_FUNC_provider_get_reason_strings_fn get_reason_strings;

static const OSSL_ITEM reason_strings[] = {
    {REASON_REFERENCE_DAMAGED, (void *)"damaged Immure key reference"},
    {REASON_REFERENCE_LABEL, (void *)"wrong PEM label for an Immure key reference"},
    {REASON_IMMURED_UNREACHABLE, (void *)"immured unreachable"},
    {REASON_IMMURED_TIMEOUT, (void *)"immured did not answer in time"},
    {REASON_IMMURED_PROTOCOL, (void *)"unexpected answer from immured"},
    {REASON_IMMURED_REFUSED, (void *)"immured refused"},
    {REASON_NOT_EXPORTABLE, (void *)"the private key is in the HSM and cannot be exported"},
    {REASON_UNSUPPORTED, (void *)"not supported for keys in an HSM"},
    {REASON_INPUT_SIZE, (void *)"wrong size of input"},
    {REASON_OUT_OF_MEMORY, (void *)"out of memory"},
    {REASON_NO_PRIVATE_KEY, (void *)"not a private key"},
    {REASON_BAD_PARAMETER, (void *)"bad parameter"},
    {REASON_OPENSSL_TOO_OLD, (void *)"OpenSSL is too old for the key"},
    {0, NULL},
};

void provider_raise(const struct provider *provider, enum reason reason, const char *file, int line,
                    const char *function, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    provider->new_error(provider->handle);
    provider->set_error_debug(provider->handle, file, line, function);
    provider->vset_error(provider->handle, (uint32_t)reason, format, arguments);
    va_end(arguments);
}

static const OSSL_ITEM *get_reason_strings(void *provctx)
{
    (void)provctx;
    return reason_strings;
}

static const OSSL_PARAM *gettable_params(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_NAME, NULL, 0),
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, NULL, 0),
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_BUILDINFO, NULL, 0),
        OSSL_PARAM_int(OSSL_PROV_PARAM_STATUS, NULL),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return gettable;
}

static int get_params(void *provctx, OSSL_PARAM params[])
{
    static const char *const texts[][2] = {
        {OSSL_PROV_PARAM_NAME, "Immure: keys in an HSM"},
        {OSSL_PROV_PARAM_VERSION, IMMURE_VERSION},
        {OSSL_PROV_PARAM_BUILDINFO, IMMURE_VERSION},
    };
    (void)provctx;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        OSSL_PARAM *param = OSSL_PARAM_locate(params, texts[i][0]);
        if (param != NULL && !OSSL_PARAM_set_utf8_ptr(param, texts[i][1]))
            return 0;
    }
    OSSL_PARAM *status = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS);
    return status == NULL || OSSL_PARAM_set_int(status, 1);
}

/*
 * Fetched by name alone, OpenSSL takes the key management that it met first, and ours neither
 * generates nor imports private keys: met first, it would break "EC" for everybody else. So when
 * we are asked for the first time, we have OpenSSL meet those of all other providers before it
 * gets ours, in whichever order they were activated. False while that goes on.
 */
static bool let_others_come_first(struct provider *provider)
{
    static _Thread_local bool fetching;
    if (fetching)
        return false;
    if (provider->host == NULL ||
        atomic_load_explicit(&provider->others_come_first, memory_order_acquire))
        return true;

    fetching = true;
    ERR_set_mark();
    EVP_KEYMGMT_free(EVP_KEYMGMT_fetch(provider->host, "EC", NULL));
    ERR_pop_to_mark();
    fetching = false;
    atomic_store_explicit(&provider->others_come_first, true, memory_order_release);
    return true;
}

static const OSSL_ALGORITHM *query_operation(void *provctx, int operation, int *no_cache)
{
    *no_cache = 0;
    switch (operation) {
    case OSSL_OP_DECODER:
        return decoder_algorithms;
    case OSSL_OP_STORE:
        return store_algorithms;
    case OSSL_OP_SIGNATURE:
        return signature_algorithms;
    case OSSL_OP_ASYM_CIPHER:
        return decryption_algorithms;
    case OSSL_OP_KEYMGMT:
        if (let_others_come_first(provctx))
            return keymgmt_algorithms;
        *no_cache = 1;
        return NULL;
    default:
        return NULL;
    }
}

static void teardown(void *provctx)
{
    struct provider *provider = provctx;
    if (provider == NULL)
        return;
    connections_free(provider);
    for (size_t i = 0; i < GROUP_COUNT; i++)
        EVP_PKEY_free(atomic_load(&provider->groups[i]));
    if (provider->default_provider != NULL)
        OSSL_PROVIDER_unload(provider->default_provider);
    OSSL_LIB_CTX_free(provider->libctx);
    OPENSSL_free(provider->socket);
    OPENSSL_free(provider);
}

static const OSSL_DISPATCH provider_functions[] = {
    {OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))teardown},
    {OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))gettable_params},
    {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))get_params},
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query_operation},
    {OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, (void (*)(void))get_reason_strings},
    {0, NULL},
};

/* What start() needs of the core, and the other functions do not. */
struct core {
    OSSL_FUNC_core_get_params_fn *get_params;
    OSSL_FUNC_core_get_libctx_fn *get_libctx;
    OSSL_FUNC_CRYPTO_malloc_fn *malloc;
};

static void take_core_functions(struct provider *provider, const OSSL_DISPATCH *in,
                                struct core *core)
{
    for (; in->function_id != 0; in++) {
        switch (in->function_id) {
        case OSSL_FUNC_CORE_NEW_ERROR:
            provider->new_error = OSSL_FUNC_core_new_error(in);
            break;
        case OSSL_FUNC_CORE_SET_ERROR_DEBUG:
            provider->set_error_debug = OSSL_FUNC_core_set_error_debug(in);
            break;
        case OSSL_FUNC_CORE_VSET_ERROR:
            provider->vset_error = OSSL_FUNC_core_vset_error(in);
            break;
        case OSSL_FUNC_CORE_THREAD_START:
            provider->thread_start = OSSL_FUNC_core_thread_start(in);
            break;
        case OSSL_FUNC_CORE_GET_PARAMS:
            core->get_params = OSSL_FUNC_core_get_params(in);
            break;
        case OSSL_FUNC_CORE_GET_LIBCTX:
            core->get_libctx = OSSL_FUNC_core_get_libctx(in);
            break;
        case OSSL_FUNC_CRYPTO_MALLOC:
            core->malloc = OSSL_FUNC_CRYPTO_malloc(in);
            break;
        default:
            break;
        }
    }
}

static bool parse_timeout(struct provider *provider, const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || value == 0 || value > TIMEOUT_MAX_MS) {
        PROVIDER_RAISE(provider, REASON_BAD_PARAMETER,
                       "timeout = %s: give milliseconds from 1 to %d", text, TIMEOUT_MAX_MS);
        return false;
    }
    provider->timeout_ms = (uint32_t)value;
    return true;
}

/*
 * `socket` and `timeout` of the provider's section in openssl.cnf; for the socket, the
 * environment comes second (not for set-user-ID programs) and the built-in path last.
 */
static bool read_configuration(struct provider *provider, OSSL_FUNC_core_get_params_fn *get)
{
    const char *socket = NULL, *timeout = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_ptr("socket", (char **)&socket, 0),
        OSSL_PARAM_utf8_ptr("timeout", (char **)&timeout, 0),
        OSSL_PARAM_END,
    };
    if (get == NULL || !get(provider->handle, params))
        return false;
    if (socket == NULL)
        socket = secure_getenv("IMMURE_SOCKET");
    provider->socket = OPENSSL_strdup(socket != NULL ? socket : IMMURE_SOCKET_DEFAULT);
    provider->timeout_ms = CLIENT_TIMEOUT_DEFAULT_MS;
    return provider->socket != NULL && (timeout == NULL || parse_timeout(provider, timeout));
}

/*
 * OpenSSL 3.0 fills its table of algorithms' names at its first use, and not under a lock: when
 * several threads first use it at once, "EC" and "RSA" may be lost for the life of the process. The
 * question whether a digest without a provider has a name is such a use, and of nothing else. A
 * provider is started by one thread, most often before the host has others.
 */
static void fill_hosts_names(void)
{
    (void)EVP_MD_is_a(EVP_sha256(), "SHA256");
}

static bool start(struct provider *provider, const OSSL_CORE_HANDLE *handle,
                  const OSSL_DISPATCH *in)
{
    struct core core = {0};
    provider->handle = handle;
    take_core_functions(provider, in, &core);
    if (provider->new_error == NULL || provider->set_error_debug == NULL ||
        provider->vset_error == NULL || provider->thread_start == NULL)
        return false;
    if (!read_configuration(provider, core.get_params) || !connections_init(provider))
        return false;
    /* provider-base(7): the core's context is an OSSL_LIB_CTX of ours only in the same library. */
    if (core.get_libctx != NULL && core.malloc == CRYPTO_malloc)
        provider->host = (OSSL_LIB_CTX *)core.get_libctx(handle);
    fill_hosts_names();
    provider->libctx = OSSL_LIB_CTX_new_from_dispatch(handle, in);
    if (provider->libctx == NULL)
        return false;
    provider->default_provider = OSSL_PROVIDER_load(provider->libctx, "default");
    return provider->default_provider != NULL;
}

/* provider(7): the one symbol that OpenSSL looks up in this library. */
__attribute__((visibility("default"))) OSSL_provider_init_fn OSSL_provider_init;

int OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **provctx)
{
    struct provider *provider = OPENSSL_zalloc(sizeof(*provider));
    if (provider == NULL)
        return 0;
    if (!start(provider, handle, in)) {
        teardown(provider);
        return 0;
    }
    *out = provider_functions;
    *provctx = provider;
    return 1;
}
