/* What the operator is told of a key's safety. */
#include "test.h"

#include <string.h>

#include "cli/key_attributes.h"

#define YES     ANSWER_YES
#define NO      ANSWER_NO
#define UNKNOWN ANSWER_UNKNOWN

static const struct {
    const char *what;
    enum answer local, sensitive, always_sensitive, extractable, never_extractable;
    enum verdict verdict;
} cases[] = {
    {"made as Immure makes it", YES, YES, YES, NO, YES, VERDICT_IN_TOKEN},
    {"brought in", NO, YES, NO, NO, NO, VERDICT_IMPORTED},
    {"brought in, and the token claims it always was safe", NO, YES, YES, NO, YES,
     VERDICT_IMPORTED},
    {"made in the token, extractable", YES, YES, YES, YES, NO, VERDICT_EXTRACTABLE},
    {"brought in, extractable", NO, YES, NO, YES, NO, VERDICT_EXTRACTABLE},
    {"neither sensitive nor kept in", YES, NO, NO, YES, NO, VERDICT_READABLE},
    {"not sensitive, and not said whether it is kept in", YES, NO, NO, UNKNOWN, UNKNOWN,
     VERDICT_READABLE},
    {"was extractable once", YES, YES, YES, NO, NO, VERDICT_WAS_EXTRACTABLE},
    {"was not sensitive once", YES, YES, NO, NO, YES, VERDICT_WAS_EXTRACTABLE},
    {"nothing is known", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, VERDICT_UNKNOWN},
    {"origin unknown", UNKNOWN, YES, YES, NO, YES, VERDICT_UNKNOWN},
    {"history unknown", YES, YES, UNKNOWN, NO, UNKNOWN, VERDICT_UNKNOWN},
    {"not sensitive, yet not extractable", YES, NO, NO, NO, YES, VERDICT_WAS_EXTRACTABLE},
};

static void no_key_is_called_safer_than_its_attributes_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct key_attributes attributes = {.local = cases[i].local,
                                            .sensitive = cases[i].sensitive,
                                            .always_sensitive = cases[i].always_sensitive,
                                            .extractable = cases[i].extractable,
                                            .never_extractable = cases[i].never_extractable};
        if (key_verdict(&attributes) != cases[i].verdict)
            fail_msg("%s: called %s", cases[i].what, verdict_word(key_verdict(&attributes)));
    }
}

/* Begins with CK_TRUE, goes on with what is no CK_BBOOL, and does not look at what comes then. */
static CK_RV answer_in_part(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                            CK_ATTRIBUTE *template, CK_ULONG count)
{
    (void)session;
    (void)object;
    assert_true(count > 3);
    *(CK_BBOOL *)template[0].pValue = CK_TRUE;
    *(CK_BBOOL *)template[1].pValue = 0x55;
    *(CK_BBOOL *)template[2].pValue = CK_FALSE;
    template[3].ulValueLen = CK_UNAVAILABLE_INFORMATION;
    return CKR_ATTRIBUTE_TYPE_INVALID;
}

static void what_the_token_has_not_answered_is_unknown(void **state)
{
    (void)state;
    CK_FUNCTION_LIST functions = {.C_GetAttributeValue = answer_in_part};
    const struct token_session session = {.functions = &functions};
    struct key_attributes attributes;
    struct problem problem;
    assert_int_equal(key_attributes_read(NULL, &session, 1, &attributes, &problem), TOKEN_OK);
    const struct key_attributes expected = {.local = YES, .always_sensitive = NO};
    assert_memory_equal(&attributes, &expected, sizeof(expected));
}

/* Of all combinations of answers, exactly one is the best verdict. */
static void only_one_combination_is_called_in_token(void **state)
{
    (void)state;
    unsigned in_token = 0;
    for (unsigned code = 0; code < 3 * 3 * 3 * 3 * 3; code++) {
        struct key_attributes attributes = {.local = code % 3,
                                            .sensitive = code / 3 % 3,
                                            .always_sensitive = code / 9 % 3,
                                            .extractable = code / 27 % 3,
                                            .never_extractable = code / 81 % 3};
        if (attributes.sensitive == YES)
            in_token += key_verdict(&attributes) == VERDICT_IN_TOKEN;
        else
            assert_true(key_verdict(&attributes) != VERDICT_IN_TOKEN);
    }
    assert_int_equal(in_token, 1);
}

static void every_verdict_has_its_words(void **state)
{
    (void)state;
    for (int verdict = VERDICT_READABLE; verdict <= VERDICT_IN_TOKEN; verdict++) {
        assert_non_null(verdict_word((enum verdict)verdict));
        assert_true(strlen(verdict_text((enum verdict)verdict)) > 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_key_is_called_safer_than_its_attributes_say),
        cmocka_unit_test(what_the_token_has_not_answered_is_unknown),
        cmocka_unit_test(only_one_combination_is_called_in_token),
        cmocka_unit_test(every_verdict_has_its_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
