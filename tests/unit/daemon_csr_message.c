/*
 * A certificate request for the very key is recognised, and nothing else that is DER.
 */
#include "test.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "daemon/csr_message.h"
#include "daemon/use.h"
#include "wire/reference.h"

static EVP_PKEY *key, *other_key;
static uint8_t key_id[KEY_ID_SIZE];

/* The bytes that are signed in a request, its subject and an extension included. */
static uint8_t *request_info(EVP_PKEY *for_key, size_t *size)
{
    X509_REQ *request = X509_REQ_new();
    X509_NAME *subject = X509_NAME_new();
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    X509_EXTENSION *names =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:www.example,DNS:b.example");
    unsigned char *info = NULL;
    assert_non_null(names);
    sk_X509_EXTENSION_push(extensions, names);
    assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                                (const unsigned char *)"www.example", -1, -1, 0),
                     1);
    assert_int_equal(X509_REQ_set_subject_name(request, subject), 1);
    assert_int_equal(X509_REQ_add_extensions(request, extensions), 1);
    assert_int_equal(X509_REQ_set_pubkey(request, for_key), 1);
    int length = i2d_re_X509_REQ_tbs(request, &info);
    assert_true(length > 0);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_NAME_free(subject);
    X509_REQ_free(request);
    *size = (size_t)length;
    return info;
}

static void a_request_for_the_key_is_recognised(void **state)
{
    (void)state;
    size_t size;
    enum rule rule;
    uint8_t *info = request_info(key, &size);
    assert_int_equal(csr_message_use(info, size, key_id, &rule), USE_CSR);
    assert_int_equal(rule, RULE_NONE);
    OPENSSL_free(info);
}

static void a_request_for_another_key_is_refused(void **state)
{
    (void)state;
    size_t size;
    enum rule rule;
    uint8_t *info = request_info(other_key, &size);
    assert_int_equal(csr_message_use(info, size, key_id, &rule), 0);
    assert_int_equal(rule, RULE_CSR_KEY);
    OPENSSL_free(info);
}

static void what_is_cut_or_has_something_behind_it_is_refused(void **state)
{
    (void)state;
    size_t size;
    enum rule rule;
    uint8_t *info = request_info(key, &size), longer[1024] = {0};
    assert_true(size < sizeof(longer));
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(csr_message_use(info, cut, key_id, &rule), 0);
    memcpy(longer, info, size);
    assert_int_equal(csr_message_use(longer, size + 1, key_id, &rule), 0);
    assert_int_equal(rule, RULE_CSR_FORM);
    OPENSSL_free(info);
}

static void a_changed_version_and_ber_are_refused(void **state)
{
    (void)state;
    size_t size;
    enum rule rule;
    uint8_t *info = request_info(key, &size), ber[1024];
    assert_int_equal(info[1], 0x81); /* SEQUENCE with a length of one byte more */
    info[5] = 1;                     /* INTEGER 0: the version */
    assert_int_equal(csr_message_use(info, size, key_id, &rule), 0);
    assert_int_equal(rule, RULE_CSR_FORM);
    info[5] = 0;
    /* the same length in two bytes more */
    ber[0] = info[0];
    ber[1] = 0x82;
    ber[2] = 0;
    memcpy(ber + 3, info + 2, size - 2);
    assert_int_equal(csr_message_use(ber, size + 1, key_id, &rule), 0);
    assert_int_equal(rule, RULE_CSR_FORM);
    OPENSSL_free(info);
}

/* What a certificate authority signs with the key, for the key itself. */
static void a_certificate_is_refused(void **state)
{
    (void)state;
    enum rule rule;
    unsigned char *tbs = NULL;
    X509 *certificate = X509_new();
    assert_int_equal(X509_set_version(certificate, X509_VERSION_1), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 0);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    int length = i2d_re_X509_tbs(certificate, &tbs);
    assert_true(length > 0);
    assert_int_equal(csr_message_use(tbs, (size_t)length, key_id, &rule), 0);
    assert_int_equal(rule, RULE_CSR_FORM);
    OPENSSL_free(tbs);
    X509_free(certificate);
}

static void what_is_no_der_is_left_to_others(void **state)
{
    (void)state;
    enum rule rule;
    assert_int_equal(csr_message_use((const uint8_t *)"hello", 5, key_id, &rule), 0);
    assert_int_equal(rule, RULE_MESSAGE);
    assert_int_equal(csr_message_use((const uint8_t *)"", 0, key_id, &rule), 0);
    assert_int_equal(rule, RULE_MESSAGE);
}

static int make_keys(void **state)
{
    (void)state;
    unsigned char *spki = NULL;
    key = EVP_EC_gen("P-256");
    other_key = EVP_EC_gen("P-256");
    int length = key != NULL ? i2d_PUBKEY(key, &spki) : 0;
    bool good = length > 0 && key_id_of_spki(spki, (size_t)length, key_id);
    OPENSSL_free(spki);
    return good && other_key != NULL ? 0 : -1;
}

static int free_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    EVP_PKEY_free(other_key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_for_the_key_is_recognised),
        cmocka_unit_test(a_request_for_another_key_is_refused),
        cmocka_unit_test(what_is_cut_or_has_something_behind_it_is_refused),
        cmocka_unit_test(a_changed_version_and_ber_are_refused),
        cmocka_unit_test(a_certificate_is_refused),
        cmocka_unit_test(what_is_no_der_is_left_to_others),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
