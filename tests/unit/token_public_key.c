/* Public keys from PKCS#11 attributes: the DER must be OpenSSL's, or key ids differ. */
#include "test.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "token/public_key.h"

static size_t spki_of(EVP_PKEY *pkey, uint8_t *spki)
{
    int size = i2d_PUBKEY(pkey, &spki);
    assert_true(size > 0);
    return (size_t)size;
}

static void every_group_gives_openssls_der(void **state)
{
    static const struct {
        const char *name, *params;
        size_t size;
    } params[] = {
        {"P-256", "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", 10},
        {"P-384", "\x06\x05\x2b\x81\x04\x00\x22", 7},
        {"P-521", "\x06\x05\x2b\x81\x04\x00\x23", 7},
        {"P-521", "\x13\x09secp521r1", 11},
        {"ED25519", "\x06\x03\x2b\x65\x70", 5},
        {"ED25519", "\x13\x0c\x65\x64wards25519", 14},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
        bool ec = params[i].name[0] == 'P';
        EVP_PKEY *pkey =
            ec ? EVP_EC_gen(params[i].name) : EVP_PKEY_Q_keygen(NULL, NULL, params[i].name);
        uint8_t spki[SPKI_SIZE_MAX], value[PUBLIC_VALUE_SIZE_MAX];
        size_t spki_size = spki_of(pkey, spki), value_size = 0;
        const struct group *group = quirk_group((const uint8_t *)params[i].params, params[i].size);
        struct public_key key;
        enum key_type type;
        assert_non_null(group);
        assert_string_equal(group->name, params[i].name);
        assert_true(public_key_value(spki, spki_size, &type, value, &value_size));
        assert_int_equal(type, group->type);
        assert_int_equal(value_size, group->point_size);
        assert_true(public_key_of_point(group, value, &key));
        assert_int_equal(key.spki_size, spki_size);
        assert_memory_equal(key.spki, spki, spki_size);
        EVP_PKEY_free(pkey);
    }
}

static void points_are_found_in_every_wrapping_and_no_other(void **state)
{
    const struct group *group = quirk_group((const uint8_t *)"\x06\x05\x2b\x81\x04\x00\x23", 7);
    uint8_t point[133] = {4, 1, 2, 3}, value[QUIRK_POINT_SIZE_MAX];
    (void)state;
    for (int form = 0; form < POINT_FORMS; form++) {
        size_t size = quirk_point_write(form, point, sizeof(point), value);
        const uint8_t *found = quirk_point(group, value, size);
        assert_non_null(found);
        assert_memory_equal(found, point, sizeof(point));
        assert_null(quirk_point(group, value, size - 1));
    }
    size_t size = quirk_point_write(POINT_OCTET_STRING, point, sizeof(point), value);
    value[0] = 0x05;
    assert_null(quirk_point(group, value, size));
    assert_null(quirk_point(group, value, 0));
}

static void a_point_off_the_curve_is_refused(void **state)
{
    const struct group *group =
        quirk_group((const uint8_t *)"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", 10);
    uint8_t point[65] = {4, 1, 2, 3};
    struct public_key key;
    (void)state;
    assert_false(public_key_of_point(group, point, &key));
    assert_null(quirk_group((const uint8_t *)"\x06\x05\x2b\x81\x04\x00\x0a", 7)); /* secp256k1 */
    assert_int_equal(ERR_peek_error(), 0);
}

static void ml_dsa_keys_are_read_whether_openssl_has_them_or_not(void **state)
{
    static const struct {
        enum key_type type;
        size_t size;
    } types[] = {
        {KEY_TYPE_ML_DSA_44, 1312}, {KEY_TYPE_ML_DSA_65, 1952}, {KEY_TYPE_ML_DSA_87, 2592}};
    uint8_t bytes[PUBLIC_VALUE_SIZE_MAX + 1], value[PUBLIC_VALUE_SIZE_MAX];
    (void)state;
    memset(bytes, 0xa5, sizeof(bytes));
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct public_key key;
        enum key_type type;
        size_t size = 0;
        assert_true(public_key_of_bytes(bytes, types[i].size, &key));
        assert_int_equal(key.type, types[i].type);
        assert_int_equal(key.bits, 8 * types[i].size);
        assert_true(public_key_value(key.spki, key.spki_size, &type, value, &size));
        assert_int_equal(type, types[i].type);
        assert_int_equal(size, types[i].size);
        assert_memory_equal(value, bytes, size);
        const unsigned char *at = key.spki;
        EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)key.spki_size);
        ERR_clear_error();
        if (pkey != NULL) { /* OpenSSL 3.5 and later */
            uint8_t spki[SPKI_SIZE_MAX];
            assert_true(EVP_PKEY_is_a(pkey, key_type_name(type)));
            assert_int_equal(EVP_PKEY_get_bits(pkey), key.bits);
            assert_int_equal(spki_of(pkey, spki), key.spki_size);
            assert_memory_equal(spki, key.spki, key.spki_size);
        }
        EVP_PKEY_free(pkey);
        assert_false(public_key_of_bytes(bytes, types[i].size + 1, &key));
        assert_false(public_key_value(key.spki, key.spki_size - 1, &type, value, &size));
        assert_int_equal(ERR_peek_error(), 0);
    }
}

static void a_device_s_flags_are_put_right_for_ml_dsa_pairs_alone(void **state)
{
    (void)state;
    assert_int_equal(quirk_flags(CKM_ML_DSA_KEY_PAIR_GEN, CKF_GENERATE),
                     CKF_GENERATE | CKF_GENERATE_KEY_PAIR);
    assert_int_equal(quirk_flags(CKM_ML_DSA_KEY_PAIR_GEN, 0), 0);
    assert_int_equal(quirk_flags(CKM_AES_KEY_GEN, CKF_GENERATE), CKF_GENERATE);
}

static size_t number(EVP_PKEY *pkey, const char *name, uint8_t *bytes)
{
    BIGNUM *value = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(pkey, name, &value), 1);
    int size = BN_bn2bin(value, bytes);
    BN_free(value);
    return (size_t)size;
}

static void check_rsa(unsigned bits, bool accepted)
{
    EVP_PKEY *pkey = EVP_RSA_gen(bits);
    uint8_t modulus[1024] = {0}, exponent[8], spki[2048], value[PUBLIC_VALUE_SIZE_MAX];
    size_t n = number(pkey, OSSL_PKEY_PARAM_RSA_N, modulus + 1);
    size_t e = number(pkey, OSSL_PKEY_PARAM_RSA_E, exponent);
    size_t spki_size = spki_of(pkey, spki), value_size = 0;
    struct public_key key;
    enum key_type type;
    assert_int_equal(public_key_of_rsa(modulus + 1, n, exponent, e, &key), accepted);
    if (accepted) {
        assert_int_equal(key.bits, bits);
        assert_int_equal(key.spki_size, spki_size);
        assert_memory_equal(key.spki, spki, spki_size);
        assert_true(public_key_of_rsa(modulus, n + 1, exponent, e, &key)); /* a zero before it */
        assert_memory_equal(key.spki, spki, spki_size);
        assert_true(public_key_value(spki, spki_size, &type, value, &value_size));
        assert_int_equal(type, KEY_TYPE_RSA);
        assert_int_equal(value_size, n);
        assert_memory_equal(value, modulus + 1, n);
        assert_false(public_key_of_rsa(modulus + 1, n, exponent, 0, &key));
    }
    EVP_PKEY_free(pkey);
}

static void rsa_is_taken_from_2048_to_4096_bits(void **state)
{
    (void)state;
    check_rsa(1024, false);
    check_rsa(2048, true);
    check_rsa(3072, true);
    check_rsa(4096, true);
    struct public_key key;
    assert_false(public_key_of_rsa(NULL, 0, NULL, 0, &key));
}

static void garbage_is_no_public_key_and_leaves_no_openssl_error(void **state)
{
    uint8_t value[PUBLIC_VALUE_SIZE_MAX];
    size_t size;
    enum key_type type;
    (void)state;
    assert_false(public_key_value((const uint8_t *)"garbage", 7, &type, value, &size));
    EVP_PKEY *x25519 = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    uint8_t spki[64];
    size_t spki_size = spki_of(x25519, spki);
    assert_false(public_key_value(spki, spki_size, &type, value, &size));
    EVP_PKEY_free(x25519);
    assert_int_equal(ERR_peek_error(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_group_gives_openssls_der),
        cmocka_unit_test(points_are_found_in_every_wrapping_and_no_other),
        cmocka_unit_test(a_point_off_the_curve_is_refused),
        cmocka_unit_test(ml_dsa_keys_are_read_whether_openssl_has_them_or_not),
        cmocka_unit_test(a_device_s_flags_are_put_right_for_ml_dsa_pairs_alone),
        cmocka_unit_test(rsa_is_taken_from_2048_to_4096_bits),
        cmocka_unit_test(garbage_is_no_public_key_and_leaves_no_openssl_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
