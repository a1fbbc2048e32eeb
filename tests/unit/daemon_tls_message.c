/*
 * The classifier lets through what TLS servers sign, and nothing that is one byte off it.
 */
#include "test.h"

#include <string.h>

#include "daemon/config.h"
#include "daemon/tls_message.h"

#define MESSAGE_SIZE_MAX 256

struct vector {
    const char *name;
    size_t size, variable_start, variable_end; /* bytes whose value does not matter */
    unsigned use;
    uint8_t bytes[MESSAGE_SIZE_MAX];
};

static struct vector certificate_verify(const char *name, size_t hash_size)
{
    static const char context[] = "TLS 1.3, server CertificateVerify";
    struct vector vector = {.name = name, .use = USE_TLS13_SERVER};
    memset(vector.bytes, 0x20, 64);
    memcpy(vector.bytes + 64, context, sizeof(context));
    vector.variable_start = 64 + sizeof(context);
    vector.size = vector.variable_end = vector.variable_start + hash_size;
    memset(vector.bytes + vector.variable_start, 0xa5, hash_size);
    return vector;
}

static struct vector server_key_exchange(const char *name, uint8_t curve, uint8_t point_size,
                                         bool uncompressed)
{
    struct vector vector = {.name = name, .use = USE_TLS12_SERVER, .size = 68U + point_size};
    const uint8_t parameters[] = {3, 0, curve, point_size, uncompressed ? 4 : 0x77};
    memset(vector.bytes, 0x5a, sizeof(vector.bytes));
    memcpy(vector.bytes + 64, parameters, sizeof(parameters));
    return vector;
}

#define VECTOR_COUNT 7

static void make_vectors(struct vector vectors[VECTOR_COUNT])
{
    vectors[0] = certificate_verify("TLS 1.3, SHA-256", 32);
    vectors[1] = certificate_verify("TLS 1.3, SHA-384", 48);
    vectors[2] = server_key_exchange("secp256r1", 23, 65, true);
    vectors[3] = server_key_exchange("secp384r1", 24, 97, true);
    vectors[4] = server_key_exchange("secp521r1", 25, 133, true);
    vectors[5] = server_key_exchange("x25519", 29, 32, false);
    vectors[6] = server_key_exchange("x448", 30, 56, false);
}

static void handshakes_of_each_hash_and_curve_are_recognised(void **state)
{
    (void)state;
    struct vector vectors[VECTOR_COUNT];
    make_vectors(vectors);
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        if (tls_message_use(vectors[i].bytes, vectors[i].size) != vectors[i].use)
            fail_msg("%s is not recognised", vectors[i].name);
    }
}

static void a_byte_more_or_any_number_less_is_refused(void **state)
{
    (void)state;
    struct vector vectors[VECTOR_COUNT];
    make_vectors(vectors);
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        for (size_t size = 0; size <= vectors[i].size + 1; size++) {
            bool other_hash = vectors[i].use == USE_TLS13_SERVER && size == 64 + 34 + 32;
            if (size == vectors[i].size || other_hash)
                continue;
            if (tls_message_use(vectors[i].bytes, size) != 0)
                fail_msg("%s is taken with %zu bytes", vectors[i].name, size);
        }
    }
}

static void a_changed_byte_of_certificate_verify_is_refused(void **state)
{
    (void)state;
    struct vector vectors[VECTOR_COUNT];
    make_vectors(vectors);
    for (size_t i = 0; i < 2; i++) {
        for (size_t at = 0; at < vectors[i].variable_start; at++) {
            vectors[i].bytes[at] ^= 1;
            if (tls_message_use(vectors[i].bytes, vectors[i].size) != 0)
                fail_msg("%s is taken with byte %zu changed", vectors[i].name, at);
            vectors[i].bytes[at] ^= 1;
        }
    }
}

static void every_other_value_in_the_curve_parameters_is_refused(void **state)
{
    (void)state;
    struct vector vectors[VECTOR_COUNT];
    make_vectors(vectors);
    for (size_t i = 2; i < VECTOR_COUNT; i++) {
        size_t fixed_end = vectors[i].bytes[66] <= 25 ? 69 : 68; /* with the point's first byte */
        for (size_t at = 64; at < fixed_end; at++) {
            uint8_t good = vectors[i].bytes[at];
            for (unsigned value = 0; value < 256; value++) {
                vectors[i].bytes[at] = (uint8_t)value;
                if (value != good && tls_message_use(vectors[i].bytes, vectors[i].size) != 0)
                    fail_msg("%s is taken with byte %zu = %u", vectors[i].name, at, value);
            }
            vectors[i].bytes[at] = good;
        }
    }
}

static void a_client_s_certificate_verify_is_refused(void **state)
{
    (void)state;
    static const char context[] = "TLS 1.3, client CertificateVerify";
    struct vector vector = certificate_verify("client", 32);
    memcpy(vector.bytes + 64, context, sizeof(context));
    assert_int_equal(tls_message_use(vector.bytes, vector.size), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes_of_each_hash_and_curve_are_recognised),
        cmocka_unit_test(a_byte_more_or_any_number_less_is_refused),
        cmocka_unit_test(a_changed_byte_of_certificate_verify_is_refused),
        cmocka_unit_test(every_other_value_in_the_curve_parameters_is_refused),
        cmocka_unit_test(a_client_s_certificate_verify_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
