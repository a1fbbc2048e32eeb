#include "daemon/tls_message.h"

#include <stdbool.h>
#include <string.h>

#include "daemon/config.h"
#include "wire/cursor.h"

/* RFC 8446 4.4.3: 64 spaces, a context string and a zero byte stand before the hash. */
#define TLS13_PADDING      0x20
#define TLS13_PADDING_SIZE 64
static const char tls13_server_context[] = "TLS 1.3, server CertificateVerify"; /* with its NUL */

static bool is_certificate_verify(const uint8_t *message, size_t size)
{
    struct reader reader = reader_of(message, size);
    for (size_t i = 0; i < TLS13_PADDING_SIZE; i++) {
        if (reader_u8(&reader) != TLS13_PADDING)
            return false;
    }
    const uint8_t *context = reader_bytes(&reader, sizeof(tls13_server_context));
    if (context == NULL || memcmp(context, tls13_server_context, sizeof(tls13_server_context)) != 0)
        return false;
    return reader.left == 32 || reader.left == 48; /* SHA-256, SHA-384: all of TLS 1.3's hashes */
}

#define TLS12_RANDOM_SIZE 32
#define TLS12_NAMED_CURVE 3 /* ECCurveType, RFC 8422 5.4 */

#define POINT_UNCOMPRESSED 0x04

static const struct {
    uint16_t named_curve; /* RFC 8422 5.1.1 */
    uint8_t point_size;
    bool uncompressed; /* RFC 8422 5.4.1: the only form left; X25519 and X448 have none */
} curves[] = {
    {23, 65, true},  /* secp256r1 */
    {24, 97, true},  /* secp384r1 */
    {25, 133, true}, /* secp521r1 */
    {29, 32, false}, /* x25519 */
    {30, 56, false}, /* x448 */
};

static bool is_point_of(uint16_t named_curve, const uint8_t *point, size_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(curves); i++) {
        if (curves[i].named_curve == named_curve)
            return size == curves[i].point_size &&
                   (!curves[i].uncompressed || point[0] == POINT_UNCOMPRESSED);
    }
    return false;
}

static bool is_server_key_exchange(const uint8_t *message, size_t size)
{
    struct reader reader = reader_of(message, size);
    reader_bytes(&reader, TLS12_RANDOM_SIZE); /* the client's */
    reader_bytes(&reader, TLS12_RANDOM_SIZE); /* the server's */
    if (reader_u8(&reader) != TLS12_NAMED_CURVE)
        return false;
    uint16_t named_curve = reader_u16(&reader);
    uint8_t point_size = reader_u8(&reader);
    const uint8_t *point = reader_bytes(&reader, point_size);
    return point != NULL && reader_done(&reader) && is_point_of(named_curve, point, point_size);
}

unsigned tls_message_use(const uint8_t *message, size_t size)
{
    if (is_certificate_verify(message, size))
        return USE_TLS13_SERVER;
    return is_server_key_exchange(message, size) ? USE_TLS12_SERVER : 0;
}
