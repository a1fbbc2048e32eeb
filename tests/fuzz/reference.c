/*
 * wire/reference.h: a reference that is read keeps its limits, and comes back the same when it is
 * written and read again.
 */
#include "fuzz.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>

#include "wire/reference.h"

static bool is_text(const char *text, size_t limit)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    }
    return size > 0 && size <= limit;
}

static bool is_same(const struct key_reference *a, const struct key_reference *b)
{
    return a->spki_size == b->spki_size && memcmp(a->spki, b->spki, a->spki_size) == 0 &&
           strcmp(a->name, b->name) == 0 && (a->uri == NULL) == (b->uri == NULL) &&
           (a->uri == NULL || strcmp(a->uri, b->uri) == 0);
}

static void check_round_trip(const struct key_reference *reference)
{
    struct key_reference again;
    size_t size = 0, size_again = 0;
    uint8_t *der = key_reference_encode(reference, &size);
    assert(der != NULL && key_reference_decode(der, size, &again));
    assert(is_same(reference, &again));
    uint8_t *der_again = key_reference_encode(&again, &size_again);
    assert(der_again != NULL && size_again == size && memcmp(der, der_again, size) == 0);
    key_reference_clear(&again);
    OPENSSL_free(der);
    OPENSSL_free(der_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct key_reference reference;
    if (key_reference_decode(bytes, size, &reference)) {
        assert(size <= KEY_REFERENCE_SIZE_MAX);
        assert(reference.spki_size > 0 && reference.spki[0] == 0x30);
        assert(is_text(reference.name, KEY_NAME_SIZE_MAX));
        assert(reference.uri == NULL || is_text(reference.uri, KEY_REFERENCE_SIZE_MAX));
        check_round_trip(&reference);
        key_reference_clear(&reference);
    }
    assert(ERR_peek_error() == 0);
    return 0;
}
