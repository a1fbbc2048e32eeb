#include "audit/record.h"

#include <jansson.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a line ends in, after the bytes that the hash is over. */
#define HASH_OPENING     ",\"hash\":\""
#define HASH_CLOSING     "\"}"
#define HASH_MEMBER_SIZE (sizeof(HASH_OPENING) - 1 + 2 * AUDIT_HASH_SIZE + sizeof(HASH_CLOSING) - 1)

/* The last instant that four digits of a year can tell: 9999-12-31T23:59:59.999Z. */
#define TIME_MAX UINT64_C(253402300799999)

_Static_assert(AUDIT_HASH_SIZE == KEY_ID_SIZE, "one form for both");

/* --- Texts --- */

void audit_hex_text(const uint8_t bytes[AUDIT_HASH_SIZE], char text[AUDIT_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < AUDIT_HASH_SIZE; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[AUDIT_HEX_SIZE - 1] = '\0';
}

bool audit_hex_parse(const char *text, uint8_t bytes[AUDIT_HASH_SIZE])
{
    if (strlen(text) != AUDIT_HEX_SIZE - 1 || strspn(text, "0123456789abcdef") != strlen(text))
        return false;
    for (size_t i = 0; i < AUDIT_HASH_SIZE; i++) {
        const char digits[] = {text[2 * i], text[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return true;
}

void audit_time_text(uint64_t milliseconds, char text[AUDIT_TIME_SIZE])
{
    if (milliseconds > TIME_MAX)
        milliseconds = TIME_MAX;
    time_t seconds = (time_t)(milliseconds / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t length = strftime(text, AUDIT_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + length, AUDIT_TIME_SIZE - length, ".%03uZ", (unsigned)(milliseconds % 1000));
}

/* Only what audit_time_text() writes. */
static bool time_parse(const char *text, uint64_t *milliseconds)
{
    struct tm utc = {.tm_isdst = 0};
    char again[AUDIT_TIME_SIZE];
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S.", &utc);
    if (rest == NULL)
        return false;
    time_t seconds = timegm(&utc);
    unsigned long fraction = strtoul(rest, NULL, 10);
    if (seconds < 0 || fraction > 999)
        return false;
    *milliseconds = (uint64_t)seconds * 1000 + fraction;
    audit_time_text(*milliseconds, again);
    return strcmp(again, text) == 0;
}

/* --- Reading --- */

static bool read_number(json_t *object, const char *name, uint64_t min, uint64_t max,
                        uint64_t *number)
{
    json_t *value = json_object_get(object, name);
    json_int_t integer = json_integer_value(value);
    *number = (uint64_t)integer;
    return json_is_integer(value) && integer >= 0 && *number >= min && *number <= max;
}

static bool read_text(json_t *object, const char *name, char *text, size_t size)
{
    json_t *value = json_object_get(object, name);
    if (!json_is_string(value) || json_string_length(value) >= size)
        return false;
    memcpy(text, json_string_value(value), json_string_length(value) + 1);
    return true;
}

static bool read_hex(json_t *object, const char *name, uint8_t bytes[AUDIT_HASH_SIZE])
{
    char text[AUDIT_HEX_SIZE];
    return read_text(object, name, text, sizeof(text)) && audit_hex_parse(text, bytes);
}

static bool read_time(json_t *object, const char *name, uint64_t *milliseconds)
{
    char text[AUDIT_TIME_SIZE];
    return read_text(object, name, text, sizeof(text)) && time_parse(text, milliseconds);
}

static bool read_use(json_t *object, struct audit_record *record)
{
    uint64_t uid = 0;
    bool good = read_hex(object, "key", record->key) &&
                read_text(object, "name", record->name, sizeof(record->name)) &&
                read_number(object, "uid", 0, UINT32_MAX, &uid) &&
                read_text(object, "user", record->user, sizeof(record->user)) &&
                read_text(object, "unit", record->unit, sizeof(record->unit)) &&
                read_text(object, "use", record->use, sizeof(record->use)) &&
                read_text(object, "outcome", record->outcome, sizeof(record->outcome));
    record->uid = (uint32_t)uid;
    return good;
}

static bool read_event(json_t *object, struct audit_record *record)
{
    return read_text(object, "event", record->event, sizeof(record->event)) &&
           record->event[0] != '\0' &&
           read_text(object, "text", record->text, sizeof(record->text));
}

static bool read_record(json_t *object, struct audit_record *record)
{
    return read_number(object, "n", 1, INT64_MAX, &record->n) &&
           read_time(object, "from", &record->from) && read_time(object, "to", &record->to) &&
           read_number(object, "count", 1, INT64_MAX, &record->count) &&
           read_hex(object, "hash", record->hash) &&
           (json_object_get(object, "event") != NULL ? read_event(object, record)
                                                     : read_use(object, record));
}

/* The hash must be where audit_record_hash() takes it to be. */
static bool ends_in_hash(const char *line, size_t size)
{
    return size > HASH_MEMBER_SIZE && size < AUDIT_LINE_SIZE_MAX &&
           memcmp(line + size - HASH_MEMBER_SIZE, HASH_OPENING, sizeof(HASH_OPENING) - 1) == 0 &&
           memcmp(line + size - sizeof(HASH_CLOSING) + 1, HASH_CLOSING, sizeof(HASH_CLOSING) - 1) ==
               0;
}

bool audit_record_parse(const char *line, size_t size, struct audit_record *record)
{
    json_error_t error;
    *record = (struct audit_record){.n = 0};
    if (!ends_in_hash(line, size))
        return false;
    json_t *object = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error);
    bool good = json_is_object(object) && read_record(object, record);
    json_decref(object);
    return good;
}

/* --- Writing --- */

static void hash_body(const uint8_t previous[AUDIT_HASH_SIZE], const char *body, size_t size,
                      uint8_t hash[AUDIT_HASH_SIZE])
{
    uint8_t input[AUDIT_HASH_SIZE + AUDIT_LINE_SIZE_MAX];
    memcpy(input, previous, AUDIT_HASH_SIZE);
    memcpy(input + AUDIT_HASH_SIZE, body, size);
    SHA256(input, AUDIT_HASH_SIZE + size, hash);
}

void audit_record_hash(const uint8_t previous[AUDIT_HASH_SIZE], const char *line, size_t size,
                       uint8_t hash[AUDIT_HASH_SIZE])
{
    hash_body(previous, line, size - HASH_MEMBER_SIZE, hash);
}

/* Users and tokens fill their names with whatever they like, JSON is UTF-8. */
static json_t *text_json(const char *text)
{
    char copy[AUDIT_NAME_SIZE];
    json_t *json = json_string(text);
    if (json != NULL)
        return json;
    snprintf(copy, sizeof(copy), "%s", text);
    for (char *at = copy; *at != '\0'; at++) {
        if ((unsigned char)*at > 0x7f)
            *at = '?';
    }
    return json_string(copy);
}

static json_t *record_json(const struct audit_record *record)
{
    char from[AUDIT_TIME_SIZE], to[AUDIT_TIME_SIZE], key[AUDIT_HEX_SIZE];
    audit_time_text(record->from, from);
    audit_time_text(record->to, to);
    audit_hex_text(record->key, key);
    if (record->event[0] != '\0')
        return json_pack("{s:I, s:s, s:s, s:o, s:o, s:I}", "n", (json_int_t)record->n, "from", from,
                         "to", to, "event", text_json(record->event), "text",
                         text_json(record->text), "count", (json_int_t)record->count);
    return json_pack("{s:I, s:s, s:s, s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:I}", "n",
                     (json_int_t)record->n, "from", from, "to", to, "key", key, "name",
                     text_json(record->name), "uid", (json_int_t)record->uid, "user",
                     text_json(record->user), "unit", text_json(record->unit), "use",
                     text_json(record->use), "outcome", text_json(record->outcome), "count",
                     (json_int_t)record->count);
}

size_t audit_record_format(struct audit_record *record, const uint8_t previous[AUDIT_HASH_SIZE],
                           char line[AUDIT_LINE_SIZE_MAX])
{
    const size_t room = AUDIT_LINE_SIZE_MAX - HASH_MEMBER_SIZE - 1;
    char hash[AUDIT_HEX_SIZE];
    json_t *json = record_json(record);
    size_t size = json != NULL ? json_dumpb(json, line, room, JSON_COMPACT) : 0;
    json_decref(json);
    if (size == 0 || size > room)
        return 0;
    size--; /* the closing brace comes after the hash */
    hash_body(previous, line, size, record->hash);
    audit_hex_text(record->hash, hash);
    return size + (size_t)snprintf(line + size, AUDIT_LINE_SIZE_MAX - size, "%s%s%s\n",
                                   HASH_OPENING, hash, HASH_CLOSING);
}
