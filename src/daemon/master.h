/*
 * The master process: holds the socket and the PIN budget, and keeps one worker process serving
 * over crashes and reloads. It loads no PKCS#11 module and has no threads.
 */
#ifndef IMMURE_DAEMON_MASTER_H
#define IMMURE_DAEMON_MASTER_H

#include "daemon/asked_pin.h"
#include "daemon/config.h"

/* Runs until SIGTERM or SIGINT; returns the exit status of the process. */
int master_run(const struct config *config, const struct asked_pins *asked_pins);

#endif
