/*
 * A token keeper brings one token up and keeps it up, in a thread of its own: it opens the token,
 * logs in, reads which keys are there, and does so again when the token was lost.
 *
 *     STARTING  the token is being opened; requests wait for it inside their deadlines
 *     READY     requests use it
 *     DOWN      opening failed; tried again by and by, or not before a reload (a refused PIN, a
 *               wrong signature);
 *               requests wait if the next attempt is made before their deadlines, unless the
 *               token has been away for long. So is one that is kept out because a worker has
 *               crashed in it (crash.h), while another can serve
 *
 * STARTING -> READY | DOWN; READY -> STARTING | DOWN (lost); DOWN -> READY. A token is closed
 * only when nobody uses it. Functions may be called from any thread.
 */
#ifndef IMMURE_DAEMON_TOKEN_KEEPER_H
#define IMMURE_DAEMON_TOKEN_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/problem.h"
#include "daemon/backlog.h"
#include "daemon/config.h"
#include "daemon/keyring.h"
#include "daemon/pin_budget.h"
#include "token/token.h"

enum token_keeper_state { TOKEN_STARTING, TOKEN_READY, TOKEN_DOWN };

struct token_keeper;

struct token_keeper_settings {
    const struct token_config *config;
    size_t index; /* the token's place in the configuration */
    size_t count; /* of tokens there */
    struct keyring *keyring;
    struct pin_budget *budget;
    const struct pin *pin; /* asked of an operator at start, or NULL */
};

/* Starts the thread. What the settings point to must outlive the keeper. NULL with errno set. */
struct token_keeper *token_keeper_new(const struct token_keeper_settings *settings) MUST_USE;

/*
 * Closes the token when its last user has returned it, and ends the thread. At `deadline`
 * (base/clock.h) it gives up: false. The keeper itself stays until the process ends, for threads
 * that may still look at it.
 */
bool token_keeper_stop(struct token_keeper *keeper, uint64_t deadline) MUST_USE;

/*
 * Takes the token for use until token_keeper_return(); waits until `until` while it starts or is to
 * be tried again before `deadline`.
 * TOKEN_NO_SESSION: as many requests as it has sessions are under way on it, or others wait
 * already and this one has not `waited`. TOKEN_UNAVAILABLE: it is down or still starting; the
 * problem says why.
 */
enum token_error token_keeper_take(struct token_keeper *keeper, uint64_t until, uint64_t deadline,
                                   bool waited, struct token **token, uint64_t *epoch,
                                   struct problem *problem) MUST_USE;

/* Whether it starts or is to be tried again before `deadline`. */
bool token_keeper_may_come_up(struct token_keeper *keeper, uint64_t deadline) MUST_USE;

/*
 * Gives it back. What was asked of it, for the status and for telling when a call hangs: nothing
 * (`use` NULL), a search for a key, or a signature or decryption. True: it had better be opened
 * anew, by token_keeper_lost(), as it has said TOKEN_UNAVAILABLE, or for some time nothing but
 * TOKEN_BUSY or TOKEN_FAILED. Some modules say nothing else when they have lost their device, until
 * C_Finalize; each time in vain doubles the time.
 */
struct token_use {
    enum token_error error;
    bool is_search;
    uint64_t milliseconds;
};
bool token_keeper_return(struct token_keeper *keeper, const struct token_use *use) MUST_USE;

/*
 * Has a request wait until the token has room, and takes it over; false: too many wait. One that
 * waits `again`, as another was quicker, is the first in the line. Whoever
 * returns the token or fails to take it then asks for the next one that can be served.
 */
bool token_keeper_wait(struct token_keeper *keeper, struct backlog_request *request,
                       bool again) MUST_USE;
struct backlog_request *token_keeper_next(struct token_keeper *keeper) MUST_USE;

/* The token of this epoch is opened anew. */
void token_keeper_lost(struct token_keeper *keeper, uint64_t epoch, const struct problem *problem);

/* A key of this epoch was not where it was found: all are looked for again. */
void token_keeper_rescan(struct token_keeper *keeper, uint64_t epoch);

/* The token of this epoch has signed wrongly: it is closed, and not used before a reload. */
void token_keeper_condemn(struct token_keeper *keeper, uint64_t epoch,
                          const struct problem *problem);

/* Waits until the token is up and scanned or has failed once, or until `deadline`. */
void token_keeper_settle(struct token_keeper *keeper, uint64_t deadline);

/* For choosing between tokens: may be out of date when it returns. */
struct token_keeper_glance {
    enum token_keeper_state state;
    unsigned in_flight;
    bool has_room;
    bool slow;            /* a call hangs; others are under way, and none has ended well */
    bool is_due;          /* slow, and to be given a request, which will show whether it still is */
    uint64_t last_return; /* base/clock.h: long ago, if it hangs */
};
struct token_keeper_glance token_keeper_glance(struct token_keeper *keeper) MUST_USE;

/* --- For overtake.c --- */

/* How many milliseconds a call, or a search for a key, may take before it is taken to hang. */
uint64_t token_keeper_patience(struct token_keeper *keeper, bool searches) MUST_USE;

/* A call has been under way for so long, which is too long. */
void token_keeper_set_slow(struct token_keeper *keeper, uint64_t milliseconds);

/* The oldest request that waits for a slow token, which is the caller's then; or NULL. */
struct backlog_request *token_keeper_evict(struct token_keeper *keeper) MUST_USE;

/* True when the token is ready and what was found on it in this epoch is still good. */
bool token_keeper_has_epoch(struct token_keeper *keeper, uint64_t epoch) MUST_USE;

/* For the status. */
struct token_keeper_report {
    enum token_keeper_state state;
    struct problem problem; /* empty when READY */
    struct token_description description;
    uint64_t epoch;
    unsigned sessions_open, sessions_in_use, in_flight, waiting;
    uint64_t signatures, failures;
    bool slow;
};
void token_keeper_report(struct token_keeper *keeper, struct token_keeper_report *report);

#endif
