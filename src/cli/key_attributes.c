#include "cli/key_attributes.h"

#include "cli/tokens.h"
#include "token/object.h"

static const struct {
    CK_ATTRIBUTE_TYPE type;
    const char *json, *label;
    size_t offset; /* of an enum answer in struct key_attributes */
} attribute_table[] = {
    {CKA_LOCAL, "local", "Made in token", offsetof(struct key_attributes, local)},
    {CKA_SENSITIVE, "sensitive", "Sensitive", offsetof(struct key_attributes, sensitive)},
    {CKA_ALWAYS_SENSITIVE, "always_sensitive", "Always sensitive",
     offsetof(struct key_attributes, always_sensitive)},
    {CKA_EXTRACTABLE, "extractable", "Extractable", offsetof(struct key_attributes, extractable)},
    {CKA_NEVER_EXTRACTABLE, "never_extractable", "Never extractable",
     offsetof(struct key_attributes, never_extractable)},
    {CKA_SIGN, "sign", "May sign", offsetof(struct key_attributes, sign)},
    {CKA_DECRYPT, "decrypt", "May decrypt", offsetof(struct key_attributes, decrypt)},
    {CKA_UNWRAP, "unwrap", "May unwrap", offsetof(struct key_attributes, unwrap)},
    {CKA_DERIVE, "derive", "May derive", offsetof(struct key_attributes, derive)},
    {CKA_SIGN_RECOVER, "sign_recover", "May sign-recover",
     offsetof(struct key_attributes, sign_recover)},
};

static enum answer *answer_at(struct key_attributes *attributes, size_t row)
{
    return (enum answer *)(void *)((char *)attributes + attribute_table[row].offset);
}

static enum answer answer_of(const struct key_attributes *attributes, size_t row)
{
    struct key_attributes copy = *attributes;
    return *answer_at(&copy, row);
}

enum token_error key_attributes_read(struct token *token, const struct token_session *session,
                                     CK_OBJECT_HANDLE key, struct key_attributes *attributes,
                                     struct problem *problem)
{
    CK_BBOOL values[ARRAY_SIZE(attribute_table)];
    CK_ATTRIBUTE template[ARRAY_SIZE(attribute_table)];
    for (size_t i = 0; i < ARRAY_SIZE(attribute_table); i++)
        template[i] = (CK_ATTRIBUTE){attribute_table[i].type, &values[i], sizeof(values[i])};

    *attributes = (struct key_attributes){0};
    CK_RV rv = object_read(session, key, template, ARRAY_SIZE(template));
    if (rv != CKR_OK)
        return token_error_of(token, rv, "reading a key's attributes", problem);
    for (size_t i = 0; i < ARRAY_SIZE(attribute_table); i++) {
        if (template[i].ulValueLen == sizeof(values[i]) && values[i] <= CK_TRUE)
            *answer_at(attributes, i) = values[i] != CK_FALSE ? ANSWER_YES : ANSWER_NO;
    }
    return TOKEN_OK;
}

enum token_error key_attributes_look(struct token *token, CK_OBJECT_HANDLE key,
                                     struct key_attributes *attributes, struct problem *problem)
{
    struct token_session session;
    *attributes = (struct key_attributes){0};
    enum token_error error =
        token_session_take(token, clock_now_ms() + CLI_DEADLINE_MS, &session, problem);
    if (error != TOKEN_OK)
        return error;
    error = key_attributes_read(token, &session, key, attributes, problem);
    token_session_return(token, &session, error == TOKEN_UNAVAILABLE);
    return error;
}

/* --- Verdicts -------------------------------------------------------------------------------- */

static const struct {
    const char *word, *text;
} verdict_texts[] = {
    [VERDICT_READABLE] = {"readable",
                          "can be read from the token in plain by whoever has its PIN: replace it"},
    [VERDICT_EXTRACTABLE] = {"extractable",
                             "can be extracted: whoever has the token's PIN can wrap it out; "
                             "replace it"},
    [VERDICT_IMPORTED] = {"imported", "was imported: a copy existed outside the token; replace it "
                                      "when you can"},
    [VERDICT_WAS_EXTRACTABLE] = {"was-extractable",
                                 "was made in the token, but could be extracted for a time: a copy "
                                 "may exist; replace it when you can"},
    [VERDICT_UNKNOWN] = {"unknown", "the token does not say whether the key was ever outside it"},
    [VERDICT_IN_TOKEN] = {"in-token", "made in the token and never extractable: no copy of it "
                                      "is outside the token"},
};

enum verdict key_verdict(const struct key_attributes *attributes)
{
    if (attributes->sensitive == ANSWER_NO && attributes->extractable != ANSWER_NO)
        return VERDICT_READABLE;
    if (attributes->extractable == ANSWER_YES)
        return VERDICT_EXTRACTABLE;
    if (attributes->local == ANSWER_NO)
        return VERDICT_IMPORTED;
    if (attributes->never_extractable == ANSWER_NO || attributes->always_sensitive == ANSWER_NO)
        return VERDICT_WAS_EXTRACTABLE;
    if (attributes->local == ANSWER_YES && attributes->sensitive == ANSWER_YES &&
        attributes->always_sensitive == ANSWER_YES && attributes->extractable == ANSWER_NO &&
        attributes->never_extractable == ANSWER_YES)
        return VERDICT_IN_TOKEN;
    return VERDICT_UNKNOWN;
}

const char *verdict_word(enum verdict verdict)
{
    return verdict_texts[verdict].word;
}

const char *verdict_text(enum verdict verdict)
{
    return verdict_texts[verdict].text;
}

/* --- Printing -------------------------------------------------------------------------------- */

json_t *key_attributes_json(const struct key_attributes *attributes)
{
    json_t *object = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(attribute_table); i++) {
        enum answer answer = answer_of(attributes, i);
        json_t *value = answer == ANSWER_UNKNOWN ? json_null() : json_boolean(answer == ANSWER_YES);
        json_object_set_new(object, attribute_table[i].json, value);
    }
    return object;
}

void key_attributes_print(const struct key_attributes *attributes)
{
    static const char *const words[] = {
        [ANSWER_UNKNOWN] = "unknown", [ANSWER_NO] = "no", [ANSWER_YES] = "yes"};
    for (size_t i = 0; i < ARRAY_SIZE(attribute_table); i++)
        print_field(attribute_table[i].label, "%s", words[answer_of(attributes, i)]);
}
