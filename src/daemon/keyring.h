/*
 * The keys that immured has seen: what they are, who may use them, where they are.
 *
 * Looked up by key id (SHA-256 of the SubjectPublicKeyInfo). A place is a handle and the epoch
 * of the token's login that it was found in; in another epoch it means nothing. Keys are never
 * removed, and take about 350 bytes and their name each. From any thread.
 */
#ifndef IMMURE_DAEMON_KEYRING_H
#define IMMURE_DAEMON_KEYRING_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "daemon/config.h"
#include "daemon/depadding.h"
#include "daemon/grant.h"
#include "token/token.h"

struct keyring;

struct key_place {
    CK_OBJECT_HANDLE handle;
    uint64_t epoch;    /* 0: not on this token, as far as is known */
    uint64_t sessions; /* token_sessions_opened() when the handle was last shown to be right */
    bool verified;     /* a signature from here was right */
};

/* A copy of what is known of a key. */
struct keyring_key {
    enum key_type type;
    unsigned bits;
    grant_set grants;
    struct key_place places[CONFIG_TOKENS_MAX]; /* by the token's place in the configuration */
};

/* NULL: out of memory. `config` must outlive it. */
struct keyring *keyring_new(const struct config *config) MUST_USE;
void keyring_free(struct keyring *keyring);

/*
 * The key was found on this token. Its name is its label on the first token of the configuration
 * that it was found on. False: out of memory.
 */
bool keyring_put(struct keyring *keyring, const struct token_key *key, size_t token,
                 uint64_t epoch) MUST_USE;

/* False: never seen. */
bool keyring_get(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE],
                 struct keyring_key *key) MUST_USE;

/* The key's name, or false and an empty string. */
bool keyring_name(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE],
                  char name[TOKEN_LABEL_SIZE_MAX + 1]);

/* The key is no longer at this place. Nothing happens if a newer place is known. */
void keyring_forget(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE], size_t token,
                    const struct key_place *place);

/*
 * A signature from this place was right, when the token had opened so many sessions. Nothing
 * happens if a newer place is known.
 */
void keyring_set_verified(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE], size_t token,
                          const struct key_place *place, uint64_t sessions);

/* The public key, to be freed by the caller; NULL: out of memory, or OpenSSL cannot read it. */
EVP_PKEY *keyring_public_key(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE]) MUST_USE;

/*
 * The key that synthetic results of the key's decryptions are made with (depadding.h), in secret
 * memory and until keyring_free(); NULL: there is none yet.
 */
const uint8_t *keyring_rejection_key(struct keyring *keyring,
                                     const uint8_t id[KEY_ID_SIZE]) MUST_USE;

/*
 * Keeps a copy of it, unless there is one already, and returns the one that is kept. NULL: no
 * memory can be had or locked.
 */
const uint8_t *keyring_set_rejection_key(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE],
                                         const uint8_t rejection_key[REJECTION_KEY_SIZE]) MUST_USE;

/* How many keys are known to be on the token in this epoch. */
size_t keyring_count(struct keyring *keyring, size_t token, uint64_t epoch) MUST_USE;

/*
 * A key that was searched for on all tokens in vain is not searched again for
 * KEYRING_MISSING_MS, so that a missing key does not cost a search a handshake.
 */
#define KEYRING_MISSING_MS 2000
void keyring_set_missing(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE]);
bool keyring_is_missing(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE]) MUST_USE;

#endif
