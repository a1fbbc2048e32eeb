/*
 * Memory for secrets: locked into RAM, left out of core dumps, wiped when freed.
 *
 * Each block has pages of its own, so it is for few and small things (PINs), not for a hot path.
 * The functions may be called from any thread. After fork() the child has zeros in its place, as
 * vendors' libraries may fork, unless it was bequeathed.
 */
#ifndef IMMURE_BASE_SECRET_H
#define IMMURE_BASE_SECRET_H

#include <stddef.h>

#include "base/attributes.h"

/* `size` bytes, zeroed, or NULL when they cannot be had or cannot be locked (RLIMIT_MEMLOCK). */
void *secret_alloc(size_t size) MUST_USE;

/* Children of fork() will have the secret, unlocked, from now on. 0, or -1 and errno. */
int secret_bequeath(void *memory, size_t size) MUST_USE;

/* In a child: locks what it has inherited, and leaves it to no child of its own. As above. */
int secret_keep(void *memory, size_t size) MUST_USE;

/* Wipes and frees what secret_alloc() gave for this same size. `memory` may be NULL. */
void secret_free(void *memory, size_t size);

/* The longest PIN taken: AWS CloudHSM's "user:password" is among the longest, at 32 + 1 + 32. */
#define PIN_SIZE_MAX 255

/* A PIN; always in secret memory. */
struct pin {
    size_t size;                 /* bytes, without the NUL */
    char text[PIN_SIZE_MAX + 1]; /* NUL-terminated */
};

/* An empty PIN in secret memory, or NULL. Free with pin_free(), which takes NULL. */
struct pin *pin_new(void) MUST_USE;
void pin_free(struct pin *pin);

#endif
