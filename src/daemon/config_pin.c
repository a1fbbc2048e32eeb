#include "daemon/config_pin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config.h"

static int fail_to_open(const char *path, int error, struct problem *problem)
{
    if (error == EACCES)
        return problem_set(problem, CONFIG_DENIED,
                           "user id %u may not read the PIN file %s, which must be that of "
                           "immured's user alone (chown, chmod 600)",
                           (unsigned)geteuid(), path);
    if (error == ENOENT)
        return problem_set(problem, -1,
                           "the PIN file %s is not there; make it: install -m 600 -o immure "
                           "/dev/null %s, then write the PIN into it",
                           path, path);
    return problem_set(problem, -1, "the PIN file %s cannot be read: %s", path, strerror(error));
}

int config_open_pin_file(const char *path, struct problem *problem)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file < 0)
        return fail_to_open(path, errno, problem);
    struct stat status;
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
        (status.st_mode & (S_IRWXG | S_IRWXO)) == 0)
        return file;
    close(file);
    return problem_set(problem, -1,
                       "the PIN file %s is no regular file, or its group or others have access to "
                       "it: chmod 600 %s",
                       path, path);
}

static int open_credential(const char *name, struct problem *problem)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    if (directory == NULL)
        return problem_set(problem, -1,
                           "pin-credential = %s, but systemd has passed no credentials: add "
                           "LoadCredential=%s:/path/of/the/PIN to the unit",
                           name, name);
    char path[PATH_MAX];
    int size = snprintf(path, sizeof(path), "%s/%s", directory, name);
    int file = size < (int)sizeof(path) ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;
    if (file < 0)
        return problem_set(problem, -1,
                           "the credential %s cannot be read (%s): add "
                           "LoadCredential=%s:/path/of/the/PIN to the unit",
                           name, strerror(errno), name);
    return file;
}

/* The first line of the file, which must be all that fits a struct pin. */
static int read_pin(int file, const char *source, struct pin *pin, struct problem *problem)
{
    size_t used = 0;
    ssize_t size = 1;
    while (size > 0 && used < sizeof(pin->text)) {
        size = read(file, pin->text + used, sizeof(pin->text) - used);
        if (size > 0)
            used += (size_t)size;
    }
    if (size < 0)
        return problem_set(problem, -1, "the PIN in %s cannot be read: %s", source,
                           strerror(errno));

    const char *end = memchr(pin->text, '\n', used);
    size_t line_size = end != NULL ? (size_t)(end - pin->text) : used;
    if (line_size > 0 && pin->text[line_size - 1] == '\r')
        line_size--;
    if (line_size == 0 || line_size > PIN_SIZE_MAX || memchr(pin->text, '\0', line_size) != NULL)
        return problem_set(problem, -1,
                           "the first line of %s must be the PIN: 1 to %d characters, no NUL",
                           source, PIN_SIZE_MAX);
    memset(pin->text + line_size, 0, sizeof(pin->text) - line_size);
    pin->size = line_size;
    return 1;
}

int config_read_pin(const struct token_config *token, struct pin **pin, struct problem *problem)
{
    *pin = NULL;
    if (token->pin_file == NULL && token->pin_credential == NULL)
        return 0;

    int file = token->pin_file != NULL ? config_open_pin_file(token->pin_file, problem)
                                       : open_credential(token->pin_credential, problem);
    if (file < 0)
        return -1;
    int result = -1;
    *pin = pin_new();
    if (*pin == NULL)
        problem_set(problem, -1, "no locked memory for a PIN: raise LimitMEMLOCK= (ulimit -l)");
    else
        result = read_pin(file, token->pin_file != NULL ? token->pin_file : token->pin_credential,
                          *pin, problem);
    close(file);
    if (result < 0) {
        pin_free(*pin);
        *pin = NULL;
    }
    return result;
}
