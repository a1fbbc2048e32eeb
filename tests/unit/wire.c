#include "test.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/cursor.h"
#include "wire/message.h"
#include "wire/reference.h"
#include "wire/scheme.h"

static void test_reader_stops_at_the_end(void **state)
{
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7};
    (void)state;
    struct reader reader = reader_of(bytes, sizeof(bytes));
    assert_int_equal(reader_u8(&reader), 1);
    assert_int_equal(reader_u16(&reader), 0x0203);
    assert_int_equal(reader_u32(&reader), 0x04050607);
    assert_true(reader_done(&reader));
    assert_int_equal(reader_u8(&reader), 0);
    assert_false(reader_done(&reader));

    reader = reader_of(bytes, sizeof(bytes));
    assert_null(reader_bytes(&reader, SIZE_MAX));
    assert_int_equal(reader_u8(&reader), 0); /* stays failed */
}

static void test_writer_stops_at_the_end(void **state)
{
    uint8_t bytes[4] = {0xaa, 0xaa, 0xaa, 0xaa};
    (void)state;
    struct writer writer = writer_of(bytes, 3);
    writer_u16(&writer, 0x0102);
    writer_u16(&writer, 0x0304);
    assert_true(writer.failed);
    writer_u8(&writer, 5);
    assert_int_equal(writer.used, 2);
    assert_int_equal(bytes[2], 0xaa);
    assert_int_equal(bytes[3], 0xaa);
}

static struct wire_request example_request(void)
{
    struct wire_request request = {
        .operation = WIRE_SIGN,
        .scheme = 0x0403,
        .deadline_ms = 2000,
        .id = 7,
        .payload = (const uint8_t *)"abc",
        .payload_size = 3,
    };
    for (int i = 0; i < KEY_ID_SIZE; i++)
        request.key_id[i] = (uint8_t)i;
    return request;
}

static void test_request_survives_the_wire(void **state)
{
    uint8_t datagram[WIRE_DATAGRAM_SIZE_MAX];
    struct wire_request sent = example_request(), got;
    (void)state;
    size_t size = wire_request_encode(&sent, datagram, sizeof(datagram));
    assert_int_equal(size, WIRE_REQUEST_HEADER_SIZE + 3);
    assert_int_equal(wire_request_decode(datagram, size, &got), WIRE_OK);
    assert_int_equal(got.operation, sent.operation);
    assert_int_equal(got.scheme, sent.scheme);
    assert_int_equal(got.deadline_ms, sent.deadline_ms);
    assert_int_equal(got.id, sent.id);
    assert_memory_equal(got.key_id, sent.key_id, KEY_ID_SIZE);
    assert_int_equal(got.payload_size, 3);
    assert_memory_equal(got.payload, "abc", 3);
}

static void test_request_cut_anywhere_is_malformed(void **state)
{
    uint8_t datagram[WIRE_REQUEST_HEADER_SIZE + 3];
    struct wire_request sent = example_request(), got;
    (void)state;
    assert_int_not_equal(wire_request_encode(&sent, datagram, sizeof(datagram)), 0);
    for (size_t size = 0; size < WIRE_REQUEST_HEADER_SIZE; size++)
        assert_int_equal(wire_request_decode(datagram, size, &got), WIRE_MALFORMED);
    assert_int_equal(wire_request_decode(datagram, WIRE_REQUEST_HEADER_SIZE, &got), WIRE_OK);
    assert_int_equal(got.payload_size, 0);
}

static void test_request_of_another_version_is_named_with_its_id(void **state)
{
    uint8_t datagram[WIRE_REQUEST_HEADER_SIZE + 3];
    struct wire_request sent = example_request(), got;
    (void)state;
    size_t size = wire_request_encode(&sent, datagram, sizeof(datagram));
    datagram[0] = WIRE_VERSION + 1;
    assert_int_equal(wire_request_decode(datagram, size, &got), WIRE_UNSUPPORTED_VERSION);
    assert_int_equal(got.id, 7);
    assert_int_equal(wire_request_decode(datagram, 1, &got), WIRE_UNSUPPORTED_VERSION);
}

static void test_request_that_does_not_fit_is_not_written(void **state)
{
    static uint8_t datagram[2 * WIRE_DATAGRAM_SIZE_MAX], payload[WIRE_DATAGRAM_SIZE_MAX];
    struct wire_request request = example_request();
    (void)state;
    request.payload = payload;
    request.payload_size = WIRE_PAYLOAD_SIZE_MAX;
    assert_int_equal(wire_request_encode(&request, datagram, sizeof(datagram)),
                     WIRE_DATAGRAM_SIZE_MAX);
    request.payload_size++;
    assert_int_equal(wire_request_encode(&request, datagram, sizeof(datagram)), 0);
    assert_int_equal(wire_request_encode(&request, datagram, WIRE_REQUEST_HEADER_SIZE), 0);
}

static void test_reply_survives_the_wire(void **state)
{
    uint8_t datagram[64];
    struct wire_reply sent = {.operation = WIRE_SIGN,
                              .status = WIRE_BUSY,
                              .id = UINT64_MAX,
                              .payload = (const uint8_t *)"why",
                              .payload_size = 3};
    struct wire_reply got;
    (void)state;
    size_t size = wire_reply_encode(&sent, datagram, sizeof(datagram));
    assert_true(wire_reply_decode(datagram, size, &got));
    assert_int_equal(got.status, WIRE_BUSY);
    assert_int_equal(got.id, UINT64_MAX);
    assert_memory_equal(got.payload, "why", 3);
    for (size_t cut = 0; cut < WIRE_REPLY_HEADER_SIZE; cut++)
        assert_false(wire_reply_decode(datagram, cut, &got));
    datagram[0]++;
    assert_false(wire_reply_decode(datagram, size, &got));
    assert_string_equal(wire_status_name(WIRE_NOT_GRANTED), "not granted");
    assert_string_equal(wire_status_name(0xffff), "unknown status");
}

static void test_schemes_are_ianas(void **state)
{
    (void)state;
    assert_int_equal(scheme_find(KEY_TYPE_EC, SCHEME_PADDING_NONE, "SHA384")->code, 0x0503);
    assert_int_equal(scheme_find(KEY_TYPE_RSA, SCHEME_PADDING_PSS, "SHA256")->code, 0x0804);
    assert_int_equal(scheme_find(KEY_TYPE_RSA, SCHEME_PADDING_PKCS1, NULL)->code,
                     SCHEME_RSA_PKCS1_RAW);
    assert_int_equal(scheme_find(KEY_TYPE_ED25519, SCHEME_PADDING_NONE, NULL)->code, 0x0807);
    assert_int_equal(scheme_find(KEY_TYPE_ML_DSA_44, SCHEME_PADDING_NONE, NULL)->code, 0x0904);
    assert_int_equal(scheme_find(KEY_TYPE_ML_DSA_87, SCHEME_PADDING_NONE, NULL)->code, 0x0906);
    assert_string_equal(key_type_name(scheme_by_code(0x0905)->key_type), "ML-DSA-65");
    assert_null(scheme_find(KEY_TYPE_ML_DSA_65, SCHEME_PADDING_NONE, "SHA256"));
    assert_null(scheme_find(KEY_TYPE_RSA, SCHEME_PADDING_PSS, NULL));
    assert_null(scheme_by_code(0x0201)); /* rsa_pkcs1_sha1 */
    assert_int_equal(scheme_by_code(0x0603)->group_bits, 521);
}

/* The outer shape of a SubjectPublicKeyInfo is all that the reference's decoder looks at. */
static const uint8_t example_spki[] = {0x30, 0x03, 0x02, 0x01, 0x05};

static uint8_t *encode(const char *name, const char *uri, size_t *size)
{
    struct key_reference reference = {(uint8_t *)example_spki, sizeof(example_spki), (char *)name,
                                      (char *)uri};
    return key_reference_encode(&reference, size);
}

static void test_reference_survives_der(void **state)
{
    struct key_reference reference;
    size_t size;
    (void)state;
    uint8_t *der = encode("www.ex\xc3\xa4mple", "pkcs11:token=prod", &size);
    assert_non_null(der);
    assert_true(key_reference_decode(der, size, &reference));
    assert_string_equal(reference.name, "www.ex\xc3\xa4mple");
    assert_string_equal(reference.uri, "pkcs11:token=prod");
    assert_int_equal(reference.spki_size, sizeof(example_spki));
    assert_memory_equal(reference.spki, example_spki, sizeof(example_spki));
    key_reference_clear(&reference);
    OPENSSL_free(der);

    der = encode("n", NULL, &size);
    assert_true(key_reference_decode(der, size, &reference));
    assert_null(reference.uri);
    key_reference_clear(&reference);
    OPENSSL_free(der);
}

static void test_reference_with_a_byte_less_or_more_is_none(void **state)
{
    struct key_reference reference;
    size_t size;
    (void)state;
    uint8_t *der = encode("www", "pkcs11:token=prod", &size);
    uint8_t *longer = calloc(1, size + 1);
    assert_non_null(longer);
    memcpy(longer, der, size);
    assert_false(key_reference_decode(longer, size + 1, &reference));
    for (size_t cut = 0; cut < size; cut++)
        assert_false(key_reference_decode(der, cut, &reference));
    assert_int_equal(ERR_peek_error(), 0);
    free(longer);
    OPENSSL_free(der);
}

static void test_reference_with_a_bad_name_is_none(void **state)
{
    char long_name[KEY_NAME_SIZE_MAX + 2];
    memset(long_name, 'n', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    const char *const names[] = {"", "a\nb", "a\x7f", "\xc3\x28", "\xff", long_name};
    struct key_reference reference;
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        size_t size = 0;
        uint8_t *der = encode(names[i], NULL, &size);
        assert_false(der != NULL && key_reference_decode(der, size, &reference));
        OPENSSL_free(der);
    }
}

static void test_reference_of_another_version_is_none(void **state)
{
    struct key_reference reference;
    size_t size;
    (void)state;
    uint8_t *der = encode("www", NULL, &size);
    assert_int_equal(der[4], 1); /* 30 len 02 01 01 */
    der[4] = 2;
    assert_false(key_reference_decode(der, size, &reference));
    OPENSSL_free(der);
}

/* The lines of hexadecimal digits below a heading of doc/protocol.md. */
static size_t read_example(const char *heading, uint8_t *bytes, size_t capacity)
{
    FILE *page = fopen(PROTOCOL_PAGE, "r");
    char line[256];
    size_t size = 0;
    bool inside = false, block = false;
    assert_non_null(page);
    while (fgets(line, sizeof(line), page) != NULL) {
        if (line[0] == '#')
            inside = strstr(line, heading) != NULL;
        else if (strncmp(line, "```", 3) == 0)
            block = !block;
        for (char *at = line; inside && block && line[0] != '`';) {
            char *end;
            long byte = strtol(at, &end, 16);
            if (end != at + 3 && end != at + 2)
                break; /* the rest of the line is a remark */
            assert_true(size < capacity);
            bytes[size++] = (uint8_t)byte;
            at = end;
        }
    }
    fclose(page);
    return size;
}

static void test_protocol_page_examples_are_true(void **state)
{
    uint8_t page[512], encoded[512];
    struct wire_request request;
    struct wire_reply reply;
    (void)state;

    size_t size = read_example("Example: a request", page, sizeof(page));
    assert_int_equal(wire_request_decode(page, size, &request), WIRE_OK);
    assert_int_equal(request.operation, WIRE_SIGN);
    assert_int_equal(request.scheme, 0x0403);
    assert_int_equal(request.deadline_ms, 2000);
    assert_int_equal(request.id, 1);
    assert_int_equal(request.payload_size, 5);
    assert_memory_equal(request.payload, "hello", 5);
    assert_int_equal(wire_request_encode(&request, encoded, sizeof(encoded)), size);
    assert_memory_equal(encoded, page, size);

    size = read_example("Example: a refusal", page, sizeof(page));
    assert_true(wire_reply_decode(page, size, &reply));
    assert_int_equal(reply.status, WIRE_MESSAGE_REFUSED);
    assert_int_equal(reply.id, 1);
    assert_int_equal(reply.payload_size, 8);
    assert_memory_equal(reply.payload, "not TLS!", 8);
    assert_int_equal(wire_reply_encode(&reply, encoded, sizeof(encoded)), size);
    assert_memory_equal(encoded, page, size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_stops_at_the_end),
        cmocka_unit_test(test_writer_stops_at_the_end),
        cmocka_unit_test(test_request_survives_the_wire),
        cmocka_unit_test(test_request_cut_anywhere_is_malformed),
        cmocka_unit_test(test_request_of_another_version_is_named_with_its_id),
        cmocka_unit_test(test_request_that_does_not_fit_is_not_written),
        cmocka_unit_test(test_reply_survives_the_wire),
        cmocka_unit_test(test_schemes_are_ianas),
        cmocka_unit_test(test_reference_survives_der),
        cmocka_unit_test(test_reference_with_a_byte_less_or_more_is_none),
        cmocka_unit_test(test_reference_with_a_bad_name_is_none),
        cmocka_unit_test(test_reference_of_another_version_is_none),
        cmocka_unit_test(test_protocol_page_examples_are_true),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
