#include "wire/reference.h"

#include <limits.h>
#include <openssl/asn1t.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#define REFERENCE_VERSION 1

typedef struct {
    int32_t version;
    ASN1_STRING *spki; /* the whole SEQUENCE, header and all */
    ASN1_UTF8STRING *name;
    ASN1_UTF8STRING *uri;
} REFERENCE;

ASN1_SEQUENCE(REFERENCE) = {
    ASN1_EMBED(REFERENCE, version, INT32),
    ASN1_SIMPLE(REFERENCE, spki, ASN1_SEQUENCE),
    ASN1_SIMPLE(REFERENCE, name, ASN1_UTF8STRING),
    ASN1_OPT(REFERENCE, uri, ASN1_UTF8STRING),
} static_ASN1_SEQUENCE_END(REFERENCE)

/* A copy of the text if it is UTF-8 without control characters, at most `limit` bytes. */
static char *copy_text(const ASN1_STRING *text, size_t limit)
{
    const unsigned char *bytes = ASN1_STRING_get0_data(text);
    int size = ASN1_STRING_length(text);
    if (size <= 0 || (size_t)size > limit)
        return NULL;
    for (int i = 0; i < size;) {
        unsigned long character;
        int used = UTF8_getc(bytes + i, size - i, &character);
        if (used <= 0 || character < 0x20 || character == 0x7f)
            return NULL;
        i += used;
    }
    return OPENSSL_strndup((const char *)bytes, (size_t)size);
}

static bool fill(const REFERENCE *parsed, struct key_reference *reference)
{
    int spki_size = ASN1_STRING_length(parsed->spki);
    if (parsed->version != REFERENCE_VERSION || spki_size <= 0)
        return false;
    reference->spki = OPENSSL_memdup(ASN1_STRING_get0_data(parsed->spki), (size_t)spki_size);
    reference->spki_size = (size_t)spki_size;
    reference->name = copy_text(parsed->name, KEY_NAME_SIZE_MAX);
    if (parsed->uri != NULL)
        reference->uri = copy_text(parsed->uri, KEY_REFERENCE_SIZE_MAX);
    return reference->spki != NULL && reference->name != NULL &&
           (parsed->uri == NULL || reference->uri != NULL);
}

bool key_reference_decode(const uint8_t *der, size_t size, struct key_reference *reference)
{
    memset(reference, 0, sizeof(*reference));
    if (size == 0 || size > KEY_REFERENCE_SIZE_MAX)
        return false;

    ERR_set_mark();
    const unsigned char *at = der;
    ASN1_VALUE *value = ASN1_item_d2i(NULL, &at, (long)size, ASN1_ITEM_rptr(REFERENCE));
    bool done = value != NULL && at == der + size && fill((const REFERENCE *)value, reference);
    ASN1_item_free(value, ASN1_ITEM_rptr(REFERENCE));
    ERR_pop_to_mark();
    if (!done)
        key_reference_clear(reference);
    return done;
}

static ASN1_STRING *make_string(int type, const void *bytes, size_t size)
{
    ASN1_STRING *string = size <= KEY_REFERENCE_SIZE_MAX ? ASN1_STRING_type_new(type) : NULL;
    if (string != NULL && !ASN1_STRING_set(string, bytes, (int)size)) {
        ASN1_STRING_free(string);
        return NULL;
    }
    return string;
}

uint8_t *key_reference_encode(const struct key_reference *reference, size_t *size)
{
    REFERENCE value = {
        .version = REFERENCE_VERSION,
        .spki = make_string(V_ASN1_SEQUENCE, reference->spki, reference->spki_size),
        .name = make_string(V_ASN1_UTF8STRING, reference->name, strlen(reference->name)),
    };
    bool complete = value.spki != NULL && value.name != NULL;
    if (reference->uri != NULL) {
        value.uri = make_string(V_ASN1_UTF8STRING, reference->uri, strlen(reference->uri));
        complete = complete && value.uri != NULL;
    }

    unsigned char *der = NULL;
    int length = -1;
    if (complete)
        length = ASN1_item_i2d((ASN1_VALUE *)&value, &der, ASN1_ITEM_rptr(REFERENCE));
    ASN1_STRING_free(value.spki);
    ASN1_STRING_free(value.name);
    ASN1_STRING_free(value.uri);
    if (length <= 0 || length > KEY_REFERENCE_SIZE_MAX) {
        OPENSSL_free(der);
        return NULL;
    }
    *size = (size_t)length;
    return der;
}

void key_reference_clear(struct key_reference *reference)
{
    OPENSSL_free(reference->spki);
    OPENSSL_free(reference->name);
    OPENSSL_free(reference->uri);
    memset(reference, 0, sizeof(*reference));
}

bool key_id_of_spki(const uint8_t *spki, size_t size, uint8_t id[KEY_ID_SIZE])
{
    return EVP_Digest(spki, size, id, NULL, EVP_sha256(), NULL) == 1;
}
