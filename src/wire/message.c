#include "wire/message.h"

#include <string.h>

#include "wire/cursor.h"

static const char *const status_names[] = {
    [WIRE_OK] = "ok",
    [WIRE_MALFORMED] = "malformed request",
    [WIRE_UNSUPPORTED_VERSION] = "unsupported protocol version",
    [WIRE_UNSUPPORTED_OPERATION] = "unsupported operation",
    [WIRE_UNSUPPORTED_SCHEME] = "unsupported signature scheme",
    [WIRE_NOT_GRANTED] = "not granted",
    [WIRE_MESSAGE_REFUSED] = "message refused",
    [WIRE_UNKNOWN_KEY] = "unknown key",
    [WIRE_KEY_NOT_FOUND] = "key not found",
    [WIRE_KEY_AMBIGUOUS] = "key name ambiguous",
    [WIRE_TOKEN_UNAVAILABLE] = "token unavailable",
    [WIRE_TOKEN_FAILED] = "token failed",
    [WIRE_BUSY] = "busy",
    [WIRE_SHUTTING_DOWN] = "shutting down",
    [WIRE_DEADLINE_PASSED] = "deadline passed",
    [WIRE_OVER_RATE] = "over rate",
};

const char *wire_status_name(uint16_t status)
{
    return status < ARRAY_SIZE(status_names) ? status_names[status] : "unknown status";
}

/* The size of what was written, or 0 if it does not fit a datagram. */
static size_t datagram_size(const struct writer *writer)
{
    return writer->failed || writer->used > WIRE_DATAGRAM_SIZE_MAX ? 0 : writer->used;
}

size_t wire_request_encode(const struct wire_request *request, uint8_t *datagram, size_t size)
{
    struct writer writer = writer_of(datagram, size);
    writer_u8(&writer, WIRE_VERSION);
    writer_u8(&writer, request->operation);
    writer_u16(&writer, request->scheme);
    writer_u32(&writer, request->deadline_ms);
    writer_u64(&writer, request->id);
    writer_bytes(&writer, request->key_id, KEY_ID_SIZE);
    writer_bytes(&writer, request->payload, request->payload_size);
    return datagram_size(&writer);
}

enum wire_status wire_request_decode(const uint8_t *datagram, size_t size,
                                     struct wire_request *request)
{
    struct reader reader = reader_of(datagram, size);
    memset(request, 0, sizeof(*request));
    uint8_t version = reader_u8(&reader);
    request->operation = reader_u8(&reader);
    request->scheme = reader_u16(&reader);
    request->deadline_ms = reader_u32(&reader);
    request->id = reader_u64(&reader);
    if (size > 0 && version != WIRE_VERSION)
        return WIRE_UNSUPPORTED_VERSION;

    const uint8_t *key_id = reader_bytes(&reader, KEY_ID_SIZE);
    if (key_id == NULL || size > WIRE_DATAGRAM_SIZE_MAX)
        return WIRE_MALFORMED;
    memcpy(request->key_id, key_id, KEY_ID_SIZE);
    request->payload_size = reader.left;
    request->payload = reader_bytes(&reader, reader.left);
    return WIRE_OK;
}

size_t wire_reply_encode(const struct wire_reply *reply, uint8_t *datagram, size_t size)
{
    struct writer writer = writer_of(datagram, size);
    writer_u8(&writer, WIRE_VERSION);
    writer_u8(&writer, reply->operation);
    writer_u16(&writer, reply->status);
    writer_u32(&writer, 0);
    writer_u64(&writer, reply->id);
    writer_bytes(&writer, reply->payload, reply->payload_size);
    return datagram_size(&writer);
}

bool wire_reply_decode(const uint8_t *datagram, size_t size, struct wire_reply *reply)
{
    struct reader reader = reader_of(datagram, size);
    memset(reply, 0, sizeof(*reply));
    uint8_t version = reader_u8(&reader);
    reply->operation = reader_u8(&reader);
    reply->status = reader_u16(&reader);
    reader_u32(&reader);
    reply->id = reader_u64(&reader);
    reply->payload_size = reader.left;
    reply->payload = reader_bytes(&reader, reader.left);
    return !reader.failed && version == WIRE_VERSION && size <= WIRE_DATAGRAM_SIZE_MAX;
}
