/*
 * A PKCS#11 token: its module, slot, login, session pool, the keys on it and their signatures.
 *
 * Used by immured and by the CLI; the only code that loads a vendor's library. Sources:
 *     module.c        the shared library: loading, C_Initialize, one per path and process
 *     token.c         finding the slot by URI, login
 *     session_pool.c  at most max_sessions sessions, one caller each at a time; calls in them
 *     key.c           finding private keys and reading their public keys
 *     object.c        searches and attributes
 *     public_key.c    public keys between PKCS#11 attributes and DER
 *     sign.c          signatures, in the form that TLS wants
 *     decrypt.c       RSA decryption, by CKM_RSA_X_509 or CKM_RSA_PKCS
 *     emsa_pss.c      an encoding of digests that are to be signed
 *     rv.c            what each CK_RV means, and what to do about it
 *     quirks.c        what devices do differently, each with its name and source
 *
 * Unless said otherwise a function may be called from any thread. PKCS#11 calls cannot be
 * interrupted, so a deadline bounds waiting for a session, not the call in it. A process that
 * has opened a token must not fork and use it in the child.
 */
#ifndef IMMURE_TOKEN_TOKEN_H
#define IMMURE_TOKEN_TOKEN_H

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/problem.h"
#include "base/secret.h"
#include "wire/message.h"
#include "wire/scheme.h"

/* PKCS#11 v3.2 6.67, which p11-kit's header knows from 0.26 on. */
#ifndef CKM_ML_DSA
#define CKK_ML_DSA              0x4aUL
#define CKM_ML_DSA_KEY_PAIR_GEN 0x1cUL
#define CKM_ML_DSA              0x1dUL
#define CKA_PARAMETER_SET       0x61dUL
#define CKP_ML_DSA_44           1UL
#define CKP_ML_DSA_65           2UL
#define CKP_ML_DSA_87           3UL
#endif

/* Some devices allow few sessions in all (a YubiHSM 2: 16). */
#define TOKEN_MAX_SESSIONS_DEFAULT 16
#define TOKEN_MAX_SESSIONS_LIMIT   1024

enum token_error {
    TOKEN_OK = 0,
    TOKEN_UNAVAILABLE = -1,   /* module, slot, session or login is gone: reopen, or use another */
    TOKEN_NO_SESSION = -2,    /* every session stayed taken until the deadline */
    TOKEN_KEY_GONE = -3,      /* the handle names nothing that can sign: find the key again */
    TOKEN_PIN_INCORRECT = -4, /* refused; do not try this PIN again */
    TOKEN_PIN_LOCKED = -5,    /* locked, or one try is left, which is not spent */
    TOKEN_UNSUPPORTED = -6,   /* the token has no mechanism for it */
    TOKEN_BAD_URI = -7,       /* not RFC 7512, or it names no token, or several */
    TOKEN_FAILED = -8,        /* any other CK_RV; the problem names it */
    TOKEN_BUSY = -9,          /* the device has too much to do, it seems: ask again soon */
};

struct token_settings {
    const char *name;               /* of the [token NAME] section */
    const char *module;             /* absolute path of the shared library */
    const char *uri;                /* RFC 7512; names the token (token=, serial=, slot-id= ...) */
    const char *library_parameters; /* CK_C_INITIALIZE_ARGS.LibraryParameters (NSS), or NULL */
    unsigned max_sessions;
    bool read_write; /* sessions that can create and destroy objects: the CLI's */
};

struct token;

/*
 * Loads the module, initialises it and finds the slot of the one token that the URI names. No
 * login and no session yet. The settings' strings are copied. On failure *token is NULL.
 */
enum token_error token_open(const struct token_settings *settings, struct token **token,
                            struct problem *problem) MUST_USE;

/* Closes all sessions, and the module with its last token. No other thread may use the token. */
void token_close(struct token *token);

/*
 * C_Login as CKU_USER with this PIN, once; also opens the pool's first session, which keeps the
 * login alive. Tries nothing when the token says that one try is left (CKF_USER_PIN_FINAL_TRY)
 * or none (CKF_USER_PIN_LOCKED). CKR_USER_ALREADY_LOGGED_IN is success. TOKEN_UNAVAILABLE: the
 * token has not judged the PIN; after other errors it may have counted a try. With CKF_PROTECTED_
 * AUTHENTICATION_PATH the PIN may be NULL; a token without CKF_LOGIN_REQUIRED needs none.
 */
enum token_error token_login(struct token *token, const struct pin *pin,
                             struct problem *problem) MUST_USE;

const char *token_name(const struct token *token);

/* The token's own words about itself, trimmed of padding; NUL-terminated. */
struct token_description {
    char label[33], manufacturer[33], model[17], serial[17];
    char firmware[16]; /* "2.6" */
    bool login_required, pin_count_low, pin_final_try, pin_locked;
};
enum token_error token_describe(struct token *token, struct token_description *description,
                                struct problem *problem) MUST_USE;

/* True when the token lists the mechanism with these CKF_ flags (CKF_SIGN ...). Cached. */
bool token_has_mechanism(struct token *token, CK_MECHANISM_TYPE mechanism, CK_FLAGS flags) MUST_USE;

/* --- Sessions -------------------------------------------------------------------------------- */

struct token_session {
    CK_FUNCTION_LIST *functions;
    CK_SESSION_HANDLE handle;
};

/*
 * Takes an idle session, or opens one, or waits until `deadline` (base/clock.h). On TOKEN_OK the
 * caller owns *session until token_session_return(); `broken` there closes it rather than keep
 * it (after CKR_SESSION_HANDLE_INVALID and the like).
 */
enum token_error token_session_take(struct token *token, uint64_t deadline,
                                    struct token_session *session,
                                    struct problem *problem) MUST_USE;
void token_session_return(struct token *token, struct token_session *session, bool broken);

/*
 * Sees that the token is there and we are logged in. TOKEN_NO_SESSION: its users will see, for all
 * sessions are in use.
 */
enum token_error token_check(struct token *token, struct problem *problem) MUST_USE;

/*
 * How many sessions were opened so far. Behind each new one may be a device that was away and has
 * numbered its objects anew: what was known of a handle before must be shown again.
 */
uint64_t token_sessions_opened(struct token *token);

/* Sessions open and in use now. */
void token_session_counts(struct token *token, unsigned *open, unsigned *in_use);

/*
 * What a CK_RV means for the caller: TOKEN_OK, TOKEN_UNAVAILABLE for a lost session, login,
 * device or library, TOKEN_BUSY, TOKEN_KEY_GONE, TOKEN_UNSUPPORTED, else TOKEN_FAILED. The problem
 * says `what` failed, on which token, with the CK_RV's name, and what to do where that is known.
 */
enum token_error token_error_of(struct token *token, CK_RV rv, const char *what,
                                struct problem *problem);

/* "CKR_PIN_INCORRECT"; for an unknown one "CKR_0x..." in a buffer of the calling thread. */
const char *token_rv_name(CK_RV rv);

/* --- Keys ------------------------------------------------------------------------------------ */

#define TOKEN_LABEL_SIZE_MAX 255
/* Google's libkmsp11 has the key version's resource name there, of some 100 bytes. */
#define TOKEN_CKA_ID_SIZE_MAX 255
/* Each of the two is three characters a byte at most, a token's label of 32 bytes as well. */
#define TOKEN_KEY_URI_SIZE_MAX 2048

/* A private key on a token, with what its public key says. */
struct token_key {
    CK_OBJECT_HANDLE handle;        /* of the private key; valid for this login */
    CK_OBJECT_HANDLE public_handle; /* of the public key object, or CK_INVALID_HANDLE */
    uint64_t sessions;              /* token_sessions_opened() when it was found */
    enum key_type type;
    unsigned bits;           /* of the modulus, the group or a pure key's bytes: 2048, 521, 256 */
    uint8_t id[KEY_ID_SIZE]; /* SHA-256 of spki */
    const uint8_t *spki;     /* DER SubjectPublicKeyInfo; valid during the callback */
    size_t spki_size;
    char label[TOKEN_LABEL_SIZE_MAX + 1]; /* CKA_LABEL, control characters replaced */
    uint8_t cka_id[TOKEN_CKA_ID_SIZE_MAX];
    size_t cka_id_size;
};

/* Which keys: all fields that are set must fit; all unset: every private key. */
struct token_key_query {
    const char *label;   /* CKA_LABEL, exactly */
    const char *uri;     /* RFC 7512: its object= and id= attributes; token ones must fit too */
    const uint8_t *spki; /* the public key, DER */
    size_t spki_size;
};

/* Called for each key found; return false to stop. Must not take a session of the same token. */
typedef bool token_key_callback(const struct token_key *key, void *context);

/*
 * Finds private keys of the supported types and reads their public keys: from the private key
 * (RSA), else from the public key object with the same CKA_ID, or the same label when there is
 * no CKA_ID. A key whose public key cannot be had is passed over and counted in *unusable (which
 * may be NULL). One that answers a query by SubjectPublicKeyInfo has been compared with it
 * byte for byte; where the token finds none, and has not shown that it can search so, its keys are
 * all compared, up to QUIRK_BLIND_KEYS_MAX, which may outlast `deadline`: that is for the session.
 * A URI that names another token finds nothing and is no error.
 */
enum token_error token_find_keys(struct token *token, const struct token_key_query *query,
                                 uint64_t deadline, token_key_callback *callback, void *context,
                                 unsigned *unusable, struct problem *problem) MUST_USE;

/*
 * The same in a session that the caller has already taken; for callers that do more with the
 * keys they find. The callback may use the session when the search has ended, not during it.
 */
enum token_error token_find_keys_in_session(struct token *token, struct token_session *session,
                                            const struct token_key_query *query,
                                            token_key_callback *callback, void *context,
                                            unsigned *unusable, struct problem *problem) MUST_USE;

/* Copies of one public key: two on a token would be odd, more than this nobody's. */
#define TOKEN_PUBLIC_OBJECTS_MAX 8

struct token_public_objects {
    CK_OBJECT_HANDLE handles[TOKEN_PUBLIC_OBJECTS_MAX];
    size_t count;
};

/*
 * The public key objects of a key that was just found: those with its CKA_ID (or none) and label
 * that are its public key, byte for byte, as other keys may have the same id and label; where there
 * is none, its public_handle. In a session that the caller has taken.
 */
enum token_error token_find_public(struct token *token, const struct token_session *session,
                                   const struct token_key *key, struct token_public_objects *found,
                                   struct problem *problem) MUST_USE;

/*
 * An RFC 7512 URI of the key for people and references (token=, object=, id=, type=private);
 * empty if `size` is too small, which TOKEN_KEY_URI_SIZE_MAX is not.
 */
void token_key_uri(struct token *token, const struct token_key *key, char *uri, size_t size);

/* --- Signatures ------------------------------------------------------------------------------ */

/* What token_sign() needs to know of a key. */
struct token_signing_key {
    CK_OBJECT_HANDLE handle;
    enum key_type type;
    unsigned bits;
};

/*
 * Signs in a session of the pool: `input` is the digest of the scheme's length, the message for a
 * pure one, or the bytes of a raw scheme. `signature` has SIGNATURE_SIZE_MAX bytes; *size is set
 * to what TLS sends (RFC 8446 4.2.3, 4.4.3): for ECDSA a DER ECDSA-Sig-Value (RFC 3279 2.2.3).
 * RSA-PSS uses CKM_RSA_PKCS_PSS, or EMSA-PSS (RFC 8017 9.1) in software over CKM_RSA_X_509 where
 * the token has only that. A session that has died is replaced and the call made once more.
 * Makes no allocation of its own.
 */
enum token_error token_sign(struct token *token, const struct token_signing_key *key,
                            const struct scheme *scheme, const uint8_t *input, size_t input_size,
                            uint64_t deadline, uint8_t signature[SIGNATURE_SIZE_MAX], size_t *size,
                            struct problem *problem) MUST_USE;

/* --- Decryption ------------------------------------------------------------------------------ */

/* What is to be decrypted, `size` bytes as the modulus has, and the RSA key's handle. */
struct token_ciphertext {
    CK_OBJECT_HANDLE key;
    const uint8_t *bytes;
    size_t size;
};

/*
 * The RSA private operation (RFC 8017 5.1.2) by CKM_RSA_X_509: `block` gets `size` bytes, padding
 * and all, which the caller keeps secret and wipes. TOKEN_UNSUPPORTED: the token has it not.
 */
enum token_error token_decrypt_raw(struct token *token, const struct token_ciphertext *ciphertext,
                                   uint64_t deadline, uint8_t block[RSA_BLOCK_SIZE_MAX],
                                   struct problem *problem) MUST_USE;

/*
 * The same by CKM_RSA_PKCS, for tokens without the other: the token removes the padding, and here
 * the block is made up again around the message; all zeros, which is no padding, where the token
 * says that the padding was wrong. How long the token takes for which is the token's.
 */
enum token_error token_decrypt_pkcs1(struct token *token, const struct token_ciphertext *ciphertext,
                                     uint64_t deadline, uint8_t block[RSA_BLOCK_SIZE_MAX],
                                     struct problem *problem) MUST_USE;

#endif
