/*
 * OpenSSL's memory: it wipes the numbers of keys when it frees them, but not what it read a key
 * from, such as lines of base64 and DER. Tokens in software use the same libcrypto.
 */
#ifndef IMMURE_CLI_OPENSSL_MEMORY_H
#define IMMURE_CLI_OPENSSL_MEMORY_H

#include "base/attributes.h"

/* From now on all that libcrypto frees is wiped. Before its first use; 0, or -1: it was used. */
int openssl_memory_wipe(void) MUST_USE;

/*
 * Wipes what functions that have returned left on the stack: libcrypto's take a few KiB of it. Not
 * what was copied last: that is in vector registers, which the dynamic linker saves there.
 */
void openssl_memory_wipe_stack(void);

#endif
