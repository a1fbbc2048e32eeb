/*
 * wire/message.h: what is decoded is what was there, no more and no less.
 */
#include "fuzz.h"

#include <string.h>

#include "wire/message.h"

/* Doubled, so that too long a datagram is refused for its size, not for want of room. */
static uint8_t written[2 * WIRE_DATAGRAM_SIZE_MAX];

static void check_request(const uint8_t *bytes, size_t size)
{
    struct wire_request request;
    bool fits = size >= WIRE_REQUEST_HEADER_SIZE && size <= WIRE_DATAGRAM_SIZE_MAX;
    enum wire_status expected = size > 0 && bytes[0] != WIRE_VERSION ? WIRE_UNSUPPORTED_VERSION
                                : fits                               ? WIRE_OK
                                                                     : WIRE_MALFORMED;
    assert(wire_request_decode(bytes, size, &request) == expected);
    if (expected != WIRE_OK)
        return;
    assert(wire_request_encode(&request, written, sizeof(written)) == size);
    assert(memcmp(written, bytes, size) == 0);
    assert(wire_request_encode(&request, written, size - 1) == 0);
}

static void check_reply(const uint8_t *bytes, size_t size)
{
    struct wire_reply reply;
    bool expected = size >= WIRE_REPLY_HEADER_SIZE && size <= WIRE_DATAGRAM_SIZE_MAX &&
                    bytes[0] == WIRE_VERSION;
    assert(wire_reply_decode(bytes, size, &reply) == expected);
    if (!expected)
        return;
    assert(wire_status_name(reply.status) != NULL);
    assert(wire_reply_encode(&reply, written, sizeof(written)) == size);
    memcpy(written + 4, bytes + 4, 4); /* reserved: written as 0, not looked at */
    assert(memcmp(written, bytes, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    check_request(bytes, size);
    check_reply(bytes, size);
    return 0;
}
