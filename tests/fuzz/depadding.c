/*
 * daemon/depadding.h agrees with a plain implementation, which branches: where the padding is
 * right, the message comes out; where it is not, whatever is wrong, the same as of a block of
 * zeros. The first two bytes are the version, the others the block.
 */
#include "fuzz.h"

#include <string.h>

#include "daemon/depadding.h"
#include "wire/cursor.h"

static const uint8_t rejection_key[REJECTION_KEY_SIZE] = {0x5a},
                     ciphertext[DEPADDING_SIZE_MAX] = {1};
static const uint8_t zeros[DEPADDING_SIZE_MAX];

static struct padded padded_of(const uint8_t *block, size_t size)
{
    return (struct padded){
        .block = block, .ciphertext = ciphertext, .size = size, .rejection_key = rejection_key};
}

/* RFC 8017 7.2.2: 0, 2, at least eight bytes that are not 0, 0, the message; or NULL. */
static const uint8_t *find_message(const uint8_t *block, size_t size)
{
    if (block[0] != 0 || block[1] != 2)
        return NULL;
    const uint8_t *separator = memchr(block + 2, 0, size - 2);
    return separator != NULL && separator - (block + 2) >= 8 ? separator + 1 : NULL;
}

static void check_message(const uint8_t *block, size_t size)
{
    uint8_t message[DEPADDING_SIZE_MAX], expected[DEPADDING_SIZE_MAX] = {0};
    size_t message_size = 0, expected_size = 0;
    struct padded padded = padded_of(block, size), wrong = padded_of(zeros, size);
    const uint8_t *found = find_message(block, size);
    if (found != NULL) {
        expected_size = size - (size_t)(found - block);
        memcpy(expected, found, expected_size);
    } else {
        assert(depad_message(&wrong, expected, &expected_size));
        assert(expected_size <= size - PKCS1_OVERHEAD);
    }
    assert(depad_message(&padded, message, &message_size));
    assert(message_size == expected_size && memcmp(message, expected, size) == 0);
}

static void check_premaster(const uint8_t *block, size_t size, uint16_t version)
{
    uint8_t premaster[PREMASTER_SIZE], expected[PREMASTER_SIZE];
    struct padded padded = padded_of(block, size), wrong = padded_of(zeros, size);
    bool possible = size >= PREMASTER_SIZE + PKCS1_OVERHEAD;
    assert(depad_premaster(&padded, version, premaster) == possible);
    if (!possible)
        return;
    const uint8_t *found = find_message(block, size);
    if (found == block + size - PREMASTER_SIZE && found[0] == version >> 8 &&
        found[1] == (version & 0xff))
        memcpy(expected, found, sizeof(expected));
    else
        assert(depad_premaster(&wrong, version, expected));
    assert(memcmp(premaster, expected, sizeof(expected)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct reader reader = reader_of(bytes, size);
    uint16_t version = reader_u16(&reader);
    if (reader.failed || reader.left < PKCS1_OVERHEAD || reader.left > DEPADDING_SIZE_MAX)
        return 0;
    check_message(reader.at, reader.left);
    check_premaster(reader.at, reader.left, version);
    return 0;
}
