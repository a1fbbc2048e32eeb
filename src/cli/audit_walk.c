#include "cli/audit_walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/report.h"
#include "cli/tokens.h"

/* A terminal is told how far it is each so many bytes. */
#define PROGRESS_STEP (UINT64_C(16) << 20)

/* To be freed; NULL has been reported. */
static char *find_directory(const struct arguments *arguments)
{
    char *directory = NULL;
    struct config *config = NULL;
    if (arguments->directory != NULL) {
        directory = strdup(arguments->directory);
    } else if (config_open_without_pins(arguments, &config) != STATUS_OK) {
        report_note("--directory DIRECTORY reads the log without the configuration");
        return NULL;
    } else if (config->audit == NULL) {
        report_failure("%s says \"audit = off\": name the log with --directory", config->path);
        config_free(config);
        return NULL;
    } else {
        directory = strdup(config->audit);
    }
    config_free(config);
    if (directory == NULL)
        report_failure("out of memory");
    return directory;
}

static FILE *open_file(const struct audit_walk *walk, size_t index, struct stat *status)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", walk->directory, walk->files.names[index]) < 0) {
        report_failure("out of memory");
        return NULL;
    }
    FILE *file = fopen(path, "re");
    if (file == NULL || fstat(fileno(file), status) != 0) {
        report_failure("cannot read %s: %s", path, strerror(errno));
        if (file != NULL)
            fclose(file);
        file = NULL;
    }
    free(path);
    return file;
}

static bool measure(struct audit_walk *walk)
{
    for (size_t i = walk->next; i < walk->files.count; i++) {
        struct stat status;
        FILE *file = open_file(walk, i, &status);
        if (file == NULL)
            return false;
        walk->size += (uint64_t)status.st_size;
        fclose(file);
    }
    return true;
}

enum exit_status audit_walk_open(const struct arguments *arguments, const char *first,
                                 struct audit_walk *walk)
{
    *walk = (struct audit_walk){.directory = find_directory(arguments)};
    if (walk->directory == NULL)
        return STATUS_FAILED;
    if (!audit_files_list(walk->directory, &walk->files))
        return report_failure("cannot read %s: %s", walk->directory, strerror(errno));
    if (walk->files.count == 0)
        return report_failure("%s holds no audit log, which is in files audit-YYYY-MM.log",
                              walk->directory);
    while (first != NULL && walk->next < walk->files.count &&
           strcmp(walk->files.names[walk->next], first) < 0)
        walk->next++;
    return measure(walk) ? STATUS_OK : STATUS_FAILED;
}

static bool open_next(struct audit_walk *walk)
{
    struct stat status;
    if (walk->next == walk->files.count)
        return false;
    walk->file = open_file(walk, walk->next, &status);
    walk->failed = walk->file == NULL;
    walk->name = walk->files.names[walk->next++];
    walk->number = 0;
    return !walk->failed;
}

static void show_progress(struct audit_walk *walk)
{
    if (walk->done < walk->shown + PROGRESS_STEP || !isatty(STDERR_FILENO))
        return;
    walk->shown = walk->done;
    fprintf(stderr, "\r%3u%%\r", (unsigned)(walk->done * 100 / walk->size));
}

bool audit_walk_next(struct audit_walk *walk, struct audit_line *line)
{
    while (!walk->failed && (walk->file != NULL || open_next(walk))) {
        if (audit_line_read(walk->file, line)) {
            walk->number++;
            walk->done += line->size + 1;
            show_progress(walk);
            return true;
        }
        if (ferror(walk->file)) {
            report_failure("cannot read %s/%s: %s", walk->directory, walk->name, strerror(errno));
            walk->failed = true;
        }
        fclose(walk->file);
        walk->file = NULL;
    }
    return false;
}

void audit_walk_close(struct audit_walk *walk)
{
    if (walk->file != NULL)
        fclose(walk->file);
    if (walk->shown > 0)
        fputs("    \r", stderr);
    audit_files_free(&walk->files);
    free(walk->directory);
}
