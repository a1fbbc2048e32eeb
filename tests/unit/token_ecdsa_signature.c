/* r || s to DER: a mistake here makes one handshake in 256 fail, or an INTEGER negative. */
#include "test.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/rand.h>
#include <string.h>

#include "token/ecdsa_signature.h"

#define DER_SIZE 141

static void expect(const uint8_t *raw, size_t raw_size, const char *der, size_t der_size)
{
    uint8_t buffer[DER_SIZE];
    assert_int_equal(ecdsa_signature_encode(raw, raw_size, buffer, sizeof(buffer)), der_size);
    assert_memory_equal(buffer, der, der_size);
}

static void leading_zeros_are_dropped_and_the_high_bit_is_padded(void **state)
{
    (void)state;
    expect((uint8_t[]){0x00, 0x01, 0x00, 0x7f}, 4, "\x30\x06\x02\x01\x01\x02\x01\x7f", 8);
    expect((uint8_t[]){0x00, 0x80, 0x80, 0x00}, 4, "\x30\x09\x02\x02\x00\x80\x02\x03\x00\x80\x00",
           11);
    expect((uint8_t[]){0xff, 0x7f}, 2, "\x30\x07\x02\x02\x00\xff\x02\x01\x7f", 9);
}

static void a_signature_with_zero_is_refused(void **state)
{
    uint8_t der[DER_SIZE], raw[64] = {0};
    (void)state;
    assert_int_equal(ecdsa_signature_encode(raw, 64, der, sizeof(der)), 0);
    raw[31] = 1;
    assert_int_equal(ecdsa_signature_encode(raw, 64, der, sizeof(der)), 0);
    raw[63] = 1;
    assert_int_equal(ecdsa_signature_encode(raw, 64, der, sizeof(der)), 8);
}

static void wrong_sizes_are_refused(void **state)
{
    uint8_t der[DER_SIZE], raw[ECDSA_RAW_SIZE_MAX + 2];
    (void)state;
    memset(raw, 0xff, sizeof(raw));
    assert_int_equal(ecdsa_signature_encode(raw, 0, der, sizeof(der)), 0);
    assert_int_equal(ecdsa_signature_encode(raw, 63, der, sizeof(der)), 0);
    assert_int_equal(ecdsa_signature_encode(raw, ECDSA_RAW_SIZE_MAX + 2, der, sizeof(der)), 0);
    assert_int_equal(ecdsa_signature_encode(raw, ECDSA_RAW_SIZE_MAX, der, DER_SIZE - 1), 0);
    assert_int_equal(ecdsa_signature_encode(raw, ECDSA_RAW_SIZE_MAX, der, DER_SIZE), DER_SIZE);
    assert_int_equal(der[1], 0x81);
}

static size_t encode_by_openssl(const uint8_t *raw, size_t raw_size, uint8_t *der)
{
    ECDSA_SIG *signature = ECDSA_SIG_new();
    int half = (int)raw_size / 2;
    ECDSA_SIG_set0(signature, BN_bin2bn(raw, half, NULL), BN_bin2bn(raw + half, half, NULL));
    int size = i2d_ECDSA_SIG(signature, &der);
    ECDSA_SIG_free(signature);
    return (size_t)size;
}

static void random_signatures_are_what_openssl_writes(void **state)
{
    static const size_t sizes[] = {64, 96, 132};
    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint8_t raw[ECDSA_RAW_SIZE_MAX], ours[DER_SIZE], theirs[DER_SIZE + 8];
        size_t size = sizes[round % 3];
        RAND_bytes(raw, (int)size);
        /* many zeros in front, so that every length occurs */
        memset(raw, 0, (size_t)round % (size / 2));
        raw[size / 2 - 1] |= 1;
        raw[size - 1] |= 1;
        size_t expected = encode_by_openssl(raw, size, theirs);
        assert_int_equal(ecdsa_signature_encode(raw, size, ours, sizeof(ours)), expected);
        assert_memory_equal(ours, theirs, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leading_zeros_are_dropped_and_the_high_bit_is_padded),
        cmocka_unit_test(a_signature_with_zero_is_refused),
        cmocka_unit_test(wrong_sizes_are_refused),
        cmocka_unit_test(random_signatures_are_what_openssl_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
