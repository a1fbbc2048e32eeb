/*
 * Grants: which user may use which key for what.
 *
 * A set of grants is a word of 64 bits, bit i for config->grants[i]. A peer's set is made when it
 * connects, a key's when it is found; a request is allowed by the grants that are in both. All
 * functions are pure, but for grant_peer_of(), and may be called from any thread.
 */
#ifndef IMMURE_DAEMON_GRANT_H
#define IMMURE_DAEMON_GRANT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "daemon/config.h"

typedef uint64_t grant_set;

/* Who is at the other end of a socket, as the kernel knew it when it connected. */
struct peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary; from malloc() */
    size_t group_count;
};

/* False with errno: not to be had. Otherwise the caller frees peer->groups. */
bool grant_peer_of(int socket, struct peer *peer) MUST_USE;

/* The grants whose user and group fit the peer. */
grant_set grants_of_peer(const struct config *config, const struct peer *peer) MUST_USE;

/* The grants that have a pattern for a key of this name. */
grant_set grants_of_key(const struct config *config, const char *name) MUST_USE;

/* What these grants allow, together: bits of enum use. */
unsigned grants_uses(const struct config *config, grant_set grants) MUST_USE;

#endif
