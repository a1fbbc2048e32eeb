/*
 * immure csr: a PKCS#10 certificate request (RFC 2986), signed in the token.
 */
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/key_kind.h"
#include "cli/keys.h"
#include "cli/report.h"
#include "cli/subject.h"

#define CSR_PEM_LABEL "CERTIFICATE REQUEST"

/* --- Contents -------------------------------------------------------------------------------- */

/* RFC 5280 4.2.1.6: critical when the subject is empty. */
static bool add_sans(X509_REQ *request, GENERAL_NAMES *names)
{
    int is_critical = X509_NAME_entry_count(X509_REQ_get_subject_name(request)) == 0;
    X509_EXTENSIONS *extensions = NULL;
    bool done = X509V3_add1_i2d(&extensions, NID_subject_alt_name, names, is_critical,
                                X509V3_ADD_DEFAULT) == 1 &&
                X509_REQ_add_extensions(request, extensions) == 1;
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return done;
}

/* What is wrong with the text is bad usage, as it is with names. */
static enum exit_status fill_subject(X509_REQ *request, const char *text)
{
    struct problem problem;
    X509_NAME *name = X509_NAME_new();
    enum exit_status status = STATUS_OK;
    if (name == NULL)
        status = report_openssl("cannot make the subject");
    else if (subject_parse(text, name, &problem) != 0)
        status = report_usage("%s", problem.text);
    else if (X509_REQ_set_subject_name(request, name) != 1)
        status = report_openssl("cannot put the subject into the request");
    X509_NAME_free(name);
    return status;
}

static enum exit_status fill_sans(X509_REQ *request, const struct text_list *texts)
{
    struct problem problem;
    GENERAL_NAMES *names = san_parse(texts, &problem);
    if (names == NULL)
        return report_usage("%s", problem.text);
    enum exit_status status =
        add_sans(request, names) ? STATUS_OK : report_openssl("cannot add the names");
    GENERAL_NAMES_free(names);
    return status;
}

static enum exit_status fill_key(X509_REQ *request, const struct found_key *key)
{
    EVP_PKEY *pkey = key_public(&key->key);
    if (pkey == NULL)
        return STATUS_FAILED;
    enum exit_status status = STATUS_OK;
    if (X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_pubkey(request, pkey) != 1)
        status = report_openssl("cannot put the public key into the request");
    EVP_PKEY_free(pkey);
    return status;
}

/* --- Signature ------------------------------------------------------------------------------- */

/*
 * RFC 3279 2.2.1: NULL parameters with RSA; RFC 5758 3.2, RFC 8410 3 and RFC 9881 2: none with the
 * others.
 */
static bool set_algorithm(X509_REQ *request, const struct found_key *key)
{
    struct key_signing signing = key_signing_of(key->key.type, key->key.bits);
    int parameters = key->key.type == KEY_TYPE_RSA ? V_ASN1_NULL : V_ASN1_UNDEF;
    X509_ALGOR *algorithm = X509_ALGOR_new();
    bool done =
        algorithm != NULL &&
        X509_ALGOR_set0(algorithm, OBJ_txt2obj(signing.algorithm, 0), parameters, NULL) == 1 &&
        X509_REQ_set1_signature_algo(request, algorithm) == 1;
    X509_ALGOR_free(algorithm);
    return done;
}

/* Header, the number of bits that are not used, and the signature. */
#define SIGNATURE_DER_SIZE_MAX (8 + SIGNATURE_SIZE_MAX)

/* Read from DER, which says that all bits count: OpenSSL 4 hides the flag for it. */
static bool set_signature(X509_REQ *request, const uint8_t *signature, size_t size)
{
    uint8_t der[SIGNATURE_DER_SIZE_MAX], *end = der;
    const uint8_t *start = der;
    if (size > SIGNATURE_SIZE_MAX)
        return false;
    ASN1_put_object(&end, 0, (int)size + 1, V_ASN1_BIT_STRING, V_ASN1_UNIVERSAL);
    *end++ = 0;
    memcpy(end, signature, size);
    ASN1_BIT_STRING *bits = d2i_ASN1_BIT_STRING(NULL, &start, end + size - der);
    if (bits == NULL)
        return false;
    X509_REQ_set0_signature(request, bits);
    return true;
}

static enum exit_status check_signature(X509_REQ *request)
{
    EVP_PKEY *pkey = X509_REQ_get0_pubkey(request);
    if (pkey != NULL && X509_REQ_verify(request, pkey) == 1)
        return STATUS_OK;
    return report_openssl("the token's signature does not fit its public key; no request is "
                          "written");
}

static enum exit_status sign_request(X509_REQ *request, const struct found_key *key)
{
    uint8_t signature[SIGNATURE_SIZE_MAX];
    unsigned char *tbs = NULL;
    size_t size = 0;
    int tbs_size = i2d_re_X509_REQ_tbs(request, &tbs);
    if (tbs_size <= 0)
        return report_openssl("cannot encode the request");

    enum exit_status status = key_sign(key, tbs, (size_t)tbs_size, signature, &size);
    if (status == STATUS_OK &&
        (!set_algorithm(request, key) || !set_signature(request, signature, size)))
        status = report_openssl("cannot put the signature into the request");
    if (status == STATUS_OK)
        status = check_signature(request);
    OPENSSL_free(tbs);
    return status;
}

/* --- Output ---------------------------------------------------------------------------------- */

static enum exit_status put(const struct arguments *arguments, const struct found_key *key,
                            const char *pem, size_t size)
{
    enum exit_status status = STATUS_OK;
    const char *file = output_file(arguments->output);
    char id[KEY_ID_TEXT_SIZE];
    hex_encode(key->key.id, KEY_ID_SIZE, id);
    if (!arguments->json || file != NULL)
        status = write_pem(file, pem, size, CSR_PEM_LABEL, arguments->force);
    if (status == STATUS_OK && arguments->json)
        status = print_json(json_pack("{s:s#, s:o, s:s, s:o, s:o}", "csr", pem, (int)size, "name",
                                      json_text(key->key.label), "key_id", id, "token",
                                      json_text(token_name(key->token)), "file",
                                      file != NULL ? json_text(file) : json_null()));
    return status;
}

static enum exit_status put_request(const struct arguments *arguments, const struct found_key *key,
                                    const X509_REQ *request)
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *pem = NULL;
    enum exit_status status;
    if (memory == NULL || PEM_write_bio_X509_REQ(memory, request) != 1) {
        status = report_openssl("cannot encode the request");
    } else {
        long size = BIO_get_mem_data(memory, &pem);
        status = put(arguments, key, pem, (size_t)size);
    }
    BIO_free(memory);
    return status;
}

/* --- Command --------------------------------------------------------------------------------- */

static enum exit_status request_with(const struct arguments *arguments, X509_REQ *request)
{
    struct tokens tokens;
    struct found_keys found = {0};
    enum exit_status status = tokens_open(arguments, &tokens);
    if (status == STATUS_OK)
        status = keys_find_named(&tokens, arguments->operands[0], &found);
    if (status == STATUS_OK)
        status = fill_key(request, &found.items[0]);
    if (status == STATUS_OK)
        status = sign_request(request, &found.items[0]);
    if (status == STATUS_OK)
        status = put_request(arguments, &found.items[0], request);
    found_keys_clear(&found);
    tokens_close(&tokens);
    return status;
}

static enum exit_status run(const struct arguments *arguments)
{
    if (arguments->subject == NULL && arguments->sans.count == 0)
        return report_usage("a request needs a name: give --san HOST, --subject, or both");
    X509_REQ *request = X509_REQ_new();
    if (request == NULL)
        return report_openssl("cannot make a request");

    enum exit_status status = STATUS_OK;
    if (arguments->subject != NULL)
        status = fill_subject(request, arguments->subject);
    if (status == STATUS_OK && arguments->sans.count > 0)
        status = fill_sans(request, &arguments->sans);
    if (status == STATUS_OK)
        status = request_with(arguments, request);
    if (status == STATUS_OK && arguments->sans.count == 0)
        report_warning("the request has no --san: today's browsers look at nothing else for the "
                       "host's name");
    X509_REQ_free(request);
    return status;
}

static const struct option_spec options[] = {
    {OPTION("subject", "NAME", subject, "\"/C=DE/O=Example/CN=www\" or \"CN=www,O=Example,C=DE\""),
     .letter = 's'},
    {OPTION("san", "NAMES", sans, "host names and addresses, comma-separated; may be repeated"),
     .letter = 'a', .is_list = true},
    {OPTION("output", "FILE", output, "write to FILE instead of standard output"), .letter = 'o'},
    {OPTION("force", NULL, force, "replace FILE even if it is no certificate request")},
    {OPTION("token", "TOKEN", token, "look on this token only")},
};

const struct command command_csr = {
    .name = "csr",
    .operands = {"NAME"},
    .summary = "Make a certificate request, signed in the token",
    .detail = "Names of --san are DNS names or IP addresses, or begin with DNS:, IP:, email: or\n"
              "URI:. Without --subject the request has its --san alone.",
    .page = "immure-csr(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
