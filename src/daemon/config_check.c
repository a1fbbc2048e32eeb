#include "daemon/config_check.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

static int check_module(const char *path, const struct token_config *token, struct problem *problem)
{
    struct stat status;
    if (stat(token->settings.module, &status) == 0)
        return 0;
    return problem_set(problem, -1,
                       "%s:%d: module = %s: %s: install the vendor's package, or mend the path",
                       path, token->module_line, token->settings.module, strerror(errno));
}

/* systemd passes credentials to the service alone. */
static int check_pin(const char *path, const struct token_config *token, struct problem *problem)
{
    struct pin *pin = NULL;
    if (token->pin_file == NULL)
        return 0;
    int found = config_read_pin(token, &pin, problem);
    pin_free(pin);
    return found < 0 ? problem_prefix(problem, -1, "%s: token %s", path, token->settings.name) : 0;
}

int config_check(const struct config *config, struct problem *problem)
{
    for (size_t i = 0; i < config->token_count; i++) {
        const struct token_config *token = &config->tokens[i];
        if (check_module(config->path, token, problem) != 0 ||
            check_pin(config->path, token, problem) != 0)
            return -1;
    }
    if (config->token_count == 0)
        log_warning("%s: no [token NAME] section: there is no key to use", config->path);
    if (config->grant_count == 0)
        log_warning("%s: no [grant NAME] section: nobody may use a key", config->path);
    return 0;
}
