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
#define TAG_SEQUENCE        16
#define TAG_SET             17

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

/* What is at the first level of what is signed of certificates, CRLs, OCSP, CSRs and CMS. */
static bool is_part_of_x509(const struct header *header)
{
    static const uint8_t tags[] = {2, 3, 4, TAG_SEQUENCE, 23, 24};
    if (header->class == CLASS_CONTEXT_SPECIFIC)
        return header->tag <= 3;
    return header->class == CLASS_UNIVERSAL && header->tag <= UINT8_MAX &&
           memchr(tags, (int)header->tag, sizeof(tags)) != NULL;
}

static bool is_end_of_contents(const struct header *header)
{
    return header->class == CLASS_UNIVERSAL && header->tag == TAG_END_OF_CONTENTS &&
           header->size == 0;
}

/* CRLs and OCSP's responses have three elements at least, CMS' attributes two. */
#define SEQUENCE_ELEMENTS_MIN 3
#define SET_ELEMENTS_MIN      2

/* The contents of an element that the reader's bytes are; `indefinite`: with their end. */
static bool are_x509(struct reader reader, bool indefinite, size_t elements_min)
{
    struct header header;
    size_t count = 0;
    while (reader.left > 0) {
        if (!read_header(&reader, &header))
            return false;
        if (is_end_of_contents(&header))
            return indefinite && reader.left == 0 && count >= elements_min;
        if (!is_part_of_x509(&header))
            return false;
        if (header.indefinite) /* where it ends does not matter, if it does */
            return memmem(reader.at, reader.left, "\0", 2) != NULL;
        reader_bytes(&reader, header.size);
        count++;
    }
    return !indefinite && count >= elements_min;
}

bool x509_form_is(const uint8_t *message, size_t size)
{
    struct reader reader = reader_of(message, size);
    struct header header;
    if (!read_header(&reader, &header) || header.class != CLASS_UNIVERSAL ||
        (!header.indefinite && header.size != reader.left))
        return false;
    if (header.tag == TAG_SEQUENCE)
        return are_x509(reader, header.indefinite, SEQUENCE_ELEMENTS_MIN);
    return header.tag == TAG_SET && are_x509(reader, header.indefinite, SET_ELEMENTS_MIN);
}
