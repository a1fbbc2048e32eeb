#include "token/emsa_pss.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#include "wire/scheme.h"

#define TRAILER 0xbc

/* MGF1 (RFC 8017 B.2.1), XORed onto `bytes`. */
static bool xor_mask(const EVP_MD *md, const uint8_t *seed, size_t seed_size, uint8_t *bytes,
                     size_t size)
{
    uint8_t input[SCHEME_DIGEST_SIZE_MAX + 4], block[EVP_MAX_MD_SIZE];
    unsigned block_size = 0;
    memcpy(input, seed, seed_size);
    for (size_t done = 0, counter = 0; done < size; counter++) {
        /* At most 16 blocks: one byte of the counter is enough. */
        memcpy(input + seed_size, (uint8_t[4]){0, 0, 0, (uint8_t)counter}, 4);
        if (!EVP_Digest(input, seed_size + 4, block, &block_size, md, NULL))
            return false;
        for (unsigned i = 0; i < block_size && done < size; i++)
            bytes[done++] ^= block[i];
    }
    return true;
}

/* H = Hash(eight zeros || mHash || salt) */
static bool hash_salted(const EVP_MD *md, const uint8_t *digest, const uint8_t *salt, size_t size,
                        uint8_t *hash)
{
    uint8_t input[8 + 2 * SCHEME_DIGEST_SIZE_MAX] = {0};
    memcpy(input + 8, digest, size);
    memcpy(input + 8 + size, salt, size);
    return EVP_Digest(input, 8 + 2 * size, hash, NULL, md, NULL) == 1;
}

bool emsa_pss_encode(const char *digest_name, const uint8_t *digest, size_t digest_size,
                     unsigned modulus_bits, uint8_t encoded[EMSA_PSS_SIZE_MAX])
{
    const EVP_MD *md = EVP_get_digestbyname(digest_name);
    size_t modulus_size = (modulus_bits + 7) / 8;
    if (md == NULL || digest_size > SCHEME_DIGEST_SIZE_MAX ||
        digest_size != (size_t)EVP_MD_get_size(md) || modulus_size > EMSA_PSS_SIZE_MAX)
        return false;
    /* One bit less than the modulus: may be a byte less, too. */
    size_t size = (modulus_bits + 6) / 8;
    if (modulus_bits == 0 || size < 2 * digest_size + 2)
        return false;

    memset(encoded, 0, modulus_size);
    uint8_t *start = encoded + (modulus_size - size);
    size_t masked_size = size - digest_size - 1;
    uint8_t *hash = start + masked_size;
    uint8_t *salt = hash - digest_size;

    /* maskedDB (zeros, 1, salt) || H || trailer */
    if (RAND_bytes(salt, (int)digest_size) != 1 ||
        !hash_salted(md, digest, salt, digest_size, hash))
        return false;
    salt[-1] = 1;
    hash[digest_size] = TRAILER;
    if (!xor_mask(md, hash, digest_size, start, masked_size))
        return false;
    start[0] &= (uint8_t)(0xff >> (8 * size - (modulus_bits - 1)));
    return true;
}
