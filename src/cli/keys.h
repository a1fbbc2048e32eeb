/*
 * Keys found on the tokens, and the one that an operator names.
 *
 * A key's NAME is its CKA_LABEL, or its key id: the 64 hexadecimal digits of the SHA-256 of its
 * SubjectPublicKeyInfo.
 */
#ifndef IMMURE_CLI_KEYS_H
#define IMMURE_CLI_KEYS_H

#include <openssl/evp.h>

#include "cli/tokens.h"

#define KEY_ID_TEXT_SIZE (2 * KEY_ID_SIZE + 1)

struct found_key {
    struct token *token;
    struct token_key key;
    uint8_t *spki; /* what key.spki points to: this one's own */
};

/* Several may be one key: on several tokens, or twice on one. */
struct found_keys {
    struct found_key *items;
    size_t count, capacity;
    size_t unusable;      /* private keys whose public key cannot be had; passed over */
    size_t failed_tokens; /* tokens that could not be searched; reported */
    bool out_of_memory;
};

/* Adds what fits the query on all opened tokens. found_keys_clear() in any case. */
enum exit_status keys_find(const struct tokens *tokens, const struct token_key_query *query,
                           struct found_keys *found) MUST_USE;

/* Adds every copy of the key that NAME names; no key, or several different ones, is reported. */
enum exit_status keys_find_named(const struct tokens *tokens, const char *name,
                                 struct found_keys *found) MUST_USE;

/* Adds a copy of the key; false, and out_of_memory is set, when there is no memory. */
bool found_keys_add(struct found_keys *found, struct token *token, const struct token_key *key);

/* Sorted by name, key id, token: copies of a key with one name stand together. */
void keys_sort(struct found_keys *found);
bool keys_are_same(const struct found_key *one, const struct found_key *other) MUST_USE;

void found_keys_clear(struct found_keys *found);

/*
 * A name for a new key: 1 to 255 bytes of UTF-8 without control characters, not beginning with
 * '/', and no key id. Otherwise STATUS_USAGE, reported.
 */
enum exit_status key_name_check(const char *name) MUST_USE;

/* The label, or the key id in `buffer` where there is none. */
const char *key_display_name(const struct token_key *key, char buffer[KEY_ID_TEXT_SIZE]);

/* Fails, reported, if the token has a private key of this name. */
enum exit_status key_name_unused(const struct tokens *tokens, const char *name) MUST_USE;

/* Signs `message` with the key, hashed here as its kind demands. */
enum exit_status key_sign(const struct found_key *key, const uint8_t *message, size_t message_size,
                          uint8_t signature[SIGNATURE_SIZE_MAX], size_t *size) MUST_USE;

/* The public key; NULL is reported. */
EVP_PKEY *key_public(const struct token_key *key) MUST_USE;

/* A name as a shell takes it, in quotes where needed, for commands that are shown. */
#define SHELL_NAME_SIZE (4 * 255 + 3)
const char *shell_quote(const char *name, char buffer[SHELL_NAME_SIZE]);

#endif
