/*
 * The classifier lets through what TLS servers sign, and nothing that is one byte off it.
 */
#include "test.h"

#include <string.h>

#include "daemon/tls_message.h"
#include "daemon/use.h"
#include "wire/cursor.h"

#define MESSAGE_SIZE_MAX   256
#define POINT_UNCOMPRESSED 4

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

static struct dhe_groups groups;
static enum rule rule;

static unsigned use_of_bytes(const uint8_t *message, size_t size)
{
    unsigned use = tls_message_use(message, size, &groups, &rule);
    assert_int_equal(use == 0, rule != RULE_NONE);
    return use;
}

static unsigned use_of(const struct vector *vector)
{
    return use_of_bytes(vector->bytes, vector->size);
}

#define VECTOR_COUNT 8

static void make_vectors(struct vector vectors[VECTOR_COUNT])
{
    vectors[0] = certificate_verify("TLS 1.3, SHA-256", 32);
    vectors[1] = certificate_verify("TLS 1.3, SHA-384", 48);
    vectors[2] = server_key_exchange("secp256r1", 23, 65, true);
    vectors[3] = server_key_exchange("secp384r1", 24, 97, true);
    vectors[4] = server_key_exchange("secp521r1", 25, 133, true);
    vectors[5] = server_key_exchange("x25519", 29, 32, false);
    vectors[6] = server_key_exchange("x448", 30, 56, false);
    vectors[7] = server_key_exchange("brainpoolP256r1", 26, 65, true);
}

static void handshakes_of_each_hash_and_curve_are_recognised(void **state)
{
    (void)state;
    struct vector vectors[VECTOR_COUNT];
    make_vectors(vectors);
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        if (use_of(&vectors[i]) != vectors[i].use)
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
            if (use_of_bytes(vectors[i].bytes, size) != 0)
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
            if (use_of(&vectors[i]) != 0)
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
        size_t fixed_end = vectors[i].bytes[66] < 29 ? 69 : 68; /* with the point's first byte */
        for (size_t at = 64; at < fixed_end; at++) {
            uint8_t good = vectors[i].bytes[at];
            for (unsigned value = 0; value < 256; value++) {
                vectors[i].bytes[at] = (uint8_t)value;
                /* brainpool's points are as long as those of the NIST curves three before */
                bool twin = at == 66 && good != 25 && (value == good + 3U || value + 3U == good);
                if (value != good && !twin && use_of(&vectors[i]) != 0)
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
    assert_int_equal(use_of(&vector), 0);
}

#define PRIME_SIZE_MAX 1024
#define DHE_SIZE_MAX   (64 + 2 + PRIME_SIZE_MAX + 3 + 2 + PRIME_SIZE_MAX)

/* What is signed with DHE in a group; its size. */
static size_t dhe_message(size_t group, uint8_t message[DHE_SIZE_MAX + 1])
{
    struct writer writer = writer_of(message, DHE_SIZE_MAX + 1);
    const uint8_t randoms[64] = {0x5a}, generator[] = {0, 1, 2};
    uint8_t value[PRIME_SIZE_MAX];
    memset(value, 0x77, sizeof(value));
    writer_bytes(&writer, randoms, sizeof(randoms));
    writer_u16(&writer, (uint16_t)groups.group[group].size);
    writer_bytes(&writer, groups.group[group].prime, groups.group[group].size);
    writer_bytes(&writer, generator, sizeof(generator));
    writer_u16(&writer, (uint16_t)groups.group[group].size);
    writer_bytes(&writer, value, groups.group[group].size);
    assert_false(writer.failed);
    return writer.used;
}

static void dhe_is_recognised_in_each_well_known_group(void **state)
{
    (void)state;
    uint8_t message[DHE_SIZE_MAX + 1] = {0};
    assert_int_equal(groups.count, DHE_GROUPS_MAX);
    for (size_t i = 0; i < groups.count; i++) {
        size_t size = dhe_message(i, message);
        assert_int_equal(use_of_bytes(message, size), USE_TLS12_SERVER_DHE);
        assert_int_equal(use_of_bytes(message, size - 1), 0);
        assert_int_equal(rule, RULE_TLS12_PUBLIC_VALUE);
        assert_int_equal(use_of_bytes(message, size + 1), 0);
        assert_int_equal(rule, RULE_TLS12_PUBLIC_VALUE);
    }
}

static void dhe_with_any_byte_of_the_group_changed_is_refused(void **state)
{
    (void)state;
    uint8_t message[DHE_SIZE_MAX + 1] = {0};
    for (size_t i = 0; i < groups.count; i++) {
        size_t size = dhe_message(i, message);
        for (size_t at = 64; at < 64 + 2 + groups.group[i].size + 5; at++) {
            message[at] ^= 1;
            /* one less than the prime's size is a good size, but not to the message's end */
            if (use_of_bytes(message, size) != 0)
                fail_msg("group %zu is taken with byte %zu changed", i, at);
            message[at] ^= 1;
        }
    }
}

static void what_a_tls_client_signs_is_refused_though_a_key_exchange_is_in_it(void **state)
{
    (void)state;
    uint8_t message[DHE_SIZE_MAX + 1] = {0};
    const uint8_t today[] = {1, 0, 2, 0, 3, 3}, old[] = {1, 3, 3, 0, 9, 0, 0, 0, 32};
    struct vector vectors[VECTOR_COUNT];
    make_vectors(vectors);
    memcpy(vectors[2].bytes, (const uint8_t[]){1, 0, 0, 129, 3, 3}, 6);
    assert_int_equal(use_of(&vectors[2]), 0);
    assert_int_equal(rule, RULE_TLS12_TRANSCRIPT);
    size_t size = dhe_message(0, message);
    memcpy(message, today, sizeof(today));
    assert_int_equal(use_of_bytes(message, size), 0);
    assert_int_equal(rule, RULE_TLS12_TRANSCRIPT);
    memcpy(message, old, sizeof(old));
    assert_int_equal(use_of_bytes(message, size), 0);
    assert_int_equal(rule, RULE_TLS12_TRANSCRIPT);
    message[0] = 2; /* and else it is one */
    assert_int_equal(use_of_bytes(message, size), USE_TLS12_SERVER_DHE);
}

/* Bytes 64 to 68 of both are in a string that the attacker chooses. */
static void a_key_exchange_that_is_a_certificate_or_mail_attributes_is_refused(void **state)
{
    (void)state;
    struct vector vectors[VECTOR_COUNT];
    static const uint8_t certificate[] = {0x30, 0x81, 130, 0xa0, 3, 2, 1, 2, 2, 1, 1, 0x30, 0x78},
                         attributes[] = {0x31, 0x81, 130, 0x30, 0x18, [29] = 0x30, 0x66};
    make_vectors(vectors);
    memcpy(vectors[2].bytes, certificate, sizeof(certificate));
    assert_int_equal(use_of(&vectors[2]), 0);
    assert_int_equal(rule, RULE_TLS12_DER);
    vectors[2].bytes[2]--; /* shorter than the message: no DER */
    assert_int_equal(use_of(&vectors[2]), USE_TLS12_SERVER);
    make_vectors(vectors);
    memcpy(vectors[2].bytes, attributes, sizeof(attributes));
    assert_int_equal(use_of(&vectors[2]), 0);
    assert_int_equal(rule, RULE_TLS12_DER);
}

/* Two elements, of which the first ends before the fixed bytes; those are in the second. */
static unsigned use_of_pair(uint8_t first, uint8_t second)
{
    struct vector vectors[VECTOR_COUNT];
    const uint8_t pair[] = {0x30, 0x81, 130, first, 10, [15] = second, 116};
    make_vectors(vectors);
    memcpy(vectors[2].bytes, pair, sizeof(pair));
    return use_of(&vectors[2]);
}

static void a_key_exchange_that_is_a_signed_pair_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t first, second;
    } pairs[] = {
        {"CMP's initialization request (RFC 4210 5.1.3)", 0x30, 0xa0},
        {"CMP's certification request", 0x30, 0xa2},
        {"CMP's revocation request", 0x30, 0xab},
        {"CMP's polling response", 0x30, 0xba},
        {"CRMF's CertRequest (RFC 4211 5)", 0x02, 0x30},
        {"CRMF's POPOSigningKeyInput with a sender (RFC 4211 4.1)", 0xa0, 0x30},
        {"the same with a MAC", 0x30, 0x30},
        {"OCSP's TBSRequest (RFC 6960 4.1.1)", 0xa1, 0x30},
        {"PKINIT's AuthPack (RFC 4556 3.2.1)", 0xa0, 0xa1},
        {"SPKAC", 0x30, 0x16},
    };
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        if (use_of_pair(pairs[i].first, pairs[i].second) != 0 || rule != RULE_TLS12_DER)
            fail_msg("%s is taken", pairs[i].what);
    }
    assert_int_equal(use_of_pair(0x04, 0x30), USE_TLS12_SERVER);
    assert_int_equal(use_of_pair(0x30, 0x04), USE_TLS12_SERVER);
    assert_int_equal(use_of_pair(0x30, 0x82), 0);
    assert_int_equal(use_of_pair(0x30, 0x62), USE_TLS12_SERVER); /* of another class */
}

/* xorshift64: the same numbers in each run. */
static void fill_randomly(uint8_t *bytes, size_t size)
{
    static uint64_t x = 88172645463325252;
    for (size_t at = 0; at < size; at++) {
        if (at % sizeof(x) == 0) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        bytes[at] = (uint8_t)(x >> at % sizeof(x) * 8);
    }
}

/* How many of so many messages are refused that are random but for their form and this start. */
static unsigned refused(const struct vector *vector, const uint8_t *start, size_t start_size,
                        unsigned draws)
{
    struct vector drawn = *vector;
    size_t fixed_size = vector->bytes[68] == POINT_UNCOMPRESSED ? 5 : 4;
    unsigned count = 0;
    while (draws-- > 0) {
        fill_randomly(drawn.bytes, drawn.size);
        memcpy(drawn.bytes, start, start_size);
        memcpy(drawn.bytes + 64, vector->bytes + 64, fixed_size);
        count += use_of(&drawn) == 0;
    }
    return count;
}

#define DRAWS (1U << 19)

static void random_key_exchanges_are_not_refused(void **state)
{
    (void)state;
    struct vector vectors[VECTOR_COUNT];
    make_vectors(vectors);
    for (size_t i = 2; i < VECTOR_COUNT; i++)
        assert_int_equal(refused(&vectors[i], vectors[i].bytes, 0, DRAWS / 8), 0);
}

/*
 * Where a random number begins as a SEQUENCE or SET of the right length, which one in 2^15 does
 * with the two shortest points, so few are refused that it is less than one in 2^30 of all.
 */
static void a_key_exchange_is_refused_by_chance_less_than_once_in_2_to_the_30(void **state)
{
    (void)state;
    struct vector vectors[VECTOR_COUNT];
    make_vectors(vectors);
    for (size_t i = 5; i <= 6; i++) {
        const uint8_t sequence[] = {0x30, (uint8_t)(vectors[i].size - 2)},
                      set[] = {0x31, (uint8_t)(vectors[i].size - 2)};
        unsigned count = refused(&vectors[i], sequence, sizeof(sequence), DRAWS) +
                         refused(&vectors[i], set, sizeof(set), DRAWS);
        if (count == 0 || count > DRAWS >> 15)
            fail_msg("%s: %u of 2 * %u are refused", vectors[i].name, count, DRAWS);
    }
}

/* In a nonce of OpenSSH's certificate there is room for a group, and none in what has a point. */
static void a_dhe_key_exchange_that_begins_as_ssh_s_is_refused(void **state)
{
    (void)state;
    uint8_t message[DHE_SIZE_MAX + 1] = {0};
    struct vector vectors[VECTOR_COUNT];
    size_t size = dhe_message(0, message);
    memcpy(message, (const uint8_t[]){0, 0, 0, 20}, 4);
    assert_int_equal(use_of_bytes(message, size), 0);
    assert_int_equal(rule, RULE_TLS12_SSH);
    message[3] = 19;
    assert_int_equal(use_of_bytes(message, size), USE_TLS12_SERVER_DHE);
    make_vectors(vectors);
    memcpy(vectors[2].bytes, (const uint8_t[]){0, 0, 0, 20}, 4);
    assert_int_equal(use_of(&vectors[2]), USE_TLS12_SERVER);
}

static void a_refusal_tells_what_it_came_to_grief_on(void **state)
{
    (void)state;
    struct vector vectors[VECTOR_COUNT];
    const struct {
        size_t vector, at;
        enum rule rule;
    } cases[] = {
        {0, 70, RULE_TLS13_CONTEXT}, {0, 97, RULE_TLS13_CONTEXT}, {0, 3, RULE_MESSAGE},
        {2, 66, RULE_TLS12_CURVE},   {2, 67, RULE_TLS12_POINT},   {2, 68, RULE_TLS12_POINT},
        {2, 64, RULE_MESSAGE},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        make_vectors(vectors);
        vectors[cases[i].vector].bytes[cases[i].at] ^= 0x80;
        assert_int_equal(use_of(&vectors[cases[i].vector]), 0);
        assert_int_equal(rule, cases[i].rule);
    }
    make_vectors(vectors);
    assert_int_equal(use_of_bytes(vectors[0].bytes, vectors[0].size - 1), 0);
    assert_int_equal(rule, RULE_TLS13_HASH);
}

static int load_groups(void **state)
{
    (void)state;
    dhe_groups_load(&groups);
    return 0;
}

static int free_groups(void **state)
{
    (void)state;
    dhe_groups_free(&groups);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes_of_each_hash_and_curve_are_recognised),
        cmocka_unit_test(a_byte_more_or_any_number_less_is_refused),
        cmocka_unit_test(a_changed_byte_of_certificate_verify_is_refused),
        cmocka_unit_test(every_other_value_in_the_curve_parameters_is_refused),
        cmocka_unit_test(a_client_s_certificate_verify_is_refused),
        cmocka_unit_test(dhe_is_recognised_in_each_well_known_group),
        cmocka_unit_test(dhe_with_any_byte_of_the_group_changed_is_refused),
        cmocka_unit_test(what_a_tls_client_signs_is_refused_though_a_key_exchange_is_in_it),
        cmocka_unit_test(a_key_exchange_that_is_a_certificate_or_mail_attributes_is_refused),
        cmocka_unit_test(a_key_exchange_that_is_a_signed_pair_is_refused),
        cmocka_unit_test(random_key_exchanges_are_not_refused),
        cmocka_unit_test(a_key_exchange_is_refused_by_chance_less_than_once_in_2_to_the_30),
        cmocka_unit_test(a_dhe_key_exchange_that_begins_as_ssh_s_is_refused),
        cmocka_unit_test(a_refusal_tells_what_it_came_to_grief_on),
    };
    return cmocka_run_group_tests(tests, load_groups, free_groups);
}
