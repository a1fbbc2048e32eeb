#include "base/secret.h"

#include <string.h>
#include <sys/mman.h>

void *secret_alloc(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (secret_keep(memory, size) != 0 || madvise(memory, size, MADV_DONTDUMP) != 0) {
        munmap(memory, size);
        return NULL;
    }
    return memory;
}

int secret_bequeath(void *memory, size_t size)
{
    return madvise(memory, size, MADV_KEEPONFORK);
}

int secret_keep(void *memory, size_t size)
{
    if (mlock(memory, size) != 0)
        return -1;
    return madvise(memory, size, MADV_WIPEONFORK);
}

void secret_free(void *memory, size_t size)
{
    if (memory == NULL)
        return;
    explicit_bzero(memory, size);
    munmap(memory, size);
}

struct pin *pin_new(void)
{
    return secret_alloc(sizeof(struct pin));
}

void pin_free(struct pin *pin)
{
    secret_free(pin, sizeof(struct pin));
}
