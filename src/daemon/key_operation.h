/*
 * One use of a private key, on whichever of its tokens can do it: sign.c and decrypt.c say what is
 * done, this chooses where, goes on to the next token when one fails, and notices that a key's
 * handle is out of date.
 */
#ifndef IMMURE_DAEMON_KEY_OPERATION_H
#define IMMURE_DAEMON_KEY_OPERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "daemon/keyring.h"
#include "daemon/request.h"
#include "token/token.h"

struct key_operation;

/* Has the token do it with the key at this place. */
typedef enum token_error key_operation_perform(struct key_operation *operation, struct token *token,
                                               const struct key_place *place);

/*
 * Looks at what came of it, when the token with this index has been given back: TOKEN_OK, or what
 * key_operation_wrong() returns.
 */
typedef enum token_error key_operation_check(struct key_operation *operation, size_t index,
                                             uint64_t epoch);

struct key_operation {
    struct request *request;
    const struct keyring_key *key;
    key_operation_perform *perform;
    key_operation_check *check;
    void *context; /* the caller's */

    /* For `perform` and `check`. */
    uint64_t sessions; /* token_sessions_opened() before it was performed */
    bool stale;        /* sessions were opened since the handle was shown to be right */

    uint32_t tried;             /* bit i: token i */
    char words[KEY_WORDS_SIZE]; /* request_key_words()' */
};

/*
 * Performs it, on one token after the other: WIRE_OK, or what tells the client most, with a
 * problem. The caller fills the fields above `sessions`; the others are zero.
 */
enum wire_status key_operation_run(struct key_operation *operation) MUST_USE;

/*
 * For `check`, when the result is right, or wrong: this place then is known to be right, or the
 * key is looked up again, if its handle may have come to name another, or the token is not used
 * any more. `made` is in words, as "made a wrong signature".
 */
void key_operation_right(struct key_operation *operation, size_t index);
enum token_error key_operation_wrong(struct key_operation *operation, size_t index, uint64_t epoch,
                                     const char *made) MUST_USE;

#endif
