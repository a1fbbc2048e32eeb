/*
 * Whether others than root and this process's user can change what immured relies on.
 *
 * "Others" are all users but these two, and all groups but root's and this process's own. A path is
 * followed as the kernel does, through symbolic links; each directory and link on the way, and what
 * it leads to, must be root's or the user's and closed to others. Then nobody else can put
 * something in its place afterwards either. In a sticky directory (/tmp) others cannot replace
 * what is not theirs, so it does as part of a way that leads on to something that is there.
 */
#ifndef IMMURE_DAEMON_TRUSTED_PATH_H
#define IMMURE_DAEMON_TRUSTED_PATH_H

#include "base/attributes.h"
#include "base/problem.h"
#include "daemon/config.h"

/*
 * 0 where nobody else can change what `path` (absolute) names; where there is nothing, if nobody
 * else can put something there. Otherwise -1 and a problem that begins with `what`, the use of the
 * path, and names the directory or file that is open, its owner and mode and the command that mends
 * it.
 */
int trusted_path_check(const char *what, const char *path, struct problem *problem) MUST_USE;

/* The configuration file, and the modules and the directories of PIN files that it names. */
int trusted_path_check_config(const struct config *config, struct problem *problem) MUST_USE;

#endif
