/*
 * systemd units and their control groups.
 */
#ifndef IMMURE_DAEMON_UNIT_H
#define IMMURE_DAEMON_UNIT_H

#include <stdbool.h>

/* systemd's limit for a unit's name is 255 bytes; what is longer than this is not established. */
#define UNIT_NAME_SIZE 64
/* A control group's path in the hierarchy; what is longer is not established. */
#define CGROUP_PATH_SIZE 256

/*
 * The unit in a control group's path, as systemd builds it: after slices the first part, if that
 * is a service or a scope. False and an empty string: there is none. Pure function.
 */
bool unit_of_cgroup(const char *cgroup, char unit[UNIT_NAME_SIZE]);

#endif
