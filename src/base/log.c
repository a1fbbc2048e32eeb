#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/problem.h"

/* PIPE_BUF-safe, so that lines of several threads and processes do not mix. */
#define LOG_LINE_SIZE 1024

static const struct {
    const char *name;
    const char *journal_prefix; /* SD_ERR ... SD_DEBUG of sd-daemon(3) */
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", "<3>"},   [LOG_LEVEL_WARNING] = {"warning", "<4>"},
    [LOG_LEVEL_NOTICE] = {"notice", "<5>"}, [LOG_LEVEL_INFO] = {"info", "<6>"},
    [LOG_LEVEL_DEBUG] = {"debug", "<7>"},
};

static atomic_int threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

bool log_level_from_name(const char *name, enum log_level *level)
{
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        if (strcmp(levels[i].name, name) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* The journal adds time and process itself; a terminal or a file needs both. */
static size_t write_prefix(char *line, size_t size, enum log_level level)
{
    if (getenv("JOURNAL_STREAM") != NULL)
        return (size_t)snprintf(line, size, "%s", levels[level].journal_prefix);

    struct timespec now;
    struct tm local;
    char date[32];
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &local);
    return (size_t)snprintf(line, size, "%s.%03ld immured[%d] %s: ", date, now.tv_nsec / 1000000,
                            (int)getpid(), levels[level].name);
}

void log_line(enum log_level level, const char *format, ...)
{
    if ((int)level > atomic_load_explicit(&threshold, memory_order_relaxed))
        return;

    char line[LOG_LINE_SIZE];
    size_t start = write_prefix(line, sizeof(line), level);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + start, sizeof(line) - start, format, arguments);
    va_end(arguments);

    problem_clean(line + start);
    size_t length = strlen(line);
    line[length] = '\n'; /* in the place of the NUL: vsnprintf left room for it */
    if (write(STDERR_FILENO, line, length + 1) < 0)
        return; /* there is nowhere left to say so */
}
