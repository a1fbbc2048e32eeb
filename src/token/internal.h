/*
 * What the files of src/token share: the module registry, the token, its session pool.
 */
#ifndef IMMURE_TOKEN_INTERNAL_H
#define IMMURE_TOKEN_INTERNAL_H

#include <p11-kit/uri.h>
#include <pthread.h>
#include <stdatomic.h>

#include "token/token.h"

/* PKCS#11's functions and attributes take what they only read by pointers without const. */
static inline void *unconst(const void *constant)
{
    union {
        const void *constant;
        void *pointer;
    } either = {constant};
    return either.pointer;
}

/* --- module.c -------------------------------------------------------------------------------- */

/* A loaded module: one for each file and process, however many tokens use it. */
struct module;

/*
 * Loads and initialises the module at this absolute path, or takes one more reference to it.
 * PKCS#11 v2.40 5.4. Modules are locked one by one, so one that hangs holds up nobody else's.
 */
enum token_error module_acquire(const char *path, const char *library_parameters,
                                struct module **module, struct problem *problem) MUST_USE;

/* Gives the reference back; the last one calls C_Finalize. `module` may be NULL. */
void module_release(struct module *module);

/* Valid until module_release(). */
CK_FUNCTION_LIST *module_functions(const struct module *module);

/* --- session_pool.c -------------------------------------------------------------------------- */

struct session_pool {
    pthread_mutex_t lock; /* covers the fields below, never a PKCS#11 call */
    pthread_cond_t returned;
    CK_SESSION_HANDLE *idle; /* a stack, so that what is not needed stays idle */
    unsigned idle_count;
    unsigned open; /* idle, in use, or being opened */
    unsigned max;
    _Atomic uint64_t opened; /* so far; counted before the session is used */
};

bool session_pool_init(struct session_pool *pool, unsigned max) MUST_USE;

/* Closes the idle sessions and frees the pool. */
void session_pool_clear(struct token *token);

/* Puts a new session in the place of one that the token says is gone. */
CK_RV session_pool_reopen(struct token *token, struct token_session *session) MUST_USE;

/* The token says that this session is gone, and did nothing. */
bool session_is_gone(CK_RV rv) MUST_USE;

/* Sees that the session lives and is logged in; one that is gone is replaced. */
enum token_error session_pool_check(struct token *token, struct token_session *session,
                                    struct problem *problem) MUST_USE;

/*
 * One call with a private key in this session: C_SignInit and C_Sign, or the like. *started is set
 * when the session may be left with an operation in it.
 */
typedef CK_RV session_call(const struct token_session *session, void *context, bool *started);

/*
 * Makes the call in a session of the pool; in a new one, once more, when the session has died.
 * `what` is done, in words, as for token_error_of().
 */
enum token_error session_pool_call(struct token *token, uint64_t deadline, session_call *call,
                                   void *context, const char *what,
                                   struct problem *problem) MUST_USE;

/* --- token.c --------------------------------------------------------------------------------- */

/* What a URI can say of a slot. Read when the token is opened. */
struct slot {
    CK_SLOT_ID id;
    CK_SLOT_INFO info;
    CK_TOKEN_INFO token;
    CK_INFO module;
};

struct mechanism {
    CK_MECHANISM_TYPE type;
    CK_FLAGS flags;
};

struct token {
    char *name;
    struct module *module;
    CK_FUNCTION_LIST *functions;
    struct slot slot;
    CK_FLAGS session_flags;
    bool logged_in; /* by token_login(); written once, before other threads use the token */
    struct mechanism *mechanisms; /* sorted by type */
    size_t mechanism_count;
    _Atomic unsigned searchable; /* bit t: a key of enum key_type t was found by its public key */
    struct session_pool pool;
};

/* The URI, to be freed with p11_kit_uri_free(), or NULL and why it is none. */
P11KitUri *uri_parse(const char *text, struct problem *problem) MUST_USE;

/* All that the URI says of module, slot and token fits this slot. */
bool uri_fits_slot(P11KitUri *uri, const struct slot *slot) MUST_USE;

/* Copies `size` bytes, control characters replaced, and a NUL after them. */
void copy_printable(char *text, const void *bytes, size_t size);

/* --- rv.c ------------------------------------------------------------------------------------ */

/* As token_error_of(), before there is a token. */
enum token_error rv_problem(CK_RV rv, const char *what, struct problem *problem);

#endif
