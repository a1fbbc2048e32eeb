#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "token/internal.h"
#include "token/object.h"
#include "token/public_key.h"
#include "wire/reference.h"

/* Bytes that are not NUL-terminated; `bytes` NULL: anything fits. */
struct wanted {
    const void *bytes;
    size_t size;
};

struct search {
    struct token *token;
    const struct token_session *session;
    const struct token_key_query *query;
    struct wanted query_label, uri_label, uri_id;
    token_key_callback *callback;
    void *context;
    uint64_t sessions; /* token_sessions_opened() */
    unsigned unusable;
    bool matched;             /* a key was called back */
    bool stopped;             /* by the callback */
    struct public_key *other; /* NULL, or is set to a key of its type that is not query->spki */
};

static const struct {
    CK_KEY_TYPE pkcs11;
    enum key_type type;
} key_types[] = {
    {CKK_RSA, KEY_TYPE_RSA},
    {CKK_EC, KEY_TYPE_EC},
    {CKK_EC_EDWARDS, KEY_TYPE_ED25519},
    {CKK_ML_DSA, KEY_TYPE_ML_DSA_44},
    {CKK_ML_DSA, KEY_TYPE_ML_DSA_65},
    {CKK_ML_DSA, KEY_TYPE_ML_DSA_87},
};

static CK_KEY_TYPE pkcs11_key_type(enum key_type type)
{
    for (size_t i = 0; i < ARRAY_SIZE(key_types); i++) {
        if (key_types[i].type == type)
            return key_types[i].pkcs11;
    }
    return CK_UNAVAILABLE_INFORMATION;
}

/* --- Public keys of objects ------------------------------------------------------------------ */

/* What an object shows of its public key. No spki: not enough; no group: not even the curve. */
struct shown {
    const struct group *group; /* EC and Ed25519 only */
    struct public_key key;
};

static CK_RV read_rsa(const struct token_session *session, CK_OBJECT_HANDLE handle,
                      struct shown *shown)
{
    uint8_t modulus[RSA_BITS_MAX / 8 + 1], exponent[RSA_EXPONENT_SIZE_MAX];
    CK_ATTRIBUTE attributes[] = {
        {CKA_MODULUS, modulus, sizeof(modulus)},
        {CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)},
    };
    memset(modulus, 0, sizeof(modulus));
    memset(exponent, 0, sizeof(exponent));
    CK_RV rv = object_read(session, handle, attributes, ARRAY_SIZE(attributes));
    if (rv == CKR_OK && !public_key_of_rsa(modulus, attributes[0].ulValueLen, exponent,
                                           attributes[1].ulValueLen, &shown->key))
        shown->key.spki_size = 0;
    return rv;
}

static CK_RV read_ec(const struct token_session *session, CK_OBJECT_HANDLE handle, CK_KEY_TYPE type,
                     struct shown *shown)
{
    uint8_t params[32] = {0}, value[QUIRK_POINT_SIZE_MAX] = {0};
    CK_ATTRIBUTE attributes[] = {
        {CKA_EC_PARAMS, params, sizeof(params)},
        {CKA_EC_POINT, value, sizeof(value)},
    };
    CK_RV rv = object_read(session, handle, attributes, ARRAY_SIZE(attributes));
    if (rv != CKR_OK)
        return rv;
    shown->group = quirk_group(params, attributes[0].ulValueLen);
    if (shown->group == NULL || pkcs11_key_type(shown->group->type) != type) {
        shown->group = NULL;
        return CKR_OK;
    }
    const uint8_t *point = quirk_point(shown->group, value, attributes[1].ulValueLen);
    if (point == NULL || !public_key_of_point(shown->group, point, &shown->key))
        shown->key.spki_size = 0;
    return CKR_OK;
}

/* Only a public key's: a private key's CKA_VALUE is secret. */
static CK_RV read_ml_dsa(const struct token_session *session, const struct object *object,
                         struct shown *shown)
{
    uint8_t value[PUBLIC_VALUE_SIZE_MAX] = {0};
    CK_ATTRIBUTE attribute = {CKA_VALUE, value, sizeof(value)};
    if (object->class != CKO_PUBLIC_KEY)
        return CKR_OK;
    CK_RV rv = object_read(session, object->handle, &attribute, 1);
    if (rv == CKR_OK && !public_key_of_bytes(value, attribute.ulValueLen, &shown->key))
        shown->key.spki_size = 0;
    return rv;
}

/* Works for private and for public key objects. */
static CK_RV read_shown(const struct token_session *session, const struct object *object,
                        struct shown *shown)
{
    shown->group = NULL;
    shown->key.spki_size = 0;
    if (object->key_type == CKK_RSA)
        return read_rsa(session, object->handle, shown);
    if (object->key_type == CKK_EC || object->key_type == CKK_EC_EDWARDS)
        return read_ec(session, object->handle, object->key_type, shown);
    if (object->key_type == CKK_ML_DSA)
        return read_ml_dsa(session, object, shown);
    return CKR_OK;
}

static bool same_public_key(const struct public_key *a, const struct public_key *b)
{
    return a->spki_size == b->spki_size && memcmp(a->spki, b->spki, a->spki_size) == 0;
}

/* --- Pairs: which public key belongs to a private key ---------------------------------------- */

static int compare_bytes(const void *a, size_t a_size, const void *b, size_t b_size)
{
    if (a_size != b_size)
        return a_size < b_size ? -1 : 1;
    return a_size == 0 ? 0 : memcmp(a, b, a_size);
}

/* Orders by what pairs have in common: key type and CKA_ID, or label where there is no CKA_ID. */
static int compare_pairing(const void *a, const void *b)
{
    const struct object *left = a, *right = b;
    if (left->key_type != right->key_type)
        return left->key_type < right->key_type ? -1 : 1;
    int order = compare_bytes(left->id, left->id_size, right->id, right->id_size);
    if (order != 0 || left->id_size > 0)
        return order;
    return compare_bytes(left->label, left->label_size, right->label, right->label_size);
}

static bool same_label(const struct object *a, const struct object *b)
{
    return compare_bytes(a->label, a->label_size, b->label, b->label_size) == 0;
}

/* Objects of the same pairing, `key` among them or not. */
struct siblings {
    const struct object *objects;
    size_t count;
};

static unsigned count_private(const struct siblings *siblings, const struct object *labelled)
{
    unsigned count = 0;
    for (size_t i = 0; i < siblings->count; i++) {
        const struct object *object = &siblings->objects[i];
        if (object->class == CKO_PRIVATE_KEY && (labelled == NULL || same_label(object, labelled)))
            count++;
    }
    return count;
}

/*
 * Completes what a private key shows with a public key object of its siblings. When several
 * private keys share a CKA_ID the label must tell; when that does not either, or when public keys
 * of the same curve differ, none is taken: a wrong one would make signatures that do not verify.
 */
static CK_RV pair(const struct search *search, const struct object *private,
                  const struct siblings *siblings, struct shown *shown,
                  CK_OBJECT_HANDLE *public_handle)
{
    bool own = shown->key.spki_size > 0;
    bool by_label = count_private(siblings, NULL) > 1;
    if (!own && by_label && count_private(siblings, private) > 1)
        return CKR_OK;

    CK_RV rv = CKR_OK;
    for (size_t i = 0; rv == CKR_OK && i < siblings->count; i++) {
        const struct object *public = &siblings->objects[i];
        struct shown other;
        if (public->class != CKO_PUBLIC_KEY || (!own && by_label && !same_label(public, private)))
            continue;
        rv = read_shown(search->session, public, &other);
        if (rv != CKR_OK || other.key.spki_size == 0)
            continue;
        bool candidate = !own && (shown->group == NULL || shown->group == other.group);
        if (candidate && shown->key.spki_size == 0) {
            shown->key = other.key;
        } else if (candidate && !same_public_key(&shown->key, &other.key)) {
            shown->key.spki_size = 0;
            return CKR_OK;
        }
        if (same_public_key(&shown->key, &other.key))
            *public_handle = public->handle;
    }
    return rv;
}

/* --- Reporting ------------------------------------------------------------------------------- */

static bool fits(const struct wanted *wanted, const void *bytes, size_t size)
{
    return wanted->bytes == NULL || compare_bytes(wanted->bytes, wanted->size, bytes, size) == 0;
}

/* Again after the token's own search, which some do not do by every attribute. */
static bool query_fits(const struct search *search, const struct object *object)
{
    return object->class == CKO_PRIVATE_KEY &&
           fits(&search->query_label, object->label, object->label_size) &&
           fits(&search->uri_label, object->label, object->label_size) &&
           fits(&search->uri_id, object->id, object->id_size);
}

static void note_other(const struct search *search, const struct public_key *public)
{
    if (search->other != NULL && search->other->type == public->type)
        *search->other = *public;
}

static void call_back(struct search *search, const struct object *private,
                      const struct public_key *public, CK_OBJECT_HANDLE public_handle)
{
    struct token_key key = {.handle = private->handle,
                            .public_handle = public_handle,
                            .sessions = search->sessions,
                            .type = public->type,
                            .bits = public->bits,
                            .spki = public->spki,
                            .spki_size = public->spki_size,
                            .cka_id_size = private->id_size};
    const struct token_key_query *query = search->query;
    if (query->spki != NULL &&
        compare_bytes(query->spki, query->spki_size, key.spki, key.spki_size) != 0) {
        note_other(search, public);
        return;
    }
    if (!key_id_of_spki(key.spki, key.spki_size, key.id)) {
        search->unusable++;
        return;
    }
    copy_printable(key.label, private->label, private->label_size);
    memcpy(key.cka_id, private->id, private->id_size);
    search->matched = true;
    search->stopped = !search->callback(&key, search->context);
}

static CK_RV report(struct search *search, const struct object *private,
                    const struct siblings *siblings)
{
    struct shown shown;
    CK_OBJECT_HANDLE public_handle = CK_INVALID_HANDLE;
    CK_RV rv = read_shown(search->session, private, &shown);
    if (rv == CKR_OK)
        rv = pair(search, private, siblings, &shown, &public_handle);
    if (rv == CKR_OK && shown.key.spki_size > 0)
        call_back(search, private, &shown.key, public_handle);
    else if (rv == CKR_OK || rv == CKR_OBJECT_HANDLE_INVALID)
        search->unusable++;
    return rv == CKR_OBJECT_HANDLE_INVALID ? CKR_OK : rv;
}

/* --- All keys: two searches, then pairs in memory -------------------------------------------- */

static CK_RV find_class(const struct token_session *session, CK_OBJECT_CLASS class,
                        struct object_list *list)
{
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof(class)}};
    return object_list_find(session, template, ARRAY_SIZE(template), list);
}

static CK_RV report_siblings(struct search *search, const struct siblings *siblings)
{
    CK_RV rv = CKR_OK;
    for (size_t i = 0; rv == CKR_OK && !search->stopped && i < siblings->count; i++) {
        if (query_fits(search, &siblings->objects[i]))
            rv = report(search, &siblings->objects[i], siblings);
    }
    return rv;
}

static CK_RV find_all(struct search *search)
{
    struct object_list all = {0};
    CK_RV rv = find_class(search->session, CKO_PRIVATE_KEY, &all);
    if (rv == CKR_OK && all.count > 0)
        rv = find_class(search->session, CKO_PUBLIC_KEY, &all);
    if (rv == CKR_OK && all.count > 0)
        qsort(all.objects, all.count, sizeof(*all.objects), compare_pairing);

    for (size_t i = 0; rv == CKR_OK && !search->stopped && i < all.count;) {
        struct siblings siblings = {.objects = &all.objects[i]};
        while (i < all.count && compare_pairing(&all.objects[i], siblings.objects) == 0)
            i++;
        siblings.count = (size_t)(&all.objects[i] - siblings.objects);
        rv = report_siblings(search, &siblings);
    }
    free(all.objects);
    return rv;
}

/* --- Some keys: the token searches ----------------------------------------------------------- */

/* Appends the objects that pair with this one, of one class or, if `class` is NULL, of all. */
static CK_RV find_siblings(const struct token_session *session, const struct object *object,
                           const CK_OBJECT_CLASS *class, struct object_list *list)
{
    bool by_id = object->id_size > 0;
    CK_ATTRIBUTE template[] = {
        {CKA_KEY_TYPE, unconst(&object->key_type), sizeof(object->key_type)},
        {by_id ? CKA_ID : CKA_LABEL, by_id ? unconst(object->id) : unconst(object->label),
         by_id ? object->id_size : object->label_size},
        {CKA_CLASS, unconst(class), sizeof(*class)},
    };
    if (!by_id && object->label_size == 0)
        return CKR_OK;
    return object_list_find(session, template, ARRAY_SIZE(template) - (class == NULL ? 1 : 0),
                            list);
}

/* A search by label finds objects that have a CKA_ID, too: these pair with others. */
static void keep_siblings(struct object_list *list, const struct object *object)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (compare_pairing(&list->objects[i], object) == 0)
            list->objects[kept++] = list->objects[i];
    }
    list->count = kept;
}

static CK_RV report_with_siblings(struct search *search, const struct object *private)
{
    struct object_list list = {0};
    CK_RV rv = find_siblings(search->session, private, NULL, &list);
    if (rv == CKR_OK) {
        keep_siblings(&list, private);
        rv = report(search, private, &(struct siblings){list.objects, list.count});
    }
    free(list.objects);
    return rv;
}

static CK_RV report_list(struct search *search, const struct object_list *list)
{
    CK_RV rv = CKR_OK;
    for (size_t i = 0; rv == CKR_OK && !search->stopped && i < list->count; i++) {
        if (query_fits(search, &list->objects[i]))
            rv = report_with_siblings(search, &list->objects[i]);
    }
    return rv;
}

static CK_RV find_by_attributes(struct search *search, struct object_list *list)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template[3] = {{CKA_CLASS, &class, sizeof(class)}};
    CK_ULONG count = 1;
    const struct wanted *label =
        search->query_label.bytes != NULL ? &search->query_label : &search->uri_label;
    if (label->bytes != NULL)
        template[count++] = (CK_ATTRIBUTE){CKA_LABEL, unconst(label->bytes), label->size};
    if (search->uri_id.bytes != NULL)
        template[count++] =
            (CK_ATTRIBUTE){CKA_ID, unconst(search->uri_id.bytes), search->uri_id.size};
    return object_list_find(search->session, template, count, list);
}

/* What a token has of a public key to search by; CKA_EC_POINT in one of its forms. */
static CK_ATTRIBUTE_TYPE value_attribute(CK_KEY_TYPE type)
{
    if (type == CKK_RSA)
        return CKA_MODULUS;
    return type == CKK_ML_DSA ? CKA_VALUE : CKA_EC_POINT;
}

static CK_RV find_by_value(const struct search *search, CK_OBJECT_CLASS class, CK_KEY_TYPE type,
                           const uint8_t *value, size_t size, struct object_list *list)
{
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_KEY_TYPE, &type, sizeof(type)},
        {value_attribute(type), unconst(value), size},
    };
    return object_list_find(search->session, template, ARRAY_SIZE(template), list);
}

static CK_RV find_by_point(const struct search *search, CK_KEY_TYPE type, const uint8_t *point,
                           size_t size, struct object_list *list)
{
    CK_RV rv = CKR_OK;
    for (int form = 0; rv == CKR_OK && list->count == 0 && form < POINT_FORMS; form++) {
        uint8_t value[QUIRK_POINT_SIZE_MAX];
        size_t value_size = quirk_point_write(form, point, size, value);
        if (value_size > 0)
            rv = find_by_value(search, CKO_PUBLIC_KEY, type, value, value_size, list);
    }
    return rv;
}

/* The private keys that pair with the public key object of this value. */
static CK_RV find_by_public(const struct search *search, CK_KEY_TYPE type, const uint8_t *value,
                            size_t size, struct object_list *list)
{
    const CK_OBJECT_CLASS private = CKO_PRIVATE_KEY;
    struct object_list public = {0};
    CK_RV rv = type == CKK_ML_DSA
                   ? find_by_value(search, CKO_PUBLIC_KEY, type, value, size, &public)
                   : find_by_point(search, type, value, size, &public);
    /* The first is enough: others are copies of it. */
    if (rv == CKR_OK && public.count > 0)
        rv = find_siblings(search->session, &public.objects[0], &private, list);
    free(public.objects);
    return rv;
}

static CK_RV find_by_spki(const struct search *search, struct object_list *list)
{
    const struct token_key_query *query = search->query;
    uint8_t value[PUBLIC_VALUE_SIZE_MAX];
    size_t size = 0;
    enum key_type type;
    if (!public_key_value(query->spki, query->spki_size, &type, value, &size))
        return CKR_OK;
    if (type == KEY_TYPE_RSA)
        return find_by_value(search, CKO_PRIVATE_KEY, CKK_RSA, value, size, list);
    return find_by_public(search, pkcs11_key_type(type), value, size, list);
}

static CK_RV find_some(struct search *search)
{
    struct object_list list = {0};
    CK_RV rv = search->query->spki != NULL ? find_by_spki(search, &list)
                                           : find_by_attributes(search, &list);
    if (rv == CKR_OK)
        rv = report_list(search, &list);
    free(list.objects);
    return rv;
}

/* --- Tokens that cannot search by public keys ------------------------------------------------ */

static unsigned type_bit(enum key_type type)
{
    return 1U << (unsigned)type;
}

/* A token that finds one so needs no comparing of all keys any more. */
static CK_RV find_by_itself(struct search *search, enum key_type type)
{
    CK_RV rv = find_some(search);
    if (rv == CKR_OK && search->matched)
        atomic_fetch_or(&search->token->searchable, type_bit(type));
    return rv;
}

static bool any_key(const struct token_key *key, void *context)
{
    (void)key;
    (void)context;
    return false;
}

/* Looks for a key that is there, to see whether the token can. */
static CK_RV try_search(const struct search *search, const struct public_key *present)
{
    const struct token_key_query query = {.spki = present->spki, .spki_size = present->spki_size};
    struct search trial = {
        .token = search->token, .session = search->session, .query = &query, .callback = any_key};
    return find_by_itself(&trial, present->type);
}

/*
 * Whatever the token says, it may have the key: QUIRK_BLIND_KEYS_MAX. Of all its keys, as another
 * search for each would cost more. It goes on when the request's deadline is over: the callback is
 * told of the key, and so the next request need not search.
 */
static CK_RV compare_all(struct search *search, enum key_type type)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof(class)}};
    struct public_key other = {.type = type};
    size_t count = 0;
    CK_RV rv =
        object_count(search->session, template, ARRAY_SIZE(template), QUIRK_BLIND_KEYS_MAX, &count);
    if (rv != CKR_OK || count > QUIRK_BLIND_KEYS_MAX)
        return rv;
    search->other = &other;
    rv = find_all(search);
    search->other = NULL;
    bool missing = rv == CKR_OK && !search->matched && other.spki_size > 0;
    return missing ? try_search(search, &other) : rv;
}

static CK_RV find_public_key(struct search *search)
{
    uint8_t value[PUBLIC_VALUE_SIZE_MAX];
    size_t size = 0;
    enum key_type type;
    if (!public_key_value(search->query->spki, search->query->spki_size, &type, value, &size))
        return CKR_OK; /* no token has a key of another type for us */
    CK_RV rv = find_by_itself(search, type);
    bool searchable = (atomic_load(&search->token->searchable) & type_bit(type)) != 0;
    return rv == CKR_OK && !search->matched && !searchable ? compare_all(search, type) : rv;
}

/* --- The public key objects of a key --------------------------------------------------------- */

static struct object private_object(const struct token_key *key)
{
    struct object object = {.handle = key->handle,
                            .class = CKO_PRIVATE_KEY,
                            .key_type = pkcs11_key_type(key->type),
                            .id_size = key->cka_id_size,
                            .label_size = strlen(key->label)};
    memcpy(object.id, key->cka_id, key->cka_id_size);
    memcpy(object.label, key->label, object.label_size);
    return object;
}

/* Adds the handle if the object is the public key's. One that was destroyed meanwhile is not. */
static CK_RV add_public(const struct token_session *session, const struct object *object,
                        const struct token_key *key, struct token_public_objects *found)
{
    struct shown shown;
    CK_RV rv = read_shown(session, object, &shown);
    if (rv == CKR_OK && found->count < ARRAY_SIZE(found->handles) &&
        compare_bytes(shown.key.spki, shown.key.spki_size, key->spki, key->spki_size) == 0)
        found->handles[found->count++] = object->handle;
    return rv == CKR_OBJECT_HANDLE_INVALID ? CKR_OK : rv;
}

enum token_error token_find_public(struct token *token, const struct token_session *session,
                                   const struct token_key *key, struct token_public_objects *found,
                                   struct problem *problem)
{
    static const CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    const struct object private = private_object(key);
    struct object_list list = {0};
    *found = (struct token_public_objects){.count = 0};
    CK_RV rv = find_siblings(session, &private, &class, &list);
    for (size_t i = 0; rv == CKR_OK && i < list.count; i++) {
        if (compare_pairing(&list.objects[i], &private) == 0 &&
            same_label(&list.objects[i], &private))
            rv = add_public(session, &list.objects[i], key, found);
    }
    free(list.objects);
    if (found->count == 0 && key->public_handle != CK_INVALID_HANDLE)
        found->handles[found->count++] = key->public_handle;
    return token_error_of(token, rv, "finding the public key", problem);
}

/* --- Queries --------------------------------------------------------------------------------- */

static struct wanted uri_attribute(P11KitUri *uri, CK_ATTRIBUTE_TYPE type)
{
    const CK_ATTRIBUTE *attribute = p11_kit_uri_get_attribute(uri, type);
    if (attribute == NULL)
        return (struct wanted){0};
    return (struct wanted){attribute->pValue, attribute->ulValueLen};
}

/* Longer ones fit no key, and some modules copy them to a buffer of 255 bytes. */
static bool may_fit(const struct search *search)
{
    return search->query_label.size <= TOKEN_LABEL_SIZE_MAX &&
           search->uri_label.size <= TOKEN_LABEL_SIZE_MAX &&
           search->uri_id.size <= TOKEN_CKA_ID_SIZE_MAX;
}

static CK_RV run(struct search *search)
{
    bool some = search->query_label.bytes != NULL || search->uri_label.bytes != NULL ||
                search->uri_id.bytes != NULL;
    if (search->query->spki != NULL)
        return find_public_key(search);
    return some ? find_some(search) : find_all(search);
}

static enum token_error find_keys(struct search *search, struct problem *problem)
{
    const struct token_key_query *query = search->query;
    P11KitUri *uri = NULL;
    if (query->label != NULL)
        search->query_label = (struct wanted){query->label, strlen(query->label)};
    if (query->uri != NULL) {
        uri = uri_parse(query->uri, problem);
        if (uri == NULL)
            return problem_prefix(problem, TOKEN_BAD_URI, "key");
        search->uri_label = uri_attribute(uri, CKA_LABEL);
        search->uri_id = uri_attribute(uri, CKA_ID);
    }
    bool here = uri == NULL || uri_fits_slot(uri, &search->token->slot);
    CK_RV rv = here && may_fit(search) ? run(search) : CKR_OK;
    p11_kit_uri_free(uri);
    return token_error_of(search->token, rv, "finding keys", problem);
}

enum token_error token_find_keys_in_session(struct token *token, struct token_session *session,
                                            const struct token_key_query *query,
                                            token_key_callback *callback, void *context,
                                            unsigned *unusable, struct problem *problem)
{
    struct search search = {.token = token,
                            .session = session,
                            .query = query,
                            .callback = callback,
                            .context = context};
    enum token_error error = session_pool_check(token, session, problem);
    search.sessions = token_sessions_opened(token);
    if (error == TOKEN_OK)
        error = find_keys(&search, problem);
    if (unusable != NULL)
        *unusable = search.unusable;
    return error;
}

enum token_error token_find_keys(struct token *token, const struct token_key_query *query,
                                 uint64_t deadline, token_key_callback *callback, void *context,
                                 unsigned *unusable, struct problem *problem)
{
    struct token_session session;
    enum token_error error = token_session_take(token, deadline, &session, problem);
    if (error != TOKEN_OK)
        return error;
    error =
        token_find_keys_in_session(token, &session, query, callback, context, unusable, problem);
    token_session_return(token, &session, error != TOKEN_OK && error != TOKEN_BAD_URI);
    return error;
}

void token_key_uri(struct token *token, const struct token_key *key, char *uri, size_t size)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE attributes[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_LABEL, unconst(key->label), strlen(key->label)},
        {CKA_ID, unconst(key->cka_id), key->cka_id_size},
    };
    P11KitUri *parts = p11_kit_uri_new();
    char *text = NULL;
    uri[0] = '\0';
    if (parts == NULL)
        return;

    CK_TOKEN_INFO *info = p11_kit_uri_get_token_info(parts);
    memcpy(info->label, token->slot.token.label, sizeof(info->label));
    for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
        if (attributes[i].ulValueLen > 0)
            p11_kit_uri_set_attribute(parts, &attributes[i]);
    }
    if (p11_kit_uri_format(parts, P11_KIT_URI_FOR_OBJECT_ON_TOKEN, &text) == P11_KIT_URI_OK &&
        strlen(text) < size)
        memcpy(uri, text, strlen(text) + 1);
    free(text);
    p11_kit_uri_free(parts);
}
