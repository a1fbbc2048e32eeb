/*
 * Records of the audit log: what is written is read again, and nothing else is.
 */
#include "test.h"

#include <stdio.h>
#include <string.h>

#include "audit/record.h"

#define EVENT_HASH                                                                                 \
    "bbe7fb82874b333a6fa62e8baddaaeda"                                                             \
    "00c2202a4ef7acb42fa71787ee1853bb"

static const uint8_t zero[AUDIT_HASH_SIZE];

static const struct audit_record use = {
    .n = 7,
    .from = UINT64_C(1795641000123),
    .to = UINT64_C(1795641059999),
    .count = 12,
    .key = {0x3f, 0xa2, [31] = 0x99},
    .uid = 33,
    .name = "www \"quoted\" \xc3\xa9",
    .user = "www-data",
    .unit = "nginx.service",
    .use = "tls13-server",
    .outcome = "signed",
};

static const struct audit_record event = {
    .n = 1, .from = 0, .to = 1, .count = 1, .event = "start", .text = "immured 0.1.0"};

/* A line without its newline, and its size. */
static size_t line_of(const struct audit_record *record, char line[AUDIT_LINE_SIZE_MAX])
{
    struct audit_record copy = *record;
    size_t size = audit_record_format(&copy, zero, line);
    assert_true(size > 0 && size < AUDIT_LINE_SIZE_MAX);
    assert_int_equal(line[size - 1], '\n');
    return size - 1;
}

static void a_written_record_is_read_as_it_was(void **state)
{
    (void)state;
    const struct audit_record *const records[] = {&use, &event};
    for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
        char line[AUDIT_LINE_SIZE_MAX];
        struct audit_record read, expected = *records[i];
        size_t size = audit_record_format(&expected, zero, line) - 1;
        uint8_t hash[AUDIT_HASH_SIZE];
        assert_true(audit_record_parse(line, size, &read));
        assert_memory_equal(&read, &expected, sizeof(read));
        audit_record_hash(zero, line, size, hash);
        assert_memory_equal(read.hash, hash, sizeof(hash));
    }
}

static void the_hash_is_what_a_shell_computes(void **state)
{
    (void)state;
    /* { head -c 32 /dev/zero; printf '%s' '{"n":1,..."count":1'; } | sha256sum */
    char line[AUDIT_LINE_SIZE_MAX];
    size_t size = line_of(&event, line);
    line[size] = '\0';
    assert_string_equal(line, "{\"n\":1,\"from\":\"1970-01-01T00:00:00.000Z\",\"to\":"
                              "\"1970-01-01T00:00:00.001Z\",\"event\":\"start\",\"text\":"
                              "\"immured 0.1.0\",\"count\":1,\"hash\":\"" EVENT_HASH "\"}");
}

static void each_changed_byte_is_no_record_or_another_hash(void **state)
{
    (void)state;
    char line[AUDIT_LINE_SIZE_MAX];
    size_t size = line_of(&use, line);
    struct audit_record record;
    uint8_t hash[AUDIT_HASH_SIZE];
    for (size_t i = 0; i < size; i++) {
        line[i] ^= 1;
        if (audit_record_parse(line, size, &record)) {
            audit_record_hash(zero, line, size, hash);
            assert_memory_not_equal(hash, record.hash, sizeof(hash));
        }
        line[i] ^= 1;
    }
}

static void a_cut_line_is_no_record(void **state)
{
    (void)state;
    char line[AUDIT_LINE_SIZE_MAX];
    struct audit_record record;
    for (size_t size = line_of(&use, line); size-- > 0;)
        assert_false(audit_record_parse(line, size, &record));
}

#define HASH                                                                                       \
    ",\"hash\":\"00000000000000000000000000000000"                                                 \
    "00000000000000000000000000000000\"}"
#define TIMES "\"from\":\"2026-11-25T21:09:28.123Z\",\"to\":\"2026-11-25T21:09:28.123Z\""
#define EVENT "\"event\":\"start\",\"text\":\"x\""

static void what_is_out_of_range_or_twice_is_no_record(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool good;
    } cases[] = {
        {"{\"n\":1," TIMES "," EVENT ",\"count\":1" HASH, true},
        {"{\"n\":0," TIMES "," EVENT ",\"count\":1" HASH, false},
        {"{\"n\":-1," TIMES "," EVENT ",\"count\":1" HASH, false},
        {"{\"n\":1.5," TIMES "," EVENT ",\"count\":1" HASH, false},
        {"{\"n\":99999999999999999999," TIMES "," EVENT ",\"count\":1" HASH, false},
        {"{\"n\":1," TIMES "," EVENT ",\"count\":0" HASH, false},
        {"{\"n\":1,\"n\":2," TIMES "," EVENT ",\"count\":1" HASH, false},
        {"{\"n\":1," TIMES ",\"event\":\"\",\"text\":\"x\",\"count\":1" HASH, false},
        {"{\"n\":1," TIMES ",\"event\":\"a\\u0000b\",\"text\":\"x\",\"count\":1" HASH, false},
        {"{\"n\":1," TIMES ",\"event\":\"longer than any word that immured ever writes\","
         "\"text\":\"x\",\"count\":1" HASH,
         false},
        {"{\"n\":1,\"from\":\"2026-02-30T21:09:28.123Z\",\"to\":\"2026-11-25T21:09:28.123Z\"," EVENT
         ",\"count\":1" HASH,
         false},
        {"{\"n\":1,\"from\":\"2026-11-25T21:09:28.1234\",\"to\":\"2026-11-25T21:09:28.123Z\"," EVENT
         ",\"count\":1" HASH,
         false},
        {"{\"n\":1," TIMES ",\"key\":\"00\",\"count\":1" HASH, false},
        {"[1" HASH, false},
        {"", false},
    };
    struct audit_record record;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (audit_record_parse(cases[i].line, strlen(cases[i].line), &record) != cases[i].good)
            fail_msg("%s", cases[i].line);
    }
}

static void texts_that_are_not_utf8_or_long_are_written_all_the_same(void **state)
{
    (void)state;
    struct audit_record odd = use, read;
    char line[AUDIT_LINE_SIZE_MAX];
    memset(odd.name, 1, sizeof(odd.name) - 1); /* JSON makes it \u0001 */
    snprintf(odd.user, sizeof(odd.user), "jos\xe9");
    size_t size = line_of(&odd, line);
    assert_true(audit_record_parse(line, size, &read));
    assert_string_equal(read.name, odd.name);
    assert_string_equal(read.user, "jos?");
}

static void hexadecimal_is_64_lower_case_digits(void **state)
{
    (void)state;
    uint8_t bytes[AUDIT_HASH_SIZE];
    char text[AUDIT_HEX_SIZE];
    audit_hex_text(use.key, text);
    assert_true(audit_hex_parse(text, bytes));
    assert_memory_equal(bytes, use.key, sizeof(bytes));
    text[0] = 'F';
    assert_false(audit_hex_parse(text, bytes));
    assert_false(audit_hex_parse(text + 1, bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_record_is_read_as_it_was),
        cmocka_unit_test(the_hash_is_what_a_shell_computes),
        cmocka_unit_test(each_changed_byte_is_no_record_or_another_hash),
        cmocka_unit_test(a_cut_line_is_no_record),
        cmocka_unit_test(what_is_out_of_range_or_twice_is_no_record),
        cmocka_unit_test(texts_that_are_not_utf8_or_long_are_written_all_the_same),
        cmocka_unit_test(hexadecimal_is_64_lower_case_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
