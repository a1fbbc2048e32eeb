#include "client/address.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct sockaddr_un address_of_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) < sizeof(address.sun_path))
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    return address;
}

int address_connect(const struct sockaddr_un *address, struct problem *problem)
{
    if (address->sun_path[0] == '\0')
        return problem_set(problem, -1, "the socket's path is empty or over %zu bytes long",
                           sizeof(address->sun_path) - 1);

    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return problem_set(problem, -1, "cannot make a socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
        return fd;
    problem_set(problem, -1, "cannot reach immured at %s: %s; is it running?", address->sun_path,
                strerror(errno));
    close(fd);
    return -1;
}
