#include "daemon/asked_pin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/terminal.h"

static int read_pin(const char *token, struct pin *pin, struct problem *problem)
{
    char question[128];
    snprintf(question, sizeof(question), "PIN for token %s: ", token);
    int size = terminal_ask_secret(question, pin->text, sizeof(pin->text), problem);
    if (size < 0)
        return -1;
    if (size == 0)
        return problem_set(problem, -1, "nothing was typed");
    if (secret_bequeath(pin, sizeof(*pin)) != 0)
        return problem_set(problem, -1, "it cannot be kept: %s", strerror(errno));
    pin->size = (size_t)size;
    return 0;
}

static int ask(const char *token, struct pin **pin, struct problem *problem)
{
    struct problem reason;
    *pin = pin_new();
    if (*pin == NULL)
        return problem_set(problem, -1,
                           "no locked memory for a PIN: raise LimitMEMLOCK= "
                           "(ulimit -l)");
    if (read_pin(token, *pin, &reason) == 0)
        return 0;
    pin_free(*pin);
    *pin = NULL;
    return problem_set(problem, -1,
                       "--ask-pin: no PIN for token %s: %s; use pin-file or pin-credential where "
                       "nobody can type it",
                       token, reason.text);
}

int asked_pins_ask(struct asked_pins *pins, const struct config *config, struct problem *problem)
{
    for (size_t i = 0; i < config->token_count; i++) {
        const struct token_config *token = &config->tokens[i];
        if (token->pin_file != NULL || token->pin_credential != NULL)
            continue;
        if (ask(token->settings.name, &pins->pins[pins->count].pin, problem) != 0)
            return -1;
        pins->pins[pins->count].token = strdup(token->settings.name);
        if (pins->pins[pins->count++].token == NULL)
            return problem_set(problem, -1, "out of memory");
    }
    return 0;
}

int asked_pins_lock(const struct asked_pins *pins)
{
    for (size_t i = 0; i < pins->count; i++) {
        if (secret_keep(pins->pins[i].pin, sizeof(*pins->pins[i].pin)) != 0)
            return -1;
    }
    return 0;
}

const struct pin *asked_pin_of(const struct asked_pins *pins, const char *token)
{
    for (size_t i = 0; i < pins->count; i++) {
        if (strcmp(pins->pins[i].token, token) == 0)
            return pins->pins[i].pin;
    }
    return NULL;
}

void asked_pins_clear(struct asked_pins *pins)
{
    for (size_t i = 0; i < pins->count; i++) {
        free(pins->pins[i].token);
        pin_free(pins->pins[i].pin);
    }
    pins->count = 0;
}
