#include "daemon/asked_pin.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* Signals that would end the process, or stop it, with the terminal's echo off. */
static const int terminal_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};

static volatile sig_atomic_t caught_signal;

static void catch_signal(int number)
{
    caught_signal = number;
}

static void catch_signals(struct sigaction previous[ARRAY_SIZE(terminal_signals)])
{
    const struct sigaction action = {.sa_handler = catch_signal}; /* read(2) is interrupted */
    caught_signal = 0;
    for (size_t i = 0; i < ARRAY_SIZE(terminal_signals); i++)
        sigaction(terminal_signals[i], &action, &previous[i]);
}

static void restore_signals(const struct sigaction previous[ARRAY_SIZE(terminal_signals)])
{
    for (size_t i = 0; i < ARRAY_SIZE(terminal_signals); i++)
        sigaction(terminal_signals[i], &previous[i], NULL);
}

/* A byte at a time, so that nothing after the line end is taken from the terminal. */
static int read_line(int terminal, struct pin *pin)
{
    char byte;
    while (read(terminal, &byte, 1) == 1) {
        if (byte == '\n')
            return pin->size > 0 && pin->size <= PIN_SIZE_MAX ? 0 : -1;
        if (pin->size < PIN_SIZE_MAX)
            pin->text[pin->size] = byte;
        pin->size++;
    }
    return -1;
}

/* The question comes when the echo is off: what is typed before that is thrown away, and shown. */
static int ask_without_echo(int terminal, const char *token, struct pin *pin)
{
    struct sigaction previous[ARRAY_SIZE(terminal_signals)];
    struct termios normal;
    if (tcgetattr(terminal, &normal) != 0)
        return -1;
    struct termios silent = normal;
    silent.c_lflag &= (tcflag_t) ~(unsigned)(ECHO | ECHOE | ECHOK | ECHONL);
    catch_signals(previous);
    int result = tcsetattr(terminal, TCSAFLUSH, &silent);
    if (result == 0) {
        dprintf(terminal, "PIN for token %s: ", token);
        result = read_line(terminal, pin);
    }
    tcsetattr(terminal, TCSAFLUSH, &normal);
    restore_signals(previous);
    dprintf(terminal, "\n");
    if (caught_signal != 0)
        raise(caught_signal);
    return result;
}

static int ask(int terminal, const char *token, struct pin **pin, struct problem *problem)
{
    *pin = pin_new();
    if (*pin == NULL)
        return problem_set(problem, -1,
                           "no locked memory for a PIN: raise LimitMEMLOCK= "
                           "(ulimit -l)");
    if (ask_without_echo(terminal, token, *pin) == 0 && secret_bequeath(*pin, sizeof(**pin)) == 0)
        return 0;
    pin_free(*pin);
    *pin = NULL;
    return problem_set(problem, -1, "token %s: no PIN was given: type 1 to %d characters", token,
                       PIN_SIZE_MAX);
}

static int ask_all(int terminal, struct asked_pins *pins, const struct config *config,
                   struct problem *problem)
{
    for (size_t i = 0; i < config->token_count; i++) {
        const struct token_config *token = &config->tokens[i];
        if (token->pin_file != NULL || token->pin_credential != NULL)
            continue;
        if (ask(terminal, token->settings.name, &pins->pins[pins->count].pin, problem) != 0)
            return -1;
        pins->pins[pins->count].token = strdup(token->settings.name);
        if (pins->pins[pins->count++].token == NULL)
            return problem_set(problem, -1, "out of memory");
    }
    return 0;
}

int asked_pins_ask(struct asked_pins *pins, const struct config *config, struct problem *problem)
{
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (terminal < 0)
        return problem_set(problem, -1,
                           "--ask-pin needs a terminal (%s): use pin-file or "
                           "pin-credential without one",
                           strerror(errno));
    int result = ask_all(terminal, pins, config, problem);
    close(terminal);
    return result;
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
