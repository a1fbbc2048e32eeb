/*
 * Where immured listens, and how to connect there; shared by client.c and pipeline.c.
 */
#ifndef IMMURE_CLIENT_ADDRESS_H
#define IMMURE_CLIENT_ADDRESS_H

#include <sys/un.h>

#include "base/attributes.h"
#include "base/problem.h"

/* Pauses between tries to connect: a restart of immured takes tens of milliseconds. */
#define RETRY_PAUSE_FIRST_MS 1
#define RETRY_PAUSE_MAX_MS   50

/* The address of a socket path. One that is too long becomes an address that is refused. */
struct sockaddr_un address_of_path(const char *path) MUST_USE;

/*
 * A connected SOCK_SEQPACKET socket, non-blocking and close-on-exec, or -1 and a problem. Never
 * waits: connecting to a Unix socket succeeds or fails at once.
 */
int address_connect(const struct sockaddr_un *address, struct problem *problem) MUST_USE;

#endif
