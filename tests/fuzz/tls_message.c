/*
 * daemon/tls_message.h takes a message exactly when one of these forms, with the message's own
 * bytes where the form leaves them free, is the message; and then only if it is neither a client's
 * transcript nor a document. Written down from the RFCs, not from the code.
 */
#include "fuzz.h"

#include <openssl/asn1.h>
#include <openssl/cmp.h>
#include <openssl/crmf.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/ts.h>
#include <openssl/x509.h>
#include <string.h>

#include "daemon/tls_message.h"
#include "daemon/use.h"

#define RANDOMS 64
#define SPACES  "                                                                "
#define CERTIFICATE_VERIFY                                                                         \
    SPACES "TLS 1.3, server CertificateVerify", sizeof(SPACES "TLS 1.3, server CertificateVerify")

struct form {
    unsigned use;
    size_t size;       /* of the whole message */
    size_t fixed_at;   /* where the bytes stand that are not free */
    const char *fixed; /* they */
    size_t fixed_size;
};

static const struct form forms[] = {
    /* RFC 8446 4.4.3: then a transcript hash */
    {USE_TLS13_SERVER, 64 + 33 + 1 + 32, 0, CERTIFICATE_VERIFY},
    {USE_TLS13_SERVER, 64 + 33 + 1 + 48, 0, CERTIFICATE_VERIFY},
    /* RFC 8422 5.4: after two randoms named_curve, the curve, the point's size, the point */
    {USE_TLS12_SERVER, RANDOMS + 4 + 65, RANDOMS, "\x03\x00\x17\x41\x04", 5},
    {USE_TLS12_SERVER, RANDOMS + 4 + 97, RANDOMS, "\x03\x00\x18\x61\x04", 5},
    {USE_TLS12_SERVER, RANDOMS + 4 + 133, RANDOMS, "\x03\x00\x19\x85\x04", 5},
    {USE_TLS12_SERVER, RANDOMS + 4 + 65, RANDOMS, "\x03\x00\x1a\x41\x04", 5},
    {USE_TLS12_SERVER, RANDOMS + 4 + 97, RANDOMS, "\x03\x00\x1b\x61\x04", 5},
    {USE_TLS12_SERVER, RANDOMS + 4 + 129, RANDOMS, "\x03\x00\x1c\x81\x04", 5},
    {USE_TLS12_SERVER, RANDOMS + 4 + 32, RANDOMS, "\x03\x00\x1d\x20", 4},
    {USE_TLS12_SERVER, RANDOMS + 4 + 56, RANDOMS, "\x03\x00\x1e\x38", 4},
};

static bool has_form(const struct form *form, const uint8_t *message, size_t size)
{
    uint8_t rebuilt[256];
    if (size != form->size)
        return false;
    memcpy(rebuilt, message, size);
    memcpy(rebuilt + form->fixed_at, form->fixed, form->fixed_size);
    return memcmp(rebuilt, message, size) == 0;
}

/* RFC 5246 7.4.3 with this prime, the generator 2, and any public value that is not longer. */
static bool has_dhe_form(const uint8_t *prime, size_t prime_size, const uint8_t *message,
                         size_t size)
{
    static uint8_t rebuilt[RANDOMS + 2 + 1024 + 3 + 2 + 1024];
    size_t fixed_size = RANDOMS + 2 + prime_size + 3 + 2;
    if (size <= fixed_size || size > fixed_size + prime_size)
        return false;
    size_t value_size = size - fixed_size;
    uint8_t *at = rebuilt + RANDOMS;
    memcpy(rebuilt, message, size);
    *at++ = (uint8_t)(prime_size >> 8);
    *at++ = (uint8_t)prime_size;
    memcpy(at, prime, prime_size);
    memcpy(at + prime_size, "\x00\x01\x02", 3);
    at[prime_size + 3] = (uint8_t)(value_size >> 8);
    at[prime_size + 4] = (uint8_t)value_size;
    return memcmp(rebuilt, message, size) == 0;
}

static unsigned use_of_form(const struct dhe_groups *groups, const uint8_t *message, size_t size)
{
    unsigned use = 0;
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        if (has_form(&forms[i], message, size))
            use |= forms[i].use;
    }
    for (size_t i = 0; i < groups->count; i++) {
        if (has_dhe_form(groups->group[i].prime, groups->group[i].size, message, size))
            use |= USE_TLS12_SERVER_DHE;
    }
    return use;
}

/* RFC 5246 7.4.1.2 after a handshake header, or the CLIENT-HELLO of its appendix E.2. */
static bool is_transcript(const uint8_t *m, size_t size)
{
    size_t hello = (size_t)m[1] << 16 | (size_t)m[2] << 8 | m[3];
    bool today = m[0] == 1 && hello <= size - 4 && m[4] == 3 && m[5] <= 3;
    bool old = m[0] == 1 && m[1] == 3 && m[2] <= 3 && (m[3] << 8 | m[4]) % 3 == 0 && m[5] == 0 &&
               m[6] == 0 && m[7] == 0 && m[8] <= 32;
    return today || old;
}

/* A string comes first, as long as the hash of a session or the type of an OpenSSH certificate. */
static bool is_of_ssh(const uint8_t *m)
{
    return memcmp(m, "\0\0", 3) == 0 && m[3] >= 20 && m[3] <= 64;
}

/* Its first byte is, in one of the ways to write it, the tag of a SEQUENCE or SET. */
static bool begins_with_sequence(const uint8_t *message)
{
    uint8_t tag = message[0] & ~V_ASN1_CONSTRUCTED;
    return tag == V_ASN1_SEQUENCE || tag == V_ASN1_SET || tag == V_ASN1_PRIMITIVE_TAG;
}

#define IS_READ_AS(TYPE)                                                                           \
    static bool is_##TYPE(const uint8_t *bytes, size_t size)                                       \
    {                                                                                              \
        const unsigned char *at = bytes;                                                           \
        ERR_set_mark();                                                                            \
        TYPE *value = d2i_##TYPE(NULL, &at, (long)size);                                           \
        ERR_pop_to_mark();                                                                         \
        bool whole = value != NULL && at == bytes + size;                                          \
        TYPE##_free(value);                                                                        \
        return whole;                                                                              \
    }
IS_READ_AS(X509_CINF)
IS_READ_AS(X509_CRL_INFO)
IS_READ_AS(X509_REQ_INFO)
IS_READ_AS(OCSP_RESPDATA)
IS_READ_AS(OSSL_CMP_MSG) /* its protected part has the same elements, without what is optional */
IS_READ_AS(OSSL_CRMF_MSG)
IS_READ_AS(NETSCAPE_SPKAC)
IS_READ_AS(TS_TST_INFO)

/* RFC 4211 5: in a message that has nothing else. */
static bool is_crmf_request(const uint8_t *bytes, size_t size)
{
    uint8_t message[4096] = {V_ASN1_CONSTRUCTED | V_ASN1_SEQUENCE, 0x82};
    assert(size <= sizeof(message) - 4);
    message[2] = (uint8_t)(size >> 8);
    message[3] = (uint8_t)size;
    memcpy(message + 4, bytes, size);
    return is_OSSL_CRMF_MSG(message, size + 4);
}

static bool is_document(const uint8_t *bytes, size_t size)
{
    return is_X509_CINF(bytes, size) || is_X509_CRL_INFO(bytes, size) ||
           is_X509_REQ_INFO(bytes, size) || is_OCSP_RESPDATA(bytes, size) ||
           is_OSSL_CMP_MSG(bytes, size) || is_crmf_request(bytes, size) ||
           is_NETSCAPE_SPKAC(bytes, size) || is_TS_TST_INFO(bytes, size);
}

static void check_refusal(enum rule rule, unsigned form, const uint8_t *message, size_t size)
{
    if (is_transcript(message, size))
        assert(rule == RULE_TLS12_TRANSCRIPT);
    else if (form == USE_TLS12_SERVER_DHE && is_of_ssh(message))
        assert(rule == RULE_TLS12_SSH);
    else
        assert(rule == RULE_TLS12_DER && begins_with_sequence(message));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct dhe_groups groups;
    if (groups.count == 0)
        dhe_groups_load(&groups);
    assert(groups.count == DHE_GROUPS_MAX);

    enum rule rule = RULE_COUNT;
    unsigned use = tls_message_use(bytes, size, &groups, &rule);
    unsigned form = use_of_form(&groups, bytes, size);
    assert((use == 0) == (rule != RULE_NONE) && rule < RULE_COUNT && rule_text(rule) != NULL);
    if (use != 0)
        assert(use == form && !is_document(bytes, size) &&
               (use == USE_TLS13_SERVER || !is_transcript(bytes, size)) &&
               (use != USE_TLS12_SERVER_DHE || !is_of_ssh(bytes)));
    else if (form != 0 && memcmp(bytes, SPACES, RANDOMS) != 0) /* which is for TLS 1.3 alone */
        check_refusal(rule, form, bytes, size);
    return 0;
}
