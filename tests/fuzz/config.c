/*
 * daemon/config.h: any file is either taken whole, and then within its limits, or refused with a
 * line that says where.
 *
 * Users, groups and PIN files are those below, not the machine's: a fuzzer shall not open paths
 * of its own invention, and what it finds must be found again elsewhere.
 */
#include "fuzz.h"

#include <err.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/config_pin.h"

struct passwd *getpwnam(const char *name)
{
    static struct passwd user = {.pw_uid = 33};
    return strcmp(name, "www-data") == 0 ? &user : NULL;
}

struct group *getgrnam(const char *name)
{
    static struct group group = {.gr_gid = 33};
    return strcmp(name, "www-data") == 0 ? &group : NULL;
}

int config_open_pin_file(const char *path, struct problem *problem)
{
    return strcmp(path, "/etc/immure/prod.pin") == 0
               ? open("/dev/null", O_RDONLY | O_CLOEXEC)
               : problem_set(problem, -1, "the PIN file %s cannot be read", path);
}

static void check_token(const struct token_config *token)
{
    assert(token->settings.name[0] != '\0');
    assert(token->settings.module[0] == '/');
    assert(token->settings.uri[0] != '\0');
    assert(token->settings.max_sessions >= 1 &&
           token->settings.max_sessions <= TOKEN_MAX_SESSIONS_LIMIT);
    assert(token->pin_file == NULL || token->pin_credential == NULL);
}

static void check_grant(const struct grant_config *grant)
{
    assert(grant->name[0] != '\0');
    assert(grant->has_user || grant->has_group || grant->unit != NULL || grant->cgroup != NULL);
    assert(grant->cgroup == NULL || (grant->cgroup[0] == '/' && strlen(grant->cgroup) < 4096));
    assert(grant->rate.interval_ns == 0 || (grant->rate.count > 0 && grant->rate.burst > 0));
    assert(grant->keys[0] != NULL && grant->keys[0][0] != '\0');
    assert(grant->uses != 0);
}

static void check_config(const struct config *config)
{
    assert(config->socket[0] == '/');
    assert(strlen(config->socket) < sizeof(((struct sockaddr_un *)0)->sun_path));
    assert(config->token_count <= CONFIG_TOKENS_MAX && config->grant_count <= CONFIG_GRANTS_MAX);
    for (size_t i = 0; i < config->token_count; i++)
        check_token(&config->tokens[i]);
    for (size_t i = 0; i < config->grant_count; i++)
        check_grant(&config->grants[i]);
}

static void check_problem(const char *path, const struct problem *problem)
{
    int used = 0;
    char line[16];
    assert(strncmp(problem->text, path, strlen(path)) == 0);
    int matched = sscanf(problem->text + strlen(path), ":%15[0-9]: %n", line, &used);
    assert(matched == 1 && used > 0 && problem->text[strlen(path) + (size_t)used] != '\0');
    for (const char *c = problem->text; *c != '\0'; c++)
        assert((unsigned char)*c >= 0x20 && *c != 0x7f);
}

/* The path of a file in memory with these bytes, the same at each call. */
static const char *write_file(const uint8_t *bytes, size_t size)
{
    static int file = -1;
    static char path[32];
    if (file < 0) {
        file = memfd_create("immure.conf", MFD_CLOEXEC);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    }
    if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, bytes, size, 0) != (ssize_t)size)
        err(1, "a file in memory");
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct config *config = NULL;
    struct problem problem;
    const char *path = write_file(bytes, size);
    int result = config_load(path, &config, &problem);
    assert(result == (config != NULL ? 0 : -1));
    if (config != NULL)
        check_config(config);
    else
        check_problem(path, &problem);
    config_free(config);
    return 0;
}
