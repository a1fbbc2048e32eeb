#include "cli/key_object.h"

#include <openssl/core_names.h>
#include <openssl/err.h>

#include "base/secret.h"
#include "token/quirks.h"

/* ML-DSA-87's private key (FIPS 204 table 2); all numbers of an RSA-4096 key are fewer bytes. */
#define PLAIN_BYTES_MAX 4896

enum token_error openssl_failed(const char *what, struct problem *problem)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    problem_set(problem, 0, "%s: %s", what, reason != NULL ? reason : "OpenSSL gives no reason");
    ERR_clear_error();
    return TOKEN_FAILED;
}

void template_add_private_key(const struct key_pair *pair, const struct key_kind *kind, bool all,
                              struct template *template)
{
    static const CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    template_add(template, CKA_CLASS, &class, sizeof(class));
    template_add(template, CKA_KEY_TYPE, &kind->key_type, sizeof(kind->key_type));
    template_add_private(template, pair->decrypts, all);
    key_pair_add_names(pair, template);
}

/* --- In plain -------------------------------------------------------------------------------- */

static const struct {
    const char *param;
    CK_ATTRIBUTE_TYPE type;
} rsa_numbers[] = {
    {OSSL_PKEY_PARAM_RSA_N, CKA_MODULUS},
    {OSSL_PKEY_PARAM_RSA_E, CKA_PUBLIC_EXPONENT},
    {OSSL_PKEY_PARAM_RSA_D, CKA_PRIVATE_EXPONENT},
    {OSSL_PKEY_PARAM_RSA_FACTOR1, CKA_PRIME_1},
    {OSSL_PKEY_PARAM_RSA_FACTOR2, CKA_PRIME_2},
    {OSSL_PKEY_PARAM_RSA_EXPONENT1, CKA_EXPONENT_1},
    {OSSL_PKEY_PARAM_RSA_EXPONENT2, CKA_EXPONENT_2},
    {OSSL_PKEY_PARAM_RSA_COEFFICIENT1, CKA_COEFFICIENT},
};
/* The first of them make the public key. */
#define RSA_PUBLIC_NUMBERS 2

/* The bytes that a template's attributes point to. */
struct number_store {
    uint8_t bytes[PLAIN_BYTES_MAX];
    size_t used;
};

/* Adds a number, big-endian, at least `width` bytes long. */
static bool add_number(const EVP_PKEY *pkey, const char *param, CK_ATTRIBUTE_TYPE type, int width,
                       struct number_store *store, struct template *template)
{
    BIGNUM *number = NULL;
    if (EVP_PKEY_get_bn_param(pkey, param, &number) != 1)
        return false;
    int size = BN_num_bytes(number) > width ? BN_num_bytes(number) : width;
    uint8_t *at = store->bytes + store->used;
    bool fits = (size_t)size <= sizeof(store->bytes) - store->used &&
                BN_bn2binpad(number, at, size) == size;
    BN_clear_free(number);
    if (!fits)
        return false;
    template_add(template, type, at, (size_t)size);
    store->used += (size_t)size;
    return true;
}

static bool add_rsa_numbers(const EVP_PKEY *pkey, size_t count, struct number_store *store,
                            struct template *template)
{
    for (size_t i = 0; i < count; i++) {
        if (!add_number(pkey, rsa_numbers[i].param, rsa_numbers[i].type, 0, store, template))
            return false;
    }
    return true;
}

static void add_params(const struct key_pair *pair, const struct key_kind *kind,
                       struct template *template)
{
    template_add(template, kind->params_type, kind->params[pair->params],
                 kind->params_sizes[pair->params]);
}

static bool add_private_numbers(const struct key_pair *pair, const EVP_PKEY *pkey,
                                const struct key_kind *kind, struct number_store *store,
                                struct template *template)
{
    if (kind->type == KEY_TYPE_RSA)
        return add_rsa_numbers(pkey, ARRAY_SIZE(rsa_numbers), store, template);
    add_params(pair, kind, template);
    if (kind->type == KEY_TYPE_EC)
        return add_number(pkey, OSSL_PKEY_PARAM_PRIV_KEY, CKA_VALUE, (int)(kind->bits + 7) / 8,
                          store, template);
    size_t size = sizeof(store->bytes);
    if (EVP_PKEY_get_raw_private_key(pkey, store->bytes, &size) != 1)
        return false;
    template_add(template, CKA_VALUE, store->bytes, size);
    return true;
}

static enum token_error create_private(struct key_pair *pair, const struct key_kind *kind,
                                       const EVP_PKEY *pkey, struct number_store *store,
                                       struct problem *problem)
{
    CK_RV rv = CKR_OK;
    for (int all = 1; all >= 0; all--) {
        struct template template = {0};
        store->used = 0;
        template_add_private_key(pair, kind, all == 1, &template);
        if (!add_private_numbers(pair, pkey, kind, store, &template))
            return openssl_failed("reading the private key's numbers", problem);
        rv = pair->session.functions->C_CreateObject(pair->session.handle, template.attributes,
                                                     template.count, &pair->private_handle);
        rv = key_pair_made(rv, &pair->private_handle);
        if (!template_refused(rv))
            break;
    }
    return rv == CKR_OK ? TOKEN_OK
                        : token_error_of(pair->token, rv, "creating the private key", problem);
}

enum token_error key_object_create_private(struct key_pair *pair, const struct key_kind *kind,
                                           const EVP_PKEY *pkey, struct problem *problem)
{
    struct number_store *store = secret_alloc(sizeof(*store));
    if (store == NULL)
        return problem_set(problem, TOKEN_FAILED,
                           "no locked memory for the key; raise RLIMIT_MEMLOCK (ulimit -l)");
    enum token_error error = create_private(pair, kind, pkey, store, problem);
    secret_free(store, sizeof(*store));
    return error;
}

/* --- Public key ------------------------------------------------------------------------------ */

static bool add_point(const EVP_PKEY *pkey, enum quirk_point_form form, struct number_store *store,
                      struct template *template)
{
    uint8_t point[QUIRK_POINT_SIZE_MAX];
    size_t size = 0;
    if (EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point),
                                        &size) != 1)
        return false;
    size = quirk_point_write(form, point, size, store->bytes);
    if (size == 0)
        return false;
    template_add(template, CKA_EC_POINT, store->bytes, size);
    return true;
}

/* FIPS 204 5.3 */
static bool add_bytes(const EVP_PKEY *pkey, struct number_store *store, struct template *template)
{
    size_t size = sizeof(store->bytes);
    if (EVP_PKEY_get_raw_public_key(pkey, store->bytes, &size) != 1)
        return false;
    template_add(template, CKA_VALUE, store->bytes, size);
    return true;
}

static bool add_public_numbers(const struct key_pair *pair, const EVP_PKEY *pkey,
                               const struct key_kind *kind, enum quirk_point_form form,
                               struct number_store *store, struct template *template)
{
    if (kind->type == KEY_TYPE_RSA)
        return add_rsa_numbers(pkey, RSA_PUBLIC_NUMBERS, store, template);
    add_params(pair, kind, template);
    if (key_type_is_ml_dsa(kind->type))
        return add_bytes(pkey, store, template);
    return add_point(pkey, form, store, template);
}

/* False: OpenSSL failed; *rv is the token's answer otherwise. */
static bool create_public_once(struct key_pair *pair, const struct key_kind *kind,
                               const EVP_PKEY *pkey, enum quirk_point_form form, bool all,
                               CK_RV *rv)
{
    static const CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    struct number_store store = {.used = 0};
    struct template template = {0};
    template_add(&template, CKA_CLASS, &class, sizeof(class));
    template_add(&template, CKA_KEY_TYPE, &kind->key_type, sizeof(kind->key_type));
    template_add_public(&template, pair->decrypts, all);
    key_pair_add_names(pair, &template);
    if (!add_public_numbers(pair, pkey, kind, form, &store, &template))
        return false;
    *rv = pair->session.functions->C_CreateObject(pair->session.handle, template.attributes,
                                                  template.count, &pair->public_handle);
    *rv = key_pair_made(*rv, &pair->public_handle);
    return true;
}

/* In the order in which they are tried. */
static const struct {
    bool all;
    enum quirk_point_form form;
} public_variants[] = {
    {true, POINT_OCTET_STRING},
    {false, POINT_OCTET_STRING},
    {true, POINT_RAW},
    {false, POINT_RAW},
};

/* With one of the kind's ways to name the curve. *rv as by create_public_once(). */
static bool create_public_with(struct key_pair *pair, const struct key_kind *kind,
                               const EVP_PKEY *pkey, CK_RV *first, CK_RV *rv)
{
    for (size_t i = 0; i < ARRAY_SIZE(public_variants); i++) {
        if (!create_public_once(pair, kind, pkey, public_variants[i].form, public_variants[i].all,
                                rv))
            return false;
        if (!template_refused(*rv))
            break;
        *first = *first == CKR_OK ? *rv : *first;
    }
    return true;
}

/* The first refusal is the one that tells; the others are of what was tried instead. */
enum token_error key_object_create_public(struct key_pair *pair, const struct key_kind *kind,
                                          const EVP_PKEY *pkey, struct problem *problem)
{
    CK_RV first = CKR_OK, rv = CKR_GENERAL_ERROR;
    for (size_t i = 0; i < KEY_KIND_PARAMS_MAX && template_refused(rv); i++) {
        if (i > 0 && kind->params[i] == NULL)
            break;
        pair->params = i;
        if (!create_public_with(pair, kind, pkey, &first, &rv))
            return openssl_failed("reading the public key's numbers", problem);
    }
    if (!template_refused(rv))
        return rv == CKR_OK ? TOKEN_OK
                            : token_error_of(pair->token, rv, "creating the public key", problem);
    pair->params = 0;
    token_error_of(pair->token, first, "creating the public key", &pair->refusal);
    return TOKEN_OK;
}
