#include <openssl/err.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "provider/provider.h"

/* A token that is lost and found makes immured ask again; more than a few times is a fault. */
#define INTRODUCTIONS_MAX 4

struct key *key_new(struct provider *provider, enum key_type type)
{
    struct key *key = OPENSSL_zalloc(sizeof(*key));
    if (key == NULL)
        return NULL;
    key->provider = provider;
    key->type = type;
    atomic_init(&key->references, 1);
    return key;
}

struct key *key_up_ref(struct key *key)
{
    atomic_fetch_add_explicit(&key->references, 1, memory_order_relaxed);
    return key;
}

void key_free(struct key *key)
{
    if (key == NULL || atomic_fetch_sub_explicit(&key->references, 1, memory_order_acq_rel) != 1)
        return;
    EVP_PKEY_free(atomic_load_explicit(&key->public, memory_order_relaxed));
    OSSL_PARAM_free(key->params);
    OPENSSL_free(key->spki);
    OPENSSL_free(key->name);
    OPENSSL_free(key);
}

EVP_PKEY *key_public(const struct key *key)
{
    EVP_PKEY *public = atomic_load_explicit(&key->public, memory_order_acquire);
    if (public != NULL || key->params == NULL)
        return public;
    return public_key_make(key->provider, key->type, key->params, &((struct key *)key)->public);
}

/* Gives the key what a reference has. False: its public key cannot be read. */
static bool fill(struct key *key, struct key_reference *reference)
{
    ERR_set_mark();
    key->params = public_key_params(reference->spki, reference->spki_size, &key->type);
    bool readable = key_public(key) != NULL;
    ERR_pop_to_mark();
    key->has_private = true;
    key->spki = reference->spki;
    key->spki_size = reference->spki_size;
    key->name = reference->name;
    reference->spki = NULL;
    reference->name = NULL;
    return readable;
}

static bool openssl_has_type(const struct key *key)
{
    ERR_set_mark();
    EVP_KEYMGMT *found = EVP_KEYMGMT_fetch(key->provider->libctx, key_type_name(key->type), NULL);
    ERR_pop_to_mark();
    EVP_KEYMGMT_free(found);
    return found != NULL;
}

struct key *key_of_reference(struct provider *provider, const uint8_t *der, size_t size,
                             const char **damaged)
{
    struct key_reference reference;
    *damaged = "it is not the DER of a reference";
    if (!key_reference_decode(der, size, &reference))
        return NULL;

    *damaged = "out of memory";
    struct key *key = key_new(provider, KEY_TYPE_RSA);
    if (key != NULL && key_id_of_spki(reference.spki, reference.spki_size, key->id))
        *damaged = fill(key, &reference) ? NULL : "its public key cannot be read";
    key_reference_clear(&reference);
    if (*damaged == NULL)
        return key;
    if (key != NULL && key->params != NULL && !openssl_has_type(key)) {
        PROVIDER_RAISE(provider, REASON_OPENSSL_TOO_OLD,
                       "'%s' is an %s key, which takes OpenSSL 3.5 or later", key->name,
                       key_type_name(key->type));
        *damaged = NULL;
    }
    key_free(key);
    return NULL;
}

/*
 * Tells immured the public key behind an id that it has not met yet: it then looks for the
 * private key on its tokens. The answer, a reference, says nothing new here.
 */
static bool introduce(const struct key *key, uint64_t deadline, const char *what)
{
    bool found = false;
    size_t size = KEY_REFERENCE_SIZE_MAX;
    uint8_t *answer = OPENSSL_malloc(size);
    uint8_t *payload = OPENSSL_malloc(1 + key->spki_size);
    if (answer != NULL && payload != NULL) {
        payload[0] = WIRE_FIND_PUBLIC_KEY;
        memcpy(payload + 1, key->spki, key->spki_size);
        struct wire_request request = {
            .operation = WIRE_FIND_KEY,
            .payload = payload,
            .payload_size = 1 + key->spki_size,
        };
        memcpy(request.key_id, key->id, KEY_ID_SIZE);
        found = connection_call(key->provider, &request, deadline, answer, &size, NULL, what);
    } else {
        PROVIDER_RAISE(key->provider, REASON_OUT_OF_MEMORY, "%s", what);
    }
    OPENSSL_free(payload);
    OPENSSL_free(answer);
    return found;
}

bool key_call(const struct key *key, enum wire_operation operation, uint16_t scheme,
              const uint8_t *input, size_t input_size, uint8_t *output, size_t *size)
{
    struct wire_request request = {
        .operation = (uint8_t)operation,
        .scheme = scheme,
        .payload = input,
        .payload_size = input_size,
    };
    const char *verb = scheme != 0 ? "signing" : "decrypting";
    char what[KEY_NAME_SIZE_MAX + 32];
    uint64_t deadline = clock_now_ms() + key->provider->timeout_ms;
    size_t capacity = *size;

    snprintf(what, sizeof(what), "%s with key '%s'", verb, key->name);
    memcpy(request.key_id, key->id, KEY_ID_SIZE);
    for (int i = 1; i <= INTRODUCTIONS_MAX; i++) {
        bool unknown = false;
        *size = capacity;
        if (connection_call(key->provider, &request, deadline, output, size,
                            i < INTRODUCTIONS_MAX ? &unknown : NULL, what))
            return true;
        if (!unknown || !introduce(key, deadline, what))
            return false;
    }
    return false;
}
