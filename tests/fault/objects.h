/*
 * The functions of PKCS#11 v2.40 that take or give object handles, with the numbers that
 * faults_handle() gives them.
 */
#ifndef IMMURE_FAULT_OBJECTS_H
#define IMMURE_FAULT_OBJECTS_H

#include <p11-kit/pkcs11.h>

/* Puts them into `ours`, in the place of those of `real`, which they call. Once. */
void objects_replace(CK_FUNCTION_LIST *ours, CK_FUNCTION_LIST *real);

#endif
