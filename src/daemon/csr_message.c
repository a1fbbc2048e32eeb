#include "daemon/csr_message.h"

#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>

#include "daemon/use.h"
#include "wire/cursor.h"
#include "wire/reference.h"

#define DER_SEQUENCE 0x30

typedef struct {
    int32_t version;
    X509_NAME *subject;
    ASN1_STRING *spki; /* the whole SEQUENCE, header and all */
    STACK_OF(X509_ATTRIBUTE) * attributes;
} REQUEST_INFO;

ASN1_SEQUENCE(REQUEST_INFO) = {
    ASN1_EMBED(REQUEST_INFO, version, INT32),
    ASN1_SIMPLE(REQUEST_INFO, subject, X509_NAME),
    ASN1_SIMPLE(REQUEST_INFO, spki, ASN1_SEQUENCE),
    ASN1_IMP_SET_OF(REQUEST_INFO, attributes, X509_ATTRIBUTE, 0),
} static_ASN1_SEQUENCE_END(REQUEST_INFO)

/*
 * OpenSSL also reads what is BER and not DER; written anew, that comes out differently. But
 * names and attributes' values it keeps as they came: is_minimal() looks at those.
 */
static bool is_der_of(const REQUEST_INFO *info, const uint8_t *message, size_t size)
{
    unsigned char *der = NULL;
    int length = ASN1_item_i2d((const ASN1_VALUE *)info, &der, ASN1_ITEM_rptr(REQUEST_INFO));
    bool same = length > 0 && (size_t)length == size && memcmp(der, message, size) == 0;
    OPENSSL_free(der);
    return same;
}

#define TAG_NUMBER       0x1f
#define TAG_CONSTRUCTED  0x20
#define TAG_SET          0x31
#define LENGTH_IN_1_BYTE 0x81
#define LENGTH_IN_2      0x82

/* extensionRequest: attributes, attribute, values, extensions, extension, and the value in it. */
#define DEPTH_MAX 16

/* The length octets where they are definite and as few as possible (X.690 10.1). */
static bool read_length(struct reader *reader, size_t *size)
{
    *size = reader_u8(reader);
    if (*size == LENGTH_IN_1_BYTE)
        return (*size = reader_u8(reader)) > 0x7f;
    if (*size == LENGTH_IN_2)
        return (*size = reader_u16(reader)) > 0xff;
    return *size < 0x80;
}

/* Elements, all the way down, with minimal headers; SEQUENCE and SET are constructed. */
static bool is_minimal(struct reader reader, unsigned depth)
{
    while (reader.left > 0) {
        uint8_t tag = reader_u8(&reader);
        size_t size;
        bool constructed = (tag & TAG_CONSTRUCTED) != 0,
             length_is_good = read_length(&reader, &size);
        const uint8_t *contents = reader_bytes(&reader, size);
        if (!length_is_good || contents == NULL || (tag & TAG_NUMBER) == TAG_NUMBER ||
            tag == (DER_SEQUENCE & ~TAG_CONSTRUCTED) || tag == (TAG_SET & ~TAG_CONSTRUCTED) ||
            (constructed && (depth == 0 || !is_minimal(reader_of(contents, size), depth - 1))))
            return false;
    }
    return !reader.failed;
}

static bool is_key(const ASN1_STRING *spki, const uint8_t key_id[KEY_ID_SIZE])
{
    uint8_t id[KEY_ID_SIZE];
    return key_id_of_spki(ASN1_STRING_get0_data(spki), (size_t)ASN1_STRING_length(spki), id) &&
           memcmp(id, key_id, sizeof(id)) == 0;
}

static enum rule check(const REQUEST_INFO *info, const uint8_t *message, size_t size,
                       const uint8_t key_id[KEY_ID_SIZE])
{
    if (info == NULL || info->version != 0 || !is_der_of(info, message, size) ||
        !is_minimal(reader_of(message, size), DEPTH_MAX))
        return RULE_CSR_FORM;
    return is_key(info->spki, key_id) ? RULE_NONE : RULE_CSR_KEY;
}

unsigned csr_message_use(const uint8_t *message, size_t size, const uint8_t key_id[KEY_ID_SIZE],
                         enum rule *rule)
{
    *rule = RULE_MESSAGE;
    if (size == 0 || size > WIRE_PAYLOAD_SIZE_MAX || message[0] != DER_SEQUENCE)
        return 0;
    ERR_set_mark();
    const unsigned char *at = message;
    ASN1_VALUE *info = ASN1_item_d2i(NULL, &at, (long)size, ASN1_ITEM_rptr(REQUEST_INFO));
    *rule = check((const REQUEST_INFO *)info, message, size, key_id);
    ASN1_item_free(info, ASN1_ITEM_rptr(REQUEST_INFO));
    ERR_pop_to_mark();
    return *rule == RULE_NONE ? USE_CSR : 0;
}
