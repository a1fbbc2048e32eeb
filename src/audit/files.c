#include "audit/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A digit for each '#'. */
#define NAME_PATTERN "audit-####-##.log"

_Static_assert(sizeof(NAME_PATTERN) == AUDIT_FILE_NAME_SIZE, "a file's name");

static bool is_name(const char *name)
{
    if (strlen(name) != AUDIT_FILE_NAME_SIZE - 1)
        return false;
    for (size_t i = 0; i < AUDIT_FILE_NAME_SIZE - 1; i++) {
        bool fits =
            NAME_PATTERN[i] == '#' ? name[i] >= '0' && name[i] <= '9' : name[i] == NAME_PATTERN[i];
        if (!fits)
            return false;
    }
    return true;
}

static bool add(struct audit_files *files, const char *name)
{
    void *names = reallocarray(files->names, files->count + 1, AUDIT_FILE_NAME_SIZE);
    if (names == NULL)
        return false;
    files->names = names;
    memcpy(files->names[files->count++], name, AUDIT_FILE_NAME_SIZE);
    return true;
}

static int compare(const void *one, const void *other)
{
    return strcmp(one, other);
}

bool audit_files_list(const char *directory, struct audit_files *files)
{
    *files = (struct audit_files){.count = 0};
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return false;
    const struct dirent *entry;
    errno = 0;
    while ((entry = readdir(stream)) != NULL) {
        if (is_name(entry->d_name) && !add(files, entry->d_name))
            break;
    }
    int error = errno;
    closedir(stream);
    errno = error;
    if (error != 0)
        audit_files_free(files);
    else if (files->count > 0)
        qsort(files->names, files->count, AUDIT_FILE_NAME_SIZE, compare);
    return error == 0;
}

void audit_files_free(struct audit_files *files)
{
    free(files->names);
    *files = (struct audit_files){.count = 0};
}

void audit_file_name(uint64_t milliseconds, char name[AUDIT_FILE_NAME_SIZE])
{
    char text[AUDIT_TIME_SIZE];
    audit_time_text(milliseconds, text); /* "2026-11..." */
    snprintf(name, AUDIT_FILE_NAME_SIZE, "audit-%.7s.log", text);
}

bool audit_line_read(FILE *file, struct audit_line *line)
{
    int c;
    line->size = 0;
    while ((c = getc_unlocked(file)) != EOF && c != '\n') {
        if (line->size < sizeof(line->text))
            line->text[line->size] = (char)c;
        line->size++;
    }
    line->ended = c == '\n';
    return line->ended || (line->size > 0 && !ferror(file));
}

bool audit_line_parse(const struct audit_line *line, struct audit_record *record)
{
    *record = (struct audit_record){.n = 0};
    return line->ended && line->size < sizeof(line->text) &&
           audit_record_parse(line->text, line->size, record);
}
