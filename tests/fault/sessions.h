/*
 * The functions of PKCS#11 v2.40 for the module, its slots, sessions and logins, with faults.
 */
#ifndef IMMURE_FAULT_SESSIONS_H
#define IMMURE_FAULT_SESSIONS_H

#include <p11-kit/pkcs11.h>

/* Puts them into `ours`, in the place of those of `real`, which they call. Once. */
void sessions_replace(CK_FUNCTION_LIST *ours, CK_FUNCTION_LIST *real);

#endif
