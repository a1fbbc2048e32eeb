/*
 * The OpenSSL engine "immure": for configurations written for engines, such as nginx's
 *
 *     ssl_engine immure;
 *     ssl_certificate_key engine:immure:www;
 *
 * All of the work is the provider's. The engine loads it into the host's library context, unless
 * it is there, and hands out the provider's own key; it has no methods, keys or connections, so
 * there is nothing of it to inherit over fork() or to end. Any thread may call it.
 *
 * As the provider, it never prints, prompts or aborts, and reports through OpenSSL's error queue.
 */
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/engine.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "immure" /* the engine's, the provider's, and the scheme of its URIs */

/* A path, or what is shorter: a key's name or an RFC 7512 URI. */
#define URI_SIZE_MAX PATH_MAX

/* --- The provider --- */

/*
 * Tells OpenSSL where the provider is, without activating it: loading by name looks into OpenSSL's
 * own modules directory, which is not ours under another prefix. An entry that the host's own
 * configuration has made comes first.
 */
static bool add_provider_path(void)
{
    static const char text[] = "openssl_conf = init\n[init]\nproviders = providers\n"
                               "[providers]\n" NAME " = provider\n"
                               "[provider]\nmodule = " IMMURE_PROVIDER_PATH "\n";
    BIO *bio = BIO_new_mem_buf(text, -1);
    CONF *conf = NCONF_new(NULL);
    bool added = bio != NULL && conf != NULL && NCONF_load_bio(conf, bio, NULL) > 0 &&
                 CONF_modules_load(conf, NULL, 0) > 0;
    NCONF_free(conf);
    BIO_free(bio);
    return added;
}

/*
 * It stays loaded until the process ends: keys of it may be in use. "default" stays active where it
 * was so by itself.
 */
static bool load_provider(void)
{
    const bool retain_fallbacks = true;
    if (OSSL_PROVIDER_available(NULL, NAME))
        return true;
    if (secure_getenv("OPENSSL_MODULES") == NULL && !add_provider_path())
        return false;
    if (OSSL_PROVIDER_try_load(NULL, NAME, retain_fallbacks) != NULL)
        return true;
    ERR_raise_data(ERR_LIB_ENGINE, ENGINE_R_FAILED_LOADING_PRIVATE_KEY,
                   "the OpenSSL provider immure cannot be loaded: is it installed as %s, or in the "
                   "directory that OPENSSL_MODULES names?",
                   IMMURE_PROVIDER_PATH);
    return false;
}

/* --- Keys --- */

static bool is_path(const char *id)
{
    return id[0] == '/';
}

static bool has_scheme(const char *id, const char *scheme)
{
    size_t size = strlen(scheme);
    return OPENSSL_strncasecmp(id, scheme, size) == 0 && id[size] == ':';
}

static bool is_of_provider(const EVP_PKEY *key)
{
    const OSSL_PROVIDER *provider = EVP_PKEY_get0_provider(key);
    return provider != NULL && strcmp(OSSL_PROVIDER_get0_name(provider), NAME) == 0;
}

/*
 * The first key that OSSL_STORE finds. It asks nobody for a pass phrase. Another provider may know
 * pkcs11: URIs, too, so ours is preferred; not more, as OpenSSL 3.5 then finds no decoder.
 */
static EVP_PKEY *open_uri(const char *uri)
{
    const char *properties = "?provider=" NAME;
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex(uri, NULL, properties, NULL, NULL, NULL, NULL, NULL);
    if (store == NULL)
        return NULL;
    OSSL_STORE_INFO *info =
        OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY) ? OSSL_STORE_load(store) : NULL;
    EVP_PKEY *key = info != NULL ? OSSL_STORE_INFO_get1_PKEY(info) : NULL;
    OSSL_STORE_INFO_free(info);
    OSSL_STORE_close(store);
    return key;
}

/* The provider's key that `id` names: as a path of a reference, a URI, or else a key's name. */
static EVP_PKEY *open_key(const char *id)
{
    char uri[URI_SIZE_MAX];
    bool is_name = !is_path(id) && !has_scheme(id, NAME) && !has_scheme(id, "pkcs11");
    int size = snprintf(uri, sizeof(uri), "%s%s", is_name ? NAME ":" : "", id);
    if (size < 0 || (size_t)size >= sizeof(uri)) {
        ERR_raise_data(ERR_LIB_ENGINE, ENGINE_R_INVALID_ARGUMENT, "an id of over %d bytes",
                       URI_SIZE_MAX);
        return NULL;
    }

    EVP_PKEY *key = open_uri(uri);
    if (key != NULL && is_of_provider(key))
        return key;
    EVP_PKEY_free(key);
    if (is_path(id))
        ERR_raise_data(ERR_LIB_ENGINE, ENGINE_R_FAILED_LOADING_PRIVATE_KEY,
                       "no key reference in %s: immure key reference NAME -o FILE makes one", id);
    return NULL;
}

/*
 * For private and public keys: the provider's have both halves. Until a first key is loaded it is
 * one thread at a time: OpenSSL calls a provider available a moment before it can be fetched from.
 * A fork() meanwhile is as one inside libcrypto.
 */
static EVP_PKEY *load_key(ENGINE *engine, const char *id, UI_METHOD *ui, void *ui_data)
{
    static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER;
    static atomic_bool loaded;
    (void)engine;
    (void)ui;
    (void)ui_data;
    if (id == NULL) {
        ERR_raise(ERR_LIB_ENGINE, ERR_R_PASSED_NULL_PARAMETER);
        return NULL;
    }
    bool alone = !loaded;
    if (alone)
        pthread_mutex_lock(&first);
    EVP_PKEY *key = load_provider() ? open_key(id) : NULL;
    loaded = loaded || key != NULL;
    if (alone)
        pthread_mutex_unlock(&first);
    return key;
}

/* --- What OpenSSL looks up in this library --- */

__attribute__((visibility("default"))) unsigned long v_check(unsigned long version);
__attribute__((visibility("default"))) int bind_engine(ENGINE *engine, const char *id,
                                                       const dynamic_fns *host);

unsigned long v_check(unsigned long version)
{
    return version >= OSSL_DYNAMIC_OLDEST ? OSSL_DYNAMIC_VERSION : 0;
}

/*
 * Refuses a host with another libcrypto than ours (a static one), whose ENGINE is not one of ours.
 *
 * OpenSSL loads keys only from an engine that has been initialised. nginx leaves that to
 * ENGINE_set_default(), which does it for each method that the engine has; as this one has none,
 * it takes the reference itself, for as long as the process lives.
 */
int bind_engine(ENGINE *engine, const char *id, const dynamic_fns *host)
{
    return host->static_state == ENGINE_get_static_state() &&
           (id == NULL || strcmp(id, NAME) == 0) && ENGINE_set_id(engine, NAME) &&
           ENGINE_set_name(engine, "Immure: keys in an HSM") &&
           ENGINE_set_load_privkey_function(engine, load_key) &&
           ENGINE_set_load_pubkey_function(engine, load_key) && ENGINE_init(engine);
}
