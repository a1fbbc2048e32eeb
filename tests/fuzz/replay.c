/*
 * In place of libFuzzer, for any compiler: gives a target each file of the directories named, once.
 */
#include "fuzz.h"

#include <dirent.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

/* The largest kept input is a datagram that is a byte too long. */
#define INPUT_SIZE_MAX (1 << 16)

static void replay_file(const char *path)
{
    static uint8_t buffer[INPUT_SIZE_MAX];
    FILE *file = fopen(path, "re");
    if (file == NULL)
        err(1, "%s", path);
    size_t size = fread(buffer, 1, sizeof(buffer), file);
    if (ferror(file) || !feof(file))
        errx(1, "%s: not read to its end", path);
    fclose(file);

    uint8_t *input = malloc(size); /* of this size, so that a sanitizer sees its end */
    if (input == NULL && size > 0)
        err(1, "%s", path);
    for (size_t i = 0; i < size; i++)
        input[i] = buffer[i];
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(input, size);
    free(input);
}

static size_t replay_directory(const char *path)
{
    size_t count = 0;
    char name[4096];
    DIR *directory = opendir(path);
    if (directory == NULL)
        err(1, "%s", path);
    for (const struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory)) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        replay_file(name);
        count++;
    }
    closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++)
        count += replay_directory(argv[i]);
    if (count == 0)
        errx(1, "no input");
    return 0;
}
