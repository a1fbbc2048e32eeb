#include "cli/progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

/* Quick work is done before anything would be shown. */
#define PROGRESS_FIRST_MS 700
#define PROGRESS_STEP_MS  200

struct progress {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stopped;
    bool stop;
    uint64_t start;
    char what[128];
};

static void progress_wait(struct progress *progress, uint64_t until)
{
    struct timespec time = clock_timespec(until);
    pthread_cond_clockwait(&progress->stopped, &progress->lock, CLOCK_MONOTONIC, &time);
}

static void *progress_show(void *argument)
{
    static const char wheel[] = "|/-\\";
    struct progress *progress = argument;
    uint64_t next = progress->start + PROGRESS_FIRST_MS;
    unsigned shown = 0;

    pthread_mutex_lock(&progress->lock);
    while (!progress->stop) {
        progress_wait(progress, next);
        if (progress->stop || clock_now_ms() < next)
            continue;
        next += PROGRESS_STEP_MS;
        fprintf(stderr, "\r%c %s: %u s", wheel[shown++ % 4], progress->what,
                (unsigned)((clock_now_ms() - progress->start) / 1000));
    }
    if (shown > 0)
        fputs("\r\033[K", stderr);
    pthread_mutex_unlock(&progress->lock);
    return NULL;
}

struct progress *progress_start(const char *what)
{
    struct progress *progress = isatty(STDERR_FILENO) ? calloc(1, sizeof(*progress)) : NULL;
    if (progress == NULL)
        return NULL;
    progress->start = clock_now_ms();
    snprintf(progress->what, sizeof(progress->what), "%s", what);
    pthread_mutex_init(&progress->lock, NULL);
    pthread_cond_init(&progress->stopped, NULL);
    if (pthread_create(&progress->thread, NULL, progress_show, progress) == 0)
        return progress;
    free(progress);
    return NULL;
}

void progress_stop(struct progress *progress)
{
    if (progress == NULL)
        return;
    pthread_mutex_lock(&progress->lock);
    progress->stop = true;
    pthread_cond_signal(&progress->stopped);
    pthread_mutex_unlock(&progress->lock);
    pthread_join(progress->thread, NULL);
    free(progress);
}
