#include "cli/openssl_memory.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Four times what OpenSSL 3.0 takes to read an RSA-4096 key from PEM. */
#define STACK_SIZE 65536

static void *allocate(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return malloc(size);
}

static void wipe_and_free(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    if (memory != NULL)
        explicit_bzero(memory, malloc_usable_size(memory));
    free(memory);
}

/* realloc(3) would leave the old bytes where they were. */
static void *reallocate(void *memory, size_t size, const char *file, int line)
{
    void *larger = size > 0 ? malloc(size) : NULL;
    size_t old_size = memory != NULL ? malloc_usable_size(memory) : 0;
    if (larger != NULL && memory != NULL)
        memcpy(larger, memory, old_size < size ? old_size : size);
    if (larger != NULL || size == 0)
        wipe_and_free(memory, file, line);
    return larger;
}

int openssl_memory_wipe(void)
{
    return CRYPTO_set_mem_functions(allocate, reallocate, wipe_and_free) == 1 ? 0 : -1;
}

__attribute__((noinline)) void openssl_memory_wipe_stack(void)
{
    uint8_t left[STACK_SIZE];
    explicit_bzero(left, sizeof(left));
}
