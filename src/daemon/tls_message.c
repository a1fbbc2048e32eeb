#include "daemon/tls_message.h"

#include <stdbool.h>
#include <string.h>

#include "daemon/use.h"
#include "daemon/x509_form.h"
#include "wire/cursor.h"

/* RFC 8446 4.4.3: 64 spaces, a context string and a zero byte stand before the hash. */
#define TLS13_PADDING      0x20
#define TLS13_PADDING_SIZE 64
static const char tls13_server_context[] = "TLS 1.3, server CertificateVerify"; /* with its NUL */

static bool is_tls13_padding(const uint8_t *padding)
{
    for (size_t i = 0; i < TLS13_PADDING_SIZE; i++) {
        if (padding[i] != TLS13_PADDING)
            return false;
    }
    return true;
}

/* What stands after the padding. */
static enum rule check_certificate_verify(struct reader *reader)
{
    const uint8_t *context = reader_bytes(reader, sizeof(tls13_server_context));
    if (context == NULL || memcmp(context, tls13_server_context, sizeof(tls13_server_context)) != 0)
        return RULE_TLS13_CONTEXT;
    /* SHA-256, SHA-384: all of TLS 1.3's hashes */
    return reader->left == 32 || reader->left == 48 ? RULE_NONE : RULE_TLS13_HASH;
}

#define TLS12_RANDOMS_SIZE 64 /* the client's and the server's, 32 bytes each */
#define TLS12_NAMED_CURVE  3  /* ECCurveType, RFC 8422 5.4 */

#define POINT_UNCOMPRESSED 0x04

struct curve {
    uint16_t named_curve; /* RFC 8422 5.1.1, RFC 7027 2 */
    uint8_t point_size;
    bool uncompressed; /* RFC 8422 5.4.1: the only form left; X25519 and X448 have none */
};

static const struct curve curves[] = {
    {23, 65, true},  /* secp256r1 */
    {24, 97, true},  /* secp384r1 */
    {25, 133, true}, /* secp521r1 */
    {26, 65, true},  /* brainpoolP256r1 */
    {27, 97, true},  /* brainpoolP384r1 */
    {28, 129, true}, /* brainpoolP512r1 */
    {29, 32, false}, /* x25519 */
    {30, 56, false}, /* x448 */
};

static const struct curve *curve_of(uint16_t named_curve)
{
    for (size_t i = 0; i < ARRAY_SIZE(curves); i++) {
        if (curves[i].named_curve == named_curve)
            return &curves[i];
    }
    return NULL;
}

/* ServerECDHParams after the curve's type. */
static enum rule check_ecdhe(struct reader *reader)
{
    const struct curve *curve = curve_of(reader_u16(reader));
    if (curve == NULL)
        return RULE_TLS12_CURVE;
    uint8_t size = reader_u8(reader);
    const uint8_t *point = reader_bytes(reader, size);
    if (point == NULL || !reader_done(reader) || size != curve->point_size ||
        (curve->uncompressed && point[0] != POINT_UNCOMPRESSED))
        return RULE_TLS12_POINT;
    return RULE_NONE;
}

/* ServerDHParams, RFC 5246 7.4.3: a prime, a generator and the public value. */
static enum rule check_dhe(struct reader *reader, const struct dhe_groups *groups)
{
    size_t prime_size = reader_u16(reader);
    const uint8_t *prime = reader_bytes(reader, prime_size);
    if (prime == NULL)
        return RULE_MESSAGE;
    if (!dhe_groups_have(groups, prime, prime_size) || reader_u16(reader) != 1 ||
        reader_u8(reader) != 2)
        return RULE_TLS12_GROUP;
    size_t size = reader_u16(reader);
    const uint8_t *value = reader_bytes(reader, size);
    bool good = value != NULL && reader_done(reader) && size > 0 && size <= prime_size;
    return good ? RULE_NONE : RULE_TLS12_PUBLIC_VALUE;
}

#define HANDSHAKE_CLIENT_HELLO 1
#define TLS_VERSION_MAJOR      3

/*
 * A TLS 1.2 client with a certificate signs all messages so far (RFC 5246 7.4.8), most of which it
 * can choose, so that something like a ServerKeyExchange may be in them; but a ClientHello, of
 * SSL 2's form (appendix E.2) or of today's, is at their beginning. A random number there is taken
 * for it once in 2^35 handshakes.
 */
static bool begins_with_client_hello(const uint8_t *message, size_t size)
{
    struct reader reader = reader_of(message, size), old = reader;
    uint32_t type_and_size = reader_u32(&reader);
    bool is_today_s = type_and_size >> 24 == HANDSHAKE_CLIENT_HELLO &&
                      (type_and_size & 0xffffff) <= reader.left &&
                      reader_u16(&reader) >> 2 == TLS_VERSION_MAJOR << 6;
    bool is_old = reader_u8(&old) == HANDSHAKE_CLIENT_HELLO &&
                  reader_u16(&old) >> 2 == TLS_VERSION_MAJOR << 6 && reader_u16(&old) % 3 == 0 &&
                  reader_u16(&old) == 0 && reader_u16(&old) <= 32;
    return is_today_s || is_old;
}

static unsigned server_key_exchange_use(struct reader *reader, const struct dhe_groups *groups,
                                        enum rule *rule)
{
    struct reader ecdhe = *reader;
    bool is_named_curve = reader_u8(&ecdhe) == TLS12_NAMED_CURVE;
    *rule = is_named_curve ? check_ecdhe(&ecdhe) : RULE_MESSAGE;
    if (*rule == RULE_NONE)
        return USE_TLS12_SERVER;
    /* A prime of 768 bytes begins like a named curve, but then with none that there is. */
    enum rule dhe = check_dhe(reader, groups);
    if (!is_named_curve || dhe == RULE_NONE || dhe == RULE_TLS12_PUBLIC_VALUE)
        *rule = dhe;
    return dhe == RULE_NONE ? USE_TLS12_SERVER_DHE : 0;
}

/* A session id's size, or that of the type of a certificate, which has 28 bytes and more. */
#define SSH_STRING_MIN 20
#define SSH_STRING_MAX 64

/*
 * What SSH signs of a user (RFC 4252 7), or as a certificate of OpenSSH's, begins with such a
 * string, and a nonce comes after the latter's, with room for a group of DHE; all that a
 * certificate has is more than fits around a point. A random number is taken for it once in 2^26
 * handshakes with DHE.
 */
static bool begins_with_ssh_string(const uint8_t *message, size_t size)
{
    struct reader reader = reader_of(message, size);
    uint32_t string_size = reader_u32(&reader);
    return string_size >= SSH_STRING_MIN && string_size <= SSH_STRING_MAX;
}

unsigned tls_message_use(const uint8_t *message, size_t size, const struct dhe_groups *groups,
                         enum rule *rule)
{
    _Static_assert(TLS13_PADDING_SIZE == TLS12_RANDOMS_SIZE, "both begin with as many bytes");
    struct reader reader = reader_of(message, size);
    const uint8_t *start = reader_bytes(&reader, TLS13_PADDING_SIZE);
    *rule = RULE_MESSAGE;
    if (start == NULL)
        return 0;
    if (is_tls13_padding(start)) {
        *rule = check_certificate_verify(&reader);
        return *rule == RULE_NONE ? USE_TLS13_SERVER : 0;
    }
    unsigned use = server_key_exchange_use(&reader, groups, rule);
    if (use != 0 && begins_with_client_hello(message, size))
        *rule = RULE_TLS12_TRANSCRIPT;
    else if (use != 0 && x509_form_is(message, size))
        *rule = RULE_TLS12_DER;
    else if (use == USE_TLS12_SERVER_DHE && begins_with_ssh_string(message, size))
        *rule = RULE_TLS12_SSH;
    return *rule == RULE_NONE ? use : 0;
}
