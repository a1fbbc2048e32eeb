/*
 * daemon/csr_message.h: what is taken is, for OpenSSL too, a certificate request for that key, and
 * for no other.
 */
#include "fuzz.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <string.h>

#include "daemon/csr_message.h"
#include "daemon/use.h"

/* What stands after a CertificationRequestInfo: Ed25519, and a signature of no bytes. */
static const uint8_t signature[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x01, 0x00};

/* One request as OpenSSL reads it, or NULL. */
static X509_REQ *read_request(const uint8_t *info, size_t size)
{
    static uint8_t der[4 + WIRE_PAYLOAD_SIZE_MAX + sizeof(signature)];
    size_t content = size + sizeof(signature);
    const unsigned char *at = der;
    const uint8_t header[] = {0x30, 0x82, (uint8_t)(content >> 8), (uint8_t)content};
    memcpy(der, header, sizeof(header));
    memcpy(der + sizeof(header), info, size);
    memcpy(der + sizeof(header) + size, signature, sizeof(signature));
    X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)(sizeof(header) + content));
    assert(request == NULL || at == der + sizeof(header) + content);
    return request;
}

/* The third element of the SEQUENCE, where the public key stands; the size is 0 without one. */
static const uint8_t *find_spki(const uint8_t *info, size_t info_size, size_t *size)
{
    const unsigned char *at = info, *start = info;
    long length = (long)info_size;
    const uint8_t *end = info + info_size;
    for (int i = 0; i < 4; i++) {
        int tag, class;
        start = at;
        if (at >= end || (ASN1_get_object(&at, &length, &tag, &class, end - at) & 0x81) != 0)
            return *size = 0, NULL;
        at += i == 0 ? 0 : length;
    }
    return *size = (size_t)(at - start), start;
}

/* The id of a key that immured could have: its DER is what OpenSSL writes. */
static bool find_key_id(const uint8_t *info, size_t info_size, uint8_t id[KEY_ID_SIZE])
{
    size_t size = 0;
    unsigned char *der = NULL;
    const uint8_t *spki = find_spki(info, info_size, &size);
    const unsigned char *at = spki;
    EVP_PKEY *key = size > 0 ? d2i_PUBKEY(NULL, &at, (long)size) : NULL;
    int der_size = key != NULL ? i2d_PUBKEY(key, &der) : 0;
    bool found = der_size > 0 && (size_t)der_size == size && memcmp(der, spki, size) == 0;
    if (found)
        SHA256(spki, size, id);
    OPENSSL_free(der);
    EVP_PKEY_free(key);
    return found;
}

/* Definite lengths in as few bytes as possible, all the way down (X.690 10.1). */
static bool is_der(const uint8_t *bytes, size_t size)
{
    const uint8_t *end = bytes + size;
    for (const unsigned char *at = bytes, *start = at; at < end; start = at) {
        long length = 0;
        int tag, class, form = ASN1_get_object(&at, &length, &tag, &class, end - at);
        bool constructed = (form & V_ASN1_CONSTRUCTED) != 0;
        bool sequence = class == V_ASN1_UNIVERSAL && (tag == V_ASN1_SEQUENCE || tag == V_ASN1_SET);
        if ((form & 0x81) != 0 || (sequence && !constructed) ||
            (at - start) + length != ASN1_object_size(constructed, (int)length, tag) ||
            (constructed && !is_der(at, (size_t)length)))
            return false;
        at += length;
    }
    return true;
}

static void check_taken(const uint8_t *info, size_t size, const uint8_t id[KEY_ID_SIZE])
{
    unsigned char *der = NULL;
    uint8_t found[KEY_ID_SIZE];
    X509_REQ *request = read_request(info, size);
    assert(is_der(info, size) && request != NULL &&
           X509_REQ_get_version(request) == X509_REQ_VERSION_1);
    int der_size = i2d_PUBKEY(X509_REQ_get0_pubkey(request), &der);
    assert(der_size > 0);
    SHA256(der, (size_t)der_size, found);
    assert(memcmp(found, id, sizeof(found)) == 0);
    OPENSSL_free(der);
    X509_REQ_free(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t id[KEY_ID_SIZE] = {0};
    enum rule rule = RULE_COUNT;
    bool has_key = find_key_id(bytes, size, id);
    ERR_clear_error();
    unsigned use = csr_message_use(bytes, size, id, &rule);
    assert((use == 0) == (rule != RULE_NONE) && rule < RULE_COUNT && rule_text(rule) != NULL);
    assert(use == 0 || (use == USE_CSR && has_key && size <= WIRE_PAYLOAD_SIZE_MAX));
    if (use != 0) {
        check_taken(bytes, size, id);
        id[KEY_ID_SIZE - 1] ^= 1;
        assert(csr_message_use(bytes, size, id, &rule) == 0 && rule == RULE_CSR_KEY);
    }
    assert(ERR_peek_error() == 0);
    return 0;
}
