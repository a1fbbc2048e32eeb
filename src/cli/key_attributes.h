/*
 * What a token says of a private key's protection, and what that means in words.
 */
#ifndef IMMURE_CLI_KEY_ATTRIBUTES_H
#define IMMURE_CLI_KEY_ATTRIBUTES_H

#include <jansson.h>

#include "cli/report.h"
#include "token/token.h"

enum answer { ANSWER_UNKNOWN, ANSWER_NO, ANSWER_YES };

/* PKCS#11 v2.40 4.7 and 4.9. Unknown: the token does not tell. */
struct key_attributes {
    enum answer local, sensitive, always_sensitive, extractable, never_extractable;
    enum answer sign, decrypt, unwrap, derive, sign_recover;
};

/* From the worst to the best; a key on several tokens is as safe as its worst copy. */
enum verdict {
    VERDICT_READABLE,
    VERDICT_EXTRACTABLE,
    VERDICT_IMPORTED,
    VERDICT_WAS_EXTRACTABLE,
    VERDICT_UNKNOWN,
    VERDICT_IN_TOKEN,
};

/* Reads them in one call; attributes that the token does not know are ANSWER_UNKNOWN. */
enum token_error key_attributes_read(struct token *token, const struct token_session *session,
                                     CK_OBJECT_HANDLE key, struct key_attributes *attributes,
                                     struct problem *problem) MUST_USE;

/* The same in a session of the pool; all are unknown when it fails. */
enum token_error key_attributes_look(struct token *token, CK_OBJECT_HANDLE key,
                                     struct key_attributes *attributes,
                                     struct problem *problem) MUST_USE;

enum verdict key_verdict(const struct key_attributes *attributes) MUST_USE;
const char *verdict_word(enum verdict verdict);
const char *verdict_text(enum verdict verdict);

/* {"local": true, ...}; unknown ones are null. */
json_t *key_attributes_json(const struct key_attributes *attributes) MUST_USE;

/* One field a line. */
void key_attributes_print(const struct key_attributes *attributes);

#endif
