#include "cli/tokens.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/terminal.h"
#include "cli/report.h"

/* One to work in, and one for what the token layer does meanwhile. */
#define CLI_SESSIONS 2

static enum exit_status report_config(int error, const struct problem *problem)
{
    if (error == CONFIG_DENIED)
        return report_failure("%s; run this as one who may, for example: runuser -u immure -- "
                              "immure ...",
                              problem->text);
    return error == 0 ? STATUS_OK : report_failure("%s", problem->text);
}

enum exit_status config_open(const struct arguments *arguments, struct config **config)
{
    struct problem problem;
    int error = config_load(config_path(arguments->config), config, &problem);
    return report_config(error, &problem);
}

enum exit_status config_open_without_pins(const struct arguments *arguments, struct config **config)
{
    struct problem problem;
    int error = config_load_without_pins(config_path(arguments->config), config, &problem);
    return report_config(error, &problem);
}

enum token_error token_open_configured(const struct token_config *config, struct token **token,
                                       struct problem *problem)
{
    struct token_settings settings = config->settings;
    settings.max_sessions = CLI_SESSIONS;
    settings.read_write = true;
    return token_open(&settings, token, problem);
}

/* --- Login ----------------------------------------------------------------------------------- */

static int ask_pin(const struct token_config *config, const struct token_description *description,
                   struct pin *pin, struct problem *problem)
{
    char question[160];
    struct problem reason;
    snprintf(question, sizeof(question), "PIN of token %s (%s, serial %s): ", config->settings.name,
             description->label, description->serial);
    int length = terminal_ask_secret(question, pin->text, sizeof(pin->text), &reason);
    if (length < 0)
        return problem_set(problem, -1,
                           "token %s needs a PIN, none is configured, and %s; set pin-file in "
                           "[token %s], or run this on a terminal",
                           config->settings.name, reason.text, config->settings.name);
    pin->size = (size_t)length;
    return 0;
}

/* The PIN budget is immured's: no command knows what the one before has tried. */
static enum token_error try_pin(struct token *token, const struct pin *pin, struct problem *problem)
{
    enum token_error error = token_login(token, pin, problem);
    if (error != TOKEN_PIN_INCORRECT)
        return error;
    struct problem refusal = *problem;
    return problem_set(problem, error, "%s; each further command with this PIN uses up another try",
                       refusal.text);
}

static enum token_error login_asking(const struct token_config *config, struct token *token,
                                     const struct token_description *description,
                                     struct problem *problem)
{
    struct pin *pin = pin_new();
    if (pin == NULL)
        return problem_set(problem, TOKEN_FAILED,
                           "no locked memory for the PIN; raise RLIMIT_MEMLOCK (ulimit -l)");
    enum token_error error = TOKEN_FAILED;
    if (ask_pin(config, description, pin, problem) == 0)
        error = pin->size > 0 ? try_pin(token, pin, problem)
                              : token_login(token, NULL, problem); /* at its PIN pad */
    pin_free(pin);
    return error;
}

static enum token_error login(const struct token_config *config, struct token *token,
                              struct problem *problem)
{
    struct token_description description;
    enum token_error error = token_describe(token, &description, problem);
    if (error != TOKEN_OK)
        return error;
    if (!description.login_required)
        return token_login(token, NULL, problem);

    struct pin *pin = NULL;
    int found = config_read_pin(config, &pin, problem);
    if (found < 0)
        return TOKEN_FAILED;
    if (found == 0)
        return login_asking(config, token, &description, problem);
    error = try_pin(token, pin, problem);
    pin_free(pin);
    return error;
}

static enum token_error open_and_login(struct tokens *tokens, const struct token_config *config,
                                       struct problem *problem)
{
    struct token *token = NULL;
    enum token_error error = token_open_configured(config, &token, problem);
    if (error == TOKEN_OK)
        error = login(config, token, problem);
    if (error == TOKEN_OK)
        tokens->opened[tokens->count++] = token;
    else
        token_close(token);
    return error;
}

/* --- Which tokens ---------------------------------------------------------------------------- */

static const struct token_config *token_named(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->token_count; i++) {
        if (strcmp(config->tokens[i].settings.name, name) == 0)
            return &config->tokens[i];
    }
    report_failure("%s has no [token %s]; 'immure token list' shows the tokens", config->path,
                   name);
    return NULL;
}

static enum exit_status open_single(struct tokens *tokens, const struct token_config *config)
{
    struct problem problem;
    if (open_and_login(tokens, config, &problem) != TOKEN_OK)
        return report_failure("%s", problem.text);
    return STATUS_OK;
}

static enum exit_status open_all(struct tokens *tokens)
{
    for (size_t i = 0; i < tokens->config->token_count; i++) {
        struct problem problem;
        if (open_and_login(tokens, &tokens->config->tokens[i], &problem) == TOKEN_OK)
            continue;
        report_warning("%s", problem.text);
        tokens->missing++;
    }
    if (tokens->count == 0)
        return report_failure("none of the tokens in %s can be used", tokens->config->path);
    return STATUS_OK;
}

static enum exit_status no_token(const struct config *config)
{
    return report_failure("%s has no [token NAME] section; immure.conf(5) describes it",
                          config->path);
}

enum exit_status tokens_open(const struct arguments *arguments, struct tokens *tokens)
{
    *tokens = (struct tokens){0};
    enum exit_status status = config_open(arguments, &tokens->config);
    if (status != STATUS_OK)
        return status;
    if (arguments->token != NULL) {
        const struct token_config *named = token_named(tokens->config, arguments->token);
        return named != NULL ? open_single(tokens, named) : STATUS_FAILED;
    }
    if (tokens->config->token_count == 0)
        return no_token(tokens->config);
    if (tokens->config->token_count == 1)
        return open_single(tokens, &tokens->config->tokens[0]);
    return open_all(tokens);
}

static enum exit_status which_token(const struct config *config)
{
    char names[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < config->token_count && used < sizeof(names); i++)
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i > 0 ? ", " : "",
                                 config->tokens[i].settings.name);
    return report_usage("several tokens are configured; say which with --token: %s", names);
}

/* SoftHSM's files are then root's alone; that immured cannot read them shows when it signs. */
static void warn_of_root(const struct token_config *config)
{
    struct stat status;
    if (geteuid() != 0 || config->pin_file == NULL || stat(config->pin_file, &status) != 0 ||
        status.st_uid == 0)
        return;
    const struct passwd *owner = getpwuid(status.st_uid);
    const char *name = owner != NULL ? owner->pw_name : "OWNER";
    report_warning(
        "made as root: a token in files, such as SoftHSM, hides the key from %s, who has "
        "the PIN file; use runuser -u %s -- immure ...",
        name, name);
}

enum exit_status tokens_open_one(const struct arguments *arguments, struct tokens *tokens)
{
    *tokens = (struct tokens){0};
    enum exit_status status = config_open(arguments, &tokens->config);
    if (status != STATUS_OK)
        return status;
    const struct config *config = tokens->config;
    if (arguments->token == NULL && config->token_count == 0)
        return no_token(config);
    if (arguments->token == NULL && config->token_count > 1)
        return which_token(config);
    const struct token_config *chosen = &config->tokens[0];
    if (arguments->token != NULL)
        chosen = token_named(config, arguments->token);
    if (chosen == NULL)
        return STATUS_FAILED;
    warn_of_root(chosen);
    return open_single(tokens, chosen);
}

void tokens_close(struct tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++)
        token_close(tokens->opened[i]);
    config_free(tokens->config);
    *tokens = (struct tokens){0};
}
