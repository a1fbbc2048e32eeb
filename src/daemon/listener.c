#include "daemon/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/trusted_path.h"

/* A burst of server workers that start together; net.core.somaxconn may lower it. */
#define BACKLOG 1024

/* The worker of a master that was killed notices within milliseconds, and stops listening. */
#define FAREWELL_TRIES    20
#define FAREWELL_PAUSE_US 25000

static int take_from_systemd(int count, struct listener *listener, struct problem *problem)
{
    int socket = SD_LISTEN_FDS_START;
    if (count != 1 || sd_is_socket(socket, AF_UNIX, SOCK_SEQPACKET, 1) <= 0)
        return problem_set(problem, -1,
                           "systemd passed %d descriptors, and one is wanted, of a SOCK_SEQPACKET "
                           "Unix socket: use ListenSequentialPacket= in the socket unit",
                           count);
    if (fcntl(socket, F_SETFL, O_NONBLOCK) != 0)
        return problem_set(problem, -1, "systemd's socket: %s", strerror(errno));
    listener->socket = socket;
    return 0;
}

/* With its NUL. */
#define SOCKET_PATH_SIZE sizeof(((struct sockaddr_un *)0)->sun_path)

/* In `copy`, as dirname(3) changes what it is given. */
static const char *directory_of(const char *path, char copy[SOCKET_PATH_SIZE])
{
    snprintf(copy, SOCKET_PATH_SIZE, "%s", path);
    return dirname(copy);
}

/* Nobody else may be able to put a socket of theirs in the place of this one. */
static int make_directory(const char *path, struct problem *problem)
{
    char copy[SOCKET_PATH_SIZE];
    const char *directory = directory_of(path, copy);
    mode_t mask = umask(022); /* anybody may go to the socket */
    int result = mkdir(directory, 0755);
    umask(mask);
    if (result == 0 || errno == EEXIST)
        return trusted_path_check("the socket's directory", directory, problem);
    return problem_set(problem, -1,
                       "the directory %s cannot be made (%s): make it, or set socket in "
                       "[immured] to another place",
                       directory, strerror(errno));
}

/* 0: somebody accepts there; else why not. */
static int try_connection(const struct sockaddr_un *address)
{
    int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return errno;
    int result = connect(probe, (const struct sockaddr *)address, sizeof(*address));
    int error = result == 0 ? 0 : errno;
    close(probe);
    return error;
}

/* Sees to it that nothing is at the path. */
static int clear_path(const struct sockaddr_un *address, struct problem *problem)
{
    struct stat status;
    const char *path = address->sun_path;
    if (lstat(path, &status) != 0)
        return 0;
    if (!S_ISSOCK(status.st_mode))
        return problem_set(problem, -1,
                           "%s is there already and is no socket: remove it, or set socket in "
                           "[immured] to another place",
                           path);
    int error = try_connection(address);
    for (int i = 0; error == 0 && i < FAREWELL_TRIES; i++) {
        usleep(FAREWELL_PAUSE_US);
        error = try_connection(address);
    }
    if (error != ECONNREFUSED)
        return problem_set(problem, -1,
                           "somebody listens on %s already (%s): another immured, to be stopped "
                           "first?",
                           path, error == 0 ? "it accepts" : strerror(error));
    if (unlink(path) != 0)
        return problem_set(problem, -1, "the stale socket %s cannot be removed: %s", path,
                           strerror(errno));
    return 0;
}

static int bind_and_listen(struct listener *listener, const struct sockaddr_un *address)
{
    struct stat status;
    mode_t mask = umask(0111); /* anybody may connect */
    int result = bind(listener->socket, (const struct sockaddr *)address, sizeof(*address));
    umask(mask);
    if (result != 0 || lstat(address->sun_path, &status) != 0 ||
        listen(listener->socket, BACKLOG) != 0)
        return -1;
    listener->made_here = true;
    listener->device = status.st_dev;
    listener->inode = status.st_ino;
    return 0;
}

static int fail_to_listen(const char *path, int error, struct problem *problem)
{
    char copy[SOCKET_PATH_SIZE];
    struct stat status;
    const char *directory = directory_of(path, copy);
    if (error != EACCES || stat(directory, &status) != 0)
        return problem_set(problem, -1, "cannot listen on %s: %s", path, strerror(error));
    return problem_set(problem, -1,
                       "cannot listen on %s: the directory belongs to user id %u, and immured is "
                       "%u: chown %u %s if it is for immured alone, or set socket in [immured] to "
                       "another place",
                       path, (unsigned)status.st_uid, (unsigned)geteuid(), (unsigned)geteuid(),
                       directory);
}

static int make(const char *path, struct listener *listener, struct problem *problem)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return problem_set(problem, -1, "the socket's path %s is too long", path);
    memcpy(address.sun_path, path, strlen(path));
    if (make_directory(path, problem) != 0 || clear_path(&address, problem) != 0)
        return -1;
    listener->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->socket >= 0 && bind_and_listen(listener, &address) == 0)
        return 0;
    fail_to_listen(path, errno, problem);
    if (listener->socket >= 0)
        close(listener->socket);
    return -1;
}

int listener_open(const char *path, struct listener *listener, struct problem *problem)
{
    *listener = (struct listener){.socket = -1};
    int passed = sd_listen_fds(1);
    if (passed < 0)
        return problem_set(problem, -1, "LISTEN_FDS is wrong: %s", strerror(-passed));
    return passed > 0 ? take_from_systemd(passed, listener, problem)
                      : make(path, listener, problem);
}

void listener_close(struct listener *listener, const char *path)
{
    struct stat status;
    if (listener->made_here && lstat(path, &status) == 0 && status.st_dev == listener->device &&
        status.st_ino == listener->inode)
        unlink(path);
    close(listener->socket);
}
