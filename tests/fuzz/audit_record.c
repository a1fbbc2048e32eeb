/*
 * audit/record.h: what is read of a line is what its JSON says, with the hash at the line's end,
 * and it is written again as a record that says the same, with the hash that chains it.
 */
#include "fuzz.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <string.h>

#include "audit/record.h"

/* The member is this text; only `required` ones must be there. */
static void check_text(json_t *object, const char *member, const char *text, bool required)
{
    json_t *value = json_object_get(object, member);
    assert(value != NULL || !required);
    if (value == NULL)
        return;
    assert(json_is_string(value) && strlen(text) == json_string_length(value));
    assert(strcmp(text, json_string_value(value)) == 0);
}

static void check_read(const struct audit_record *record, json_t *object)
{
    char from[AUDIT_TIME_SIZE], to[AUDIT_TIME_SIZE], hash[AUDIT_HEX_SIZE], key[AUDIT_HEX_SIZE];
    bool is_use = json_object_get(object, "event") == NULL;
    audit_time_text(record->from, from);
    audit_time_text(record->to, to);
    audit_hex_text(record->hash, hash);
    audit_hex_text(record->key, key);
    check_text(object, "from", from, true);
    check_text(object, "to", to, true);
    check_text(object, "hash", hash, true);
    check_text(object, "event", record->event, !is_use);
    if (is_use) {
        check_text(object, "key", key, true);
        check_text(object, "name", record->name, true);
        check_text(object, "user", record->user, true);
        check_text(object, "unit", record->unit, true);
        check_text(object, "use", record->use, true);
        check_text(object, "outcome", record->outcome, true);
    } else {
        check_text(object, "text", record->text, true);
    }
    assert(record->n >= 1 && record->count >= 1);
}

static bool is_same(const struct audit_record *a, const struct audit_record *b)
{
    return a->n == b->n && a->from == b->from && a->to == b->to && a->count == b->count &&
           strcmp(a->event, b->event) == 0 && strcmp(a->text, b->text) == 0 &&
           memcmp(a->key, b->key, sizeof(a->key)) == 0 && a->uid == b->uid &&
           strcmp(a->name, b->name) == 0 && strcmp(a->user, b->user) == 0 &&
           strcmp(a->unit, b->unit) == 0 && strcmp(a->use, b->use) == 0 &&
           strcmp(a->outcome, b->outcome) == 0;
}

/* What the hash of a line without its newline must be: all but the last member is hashed. */
static void chain(const uint8_t previous[AUDIT_HASH_SIZE], const char *line, size_t size,
                  uint8_t hash[AUDIT_HASH_SIZE])
{
    uint8_t bytes[AUDIT_HASH_SIZE + AUDIT_LINE_SIZE_MAX];
    size_t body_size = size - strlen(",\"hash\":\"") - 64 - strlen("\"}");
    memcpy(bytes, previous, AUDIT_HASH_SIZE);
    memcpy(bytes + AUDIT_HASH_SIZE, line, body_size);
    assert(EVP_Digest(bytes, AUDIT_HASH_SIZE + body_size, hash, NULL, EVP_sha256(), NULL) == 1);
}

static void check_written(const struct audit_record *record)
{
    static const uint8_t previous[AUDIT_HASH_SIZE] = {0x5a};
    struct audit_record written = *record, again;
    char line[AUDIT_LINE_SIZE_MAX];
    uint8_t hash[AUDIT_HASH_SIZE], found[AUDIT_HASH_SIZE];
    size_t size = audit_record_format(&written, previous, line);
    assert(size > 1 && size <= sizeof(line));
    assert(memchr(line, '\n', size) == line + size - 1); /* one line, whatever the texts hold */
    assert(audit_record_parse(line, size - 1, &again) && is_same(record, &again));
    chain(previous, line, size - 1, hash);
    audit_record_hash(previous, line, size - 1, found);
    assert(memcmp(hash, found, sizeof(hash)) == 0);
    assert(memcmp(hash, written.hash, sizeof(hash)) == 0);
    assert(memcmp(hash, again.hash, sizeof(hash)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct audit_record record;
    const char *line = (const char *)bytes;
    if (!audit_record_parse(line, size, &record))
        return 0;
    json_t *object = json_loadb(line, size, 0, NULL);
    assert(object != NULL && size < AUDIT_LINE_SIZE_MAX);
    check_read(&record, object);
    json_decref(object);

    char hash[AUDIT_HEX_SIZE];
    audit_hex_text(record.hash, hash);
    assert(memcmp(line + size - 2 - strlen(hash), hash, strlen(hash)) == 0);
    check_written(&record);
    return 0;
}
