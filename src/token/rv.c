#include <stdio.h>

#include "token/internal.h"

#define ASK_LOG  "see the module's own log"
#define IS_LATER "it is opened again when it is back"

/* Versions of clang-format differ about braces in macros. */
/* clang-format off */
#define FAILED(rv, hint)      {rv, #rv, TOKEN_FAILED, hint}
#define UNAVAILABLE(rv, hint) {rv, #rv, TOKEN_UNAVAILABLE, hint}
/*
 * What AWS CloudHSM says when it has too much to do, with its Client SDK 5 and 3 (AWS CloudHSM
 * User Guide, "HSM throttling"); applications are to repeat the call.
 */
#define BUSY(rv)              {rv, #rv, TOKEN_BUSY, "the device has too much to do, or " ASK_LOG}
#define UNSUPPORTED(rv)       {rv, #rv, TOKEN_UNSUPPORTED, "the token has no mechanism for it"}
#define KEY_GONE(rv)          {rv, #rv, TOKEN_KEY_GONE, "the key is not where it was found"}
#define PIN_REFUSED(rv, hint) {rv, #rv, TOKEN_PIN_INCORRECT, hint}
/* clang-format on */

/* What each CK_RV (PKCS#11 v2.40 5.1) means to the caller, and what an operator can do. */
static const struct rv {
    CK_RV rv;
    const char *name;
    enum token_error error;
    const char *hint; /* or NULL */
} rvs[] = {
    {CKR_OK, "CKR_OK", TOKEN_OK, NULL},
    FAILED(CKR_CANCEL, NULL),
    /* openCryptoki 3.8 says so when its daemon, pkcsslotd, is down */
    UNAVAILABLE(CKR_HOST_MEMORY, "out of memory, or the module's daemon is not running"),
    UNAVAILABLE(CKR_SLOT_ID_INVALID, "the slot is gone; " IS_LATER),
    UNAVAILABLE(CKR_GENERAL_ERROR, ASK_LOG),
    BUSY(CKR_FUNCTION_FAILED),
    FAILED(CKR_ARGUMENTS_BAD, "check library-parameters if the module needs them"),
    FAILED(CKR_NO_EVENT, NULL),
    FAILED(CKR_NEED_TO_CREATE_THREADS, NULL),
    FAILED(CKR_CANT_LOCK, "the module cannot be used by several threads"),
    FAILED(CKR_ATTRIBUTE_READ_ONLY, NULL),
    FAILED(CKR_ATTRIBUTE_SENSITIVE, NULL),
    FAILED(CKR_ATTRIBUTE_TYPE_INVALID, NULL),
    FAILED(CKR_ATTRIBUTE_VALUE_INVALID, NULL),
    FAILED(CKR_ACTION_PROHIBITED, "the key's or the token's policy forbids it"),
    FAILED(CKR_DATA_INVALID, NULL),
    FAILED(CKR_DATA_LEN_RANGE, NULL),
    UNAVAILABLE(CKR_DEVICE_ERROR, "check the device and the way to it; " IS_LATER),
    UNAVAILABLE(CKR_DEVICE_MEMORY, "the device is out of memory: close other users' sessions"),
    UNAVAILABLE(CKR_DEVICE_REMOVED, "check the device and the way to it; " IS_LATER),
    FAILED(CKR_ENCRYPTED_DATA_INVALID, NULL),
    FAILED(CKR_ENCRYPTED_DATA_LEN_RANGE, NULL),
    FAILED(CKR_FUNCTION_CANCELED, NULL),
    FAILED(CKR_FUNCTION_NOT_PARALLEL, NULL),
    UNSUPPORTED(CKR_FUNCTION_NOT_SUPPORTED),
    KEY_GONE(CKR_KEY_HANDLE_INVALID),
    FAILED(CKR_KEY_SIZE_RANGE, "the token does not take keys of this size"),
    KEY_GONE(CKR_KEY_TYPE_INCONSISTENT),
    FAILED(CKR_KEY_NOT_NEEDED, NULL),
    KEY_GONE(CKR_KEY_CHANGED),
    FAILED(CKR_KEY_NEEDED, NULL),
    FAILED(CKR_KEY_INDIGESTIBLE, NULL),
    FAILED(CKR_KEY_FUNCTION_NOT_PERMITTED,
           "the key was made without leave for it: CKA_SIGN, "
           "or CKA_DECRYPT, which 'immure key generate --decrypt' gives a new one"),
    FAILED(CKR_KEY_NOT_WRAPPABLE, NULL),
    FAILED(CKR_KEY_UNEXTRACTABLE, NULL),
    UNSUPPORTED(CKR_MECHANISM_INVALID),
    UNSUPPORTED(CKR_MECHANISM_PARAM_INVALID),
    KEY_GONE(CKR_OBJECT_HANDLE_INVALID),
    BUSY(CKR_OPERATION_ACTIVE),
    FAILED(CKR_OPERATION_NOT_INITIALIZED, NULL),
    PIN_REFUSED(CKR_PIN_INCORRECT, "it is not tried again; check the PIN that is configured"),
    PIN_REFUSED(CKR_PIN_INVALID, "the PIN has characters that the token does not take"),
    PIN_REFUSED(CKR_PIN_LEN_RANGE, "the PIN is too short or too long for the token"),
    PIN_REFUSED(CKR_PIN_EXPIRED, "set a new PIN with the vendor's tool"),
    {CKR_PIN_LOCKED, "CKR_PIN_LOCKED", TOKEN_PIN_LOCKED,
     "unlock it with the security officer's PIN and the vendor's tool"},
    UNAVAILABLE(CKR_SESSION_CLOSED, "the token closed the session"),
    UNAVAILABLE(CKR_SESSION_COUNT, "all its sessions are taken: lower max-sessions here or in "
                                   "other programs that use it"),
    UNAVAILABLE(CKR_SESSION_HANDLE_INVALID, "the token closed the session"),
    FAILED(CKR_SESSION_PARALLEL_NOT_SUPPORTED, NULL),
    FAILED(CKR_SESSION_READ_ONLY, "it needs a read-write session"),
    FAILED(CKR_SESSION_EXISTS, NULL),
    FAILED(CKR_SESSION_READ_ONLY_EXISTS, NULL),
    FAILED(CKR_SESSION_READ_WRITE_SO_EXISTS, "the security officer is logged in"),
    FAILED(CKR_SIGNATURE_INVALID, NULL),
    FAILED(CKR_SIGNATURE_LEN_RANGE, NULL),
    FAILED(CKR_TEMPLATE_INCOMPLETE, NULL),
    FAILED(CKR_TEMPLATE_INCONSISTENT, NULL),
    UNAVAILABLE(CKR_TOKEN_NOT_PRESENT, "the token is not in its slot; " IS_LATER),
    UNAVAILABLE(CKR_TOKEN_NOT_RECOGNIZED, "the slot holds something else than a token"),
    FAILED(CKR_TOKEN_WRITE_PROTECTED, "the token is write-protected"),
    FAILED(CKR_UNWRAPPING_KEY_HANDLE_INVALID, NULL),
    FAILED(CKR_UNWRAPPING_KEY_SIZE_RANGE, NULL),
    FAILED(CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, NULL),
    FAILED(CKR_USER_ALREADY_LOGGED_IN, NULL),
    UNAVAILABLE(CKR_USER_NOT_LOGGED_IN, "the login is gone; it is made again"),
    PIN_REFUSED(CKR_USER_PIN_NOT_INITIALIZED, "the token has no user PIN yet: set one first"),
    FAILED(CKR_USER_TYPE_INVALID, NULL),
    FAILED(CKR_USER_ANOTHER_ALREADY_LOGGED_IN, "another user is logged in through this module"),
    FAILED(CKR_USER_TOO_MANY_TYPES, NULL),
    FAILED(CKR_WRAPPED_KEY_INVALID, NULL),
    FAILED(CKR_WRAPPED_KEY_LEN_RANGE, NULL),
    FAILED(CKR_WRAPPING_KEY_HANDLE_INVALID, NULL),
    FAILED(CKR_WRAPPING_KEY_SIZE_RANGE, NULL),
    FAILED(CKR_WRAPPING_KEY_TYPE_INCONSISTENT, NULL),
    FAILED(CKR_RANDOM_SEED_NOT_SUPPORTED, NULL),
    FAILED(CKR_RANDOM_NO_RNG, NULL),
    FAILED(CKR_DOMAIN_PARAMS_INVALID, NULL),
    UNSUPPORTED(CKR_CURVE_NOT_SUPPORTED),
    FAILED(CKR_BUFFER_TOO_SMALL, NULL),
    FAILED(CKR_SAVED_STATE_INVALID, NULL),
    FAILED(CKR_INFORMATION_SENSITIVE, NULL),
    FAILED(CKR_STATE_UNSAVEABLE, NULL),
    UNAVAILABLE(CKR_CRYPTOKI_NOT_INITIALIZED, "the module was shut down"),
    FAILED(CKR_CRYPTOKI_ALREADY_INITIALIZED, NULL),
    FAILED(CKR_MUTEX_BAD, NULL),
    FAILED(CKR_MUTEX_NOT_LOCKED, NULL),
    FAILED(CKR_NEW_PIN_MODE, NULL),
    FAILED(CKR_NEXT_OTP, NULL),
    FAILED(CKR_EXCEEDED_MAX_ITERATIONS, NULL),
    UNAVAILABLE(CKR_FIPS_SELF_TEST_FAILED, "the device's self-test failed: ask the vendor"),
    UNAVAILABLE(CKR_LIBRARY_LOAD_FAILED, "a library that the module needs is missing"),
    FAILED(CKR_PIN_TOO_WEAK, NULL),
    FAILED(CKR_PUBLIC_KEY_INVALID, NULL),
    FAILED(CKR_FUNCTION_REJECTED, ASK_LOG),
};

static const struct rv *rv_lookup(CK_RV rv)
{
    for (size_t i = 0; i < ARRAY_SIZE(rvs); i++) {
        if (rvs[i].rv == rv)
            return &rvs[i];
    }
    return NULL;
}

const char *token_rv_name(CK_RV rv)
{
    static _Thread_local char unknown[sizeof("CKR_0x") + 2 * sizeof(rv)];
    const struct rv *known = rv_lookup(rv);
    if (known != NULL)
        return known->name;
    snprintf(unknown, sizeof(unknown), "CKR_0x%lx", rv);
    return unknown;
}

enum token_error rv_problem(CK_RV rv, const char *what, struct problem *problem)
{
    const struct rv *known = rv_lookup(rv);
    if (rv == CKR_OK)
        return TOKEN_OK;
    if (known == NULL || known->hint == NULL)
        return problem_set(problem, known == NULL ? TOKEN_FAILED : (int)known->error,
                           "%s failed: %s", what, token_rv_name(rv));
    return problem_set(problem, known->error, "%s failed: %s (%s)", what, known->name, known->hint);
}

enum token_error token_error_of(struct token *token, CK_RV rv, const char *what,
                                struct problem *problem)
{
    enum token_error error = rv_problem(rv, what, problem);
    return error == TOKEN_OK ? error : problem_prefix(problem, error, "token %s", token->name);
}
