/*
 * PINs that an operator types when immured starts (--ask-pin), kept by the master for all workers
 * that it ever starts. Not for use by several threads, except asked_pin_of().
 */
#ifndef IMMURE_DAEMON_ASKED_PIN_H
#define IMMURE_DAEMON_ASKED_PIN_H

#include <stddef.h>

#include "base/attributes.h"
#include "base/problem.h"
#include "base/secret.h"
#include "daemon/config.h"

struct asked_pins {
    size_t count;
    struct {
        char *token;
        struct pin *pin;
    } pins[CONFIG_TOKENS_MAX];
};

/*
 * Asks on the process's terminal, without echo, for the PIN of each token that has neither
 * pin-file nor pin-credential. 0, or -1 and a problem.
 */
int asked_pins_ask(struct asked_pins *pins, const struct config *config,
                   struct problem *problem) MUST_USE;

/* In a worker, which does not inherit it: locks the PINs into RAM, and leaves them to none of its
 * own children. 0, or -1 and errno. */
int asked_pins_lock(const struct asked_pins *pins) MUST_USE;

/* The PIN given for the token of this name, or NULL. */
const struct pin *asked_pin_of(const struct asked_pins *pins, const char *token);

void asked_pins_clear(struct asked_pins *pins);

#endif
