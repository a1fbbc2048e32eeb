/*
 * Grants: which user may use which key for what.
 *
 * A set of grants is a word of 64 bits, bit i for config->grants[i]. A peer's set is made when it
 * connects, a key's when it is found; a request is allowed by the grants that are in both. All
 * functions are pure.
 */
#ifndef IMMURE_DAEMON_GRANT_H
#define IMMURE_DAEMON_GRANT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "daemon/config.h"
#include "daemon/peer.h"

typedef uint64_t grant_set;

/* The grants whose user, group, unit and control group fit the peer. */
grant_set grants_of_peer(const struct config *config, const struct peer *peer) MUST_USE;

/* The grants that have a pattern for a key of this name. */
grant_set grants_of_key(const struct config *config, const char *name) MUST_USE;

/* What these grants allow, together: bits of enum use. */
unsigned grants_uses(const struct config *config, grant_set grants) MUST_USE;

/* The index of the first of these that allows one of the uses, or config->grant_count. */
size_t grants_first(const struct config *config, grant_set grants, unsigned uses) MUST_USE;

#endif
