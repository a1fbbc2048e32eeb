#include "token/ecdsa_signature.h"

#include <stdbool.h>

#include "wire/cursor.h"

#define DER_SEQUENCE 0x30
#define DER_INTEGER  0x02
/* A length from here on takes a byte of its own after this one (X.690 8.1.3.5). */
#define DER_LONG_LENGTH 0x80
#define DER_LENGTH_1    0x81

struct integer {
    const uint8_t *bytes; /* without leading zeros */
    size_t size;
    bool padded; /* the first bit is set: a zero byte keeps it positive */
};

static struct integer integer_of(const uint8_t *bytes, size_t size)
{
    while (size > 0 && *bytes == 0) {
        bytes++;
        size--;
    }
    return (struct integer){bytes, size, size > 0 && (*bytes & 0x80) != 0};
}

/* The tag and a length byte, which suffices for 67 bytes, stand before the content. */
static size_t encoded_size(const struct integer *integer)
{
    return 2 + (integer->padded ? 1 : 0) + integer->size;
}

static void write_integer(struct writer *writer, const struct integer *integer)
{
    writer_u8(writer, DER_INTEGER);
    writer_u8(writer, (uint8_t)(encoded_size(integer) - 2));
    if (integer->padded)
        writer_u8(writer, 0);
    writer_bytes(writer, integer->bytes, integer->size);
}

size_t ecdsa_signature_encode(const uint8_t *raw, size_t raw_size, uint8_t *der, size_t size)
{
    if (raw_size % 2 != 0 || raw_size > ECDSA_RAW_SIZE_MAX)
        return 0;
    struct integer r = integer_of(raw, raw_size / 2);
    struct integer s = integer_of(raw + raw_size / 2, raw_size / 2);
    if (r.size == 0 || s.size == 0)
        return 0;

    struct writer writer = writer_of(der, size);
    size_t content = encoded_size(&r) + encoded_size(&s);
    writer_u8(&writer, DER_SEQUENCE);
    if (content >= DER_LONG_LENGTH)
        writer_u8(&writer, DER_LENGTH_1);
    writer_u8(&writer, (uint8_t)content);
    write_integer(&writer, &r);
    write_integer(&writer, &s);
    return writer.failed ? 0 : writer.used;
}
