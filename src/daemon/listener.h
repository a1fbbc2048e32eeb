/*
 * The socket that clients connect to: systemd's, or one made here.
 */
#ifndef IMMURE_DAEMON_LISTENER_H
#define IMMURE_DAEMON_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "base/problem.h"

struct listener {
    int socket;
    bool made_here; /* and so to be removed at the end */
    dev_t device;   /* of the file at the path, which may be another's by then */
    ino_t inode;
};

/*
 * Takes the socket that systemd has passed (sd_listen_fds(3)), else makes one at `path`: its
 * directory too if only that is missing; others must not be able to write there (trusted_path.h); a
 * stale socket there is removed after a connect() has shown that nobody listens. Anybody may
 * connect, grants decide. 0, or -1 and a problem.
 */
int listener_open(const char *path, struct listener *listener, struct problem *problem) MUST_USE;

/* Closes it and removes the file if it was made here and is still this one. */
void listener_close(struct listener *listener, const char *path);

#endif
