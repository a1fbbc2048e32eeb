/*
 * token/public_key.h and quirks.h: what a token says of a public key, and what a client names
 * one by. The first byte chooses; then
 *     0  a byte with the size of CKA_EC_PARAMS, these, CKA_EC_POINT
 *     1  a byte with the size of CKA_PUBLIC_EXPONENT, this, CKA_MODULUS
 *     2  a DER SubjectPublicKeyInfo
 *     3  a key's bytes
 */
#include "fuzz.h"

#include <openssl/err.h>
#include <string.h>

#include "token/public_key.h"
#include "wire/cursor.h"

/* The key's DER names that very value. */
static void check_names(const struct public_key *key, const uint8_t *value, size_t size)
{
    uint8_t found[PUBLIC_VALUE_SIZE_MAX];
    size_t found_size = 0;
    enum key_type type;
    assert(key->spki_size <= sizeof(key->spki));
    assert(public_key_value(key->spki, key->spki_size, &type, found, &found_size));
    assert(type == key->type && found_size == size && memcmp(found, value, size) == 0);
}

/* What may stand before a point in CKA_EC_POINT: OCTET STRING, BIT STRING, nothing. */
static const struct {
    size_t point_size;
    const char *header;
    size_t header_size;
} headers[] = {
    {65, "\x04\x41", 2},
    {65, "\x03\x42\x00", 3},
    {97, "\x04\x61", 2},
    {97, "\x03\x62\x00", 3},
    {133, "\x04\x81\x85", 3},
    {133, "\x03\x81\x86\x00", 4},
    {32, "\x04\x20", 2},
    {32, "\x03\x21\x00", 3},
    {65, "", 0},
    {97, "", 0},
    {133, "", 0},
    {32, "", 0},
};

static const uint8_t *find_point(const struct group *group, const struct reader *value)
{
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        if (headers[i].point_size == group->point_size &&
            value->left == headers[i].header_size + group->point_size &&
            memcmp(value->at, headers[i].header, headers[i].header_size) == 0)
            return value->at + headers[i].header_size;
    }
    return NULL;
}

static void check_point(struct reader *reader)
{
    struct public_key key;
    size_t params_size = reader_u8(reader);
    const uint8_t *params = reader_bytes(reader, params_size);
    if (params == NULL)
        return;
    const struct group *group = quirk_group(params, params_size);
    if (group == NULL)
        return;
    const uint8_t *point = quirk_point(group, reader->at, reader->left);
    assert(point == find_point(group, reader));
    if (point != NULL && public_key_of_point(group, point, &key))
        check_names(&key, point, group->point_size);
}

static void check_rsa(struct reader *reader)
{
    struct public_key key;
    size_t exponent_size = reader_u8(reader);
    const uint8_t *exponent = reader_bytes(reader, exponent_size);
    if (exponent == NULL ||
        !public_key_of_rsa(reader->at, reader->left, exponent, exponent_size, &key))
        return;
    while (reader->left > 0 && *reader->at == 0)
        reader_u8(reader);
    assert(key.bits >= RSA_BITS_MIN && key.bits <= RSA_BITS_MAX);
    check_names(&key, reader->at, reader->left);
}

static void check_spki(struct reader *reader)
{
    uint8_t value[PUBLIC_VALUE_SIZE_MAX];
    size_t size = 0;
    enum key_type type;
    if (public_key_value(reader->at, reader->left, &type, value, &size))
        assert(size > 0 && size <= sizeof(value) && reader->left <= SPKI_SIZE_MAX);
}

static void check_bytes(struct reader *reader)
{
    struct public_key key;
    if (public_key_of_bytes(reader->at, reader->left, &key))
        check_names(&key, reader->at, reader->left);
}

typedef void check(struct reader *reader);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static check *const checks[] = {check_point, check_rsa, check_spki, check_bytes};
    struct reader reader = reader_of(bytes, size);
    uint8_t choice = reader_u8(&reader);
    if (!reader.failed && choice < ARRAY_SIZE(checks))
        checks[choice](&reader);
    assert(ERR_peek_error() == 0);
    return 0;
}
