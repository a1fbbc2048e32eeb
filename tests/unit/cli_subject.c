/* Subjects and alternative names of certificate requests. */
#include "test.h"

#include <string.h>

#include "cli/subject.h"

/* The longest that RFC 1034 3.1 allows. */
#define LABEL_63 "123456789-123456789-123456789-123456789-123456789-123456789-abc"

/* RFC 2253 form: OpenSSL writes the name from its end, as RFC 4514 does. */
static void assert_subject(const char *text, const char *expected)
{
    struct problem problem = {""};
    X509_NAME *name = X509_NAME_new();
    BIO *memory = BIO_new(BIO_s_mem());
    char shown[512] = "";

    if (subject_parse(text, name, &problem) != 0)
        fail_msg("%s: %s", text, problem.text);
    X509_NAME_print_ex(memory, name, 0, XN_FLAG_RFC2253);
    BIO_read(memory, shown, sizeof(shown) - 1);
    assert_string_equal(shown, expected);
    BIO_free(memory);
    X509_NAME_free(name);
}

static void both_forms_keep_the_order_that_their_standard_has(void **state)
{
    (void)state;
    assert_subject("/C=DE/O=Example/CN=www", "CN=www,O=Example,C=DE");
    assert_subject("CN=www,O=Example,C=DE", "CN=www,O=Example,C=DE");
    assert_subject("CN=www, O=Example, C=DE", "CN=www,O=Example,C=DE");
    assert_subject("CN=www", "CN=www");
    assert_subject("/CN=www", "CN=www");
    assert_subject("/OU=a/OU=b/CN=c", "CN=c,OU=b,OU=a");
}

static void escapes_take_the_meaning_from_separators(void **state)
{
    (void)state;
    assert_subject("/O=a\\/b/CN=c", "CN=c,O=a/b");
    assert_subject("O=a\\,b", "O=a\\,b");
    assert_subject("O=a\\2cb", "O=a\\,b");
    assert_subject("O=a\\+b\\\\", "O=a\\+b\\\\");
    assert_subject("/O=a,b=c", "O=a\\,b=c");
    assert_subject("/O=S\\c3\\b6hne", "O=S\\C3\\B6hne");
}

static void malformed_subjects_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const char *const subjects[] = {
        "",       "/",     "CN",     "=x",       "/CN=",     "CN=,O=x", "/CN=a//O=b", "CN=a,",
        "/C=DEU", "/X=y/", "CN=a\\", "CN=a+O=b", "CN=#0401", "/CN=a/",  "NOSUCH=x",   "CN=\\ff",
    };
    for (size_t i = 0; i < ARRAY_SIZE(subjects); i++) {
        struct problem problem = {""};
        X509_NAME *name = X509_NAME_new();
        if (subject_parse(subjects[i], name, &problem) == 0)
            fail_msg("\"%s\" is taken", subjects[i]);
        assert_string_not_equal(problem.text, "");
        X509_NAME_free(name);
    }
}

static void assert_san_type(const char *text, int type)
{
    struct problem problem = {""};
    const struct text_list list = {.items = {text}, .count = 1};
    GENERAL_NAMES *names = san_parse(&list, &problem);
    if (names == NULL)
        fail_msg("%s: %s", text, problem.text);
    assert_int_equal(sk_GENERAL_NAME_num(names), 1);
    assert_int_equal(sk_GENERAL_NAME_value(names, 0)->type, type);
    GENERAL_NAMES_free(names);
}

static void a_name_is_of_the_kind_that_it_looks_like_or_says(void **state)
{
    (void)state;
    assert_san_type("www.example.com", GEN_DNS);
    assert_san_type("*.example.com", GEN_DNS);
    assert_san_type("dns:localhost", GEN_DNS);
    assert_san_type("192.0.2.1", GEN_IPADD);
    assert_san_type("2001:db8::1", GEN_IPADD);
    assert_san_type("IP:192.0.2.1", GEN_IPADD);
    assert_san_type("email:a@example.com", GEN_EMAIL);
    assert_san_type("URI:https://example.com/", GEN_URI);
    assert_san_type("1.2.3.example", GEN_DNS);
    assert_san_type("4.3.2.1.in-addr.arpa", GEN_DNS);
    assert_san_type("_a-b--c.xn--p1ai", GEN_DNS);
    assert_san_type("host1", GEN_DNS);
    assert_san_type("*." LABEL_63 ".example", GEN_DNS);
}

static void lists_are_added_up(void **state)
{
    (void)state;
    struct problem problem = {""};
    const struct text_list list = {.items = {"a.example,b.example", "192.0.2.1"}, .count = 2};
    const struct text_list none = {.count = 0};
    GENERAL_NAMES *names = san_parse(&list, &problem);
    assert_int_equal(sk_GENERAL_NAME_num(names), 3);
    GENERAL_NAMES_free(names);
    names = san_parse(&none, &problem);
    assert_int_equal(sk_GENERAL_NAME_num(names), 0);
    GENERAL_NAMES_free(names);
}

static void names_that_no_certificate_should_have_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",
        ",",
        "a.example,",
        "a b",
        "a\nb",
        "a..b",
        ".a",
        "*.",
        "*",
        "a.*.b",
        "www.example.com.",
        "-a.example",
        "a-.example",
        "a.example-",
        "*.-a",
        "-",
        LABEL_63 "d.example",
        "example." LABEL_63 "d",
        "192.0.2.256",
        "192.0.2",
        "10",
        "*.2",
        "DNS:192.0.2.1",
        "IP:a",
        "IP:1.2.3.4.5",
        "email:a",
        "URI:/path",
        "DNS:",
        "a@b",
        "dirName:x",
        ("b\xc3\xbc"
         "cher"),
        "https://a/",
        "otherName:1.2.3;UTF8:x",
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct problem problem = {""};
        const struct text_list list = {.items = {names[i]}, .count = 1};
        if (san_parse(&list, &problem) != NULL)
            fail_msg("\"%s\" is taken", names[i]);
        assert_string_not_equal(problem.text, "");
    }
}

static void a_name_as_long_as_the_buffer_is_refused_whole(void **state)
{
    (void)state;
    char text[4096];
    struct problem problem = {""};
    const struct text_list list = {.items = {text}, .count = 1};
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (size_t length = 2047; length < 2050; length++) {
        text[length] = '\0';
        assert_null(san_parse(&list, &problem));
        text[length] = 'a';
    }
    for (size_t dot = 63; dot < sizeof(text); dot += 64)
        text[dot] = '.';
    text[253] = '\0';
    assert_san_type(text, GEN_DNS);
    text[253] = 'a';
    text[254] = '\0';
    assert_null(san_parse(&list, &problem));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_keep_the_order_that_their_standard_has),
        cmocka_unit_test(escapes_take_the_meaning_from_separators),
        cmocka_unit_test(malformed_subjects_are_refused_with_a_reason),
        cmocka_unit_test(a_name_is_of_the_kind_that_it_looks_like_or_says),
        cmocka_unit_test(lists_are_added_up),
        cmocka_unit_test(names_that_no_certificate_should_have_are_refused),
        cmocka_unit_test(a_name_as_long_as_the_buffer_is_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
