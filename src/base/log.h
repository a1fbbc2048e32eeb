/*
 * Logging for Immure's own processes: one line an event, on standard error, which the journal
 * reads with its severity when standard error is connected to it (sd-daemon(3)).
 *
 * Never linked into a host process: the provider reports through OpenSSL's error queue.
 * Every function may be called from any thread; a line is written with one write(2).
 */
#ifndef IMMURE_BASE_LOG_H
#define IMMURE_BASE_LOG_H

#include <stdbool.h>

#include "base/attributes.h"

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG
};

/* Lines above `level` are dropped from now on. The default is LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/* The level called `name` ("error", "warning", "notice", "info", "debug"); false if there is none.
 */
bool log_level_from_name(const char *name, enum log_level *level) MUST_USE;

/* Writes one line. Control characters become '?'; a line over 1,023 bytes is cut. */
void log_line(enum log_level level, const char *format, ...) PRINTF(2, 3);

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
