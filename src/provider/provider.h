/*
 * The OpenSSL 3 provider "immure": what its files share.
 *
 *     provider.c      start, parameters, tables of algorithms, errors
 *     connection.c    connections to immured: one for each thread, and pipelines for ASYNC jobs
 *     key.c           the key object: public key and name
 *     public_key.c    its public half: from DER to the default provider's key
 *     keymgmt.c       OSSL_OP_KEYMGMT: RSA, EC, ED25519, ML-DSA
 *     signature.c     OSSL_OP_SIGNATURE: signing, by immured
 *     verification.c  OSSL_OP_SIGNATURE: verifying, by the default provider
 *     decryption.c    OSSL_OP_ASYM_CIPHER: decrypting, by immured; encrypting, by the default one
 *     decoder.c       OSSL_OP_DECODER: key references
 *     store.c         OSSL_OP_STORE: immure:NAME and pkcs11: URIs
 *
 * It runs inside other people's programs: it never prints, prompts, aborts or changes signals,
 * holds no private key, and reports through OpenSSL's error queue alone.
 */
#ifndef IMMURE_PROVIDER_PROVIDER_H
#define IMMURE_PROVIDER_PROVIDER_H

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/problem.h"
#include "client/client.h"
#include "wire/message.h"
#include "wire/reference.h"
#include "wire/scheme.h"

/* Reasons in OpenSSL's error queue; their texts are in provider.c. */
enum reason {
    REASON_REFERENCE_DAMAGED = 1,
    REASON_REFERENCE_LABEL,
    REASON_IMMURED_UNREACHABLE,
    REASON_IMMURED_TIMEOUT,
    REASON_IMMURED_PROTOCOL,
    REASON_IMMURED_REFUSED,
    REASON_NOT_EXPORTABLE,
    REASON_UNSUPPORTED,
    REASON_INPUT_SIZE,
    REASON_OUT_OF_MEMORY,
    REASON_NO_PRIVATE_KEY,
    REASON_BAD_PARAMETER,
    REASON_OPENSSL_TOO_OLD,
};

struct connection;

/* NULL until a key is put there, which then stays. */
typedef _Atomic(EVP_PKEY *) pkey_slot;

/* The curves of wire/scheme.h. */
#define GROUP_COUNT 3

/* One for each time that the provider is loaded into a library context. */
struct provider {
    const OSSL_CORE_HANDLE *handle;
    OSSL_FUNC_core_new_error_fn *new_error;
    OSSL_FUNC_core_set_error_debug_fn *set_error_debug;
    OSSL_FUNC_core_vset_error_fn *vset_error;
    OSSL_FUNC_core_thread_start_fn *thread_start;

    /* Our own context with the default provider, for what needs only the public key. */
    OSSL_LIB_CTX *libctx;
    OSSL_PROVIDER *default_provider;

    pkey_slot groups[GROUP_COUNT]; /* keys with a curve alone, to copy */

    char *socket;
    uint32_t timeout_ms;

    bool has_connection_key;            /* 0 is a key of its own, and most likely somebody else's */
    CRYPTO_THREAD_LOCAL connection_key; /* this thread's struct connection */
    _Atomic(struct connection *) connections;
    atomic_int idle_pipelines; /* of those that nobody has taken */

    /* The host's context, or NULL if it runs another libcrypto than ours (a static one). */
    OSSL_LIB_CTX *host;
    atomic_bool others_come_first; /* see let_others_come_first() */
};

/* Adds an error to OpenSSL's queue; `format` becomes its data. */
void provider_raise(const struct provider *provider, enum reason reason, const char *file, int line,
                    const char *function, const char *format, ...) PRINTF(6, 7);
#define PROVIDER_RAISE(provider, reason, ...)                                                      \
    provider_raise(provider, reason, __FILE__, __LINE__, __func__, __VA_ARGS__)

/* --- connection.c --------------------------------------------------------------------------- */

/* Make and free what connection.c keeps in the provider. */
bool connections_init(struct provider *provider) MUST_USE;
void connections_free(struct provider *provider);

/*
 * One request to immured, over this thread's connection or, in an ASYNC job, a pipeline, as
 * client_call(): true, and `*size` bytes in `payload`; or false, with the reason in OpenSSL's
 * error queue, prefixed by `what`. `deadline` is base/clock.h's. With `unknown` not NULL, a
 * WIRE_UNKNOWN_KEY sets it to true and adds no error: the caller goes on.
 */
bool connection_call(struct provider *provider, struct wire_request *request, uint64_t deadline,
                     uint8_t *payload, size_t *size, bool *unknown, const char *what) MUST_USE;

/* --- key.c ---------------------------------------------------------------------------------- */

/*
 * A public key and what names its private key on the wire. Immutable once made and counted, so
 * that any thread may use it (`public` goes from NULL to a key once); holds no descriptor and
 * nothing of the process, so that it may be inherited over fork().
 */
struct key {
    struct provider *provider;
    atomic_int references;
    enum key_type type;
    bool has_private;   /* made from a reference; false: imported public key */
    OSSL_PARAM *params; /* the public key: provider-keymgmt(7)'s, none of them private */
    pkey_slot public;   /* made of them in provider->libctx when it is needed */
    uint8_t id[KEY_ID_SIZE];
    uint8_t *spki; /* DER, for FIND_KEY; NULL if imported */
    size_t spki_size;
    char *name; /* of the reference; NULL if imported */
};

struct key *key_new(struct provider *provider, enum key_type type) MUST_USE;
struct key *key_up_ref(struct key *key);
void key_free(struct key *key); /* one reference; takes NULL */

/* The default provider's key for the public half, which `key` owns; NULL: there is none. */
EVP_PKEY *key_public(const struct key *key) MUST_USE;

/*
 * The key that a DER reference names; or NULL, and what is wrong with it in `*damaged`, where NULL
 * means that the error queue says it.
 */
struct key *key_of_reference(struct provider *provider, const uint8_t *der, size_t size,
                             const char **damaged) MUST_USE;

/*
 * Has immured sign or decrypt `input` with the key: WIRE_SIGN, WIRE_SIGN_DIGEST and a scheme, or
 * WIRE_TLS12_RSA_PREMASTER, WIRE_RSA_DECRYPT and 0. `*size` is the capacity before and the
 * output's size after. On false the error queue says why.
 */
bool key_call(const struct key *key, enum wire_operation operation, uint16_t scheme,
              const uint8_t *input, size_t input_size, uint8_t *output, size_t *size) MUST_USE;

/*
 * What passes from the decoder to keymgmt_load() as an object reference. Not of the size of a
 * pointer, which the default provider would take for one to a key of its own.
 */
struct key_pointer {
    struct key *key;
    char unused[8];
};

/* --- public_key.c --------------------------------------------------------------------------- */

/*
 * A public key as OpenSSL's parameters, which OSSL_PARAM_free() frees: from a DER
 * SubjectPublicKeyInfo, whose outer form alone is checked. NULL: it is none of a supported type.
 */
OSSL_PARAM *public_key_params(const uint8_t *spki, size_t size, enum key_type *type) MUST_USE;

/*
 * Puts the default provider's key of such parameters, which are checked, into the slot and returns
 * what is there then: NULL if they make no key. Any thread.
 */
EVP_PKEY *public_key_make(struct provider *provider, enum key_type type, const OSSL_PARAM *params,
                          pkey_slot *slot) MUST_USE;

/* --- decoder.c ------------------------------------------------------------------------------- */

/*
 * Hands the key of a DER reference to OpenSSL, with its DER, and returns the callback's result.
 * 0 and *damaged as by key_of_reference(): it is no usable reference.
 */
int reference_deliver(struct provider *provider, uint8_t *der, size_t size, OSSL_CALLBACK *callback,
                      void *argument, const char **damaged) MUST_USE;

/* --- OpenSSL's tables ----------------------------------------------------------------------- */

extern const OSSL_ALGORITHM keymgmt_algorithms[], signature_algorithms[], decryption_algorithms[],
    decoder_algorithms[], store_algorithms[];

/* Unique names of our algorithms for signing, and for RSA for decrypting: fetched for our own keys
 * and for no others. */
#define SIGNATURE_NAME_RSA     "IMMURE-RSA"
#define SIGNATURE_NAME_ECDSA   "IMMURE-ECDSA"
#define SIGNATURE_NAME_ED25519 "IMMURE-ED25519"
#define SIGNATURE_NAME_ML_DSA  "IMMURE-ML-DSA"

#define PROPERTIES "provider=immure"

#endif
