/*
 * The configured tokens that a command needs, opened and logged in by the operator.
 */
#ifndef IMMURE_CLI_TOKENS_H
#define IMMURE_CLI_TOKENS_H

#include "base/clock.h"
#include "cli/command.h"
#include "daemon/config.h"

/* A session is free at once here, but some tokens take seconds for a first one. */
#define CLI_DEADLINE_MS 60000

struct tokens {
    struct config *config;
    struct token *opened[CONFIG_TOKENS_MAX];
    size_t count;
    size_t missing; /* tokens that could not be opened; each has been reported */
};

/* Reads the configuration that -c, $IMMURE_CONF or the default names; reports what is wrong. */
enum exit_status config_open(const struct arguments *arguments, struct config **config) MUST_USE;

/* The same for a command that uses no token: who may not read the PIN files may run it. */
enum exit_status config_open_without_pins(const struct arguments *arguments,
                                          struct config **config) MUST_USE;

/*
 * Opens all tokens, or the one of --token, logs in to each, with read-write sessions. A token
 * that fails is reported; STATUS_FAILED only when none is left. tokens_close() in any case.
 */
enum exit_status tokens_open(const struct arguments *arguments, struct tokens *tokens) MUST_USE;

/*
 * Opens the token on which to create something: the one of --token, or the only one. Warns when
 * root does so with another user's PIN file.
 */
enum exit_status tokens_open_one(const struct arguments *arguments, struct tokens *tokens) MUST_USE;

void tokens_close(struct tokens *tokens);

/* Opens a configured token without login. */
enum token_error token_open_configured(const struct token_config *config, struct token **token,
                                       struct problem *problem) MUST_USE;

#endif
