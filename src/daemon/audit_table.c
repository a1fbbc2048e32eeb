#include "daemon/audit_table.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* "immureaT" */
#define MAGIC   UINT64_C(0x696d6d7572656154)
#define VERSION 2

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_SIZE 36

/* More than there are outcomes, but refusals. */
#define OVERFLOW_ROWS 8

/* At most half of it is used, so a search ends soon. */
#define INDEX_SIZE ((size_t)2 * AUDIT_ROWS_MAX)

/*
 * Whoever changes a row may die at any point, so each change ends in one store that makes it hold:
 * `live` of a new row, `count` of a use, `written` of what has been written.
 */
struct row {
    struct audit_id id;
    char name[AUDIT_NAME_SIZE];
    atomic_bool live;
    bool told;                    /* written in this minute */
    uint64_t first, last;         /* of what is not in the log; milliseconds since 1970 */
    atomic_uint_fast64_t count;   /* since the row was made */
    atomic_uint_fast64_t written; /* of these */
    uint64_t flight_n;            /* the record that is just being written; 0: none */
    uint64_t flight_first;        /* `first` then */
    uint64_t flight_count;        /* what `written` will be then */
};

struct shared {
    uint64_t magic, version, size;
    char boot_id[BOOT_ID_SIZE];
    pthread_mutex_t lock;       /* robust; covers what follows */
    bool woken;                 /* the master will look at the table soon */
    size_t uses, refusals;      /* rows that are live */
    size_t free_from;           /* no row before this one is free */
    size_t top;                 /* no row from this one on is live */
    uint16_t index[INDEX_SIZE]; /* a row's place + 1; can be made anew from the rows */
    struct row rows[AUDIT_ROWS_MAX];
};

struct audit_table {
    struct shared *shared;
    int wake;
};

_Static_assert(AUDIT_ROWS_MAX < UINT16_MAX, "a row's place fits the index");
_Static_assert(sizeof(struct audit_id) % sizeof(uint64_t) == 0, "no padding, whole words");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "atomics work between processes");

void audit_text(char *text, size_t size, const char *from)
{
    size_t length = strnlen(from, size - 1);
    memcpy(text, from, length);
    memset(text + length, 0, size - length);
}

uint64_t audit_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- Finding rows; the lock is held --- */

static size_t hash(const struct audit_id *id)
{
    uint64_t words[sizeof(*id) / sizeof(uint64_t)], sum = 0;
    memcpy(words, id, sizeof(words));
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        sum = (sum ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 32;
    }
    return (size_t)sum % INDEX_SIZE;
}

/*
 * The place in the index that leads to the row, or the free one where it would. NULL: neither,
 * which only a worker that has gone mad can bring about.
 */
static uint16_t *find_place(struct shared *shared, const struct audit_id *id)
{
    size_t start = hash(id);
    for (size_t i = 0; i < INDEX_SIZE; i++) {
        uint16_t *place = &shared->index[(start + i) % INDEX_SIZE];
        if (*place == 0 || (*place <= AUDIT_ROWS_MAX &&
                            memcmp(&shared->rows[*place - 1].id, id, sizeof(*id)) == 0))
            return place;
    }
    return NULL;
}

static struct row *find(struct shared *shared, const struct audit_id *id)
{
    const uint16_t *place = find_place(shared, id);
    return place != NULL && *place != 0 ? &shared->rows[*place - 1] : NULL;
}

static void enter(struct shared *shared, size_t row)
{
    uint16_t *place = find_place(shared, &shared->rows[row].id);
    if (place != NULL)
        *place = (uint16_t)(row + 1);
    shared->uses += !shared->rows[row].id.is_refusal;
    shared->refusals += shared->rows[row].id.is_refusal != 0;
    if (shared->top <= row)
        shared->top = row + 1;
}

/* Of the rows before `top`. */
static void make_index(struct shared *shared, size_t top)
{
    memset(shared->index, 0, sizeof(shared->index));
    shared->uses = shared->refusals = shared->free_from = shared->top = 0;
    for (size_t i = 0; i < top; i++) {
        if (atomic_load(&shared->rows[i].live))
            enter(shared, i);
    }
}

static void lock(struct shared *shared)
{
    if (pthread_mutex_lock(&shared->lock) != EOWNERDEAD)
        return;
    make_index(shared, AUDIT_ROWS_MAX);
    pthread_mutex_consistent(&shared->lock);
}

static void unlock(struct shared *shared)
{
    pthread_mutex_unlock(&shared->lock);
}

static size_t row_count(const struct shared *shared)
{
    return shared->top < AUDIT_ROWS_MAX ? shared->top : AUDIT_ROWS_MAX;
}

/* --- Counting --- */

static uint64_t taken_count(const struct row *row)
{
    return row->flight_n != 0 ? row->flight_count : atomic_load(&row->written);
}

static void count(struct row *row, uint64_t now)
{
    uint64_t before = atomic_load_explicit(&row->count, memory_order_relaxed);
    if (before == taken_count(row))
        row->first = now;
    row->last = now;
    atomic_store_explicit(&row->count, before + 1, memory_order_release);
}

bool audit_table_count(struct audit_table *table, const struct audit_id *id, uint64_t now)
{
    lock(table->shared);
    struct row *row = find(table->shared, id);
    if (row != NULL)
        count(row, now);
    unlock(table->shared);
    return row != NULL;
}

/* True: the master has to be woken. */
static bool make_row(struct shared *shared, const struct audit_id *id, const char *name,
                     uint64_t now)
{
    size_t place = shared->free_from;
    while (place < AUDIT_ROWS_MAX && atomic_load(&shared->rows[place].live))
        place++;
    if (place >= AUDIT_ROWS_MAX)
        return false;
    struct row *row = &shared->rows[place];
    memset(row, 0, sizeof(*row));
    row->id = *id;
    audit_text(row->name, sizeof(row->name), name);
    count(row, now);
    atomic_store(&row->live, true);
    enter(shared, place);
    shared->free_from = place + 1;
    bool wake = !shared->woken;
    shared->woken = true;
    return wake;
}

/* All that finds no row is in a few: what of it was refused, and each other outcome. */
static struct audit_id overflow_id(const struct audit_id *id)
{
    struct audit_id other = {.uid = UINT32_MAX, .is_refusal = id->is_refusal};
    audit_text(other.use, sizeof(other.use), "other");
    audit_text(other.outcome, sizeof(other.outcome), id->is_refusal ? "refused" : id->outcome);
    return other;
}

static bool has_room(const struct shared *shared, const struct audit_id *id)
{
    if (id->is_refusal && shared->refusals >= AUDIT_ROWS_REFUSED_MAX)
        return false;
    return shared->uses + shared->refusals < AUDIT_ROWS_MAX - OVERFLOW_ROWS;
}

/* Whether the master has to be woken. The lock is held. */
static bool add(struct shared *shared, const struct audit_id *id, const char *name, uint64_t now)
{
    struct audit_id other;
    struct row *row = find(shared, id);
    if (row == NULL && has_room(shared, id))
        return make_row(shared, id, name, now);
    if (row == NULL) {
        other = overflow_id(id);
        row = find(shared, &other);
    }
    if (row == NULL)
        return make_row(shared, &other, "", now);
    count(row, now);
    return false;
}

void audit_table_add(struct audit_table *table, const struct audit_id *id, const char *name,
                     uint64_t now)
{
    const uint64_t one = 1;
    lock(table->shared);
    bool wake = add(table->shared, id, name, now);
    unlock(table->shared);
    if (wake)
        (void)!write(table->wake, &one, sizeof(one)); /* else the master comes within a minute */
}

/* --- The master's part --- */

int audit_table_wake_descriptor(const struct audit_table *table)
{
    return table->wake;
}

static void copy_row(const struct row *row, struct audit_pending *pending)
{
    *pending = (struct audit_pending){
        .id = row->id, .first = row->first, .last = row->last, .count = atomic_load(&row->count)};
    pending->count -= atomic_load(&row->written);
    memcpy(pending->name, row->name, sizeof(pending->name));
    /* A worker that has gone mad may have written anything here. */
    pending->name[sizeof(pending->name) - 1] = '\0';
    pending->id.unit[sizeof(pending->id.unit) - 1] = '\0';
    pending->id.use[sizeof(pending->id.use) - 1] = '\0';
    pending->id.outcome[sizeof(pending->id.outcome) - 1] = '\0';
}

static bool is_pending(const struct row *row, bool all)
{
    return atomic_load(&row->live) && (all || !row->told) &&
           atomic_load(&row->count) != atomic_load(&row->written);
}

size_t audit_table_take(struct audit_table *table, bool all, uint64_t n, size_t *place,
                        struct audit_pending *pending, size_t max)
{
    struct shared *shared = table->shared;
    uint64_t wakes;
    size_t taken = 0;
    (void)!read(table->wake, &wakes, sizeof(wakes)); /* it may be awake for another reason */
    lock(shared);
    shared->woken = false;
    for (; *place < row_count(shared) && taken < max; (*place)++) {
        struct row *row = &shared->rows[*place];
        if (!is_pending(row, all))
            continue;
        copy_row(row, &pending[taken]);
        row->flight_count = atomic_load(&row->count);
        row->flight_first = row->first;
        row->flight_n = n + taken++;
    }
    unlock(shared);
    return taken;
}

void audit_table_settle(struct audit_table *table, uint64_t n)
{
    lock(table->shared);
    for (size_t i = 0; i < row_count(table->shared); i++) {
        struct row *row = &table->shared->rows[i];
        if (!atomic_load(&row->live) || row->flight_n == 0)
            continue;
        if (row->flight_n <= n) {
            atomic_store(&row->written, row->flight_count);
            row->told = true;
        } else {
            row->first = row->flight_first;
        }
        row->flight_n = 0;
    }
    unlock(table->shared);
}

void audit_table_end_minute(struct audit_table *table)
{
    lock(table->shared);
    size_t top = row_count(table->shared);
    for (size_t i = 0; i < top; i++) {
        struct row *row = &table->shared->rows[i];
        row->told = false;
        if (atomic_load(&row->count) == atomic_load(&row->written))
            atomic_store(&row->live, false);
    }
    make_index(table->shared, top);
    unlock(table->shared);
}

/* Half of what refusals leave to uses is for those of the next half second. */
bool audit_table_is_crowded(struct audit_table *table)
{
    lock(table->shared);
    bool crowded = 2 * table->shared->uses + table->shared->refusals >= AUDIT_ROWS_MAX;
    unlock(table->shared);
    return crowded;
}

/* --- The file --- */

static bool read_boot_id(char boot_id[BOOT_ID_SIZE])
{
    int file = open(BOOT_ID_FILE, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    bool good = read(file, boot_id, BOOT_ID_SIZE) == BOOT_ID_SIZE;
    close(file);
    return good;
}

static bool is_ours(const struct shared *shared, const char boot_id[BOOT_ID_SIZE])
{
    return shared->magic == MAGIC && shared->version == VERSION &&
           shared->size == sizeof(*shared) && memcmp(shared->boot_id, boot_id, BOOT_ID_SIZE) == 0;
}

static bool init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0)
        return false;
    bool good = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
                pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
                pthread_mutex_init(lock, &attributes) == 0;
    pthread_mutexattr_destroy(&attributes);
    return good;
}

/* The magic comes last: a table that was half made is made again. */
static bool make_shared(struct shared *shared, const char boot_id[BOOT_ID_SIZE])
{
    memset(shared, 0, sizeof(*shared));
    if (!init_lock(&shared->lock))
        return false;
    shared->version = VERSION;
    shared->size = sizeof(*shared);
    memcpy(shared->boot_id, boot_id, BOOT_ID_SIZE);
    atomic_thread_fence(memory_order_seq_cst);
    shared->magic = MAGIC;
    return true;
}

/* All its space is taken now: with no room for a page later, a worker would get SIGBUS. */
static int open_file(const char *path)
{
    struct stat status;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return -1;
    if (fstat(file, &status) != 0)
        goto failed;
    errno = EPERM;
    if (!S_ISREG(status.st_mode) || status.st_uid != geteuid())
        goto failed;
    errno = posix_fallocate(file, 0, sizeof(struct shared));
    if (errno == 0)
        return file;
failed:
    close(file);
    return -1;
}

static struct shared *map(const char *path)
{
    int file = open_file(path);
    if (file < 0)
        return NULL;
    void *shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return shared != MAP_FAILED ? shared : NULL;
}

void audit_table_close(struct audit_table *table)
{
    if (table == NULL)
        return;
    if (table->wake >= 0)
        close(table->wake);
    if (table->shared != NULL)
        munmap(table->shared, sizeof(*table->shared));
    free(table);
}

int audit_table_open(const char *path, struct audit_table **table, struct problem *problem)
{
    char boot_id[BOOT_ID_SIZE];
    *table = calloc(1, sizeof(**table));
    if (*table == NULL)
        return problem_set(problem, -1, "out of memory");
    (*table)->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (*table)->shared = map(path);
    if ((*table)->wake >= 0 && (*table)->shared != NULL && read_boot_id(boot_id) &&
        (is_ours((*table)->shared, boot_id) || make_shared((*table)->shared, boot_id)))
        return 0;
    problem_set(problem, -1,
                "the audit log's table %s cannot be made (%s): give immured's user the socket's "
                "directory, with room for 2 MB",
                path, strerror(errno));
    audit_table_close(*table);
    *table = NULL;
    return -1;
}
