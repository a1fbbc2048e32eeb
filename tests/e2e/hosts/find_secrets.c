/*
 * find_secrets PID: looks for secrets in a process's memory, which it reads through /proc/PID/mem.
 *
 * Standard input: "secret HEX" lines, then "region START END" lines, in hexadecimal and ascending
 * order. Found is whatever has 16 bytes in a row of a secret: part of a copy is a leak as well.
 * The first secret that has the 16 bytes is the one that is named.
 *
 * Standard output: "found SECRET OFFSET SIZE ADDRESS" for each run of bytes (SECRET: the secret's
 * line, from 0), "unread START END" for what the kernel does not let anybody read, and at the end
 * "searched BYTES".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW      16
#define WINDOWS_MAX (1u << 19)
#define SLOTS       (1u << 21) /* a quarter is in use at most */
#define FILTER_BITS (1u << 23)
#define CHUNK       (1u << 20)
#define SECRET_MAX  (1u << 14)
#define PAGE        4096

struct window {
    uint8_t bytes[WINDOW];
    uint32_t secret, offset;
};

static struct window windows[WINDOWS_MAX];
static uint32_t window_count;
static uint32_t slots[SLOTS]; /* an index of `windows` and 1, or 0 */
static uint8_t filter[FILTER_BITS / 8];

/* What is read, after the last bytes of the chunk before if that was next to it. */
static uint8_t memory[WINDOW + CHUNK];

static struct {
    const struct window *last;
    uint64_t address;
    size_t size;
} run;

__attribute__((noreturn)) static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t hash(const uint8_t *bytes)
{
    uint64_t first;
    memcpy(&first, bytes, sizeof(first));
    return first * UINT64_C(0x9e3779b97f4a7c15) >> 40; /* 24 bits */
}

static bool may_be_secret(uint64_t hash)
{
    uint64_t bit = hash % FILTER_BITS;
    return filter[bit / 8] >> bit % 8 & 1;
}

/* The slot of the window, or the one that it would have. */
static uint32_t *slot_of(const uint8_t *bytes)
{
    uint64_t slot = hash(bytes) % SLOTS;
    while (slots[slot] != 0 && memcmp(windows[slots[slot] - 1].bytes, bytes, WINDOW) != 0)
        slot = (slot + 1) % SLOTS;
    return &slots[slot];
}

static void add_window(const uint8_t *bytes, uint32_t secret, uint32_t offset)
{
    uint32_t *slot = slot_of(bytes);
    uint64_t bit = hash(bytes) % FILTER_BITS;
    if (*slot != 0)
        return;
    if (window_count == WINDOWS_MAX)
        die("too many secrets");
    struct window *window = &windows[window_count++];
    memcpy(window->bytes, bytes, WINDOW);
    window->secret = secret;
    window->offset = offset;
    *slot = window_count;
    filter[bit / 8] |= (uint8_t)(1 << bit % 8);
}

static void add_secret(const char *hex, uint32_t secret)
{
    uint8_t bytes[SECRET_MAX];
    size_t size = 0;
    for (; size < SECRET_MAX && sscanf(hex + 2 * size, "%2hhx", &bytes[size]) == 1; size++)
        ;
    if (size < WINDOW || size == SECRET_MAX)
        die("a secret's size");
    for (size_t offset = 0; offset + WINDOW <= size; offset++)
        add_window(bytes + offset, secret, (uint32_t)offset);
}

static void end_run(void)
{
    if (run.last != NULL)
        printf("found %u %zu %zu %llx\n", run.last->secret, run.last->offset + WINDOW - run.size,
               run.size, (unsigned long long)run.address);
    run.last = NULL;
}

static void found(const struct window *window, uint64_t address)
{
    bool goes_on = run.last != NULL && run.last->secret == window->secret &&
                   run.last->offset + 1 == window->offset &&
                   run.address + run.size - WINDOW + 1 == address;
    if (!goes_on) {
        end_run();
        run.address = address;
        run.size = WINDOW - 1;
    }
    run.last = window;
    run.size++;
}

static void search(size_t size, uint64_t address)
{
    for (size_t i = 0; i + WINDOW <= size; i++) {
        if (!may_be_secret(hash(memory + i)))
            continue;
        uint32_t slot = *slot_of(memory + i);
        if (slot != 0)
            found(&windows[slot - 1], address + i);
    }
}

/* Searches what can be read of a chunk at `address`, after `kept` bytes that stand before it. */
static size_t search_chunk(int file, uint64_t address, size_t size, size_t *kept)
{
    ssize_t got = pread64(file, memory + *kept, size, (off64_t)address);
    if (got <= 0) {
        printf("unread %llx %llx\n", (unsigned long long)address,
               (unsigned long long)address + PAGE);
        *kept = 0;
        return 0;
    }
    size_t whole = *kept + (size_t)got;
    search(whole, address - *kept);
    *kept = WINDOW - 1;
    memmove(memory, memory + whole - *kept, *kept);
    return (size_t)got;
}

/* How many bytes could be read. */
static uint64_t search_region(int file, uint64_t start, uint64_t end)
{
    static uint64_t last_end;
    static size_t kept;
    uint64_t searched = 0;
    if (start != last_end)
        kept = 0;
    for (uint64_t at = start; at < end;) {
        size_t got = search_chunk(file, at, end - at < CHUNK ? end - at : CHUNK, &kept);
        searched += got;
        at += got > 0 ? got : PAGE;
    }
    last_end = end;
    return searched;
}

static uint64_t search_all(int file)
{
    char *line = NULL;
    size_t size = 0;
    uint32_t secrets = 0;
    uint64_t searched = 0;
    while (getline(&line, &size, stdin) > 0) {
        unsigned long long start, end;
        if (strncmp(line, "secret ", 7) == 0)
            add_secret(line + 7, secrets++);
        else if (sscanf(line, "region %llx %llx", &start, &end) == 2)
            searched += search_region(file, start, end);
        else
            die(line);
    }
    free(line);
    end_run();
    return searched;
}

int main(int argc, char **argv)
{
    char path[64];
    if (argc != 2)
        return 2;
    snprintf(path, sizeof(path), "/proc/%s/mem", argv[1]);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        die(path);
    printf("searched %llu\n", (unsigned long long)search_all(file));
    close(file);
    return 0;
}
