/*
 * What a library whose code is not its vendor's any more would try in immured's worker.
 */
#ifndef IMMURE_FAULT_TRESPASS_H
#define IMMURE_FAULT_TRESPASS_H

/*
 * Makes some system calls that no PKCS#11 library has business with, and runs a program; writes a
 * line for each to standard error, "hsm: ptrace: Operation not permitted". None does anything even
 * where it is allowed: their arguments are wrong, and the program is true(1).
 */
void trespass(void);

#endif
