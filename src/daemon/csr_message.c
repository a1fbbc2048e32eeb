#include "daemon/csr_message.h"

#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>

#include "daemon/use.h"
#include "wire/reference.h"

#define DER_SEQUENCE 0x30

typedef struct {
    int32_t version;
    X509_NAME *subject;
    ASN1_STRING *spki; /* the whole SEQUENCE, header and all */
    STACK_OF(X509_ATTRIBUTE) * attributes;
} REQUEST_INFO;

ASN1_SEQUENCE(REQUEST_INFO) =
    {
        ASN1_EMBED(REQUEST_INFO, version, INT32),
        ASN1_SIMPLE(REQUEST_INFO, subject, X509_NAME),
        ASN1_SIMPLE(REQUEST_INFO, spki, ASN1_SEQUENCE),
        ASN1_IMP_SET_OF(REQUEST_INFO, attributes, X509_ATTRIBUTE, 0),
} static_ASN1_SEQUENCE_END(REQUEST_INFO)

    /* OpenSSL also reads what is BER and not DER; written anew, that comes out differently. */
    static bool is_der_of(const REQUEST_INFO *info, const uint8_t *message, size_t size)
{
    unsigned char *der = NULL;
    int length = ASN1_item_i2d((const ASN1_VALUE *)info, &der, ASN1_ITEM_rptr(REQUEST_INFO));
    bool same = length > 0 && (size_t)length == size && memcmp(der, message, size) == 0;
    OPENSSL_free(der);
    return same;
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
    if (info == NULL || info->version != 0 || !is_der_of(info, message, size))
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
