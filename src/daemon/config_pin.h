/*
 * PIN files, for config.c alone; config_read_pin() is in daemon/config.h.
 */
#ifndef IMMURE_DAEMON_CONFIG_PIN_H
#define IMMURE_DAEMON_CONFIG_PIN_H

#include "base/attributes.h"
#include "base/problem.h"

/*
 * A descriptor of the file, for the caller to close; or -1 and a problem without a place: it
 * cannot be read (CONFIG_DENIED: this process may not), is no regular file, or its group or others
 * have access to it.
 */
int config_open_pin_file(const char *path, struct problem *problem) MUST_USE;

#endif
