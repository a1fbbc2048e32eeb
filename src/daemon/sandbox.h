/*
 * What immured and its workers give up at their start, so that a library with a hole in it, or
 * whoever comes in through that, finds less. All of it is inherited by every child.
 *
 * The kernel's part is a seccomp(2) filter that allows by default: vendors' PKCS#11 libraries open
 * files and sockets, drive devices and start threads, and no list of what they may do would fit
 * them all. What none of them has business with is a list, and is answered with EPERM; the kernel
 * logs each such call (audit type 1326).
 */
#ifndef IMMURE_DAEMON_SANDBOX_H
#define IMMURE_DAEMON_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attributes.h"
#include "base/problem.h"

/* Names of system calls that are denied, whatever their arguments. For tests. */
extern const char *const sandbox_denied[];
extern const size_t sandbox_denied_count;

/*
 * From here on neither a debugger nor a core dump can show PINs, no program that is run gains
 * privileges, new files are the user's alone, and no descriptor is open but standard ones and
 * those that systemd passed. Before anything is opened. 0, or -1 and a problem.
 */
int sandbox_shut(struct problem *problem) MUST_USE;

/*
 * Denies system calls for good; execve(2), too, unless `allow_exec`. Before any thread is started.
 * 0, or -1 and a problem: the kernel has no seccomp, or something around immured forbids it.
 */
int sandbox_filter(bool allow_exec, struct problem *problem) MUST_USE;

#endif
