/*
 * A record of the audit log: one line of JSON, which ends in a hash that chains it to the record
 * before, as in
 *
 *   {"n":7,"from":"2026-11-25T21:09:28.123Z","to":"...","key":"3fa2...","name":"www","uid":33,
 *    "user":"www-data","unit":"nginx.service","use":"tls13-server","outcome":"signed","count":1,
 *    "hash":"5d41..."}
 *   {"n":1,"from":"...","to":"...","event":"start","text":"immured 0.1.0","count":1,"hash":"..."}
 *
 * The hash is SHA-256 over the hash of the record before (32 zero bytes for the first of all) and
 * this line's bytes before `,"hash":"`. Pure functions on the caller's memory, from any thread.
 */
#ifndef IMMURE_AUDIT_RECORD_H
#define IMMURE_AUDIT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "wire/message.h"

/* With its newline. The longest text, a key's name, has 255 bytes, of which JSON makes 6 each. */
#define AUDIT_LINE_SIZE_MAX 4096

#define AUDIT_HASH_SIZE 32

/* Texts, with their NUL; longer ones are cut. */
#define AUDIT_NAME_SIZE 256 /* PKCS#11 labels in Immure: immure(1) */
#define AUDIT_USER_SIZE 64
#define AUDIT_UNIT_SIZE 64
#define AUDIT_WORD_SIZE 32 /* uses, outcomes, events */

struct audit_record {
    uint64_t n;        /* 1, 2, 3 ... without a gap, over all files */
    uint64_t from, to; /* first and last use; milliseconds since 1970, UTC */
    uint64_t count;    /* at least 1 */
    uint8_t hash[AUDIT_HASH_SIZE];

    char event[AUDIT_WORD_SIZE]; /* "start", "stop" ...; "": a use of a key */
    char text[AUDIT_NAME_SIZE];  /* of an event; else "" */

    /* Of a use. */
    uint8_t key[KEY_ID_SIZE]; /* zero: one that immured does not know */
    uint32_t uid;
    char name[AUDIT_NAME_SIZE], user[AUDIT_USER_SIZE], unit[AUDIT_UNIT_SIZE];
    char use[AUDIT_WORD_SIZE], outcome[AUDIT_WORD_SIZE];
};

/*
 * Reads a line without its newline. False: it is no record. The hash is taken from the line and
 * not checked.
 */
bool audit_record_parse(const char *line, size_t size, struct audit_record *record) MUST_USE;

/* What the hash of a line that audit_record_parse() has read must be. */
void audit_record_hash(const uint8_t previous[AUDIT_HASH_SIZE], const char *line, size_t size,
                       uint8_t hash[AUDIT_HASH_SIZE]);

/*
 * Writes the line with its newline, and the record's hash. Bytes above 0x7f in a text that is not
 * UTF-8 become '?'. Returns the line's size, 0: out of memory.
 */
size_t audit_record_format(struct audit_record *record, const uint8_t previous[AUDIT_HASH_SIZE],
                           char line[AUDIT_LINE_SIZE_MAX]) MUST_USE;

/* "2026-11-25T21:09:28.123Z" (RFC 3339) */
#define AUDIT_TIME_SIZE 25
void audit_time_text(uint64_t milliseconds, char text[AUDIT_TIME_SIZE]);

/* Lower-case hexadecimal of a hash or a key id. */
#define AUDIT_HEX_SIZE (2 * AUDIT_HASH_SIZE + 1)
void audit_hex_text(const uint8_t bytes[AUDIT_HASH_SIZE], char text[AUDIT_HEX_SIZE]);

/* False: not exactly 64 lower-case hexadecimal digits. */
bool audit_hex_parse(const char *text, uint8_t bytes[AUDIT_HASH_SIZE]) MUST_USE;

#endif
