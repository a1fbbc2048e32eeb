/*
 * Bounded cursors: the only way in which bytes from outside are read, or bytes for outside
 * written. Numbers are big-endian.
 *
 * A reader that has run out, or a writer that is full, stays failed, so a caller may make many
 * calls and check once. Pure functions on the caller's memory; no ownership, no allocation.
 */
#ifndef IMMURE_WIRE_CURSOR_H
#define IMMURE_WIRE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

struct reader {
    const uint8_t *at;
    size_t left; /* bytes not yet read */
    bool failed; /* more was asked for than there was; what was returned is zero */
};

struct writer {
    uint8_t *start;
    size_t size;
    size_t used;
    bool failed; /* more was written than fits; the excess is dropped */
};

struct reader reader_of(const void *bytes, size_t size) MUST_USE;
uint8_t reader_u8(struct reader *reader);
uint16_t reader_u16(struct reader *reader);
uint32_t reader_u32(struct reader *reader);
uint64_t reader_u64(struct reader *reader);

/* The next `size` bytes, in place, or NULL (and failed). */
const uint8_t *reader_bytes(struct reader *reader, size_t size);

/* True when everything was read and nothing failed. */
bool reader_done(const struct reader *reader) MUST_USE;

struct writer writer_of(void *bytes, size_t size) MUST_USE;
void writer_u8(struct writer *writer, uint8_t value);
void writer_u16(struct writer *writer, uint16_t value);
void writer_u32(struct writer *writer, uint32_t value);
void writer_u64(struct writer *writer, uint64_t value);
void writer_bytes(struct writer *writer, const void *bytes, size_t size);

#endif
