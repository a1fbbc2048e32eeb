#include "daemon/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Linux 6.5; not yet in the C library's headers of Debian 12. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* /proc/PID/cgroup has a line a hierarchy, of which some systems have a dozen. */
#define CGROUP_FILE_SIZE 4096

static bool read_groups(int socket, struct peer *peer)
{
    gid_t unused;
    socklen_t size = 0; /* asks for the size */
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, &unused, &size) == 0)
        return true; /* it has none */
    if (errno != ERANGE)
        return false;
    peer->groups = malloc(size);
    if (peer->groups == NULL)
        return false;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &size) != 0) {
        free(peer->groups);
        return false;
    }
    peer->group_count = size / sizeof(gid_t);
    return true;
}

/* -1: not to be had. */
static int process_of(int socket)
{
    int process = -1;
    socklen_t size = sizeof(process);
    return getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &process, &size) == 0 ? process : -1;
}

static bool has_ended(int process)
{
    struct pollfd poll_for = {.fd = process, .events = POLLIN};
    return poll(&poll_for, 1, 0) != 0;
}

static bool read_file(const char *path, char *text, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    ssize_t used = read(file, text, size - 1);
    close(file);
    text[used > 0 ? used : 0] = '\0';
    return used > 0 && (size_t)used < size - 1; /* what may be cut says nothing */
}

/* The path in the unified hierarchy; none if it is outside our namespace, or too long. */
static void find_cgroup(char *text, char cgroup[CGROUP_PATH_SIZE])
{
    char *rest = NULL, *line = strtok_r(text, "\n", &rest);
    while (line != NULL && strncmp(line, "0::/", 4) != 0)
        line = strtok_r(NULL, "\n", &rest);
    const char *path = line != NULL ? line + 3 : "";
    if (strlen(path) < CGROUP_PATH_SIZE && strncmp(path, "/..", 3) != 0)
        memcpy(cgroup, path, strlen(path) + 1);
}

/*
 * What /proc says by a process id is about the peer only if the peer, which is held by its
 * descriptor, has not ended when it has been read: until then nobody else can get its id.
 */
static void read_cgroup(int socket, struct peer *peer)
{
    char path[32], text[CGROUP_FILE_SIZE];
    int process = process_of(socket);
    if (process < 0)
        return;
    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)peer->pid);
    if (read_file(path, text, sizeof(text)) && !has_ended(process))
        find_cgroup(text, peer->cgroup);
    unit_of_cgroup(peer->cgroup, peer->unit);
    close(process);
}

bool peer_of(int socket, struct peer *peer)
{
    struct ucred credentials;
    socklen_t size = sizeof(credentials);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return false;
    *peer = (struct peer){.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
    if (!read_groups(socket, peer))
        return false;
    read_cgroup(socket, peer);
    return true;
}

bool peer_has_cgroup(void)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return false;
    int process = process_of(sockets[0]);
    if (process >= 0)
        close(process);
    close(sockets[0]);
    close(sockets[1]);
    return process >= 0;
}
