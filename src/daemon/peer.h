/*
 * Who is at the other end of a Unix socket, as the kernel tells it.
 */
#ifndef IMMURE_DAEMON_PEER_H
#define IMMURE_DAEMON_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "daemon/unit.h"

struct peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary; from malloc() */
    size_t group_count;
    /*
     * Its control group in the unified hierarchy (cgroups(7)), "/system.slice/nginx.service", and
     * its systemd unit, "nginx.service". Empty: not established, because the process has ended, is
     * outside our namespace, or the kernel (before Linux 6.5) has no SO_PEERPIDFD.
     */
    char cgroup[CGROUP_PATH_SIZE];
    char unit[UNIT_NAME_SIZE];
};

/*
 * User and groups are those at the time of connecting. Without SO_PEERPIDFD a process id may have
 * passed to another process since, so that nothing can be established by it. False with errno:
 * user and groups are not to be had. Otherwise the caller frees peer->groups. From any thread.
 */
bool peer_of(int socket, struct peer *peer) MUST_USE;

/* Whether this kernel can tell the peer's process, so that its control group is established. */
bool peer_has_cgroup(void) MUST_USE;

#endif
