#include "daemon/x509_form.h"

#include <string.h>

#include "wire/cursor.h"

/* Identifier and length octets (X.690 8.1.2, 8.1.3). */
struct header {
    uint8_t class;
    uint32_t tag;
    bool indefinite;
    size_t size; /* of the contents; 0 if indefinite */
};

#define CLASS_UNIVERSAL        0
#define CLASS_CONTEXT_SPECIFIC 2

#define TAG_END_OF_CONTENTS 0
#define TAG_INTEGER         2
#define TAG_SEQUENCE        16
#define TAG_SET             17
#define TAG_IA5_STRING      22

/* More than fits into one byte is in those that follow, with their first bit set but for the last.
 */
#define LONG_TAG 0x1f
#define TAG_MAX  (UINT32_MAX >> 7)

static uint32_t read_long_tag(struct reader *reader)
{
    uint32_t tag = 0;
    uint8_t byte = 0x80;
    while ((byte & 0x80) != 0 && !reader->failed && tag <= TAG_MAX) {
        byte = reader_u8(reader);
        tag = tag << 7 | (byte & 0x7f);
    }
    return tag;
}

/*
 * In any of the forms that parsers put up with, OpenSSL for one: they check signatures over the
 * bytes as they are. Whether an element is constructed is not looked at. False: it is not whole.
 */
static bool read_header(struct reader *reader, struct header *header)
{
    uint8_t identifier = reader_u8(reader);
    header->class = identifier >> 6;
    header->tag = identifier & LONG_TAG;
    if (header->tag == LONG_TAG)
        header->tag = read_long_tag(reader);
    header->size = reader_u8(reader);
    header->indefinite = header->size == 0x80;
    if (header->size >= 0x80) {
        size_t count = header->size - 0x80;
        header->size = 0;
        while (count-- > 0 && header->size <= reader->left && !reader->failed)
            header->size = header->size << 8 | reader_u8(reader);
    }
    return !reader->failed && header->size <= reader->left;
}

static bool is_universal(const struct header *header, uint32_t tag)
{
    return header->class == CLASS_UNIVERSAL && header->tag == tag;
}

static bool is_context_specific(const struct header *header, uint32_t tag_max)
{
    return header->class == CLASS_CONTEXT_SPECIFIC && header->tag <= tag_max;
}

#define TAG_FIRST_MAX 2  /* a version, or who has signed OCSP */
#define TAG_BODY_MAX  30 /* CMP has bodies up to 26; so far reach tags of one byte */

/* What is at the first level of the SEQUENCEs that are signed; all begin in one of few ways. */
static bool is_part(const struct header *header, bool is_first)
{
    static const uint8_t tags[] = {TAG_INTEGER, TAG_SEQUENCE, 1, 3, 4, 6, TAG_IA5_STRING, 23, 24};
    if (is_first)
        return is_universal(header, TAG_INTEGER) || is_universal(header, TAG_SEQUENCE) ||
               is_context_specific(header, TAG_FIRST_MAX);
    return is_context_specific(header, TAG_BODY_MAX) ||
           (header->class == CLASS_UNIVERSAL && header->tag <= UINT8_MAX &&
            memchr(tags, (int)header->tag, sizeof(tags)) != NULL);
}

/* CMP's body, CRMF's template or key, OCSP's requests, PKINIT's value, SPKAC's challenge. */
static bool is_second_of_two(const struct header *header)
{
    return is_universal(header, TAG_SEQUENCE) || is_universal(header, TAG_IA5_STRING) ||
           header->class == CLASS_CONTEXT_SPECIFIC;
}

static bool is_end_of_contents(const struct header *header)
{
    return is_universal(header, TAG_END_OF_CONTENTS) && header->size == 0;
}

/* A SET are CMS' attributes: at least their type and digest. */
static bool are_enough(const struct header *last, size_t count, bool in_set)
{
    return count > 2 || (count == 2 && (in_set || is_second_of_two(last)));
}

/* The contents of an element that the reader's bytes are; `indefinite`: with their end. */
static bool are_signed(struct reader reader, bool indefinite, bool in_set)
{
    struct header header, last = {.size = 0};
    size_t count = 0;
    for (; reader.left > 0; count++, last = header) {
        if (!read_header(&reader, &header))
            return false;
        if (is_end_of_contents(&header))
            return indefinite && reader.left == 0 && are_enough(&last, count, in_set);
        if (in_set ? !is_universal(&header, TAG_SEQUENCE) : !is_part(&header, count == 0))
            return false;
        if (header.indefinite) /* where it ends does not matter, if it does */
            return memmem(reader.at, reader.left, "\0", 2) != NULL;
        reader_bytes(&reader, header.size);
    }
    return !indefinite && are_enough(&last, count, in_set);
}

bool x509_form_is(const uint8_t *message, size_t size)
{
    struct reader reader = reader_of(message, size);
    struct header header;
    if (!read_header(&reader, &header) || (!header.indefinite && header.size != reader.left))
        return false;
    bool in_set = is_universal(&header, TAG_SET);
    return (in_set || is_universal(&header, TAG_SEQUENCE)) &&
           are_signed(reader, header.indefinite, in_set);
}
