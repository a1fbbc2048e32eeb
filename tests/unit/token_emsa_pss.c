/* EMSA-PSS in software: what it encodes, signed with raw RSA, must be PSS to OpenSSL. */
#include "test.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <string.h>

#include "token/emsa_pss.h"

static const struct {
    const char *name;
    size_t size;
} digests[] = {{"SHA256", 32}, {"SHA384", 48}, {"SHA512", 64}};

static size_t sign_raw(EVP_PKEY *key, const uint8_t *input, size_t size, uint8_t *signature)
{
    size_t signature_size = EMSA_PSS_SIZE_MAX;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    assert_int_equal(EVP_PKEY_sign_init(context), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(context, RSA_NO_PADDING), 1);
    assert_int_equal(EVP_PKEY_sign(context, signature, &signature_size, input, size), 1);
    EVP_PKEY_CTX_free(context);
    return signature_size;
}

static int verify_pss(EVP_PKEY *key, const char *digest, const uint8_t *hash, size_t hash_size,
                      const uint8_t *signature, size_t size)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    const EVP_MD *md = EVP_get_digestbyname(digest);
    assert_int_equal(EVP_PKEY_verify_init(context), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_signature_md(context, md), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(context, md), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST), 1);
    int verified = EVP_PKEY_verify(context, signature, size, hash, hash_size);
    EVP_PKEY_CTX_free(context);
    return verified;
}

/* 1537 bits: the encoding is a byte shorter than the modulus. 1540: five of its bits are masked. */
static void signatures_verify_as_pss_for_every_digest_and_modulus_size(void **state)
{
    static const unsigned sizes[] = {2048, 1537, 1540, 3072};
    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        EVP_PKEY *key = EVP_RSA_gen(sizes[s]);
        assert_int_equal(EVP_PKEY_get_bits(key), sizes[s]);
        for (size_t d = 0; d < sizeof(digests) / sizeof(digests[0]); d++) {
            uint8_t hash[64], encoded[EMSA_PSS_SIZE_MAX], signature[EMSA_PSS_SIZE_MAX];
            RAND_bytes(hash, sizeof(hash));
            size_t modulus_size = (sizes[s] + 7) / 8;
            assert_true(emsa_pss_encode(digests[d].name, hash, digests[d].size, sizes[s], encoded));
            size_t size = sign_raw(key, encoded, modulus_size, signature);
            assert_int_equal(
                verify_pss(key, digests[d].name, hash, digests[d].size, signature, size), 1);
            hash[0] ^= 1;
            assert_int_not_equal(
                verify_pss(key, digests[d].name, hash, digests[d].size, signature, size), 1);
        }
        EVP_PKEY_free(key);
    }
}

static void salts_differ(void **state)
{
    uint8_t hash[32] = {0}, one[EMSA_PSS_SIZE_MAX], two[EMSA_PSS_SIZE_MAX];
    (void)state;
    assert_true(emsa_pss_encode("SHA256", hash, 32, 2048, one));
    assert_true(emsa_pss_encode("SHA256", hash, 32, 2048, two));
    assert_memory_not_equal(one, two, 256);
}

static void what_does_not_fit_is_refused(void **state)
{
    uint8_t hash[64] = {0}, encoded[EMSA_PSS_SIZE_MAX];
    (void)state;
    assert_false(emsa_pss_encode("SHA256", hash, 31, 2048, encoded));
    assert_false(emsa_pss_encode("SHA256", hash, 64, 2048, encoded));
    assert_false(emsa_pss_encode("SHA999", hash, 32, 2048, encoded));
    assert_false(emsa_pss_encode("SHA512", hash, 64, 1032, encoded));
    assert_true(emsa_pss_encode("SHA512", hash, 64, 1034, encoded));
    assert_true(emsa_pss_encode("SHA256", hash, 32, 4096, encoded));
    assert_false(emsa_pss_encode("SHA256", hash, 32, 4097, encoded));
    assert_false(emsa_pss_encode("SHA256", hash, 32, 0, encoded));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_verify_as_pss_for_every_digest_and_modulus_size),
        cmocka_unit_test(salts_differ),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
