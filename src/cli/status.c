/*
 * immure status: what the running immured says of itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/report.h"
#include "cli/tokens.h"
#include "client/client.h"

/* --- Asking ---------------------------------------------------------------------------------- */

/* --socket, $IMMURE_SOCKET, or the configuration's; to be freed. NULL is reported. */
static char *socket_path(const struct arguments *arguments)
{
    const char *named = arguments->socket != NULL ? arguments->socket : getenv("IMMURE_SOCKET");
    if (named != NULL && *named != '\0')
        return strdup(named);
    struct config *config = NULL;
    if (config_open_without_pins(arguments, &config) != STATUS_OK) {
        report_note("--socket PATH asks immured without the configuration");
        return NULL;
    }
    char *path = strdup(config->socket);
    config_free(config);
    return path;
}

static enum exit_status explain(enum client_error error, const char *path,
                                const struct problem *problem)
{
    if (error == CLIENT_REFUSED)
        return report_failure("immured at %s refuses to tell: %s", path, problem->text);
    return report_failure("%s; 'systemctl status immured' tells more", problem->text);
}

static json_t *ask(const char *path)
{
    static uint8_t payload[WIRE_PAYLOAD_SIZE_MAX];
    size_t size = sizeof(payload);
    uint16_t wire_status = WIRE_OK;
    struct problem problem = {""};
    struct wire_request request = {.operation = WIRE_STATUS};
    struct client *client = client_new(path);
    if (client == NULL) {
        report_failure("out of memory");
        return NULL;
    }

    enum client_error error = client_call(client, &request, CLIENT_TIMEOUT_DEFAULT_MS, payload,
                                          &size, &wire_status, &problem);
    client_free(client);
    if (error != CLIENT_OK) {
        explain(error, path, &problem);
        return NULL;
    }
    json_error_t json_error;
    json_t *status = json_loadb((const char *)payload, size, 0, &json_error);
    if (status == NULL)
        report_failure("immured at %s answers with something that is not JSON: %s", path,
                       json_error.text);
    return status;
}

/* --- Printing -------------------------------------------------------------------------------- */

static const char *text_at(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static long long number_at(json_t *object, const char *name)
{
    return (long long)json_integer_value(json_object_get(object, name));
}

static bool is_ready(json_t *token)
{
    return strcmp(text_at(token, "state"), "ready") == 0;
}

static void print_health(json_t *tokens, json_t *grants)
{
    size_t ready = 0, count = json_array_size(tokens);
    for (size_t i = 0; i < count; i++)
        ready += is_ready(json_array_get(tokens, i));
    if (count == 0)
        print_field("Health", "no token is configured: nothing can be signed");
    else if (ready == count && json_array_size(grants) == 0)
        print_field("Health", "good, but no grant: nobody may use a key");
    else if (ready == count)
        print_field("Health", "good: all tokens are ready");
    else
        print_field("Health", "%s: %zu of %zu tokens ready",
                    ready > 0 ? "degraded" : "bad, nothing can be signed", ready, count);
}

/* Those members of an object of counters that are not zero. */
static void print_counts(const char *field, json_t *counts, const char *before)
{
    for (void *at = json_object_iter(counts); at != NULL; at = json_object_iter_next(counts, at)) {
        json_int_t count = json_integer_value(json_object_iter_value(at));
        if (count > 0)
            print_field(field, "%lld %s%s", (long long)count, before, json_object_iter_key(at));
    }
}

static void print_alarms(json_t *grants)
{
    for (size_t i = 0; i < json_array_size(grants); i++) {
        json_t *grant = json_array_get(grants, i);
        if (number_at(grant, "over_rate") > 0)
            print_field("Alarm", "%lld of %lld uses of grant %s were beyond its rate",
                        number_at(grant, "over_rate"), number_at(grant, "uses"),
                        text_at(grant, "name"));
    }
}

static void token_row(struct table *table, json_t *token)
{
    json_t *sessions = json_object_get(token, "sessions");
    char in_use[64], in_flight[24], waiting[24], keys[24], signatures[24], failures[24];
    snprintf(in_use, sizeof(in_use), "%lld of %lld", number_at(sessions, "in_use"),
             number_at(sessions, "max"));
    snprintf(in_flight, sizeof(in_flight), "%lld", number_at(token, "in_flight"));
    snprintf(waiting, sizeof(waiting), "%lld", number_at(token, "waiting"));
    snprintf(keys, sizeof(keys), "%lld", number_at(token, "keys"));
    snprintf(signatures, sizeof(signatures), "%lld", number_at(token, "signatures"));
    snprintf(failures, sizeof(failures), "%lld", number_at(token, "failures"));
    const char *const cells[] = {text_at(token, "name"),
                                 text_at(token, "state"),
                                 text_at(token, "label"),
                                 keys,
                                 in_use,
                                 in_flight,
                                 waiting,
                                 signatures,
                                 failures};
    table_row(table, cells);
}

static enum exit_status print_tokens(json_t *tokens)
{
    static const char *const heading[] = {"TOKEN",   "STATE",      "LABEL",
                                          "KEYS",    "SESSIONS",   "IN FLIGHT",
                                          "WAITING", "SIGNATURES", "FAILURES"};
    struct table table = {.columns = ARRAY_SIZE(heading)};
    table_row(&table, heading);
    for (size_t i = 0; i < json_array_size(tokens); i++)
        token_row(&table, json_array_get(tokens, i));
    putchar('\n');
    enum exit_status status = print_table(&table);
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const char *problem = text_at(json_array_get(tokens, i), "problem");
        if (problem[0] != '\0') /* it names the token */
            print_line("%s", problem);
    }
    return status;
}

static enum exit_status print_status(json_t *status)
{
    json_t *tokens = json_object_get(status, "tokens");
    long long uptime = number_at(status, "uptime_s");
    print_health(tokens, json_object_get(status, "grants"));
    print_field("Version", "%s", text_at(status, "version"));
    print_field("Process", "%lld, up %lld d %02lld:%02lld:%02lld", number_at(status, "pid"),
                uptime / 86400, uptime / 3600 % 24, uptime / 60 % 60, uptime % 60);
    print_field("Configuration", "%s", text_at(status, "config"));
    print_field("Connections", "%lld", number_at(status, "connections"));
    print_counts("Replies", json_object_get(status, "requests"), "");
    print_counts("Refused", json_object_get(status, "refusals"), "by rule ");
    print_alarms(json_object_get(status, "grants"));
    if (number_at(status, "overtaken") > 0)
        print_field("Overtaken", "%lld slow calls, by another token",
                    number_at(status, "overtaken"));
    return print_tokens(tokens);
}

static enum exit_status run(const struct arguments *arguments)
{
    char *path = socket_path(arguments);
    if (path == NULL)
        return STATUS_FAILED;
    json_t *status = ask(path);
    free(path);
    if (status == NULL)
        return STATUS_FAILED;
    if (arguments->json)
        return print_json(status);
    enum exit_status printed = print_status(status);
    json_decref(status);
    return printed;
}

static const struct option_spec options[] = {
    {OPTION("socket", "PATH", socket,
            "immured's socket (default: $IMMURE_SOCKET, the configuration's)")},
};

const struct command command_status = {
    .name = "status",
    .summary = "Show what immured is doing: tokens, sessions, requests",
    .page = "immure-status(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
