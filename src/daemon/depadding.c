#include "daemon/depadding.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "base/constant_time.h"
#include "wire/cursor.h"

#define HASH_SIZE 32 /* SHA-256 */

/* As many lengths are drawn, so that one fits (draft-irtf-cfrg-rsa-guidance 7). */
#define LENGTHS_DRAWN 128

static const char premaster_label[] = "TLS 1.2 premaster secret";

static bool hmac(const uint8_t key[HASH_SIZE], const struct writer *input, uint8_t hash[HASH_SIZE])
{
    unsigned size = 0;
    return !input->failed &&
           HMAC(EVP_sha256(), key, HASH_SIZE, input->start, input->used, hash, &size) != NULL &&
           size == HASH_SIZE;
}

/* IRPRF of the draft: `size` bytes, which depend on the label and on their number. */
static bool expand(const uint8_t key[HASH_SIZE], const char *label, uint8_t *output, size_t size)
{
    bool done = true;
    uint8_t input[64], hash[HASH_SIZE];
    for (size_t at = 0, i = 0; at < size && done; at += HASH_SIZE, i++) {
        struct writer writer = writer_of(input, sizeof(input));
        writer_u16(&writer, (uint16_t)i);
        writer_bytes(&writer, label, strlen(label));
        writer_u16(&writer, (uint16_t)(8 * size));
        done = hmac(key, &writer, hash);
        memcpy(output + at, hash, size - at < HASH_SIZE ? size - at : HASH_SIZE);
    }
    OPENSSL_cleanse(hash, sizeof(hash));
    return done;
}

/* What a block's synthetic result is made from: KDK of the draft. */
static bool derive(const struct padded *padded, const uint8_t *prefix, size_t prefix_size,
                   uint8_t key[HASH_SIZE])
{
    uint8_t input[64 + DEPADDING_SIZE_MAX];
    struct writer writer = writer_of(input, sizeof(input));
    writer_bytes(&writer, prefix, prefix_size);
    writer_bytes(&writer, padded->ciphertext, padded->size);
    return hmac(padded->rejection_key, &writer, key);
}

/* All bits set where the padding is right; *at is where the message begins. */
static uint32_t find_message(const struct padded *padded, uint32_t *at)
{
    const uint8_t *block = padded->block;
    uint32_t separator = 0, found = 0;
    for (size_t i = 2; i < padded->size; i++) {
        uint32_t is_first_zero = mask_equal(block[i], 0) & ~found;
        separator = mask_choose(is_first_zero, (uint32_t)i, separator);
        found |= is_first_zero;
    }
    *at = separator + 1;
    return mask_equal(block[0], 0) & mask_equal(block[1], 2) & found &
           ~mask_less(separator, PKCS1_OVERHEAD - 1);
}

/* --- TLS ------------------------------------------------------------------------------------ */

static bool make_synthetic_premaster(const struct padded *padded, uint16_t version,
                                     uint8_t premaster[PREMASTER_SIZE])
{
    uint8_t key[HASH_SIZE], prefix[sizeof(premaster_label) + 2];
    struct writer writer = writer_of(prefix, sizeof(prefix));
    writer_bytes(&writer, premaster_label, sizeof(premaster_label));
    writer_u16(&writer, version);
    struct writer result = writer_of(premaster, PREMASTER_SIZE);
    writer_u16(&result, version);
    bool done = derive(padded, prefix, writer.used, key) &&
                expand(key, premaster_label, premaster + result.used, PREMASTER_SIZE - result.used);
    OPENSSL_cleanse(key, sizeof(key));
    return done;
}

bool depad_premaster(const struct padded *padded, uint16_t version,
                     uint8_t premaster[PREMASTER_SIZE])
{
    uint32_t at, start = (uint32_t)padded->size - PREMASTER_SIZE;
    if (padded->size < PREMASTER_SIZE + PKCS1_OVERHEAD ||
        !make_synthetic_premaster(padded, version, premaster))
        return false;
    const uint8_t *message = padded->block + start;
    uint32_t right = find_message(padded, &at);
    right &= mask_equal(at, start);
    right &= mask_equal((uint32_t)message[0] << 8 | message[1], version);
    for (size_t i = 0; i < PREMASTER_SIZE; i++)
        premaster[i] = (uint8_t)mask_choose(right, message[i], premaster[i]);
    return true;
}

/* --- Any message ---------------------------------------------------------------------------- */

/* The last of those drawn that a message in so large a block can have. */
static uint32_t synthetic_length(const uint8_t drawn[2 * LENGTHS_DRAWN], size_t block_size)
{
    uint32_t limit = (uint32_t)block_size - (PKCS1_OVERHEAD - 1), bits = limit, length = 0;
    for (uint32_t shift = 1; shift < 16; shift *= 2)
        bits |= bits >> shift;
    for (size_t i = 0; i < 2 * LENGTHS_DRAWN; i += 2) {
        uint32_t candidate = ((uint32_t)drawn[i] << 8 | drawn[i + 1]) & bits;
        length = mask_choose(mask_less(candidate, limit), candidate, length);
    }
    return length;
}

/* A whole block, whose last *length bytes are the synthetic message. */
static bool make_synthetic_block(const struct padded *padded, uint8_t *block, uint32_t *length)
{
    uint8_t key[HASH_SIZE], lengths[2 * LENGTHS_DRAWN];
    bool done = derive(padded, NULL, 0, key) && expand(key, "length", lengths, sizeof(lengths)) &&
                expand(key, "message", block, padded->size);
    *length = done ? synthetic_length(lengths, padded->size) : 0;
    OPENSSL_cleanse(key, sizeof(key));
    OPENSSL_cleanse(lengths, sizeof(lengths));
    return done;
}

bool depad_message(const struct padded *padded, uint8_t *message, size_t *size)
{
    uint32_t at, block_size = (uint32_t)padded->size, synthetic;
    if (!make_synthetic_block(padded, message, &synthetic))
        return false;
    uint32_t right = find_message(padded, &at);
    at = mask_choose(right, at, block_size - synthetic);
    for (size_t i = 0; i < padded->size; i++)
        message[i] = (uint8_t)mask_choose(right, padded->block[i], message[i]);
    constant_time_move_left(message, padded->size, at);
    *size = block_size - at;
    return true;
}

/* --- The rejection key ---------------------------------------------------------------------- */

bool rejection_challenge(const uint8_t key_id[32], uint8_t *challenge, size_t size)
{
    bool done = expand(key_id, "Immure implicit rejection", challenge, size);
    challenge[0] = 0; /* the modulus has no zero there */
    return done;
}

bool rejection_key_make(const uint8_t *response, size_t size,
                        uint8_t rejection_key[REJECTION_KEY_SIZE])
{
    return EVP_Digest(response, size, rejection_key, NULL, EVP_sha256(), NULL) == 1;
}
