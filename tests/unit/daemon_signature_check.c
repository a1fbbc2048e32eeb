/*
 * Right signatures pass, and what is wrong in one bit, or by another key, does not.
 */
#include "test.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <string.h>

#include "daemon/signature_check.h"

/* By OpenSSL, as a token would: of a digest, of a message where that is signed, or of raw bytes. */
static size_t sign(EVP_PKEY *key, const struct scheme *scheme, const uint8_t *input, size_t size,
                   uint8_t signature[SIGNATURE_SIZE_MAX])
{
    size_t signature_size = SIGNATURE_SIZE_MAX;
    if (key_type_is_pure(scheme->key_type)) {
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        assert_int_equal(EVP_DigestSignInit_ex(context, NULL, NULL, NULL, NULL, key, NULL), 1);
        assert_int_equal(EVP_DigestSign(context, signature, &signature_size, input, size), 1);
        EVP_MD_CTX_free(context);
        return signature_size;
    }
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    assert_int_equal(EVP_PKEY_sign_init(context), 1);
    if (scheme->padding == SCHEME_PADDING_PSS)
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING), 1);
    if (scheme->digest != NULL)
        assert_int_equal(
            EVP_PKEY_CTX_set_signature_md(context, EVP_get_digestbyname(scheme->digest)), 1);
    if (scheme->padding == SCHEME_PADDING_PSS)
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST), 1);
    assert_int_equal(EVP_PKEY_sign(context, signature, &signature_size, input, size), 1);
    EVP_PKEY_CTX_free(context);
    return signature_size;
}

static void check(EVP_PKEY *key, EVP_PKEY *other, uint16_t code)
{
    const struct scheme *scheme = scheme_by_code(code);
    uint8_t input[SCHEME_DIGEST_SIZE_MAX] = "what is signed", signature[SIGNATURE_SIZE_MAX];
    size_t input_size = scheme->digest_size != 0 ? scheme->digest_size : 20;
    size_t size = sign(key, scheme, input, input_size, signature);
    assert_true(signature_check(key, scheme, input, input_size, signature, size));
    assert_false(signature_check(other, scheme, input, input_size, signature, size));
    assert_false(signature_check(key, scheme, input, input_size, signature, size - 1));
    signature[size - 1] ^= 1;
    assert_false(signature_check(key, scheme, input, input_size, signature, size));
    signature[size - 1] ^= 1;
    input[0] ^= 1;
    assert_false(signature_check(key, scheme, input, input_size, signature, size));
    assert_int_equal(ERR_peek_error(), 0);
}

static void only_right_signatures_pass(void **state)
{
    static const struct {
        const char *type;
        const char *group; /* or NULL */
        uint16_t schemes[8];
    } kinds[] = {
        {"RSA", NULL, {0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806, SCHEME_RSA_PKCS1_RAW}},
        {"EC", "P-256", {0x0403, 0x0503, 0x0603, SCHEME_ECDSA_RAW}},
        {"EC", "P-521", {0x0603}},
        {"ED25519", NULL, {0x0807}},
        {"ML-DSA-44", NULL, {0x0904}},
        {"ML-DSA-65", NULL, {0x0905}},
        {"ML-DSA-87", NULL, {0x0906}},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        EVP_PKEY *keys[2];
        EVP_KEYMGMT *known = EVP_KEYMGMT_fetch(NULL, kinds[i].type, NULL);
        ERR_clear_error();
        EVP_KEYMGMT_free(known);
        if (known == NULL) /* OpenSSL before 3.5 */
            continue;
        for (int j = 0; j < 2; j++)
            keys[j] = kinds[i].group != NULL ? EVP_EC_gen(kinds[i].group)
                      : i == 0               ? EVP_RSA_gen(2048)
                                             : EVP_PKEY_Q_keygen(NULL, NULL, kinds[i].type);
        for (size_t j = 0; kinds[i].schemes[j] != 0; j++)
            check(keys[0], keys[1], kinds[i].schemes[j]);
        EVP_PKEY_free(keys[0]);
        EVP_PKEY_free(keys[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_right_signatures_pass)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
