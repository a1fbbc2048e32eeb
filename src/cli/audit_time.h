/*
 * Points in time as an operator gives them.
 */
#ifndef IMMURE_CLI_AUDIT_TIME_H
#define IMMURE_CLI_AUDIT_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"

/*
 * RFC 3339 ("2026-11-25T21:09:28Z", "...+01:00", with or without a fraction), a date (its first
 * instant, UTC), or how long ago: a number and s, m, h, d or w. In milliseconds since 1970, of
 * which `now` is the present. False: none of these.
 */
bool audit_time_option(const char *text, uint64_t now, uint64_t *milliseconds) MUST_USE;

#endif
