/*
 * immure token list: the configured tokens, and whether each is there. No login.
 */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/report.h"
#include "cli/tokens.h"

struct token_look {
    bool is_there;
    struct token_description description;
    struct problem problem;
};

static const char *pin_state(const struct token_description *description)
{
    if (description->pin_locked)
        return "PIN locked";
    if (description->pin_final_try)
        return "one PIN try left";
    if (description->pin_count_low)
        return "a wrong PIN was tried";
    return "ready";
}

static struct token_look look_at(const struct token_config *config)
{
    struct token_look look = {0};
    struct token *token = NULL;
    if (token_open_configured(config, &token, &look.problem) == TOKEN_OK)
        look.is_there = token_describe(token, &look.description, &look.problem) == TOKEN_OK;
    token_close(token);
    return look;
}

static json_t *look_json(const struct token_config *config, const struct token_look *look)
{
    const struct token_description *description = &look->description;
    const char *state = look->is_there ? pin_state(description) : "unavailable";
    json_t *problem = look->is_there ? json_null() : json_text(look->problem.text);
    return json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
                     json_text(config->settings.name), "module", json_text(config->settings.module),
                     "uri", json_text(config->settings.uri), "state", state, "problem", problem,
                     "label", json_text(description->label), "manufacturer",
                     json_text(description->manufacturer), "model", json_text(description->model),
                     "serial", json_text(description->serial), "firmware",
                     json_text(description->firmware));
}

static void look_row(struct table *table, const struct token_config *config,
                     const struct token_look *look)
{
    const struct token_description *description = &look->description;
    const char *state = look->is_there ? pin_state(description) : "unavailable";
    const char *const cells[] = {config->settings.name,  state,
                                 description->label,     description->manufacturer,
                                 description->model,     description->serial,
                                 config->settings.module};
    table_row(table, cells);
}

static enum exit_status print_looks_json(const struct config *config,
                                         const struct token_look *looks)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < config->token_count; i++)
        json_array_append_new(tokens, look_json(&config->tokens[i], &looks[i]));
    return print_json(json_pack("{s:o}", "tokens", tokens));
}

static enum exit_status print_looks(const struct config *config, const struct token_look *looks)
{
    static const char *const heading[] = {"NAME",  "STATE",  "LABEL", "MANUFACTURER",
                                          "MODEL", "SERIAL", "MODULE"};
    struct table table = {.columns = ARRAY_SIZE(heading)};
    if (config->token_count == 0) {
        report_note("no token is configured");
        return STATUS_OK;
    }
    table_row(&table, heading);
    for (size_t i = 0; i < config->token_count; i++)
        look_row(&table, &config->tokens[i], &looks[i]);
    return print_table(&table);
}

static enum exit_status list(const struct arguments *arguments, const struct config *config)
{
    struct token_look looks[CONFIG_TOKENS_MAX];
    enum exit_status seen = STATUS_OK;
    for (size_t i = 0; i < config->token_count; i++) {
        looks[i] = look_at(&config->tokens[i]);
        if (!looks[i].is_there)
            seen = report_failure("%s", looks[i].problem.text);
    }
    enum exit_status printed =
        arguments->json ? print_looks_json(config, looks) : print_looks(config, looks);
    return seen != STATUS_OK ? seen : printed;
}

static enum exit_status run(const struct arguments *arguments)
{
    struct config *config = NULL;
    enum exit_status status = config_open_without_pins(arguments, &config);
    if (status == STATUS_OK)
        status = list(arguments, config);
    config_free(config);
    return status;
}

const struct command command_token_list = {
    .group = "token",
    .name = "list",
    .summary = "List the configured tokens, and whether each is there",
    .detail = "No PIN is needed or tried. Exit status 1 if one of them is not there.",
    .page = "immure-token(1)",
    .run = run,
};
