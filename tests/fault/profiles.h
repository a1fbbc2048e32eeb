/*
 * Devices as their public documents describe them, as commands of faults.h.
 */
#ifndef IMMURE_FAULT_PROFILES_H
#define IMMURE_FAULT_PROFILES_H

/* The commands of the profile of this name, "" if there is none. */
const char *profile_commands(const char *name);

#endif
