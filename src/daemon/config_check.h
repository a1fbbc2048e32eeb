/*
 * What immured -t looks at beyond the configuration itself, without opening a token.
 */
#ifndef IMMURE_DAEMON_CONFIG_CHECK_H
#define IMMURE_DAEMON_CONFIG_CHECK_H

#include "base/attributes.h"
#include "base/problem.h"
#include "daemon/config.h"

/*
 * 0, or -1 and a problem: a module is not there, or a PIN file holds no PIN. Logs a warning where
 * nothing is configured that anybody could use. A running immured goes on without such a token, so
 * config_load() takes it.
 */
int config_check(const struct config *config, struct problem *problem) MUST_USE;

#endif
