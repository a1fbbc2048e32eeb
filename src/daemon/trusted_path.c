#include "daemon/trusted_path.h"

#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* As many as the kernel follows: path_resolution(7). */
#define LINKS_MAX 40

struct way {
    const char *what, *path; /* for messages */
    char passed[PATH_MAX];   /* checked, no link in it, no slash at its end; "": the root */
    char ahead[PATH_MAX];    /* still to go */
    unsigned links;
    struct problem *problem;
};

static int fail(const struct way *way, const char *why)
{
    return problem_set(way->problem, -1, "%s %s: %s", way->what, way->path, why);
}

/* --- One entry of a directory --- */

static bool group_is_trusted(gid_t group)
{
    return group == 0 || group == getegid();
}

static bool owner_is_trusted(uid_t owner)
{
    return owner == 0 || owner == geteuid();
}

/* Bits of the mode by which others can write. */
static mode_t open_bits(const struct stat *status)
{
    mode_t open = status->st_mode & S_IWOTH;
    if (!group_is_trusted(status->st_gid))
        open |= status->st_mode & S_IWGRP;
    return open;
}

static void describe(const struct stat *status, char *text, size_t size)
{
    const struct passwd *owner = getpwuid(status->st_uid);
    const struct group *group = getgrgid(status->st_gid);
    snprintf(text, size, "owner %u (%s), group %u (%s), mode %04o", (unsigned)status->st_uid,
             owner != NULL ? owner->pw_name : "?", (unsigned)status->st_gid,
             group != NULL ? group->gr_name : "?", (unsigned)status->st_mode & 07777U);
}

/* What goes before the entry's name. A directory of immured's user shows that root runs it. */
static void write_command(const struct stat *status, char *text, size_t size)
{
    const char *chmod = NULL;
    const struct passwd *owner = NULL;
    mode_t open = open_bits(status);
    if (owner_is_trusted(status->st_uid))
        chmod = open == S_IWOTH ? "chmod o-w" : open == S_IWGRP ? "chmod g-w" : "chmod go-w";
    else if (geteuid() == 0 && S_ISDIR(status->st_mode))
        owner = getpwuid(status->st_uid);
    if (owner != NULL)
        snprintf(text, size, "run it as the owner (runuser -u %s -- immured), or chown -h root",
                 owner->pw_name);
    else
        snprintf(text, size, "%s", chmod != NULL ? chmod : "chown -h root");
}

static int fail_at_entry(const struct way *way, const char *entry, const struct stat *status)
{
    char description[128], command[128];
    describe(status, description, sizeof(description));
    write_command(status, command, sizeof(command));
    return problem_set(way->problem, -1,
                       "%s %s: others than root and this process's user (%u) can change %s (%s): "
                       "%s %s",
                       way->what, way->path, (unsigned)geteuid(), entry, description, command,
                       entry);
}

/* The mode of a link means nothing; in a sticky directory others change only what is theirs. */
static int check_entry(const struct way *way, const char *entry, const struct stat *status)
{
    bool sticky = S_ISDIR(status->st_mode) && (status->st_mode & S_ISVTX) != 0;
    bool closed = S_ISLNK(status->st_mode) || sticky || open_bits(status) == 0;
    return owner_is_trusted(status->st_uid) && closed ? 0 : fail_at_entry(way, entry, status);
}

static const char *directory_of(const struct way *way)
{
    return way->passed[0] != '\0' ? way->passed : "/";
}

/* Nothing is there: whether others can put something there, which they also can if it is sticky. */
static int check_missing(const struct way *way)
{
    struct stat status;
    if (stat(directory_of(way), &status) != 0)
        return fail(way, strerror(errno));
    return open_bits(&status) == 0 ? 0 : fail(way, "not there, and anybody can put it there");
}

/* --- The way --- */

/* Puts the link's target before what is ahead. */
static int follow(struct way *way, const char *link)
{
    char target[PATH_MAX], ahead[PATH_MAX];
    ssize_t size = readlink(link, target, sizeof(target));
    if (size < 0 || (size_t)size >= sizeof(target))
        return fail(way, strerror(size < 0 ? errno : ENAMETOOLONG));
    target[size] = '\0';
    if (++way->links > LINKS_MAX ||
        snprintf(ahead, sizeof(ahead), "%s/%s", target, way->ahead) >= (int)sizeof(ahead))
        return fail(way, strerror(ELOOP));
    if (target[0] == '/')
        way->passed[0] = '\0';
    memcpy(way->ahead, ahead, sizeof(ahead));
    return 0;
}

/* Takes the next name from what is ahead; false: there is none left. */
static bool next_name(struct way *way, char name[NAME_MAX + 1])
{
    const char *start = way->ahead + strspn(way->ahead, "/");
    size_t size = strcspn(start, "/");
    snprintf(name, NAME_MAX + 1, "%.*s", (int)size, start);
    memmove(way->ahead, start + size, strlen(start + size) + 1);
    return size > 0;
}

/* Into an entry of the directory that was passed last; *missing: there is none of this name. */
static int enter_entry(struct way *way, const char *name, bool *missing)
{
    char entry[PATH_MAX];
    struct stat status;
    if (snprintf(entry, sizeof(entry), "%s/%s", way->passed, name) >= (int)sizeof(entry))
        return fail(way, strerror(ENAMETOOLONG));
    *missing = lstat(entry, &status) != 0;
    if (*missing)
        return errno == ENOENT ? check_missing(way) : fail(way, strerror(errno));
    if (check_entry(way, entry, &status) != 0)
        return -1;
    if (S_ISLNK(status.st_mode))
        return follow(way, entry);
    memcpy(way->passed, entry, sizeof(entry));
    return 0;
}

static int enter(struct way *way, const char *name, bool *missing)
{
    char *slash = strrchr(way->passed, '/');
    if (strcmp(name, "..") == 0 && slash != NULL)
        *slash = '\0';
    else if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        return enter_entry(way, name, missing);
    return 0;
}

int trusted_path_check(const char *what, const char *path, struct problem *problem)
{
    struct way way = {.what = what, .path = path, .problem = problem};
    char name[NAME_MAX + 1];
    struct stat root;
    bool missing = false;
    if (snprintf(way.ahead, sizeof(way.ahead), "%s", path) >= (int)sizeof(way.ahead))
        return fail(&way, strerror(ENAMETOOLONG));
    int result = stat("/", &root) == 0 ? check_entry(&way, "/", &root) : fail(&way, "no root");
    while (result == 0 && !missing && next_name(&way, name))
        result = enter(&way, name, &missing);
    return result;
}

/* --- What the configuration names --- */

/*
 * A PIN file itself is looked at when it is read. Its owner may be the service's user while it is
 * root who has the configuration tested.
 */
static int check_pin_directory(const char *pin_file, struct problem *problem)
{
    char directory[PATH_MAX];
    if (snprintf(directory, sizeof(directory), "%s", pin_file) >= (int)sizeof(directory))
        return problem_set(problem, -1, "pin-file %s: %s", pin_file, strerror(ENAMETOOLONG));
    return trusted_path_check("the PIN file's directory", dirname(directory), problem);
}

static int check_token(const struct token_config *token, struct problem *problem)
{
    int result = trusted_path_check("the module", token->settings.module, problem);
    if (result == 0 && token->pin_file != NULL)
        result = check_pin_directory(token->pin_file, problem);
    return result == 0 ? 0 : problem_prefix(problem, -1, "token %s", token->settings.name);
}

static int check_config_file(const char *path, struct problem *problem)
{
    char *absolute = path[0] == '/' ? strdup(path) : realpath(path, NULL);
    int result = absolute != NULL
                     ? trusted_path_check("the configuration", absolute, problem)
                     : problem_set(problem, -1, "the configuration %s: %s", path, strerror(errno));
    free(absolute);
    return result;
}

int trusted_path_check_config(const struct config *config, struct problem *problem)
{
    int result = check_config_file(config->path, problem);
    for (size_t i = 0; i < config->token_count && result == 0; i++)
        result = check_token(&config->tokens[i], problem);
    return result;
}
