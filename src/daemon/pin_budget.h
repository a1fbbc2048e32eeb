/*
 * The PIN budget: a PIN that a token has refused is not tried again, whatever is reloaded,
 * restarted or crashes, until the PIN or the token's configuration changes.
 *
 * Shared memory, made by the master before it starts workers. A PIN is known in it by an HMAC
 * under a random key that lives there alone. From any thread and process.
 */
#ifndef IMMURE_DAEMON_PIN_BUDGET_H
#define IMMURE_DAEMON_PIN_BUDGET_H

#include <stdbool.h>

#include "base/attributes.h"
#include "base/problem.h"
#include "base/secret.h"
#include "token/token.h"

struct pin_budget;
struct pin_attempt;

/* NULL with errno set: no memory, or no random numbers. Lives as long as the process. */
struct pin_budget *pin_budget_new(void) MUST_USE;

/*
 * Before C_Login. On TOKEN_OK the login may be tried, and *attempt must be ended; until then no
 * other thread or process tries this PIN for this token. If the process dies in between, that
 * counts, unless it died in another token's library (crash.h): after the second such death the PIN
 * is not tried any more.
 *
 * TOKEN_PIN_INCORRECT: it was refused before, or killed two workers. TOKEN_UNAVAILABLE: another
 * worker is trying it just now; come back. The problem says so.
 */
enum token_error pin_budget_begin(struct pin_budget *budget, const struct token_settings *settings,
                                  const struct pin *pin, struct pin_attempt **attempt,
                                  struct problem *problem) MUST_USE;

/* After C_Login, by the thread that began. */
void pin_budget_end(struct pin_attempt *attempt, bool refused);

#endif
