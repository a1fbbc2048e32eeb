/*
 * A key pair that is being made on a token: in one session, undone if anything goes wrong.
 */
#ifndef IMMURE_CLI_KEY_PAIR_H
#define IMMURE_CLI_KEY_PAIR_H

#include "cli/key_attributes.h"
#include "cli/key_kind.h"
#include "cli/keys.h"
#include "cli/template.h"

struct key_pair {
    struct token *token;
    struct token_session session;
    const char *name;
    bool decrypts;                   /* as well as signs */
    uint8_t cka_id[NEW_CKA_ID_SIZE]; /* random */
    size_t params; /* which of the key_kind's the token takes, once it has the public key */
    CK_OBJECT_HANDLE private_handle, public_handle;
    struct problem refusal; /* why the token did not take the public key; empty if it did */
};

/* What commands that make a key have in common. */
#define KEY_PAIR_DECRYPT_OPTION                                                                    \
    OPTION("decrypt", NULL, decrypt,                                                               \
           "the key may also decrypt, for TLS 1.2's RSA key exchange; RSA only")

/* --decrypt, if it was given, is for this kind of key; else it is reported. */
enum exit_status key_pair_check_decrypt(const struct arguments *arguments,
                                        const struct key_kind *kind) MUST_USE;

/* Takes a session and draws the CKA_ID. key_pair_end() afterwards. */
enum exit_status key_pair_begin(struct key_pair *pair, struct token *token,
                                const struct arguments *arguments) MUST_USE;

/* Returns the session; first destroys the objects made so far unless `keep`. */
void key_pair_end(struct key_pair *pair, bool keep);

/*
 * `rv` of a call that was to make an object. When it failed, the handle becomes CK_INVALID_HANDLE:
 * NSS leaves a number there for the object that it did not make, and what has another object's
 * number would be destroyed.
 */
CK_RV key_pair_made(CK_RV rv, CK_OBJECT_HANDLE *handle) MUST_USE;

/* Adds CKA_LABEL and CKA_ID. */
void key_pair_add_names(const struct key_pair *pair, struct template *template);

/*
 * Looks at what the token made: finds the key by its name, reads its attributes, and fails,
 * reported, if it is not sensitive, extractable, or cannot do what was asked for. The key is added
 * to `found`.
 */
enum exit_status key_pair_check(const struct key_pair *pair, struct found_keys *found,
                                struct key_attributes *attributes) MUST_USE;

/* Prints the new key, its verdict and the commands that come next; or JSON. */
enum exit_status key_pair_print(const struct arguments *arguments, const struct found_key *key,
                                const struct key_attributes *attributes) MUST_USE;

/* True if the call is worth repeating with another template or parameter. */
bool template_refused(CK_RV rv) MUST_USE;

#endif
