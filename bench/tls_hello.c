#include "tls_hello.h"

#include <string.h>

#include "tls_numbers.h"
#include "wire/cursor.h"

#define TLS_1_0 0x0301

static const uint16_t SCHEMES[] = {0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0807};

/* 1 * G (SEC 2, 2.4.2): the share of whoever has the private key 1. */
static const uint8_t GENERATOR[POINT_SIZE] = {
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5,
    0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4,
    0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a,
    0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33,
    0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};

static void write_server_name(struct writer *writer, const char *name)
{
    uint16_t size = (uint16_t)strlen(name);
    writer_u16(writer, SERVER_NAME);
    writer_u16(writer, (uint16_t)(size + 5));
    writer_u16(writer, (uint16_t)(size + 3)); /* of the list */
    writer_u8(writer, 0);                     /* host_name */
    writer_u16(writer, size);
    writer_bytes(writer, name, size);
}

static void write_alpn(struct writer *writer, const char *protocol)
{
    uint8_t size = (uint8_t)strlen(protocol);
    writer_u16(writer, ALPN);
    writer_u16(writer, (uint16_t)(size + 3));
    writer_u16(writer, (uint16_t)(size + 1)); /* of the list */
    writer_u8(writer, size);
    writer_bytes(writer, protocol, size);
}

static void write_signature_algorithms(struct writer *writer)
{
    writer_u16(writer, SIGNATURE_ALGORITHMS);
    writer_u16(writer, sizeof(SCHEMES) + 2);
    writer_u16(writer, sizeof(SCHEMES));
    for (size_t i = 0; i < ARRAY_SIZE(SCHEMES); i++)
        writer_u16(writer, SCHEMES[i]);
}

static void write_group_and_share(struct writer *writer)
{
    writer_u16(writer, SUPPORTED_GROUPS);
    writer_u16(writer, 4);
    writer_u16(writer, 2);
    writer_u16(writer, SECP256R1);
    writer_u16(writer, KEY_SHARE);
    writer_u16(writer, POINT_SIZE + 6);
    writer_u16(writer, POINT_SIZE + 4); /* of the list */
    writer_u16(writer, SECP256R1);
    writer_u16(writer, POINT_SIZE);
    writer_bytes(writer, GENERATOR, POINT_SIZE);
}

static void write_extensions(struct writer *writer, const char *name, const char *alpn)
{
    write_server_name(writer, name);
    if (alpn != NULL)
        write_alpn(writer, alpn);
    write_signature_algorithms(writer);
    write_group_and_share(writer);
    writer_u16(writer, SUPPORTED_VERSIONS);
    writer_u16(writer, 3);
    writer_u8(writer, 2);
    writer_u16(writer, TLS_1_3);
}

bool tls_hello_make(struct tls_hello *hello, const char *name, const char *alpn)
{
    uint8_t extensions[TLS_HELLO_MAX / 2];
    struct writer inner = writer_of(extensions, sizeof(extensions));
    struct writer writer = writer_of(hello->bytes, sizeof(hello->bytes));
    if (strlen(name) > TLS_NAME_MAX || (alpn != NULL && strlen(alpn) > TLS_NAME_MAX))
        return false;
    write_extensions(&inner, name, alpn);
    size_t size = 2 + TLS_RANDOM_SIZE + 1 + 4 + 2 + 2 + inner.used;
    writer_u8(&writer, HANDSHAKE);
    writer_u16(&writer, TLS_1_0);
    writer_u16(&writer, (uint16_t)(MESSAGE_HEADER_SIZE + size));
    writer_u16(&writer, CLIENT_HELLO << 8); /* with the length's first byte: it is short */
    writer_u16(&writer, (uint16_t)size);
    writer_u16(&writer, TLS_1_2);
    writer_bytes(&writer, (uint8_t[TLS_RANDOM_SIZE]){0}, TLS_RANDOM_SIZE);
    writer_u8(&writer, 0); /* legacy_session_id */
    writer_u16(&writer, 2);
    writer_u16(&writer, AES_128_GCM_SHA256);
    writer_u16(&writer, 0x0100); /* one compression method: none */
    writer_u16(&writer, (uint16_t)inner.used);
    writer_bytes(&writer, extensions, inner.used);
    hello->size = writer.used;
    return !inner.failed && !writer.failed;
}
