/*
 * STATUS: what immured is doing, as JSON. doc/protocol.md lists the members.
 */
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/request.h"

static const char *const state_names[] = {
    [TOKEN_STARTING] = "starting", [TOKEN_READY] = "ready", [TOKEN_DOWN] = "down"};

/* Tokens fill their labels with whatever they like, paths are bytes, JSON is UTF-8. */
static json_t *text_json(const char *text)
{
    json_t *string = json_string(text);
    return string != NULL ? string : json_string("(not UTF-8)");
}

static json_t *requests_json(struct worker *worker)
{
    json_t *requests = json_object();
    for (unsigned status = 0; status < STATUS_COUNT; status++)
        json_object_set_new(requests, wire_status_name((uint16_t)status),
                            json_integer((json_int_t)atomic_load(&worker->replies[status])));
    return requests;
}

static json_t *refusals_json(struct worker *worker)
{
    json_t *refusals = json_object();
    for (enum rule rule = RULE_NONE + 1; rule < RULE_COUNT; rule++)
        json_object_set_new(refusals, rule_name(rule),
                            json_integer((json_int_t)atomic_load(&worker->refusals[rule])));
    return refusals;
}

static json_t *grants_json(struct worker *worker)
{
    json_t *grants = json_array();
    for (size_t i = 0; i < worker->config->grant_count; i++) {
        const struct grant_meter *meter = &worker->meters[i];
        json_array_append_new(grants,
                              json_pack("{s:s, s:I, s:I}", "name", worker->config->grants[i].name,
                                        "uses", (json_int_t)atomic_load(&meter->used), "over_rate",
                                        (json_int_t)atomic_load(&meter->over)));
    }
    return grants;
}

static json_t *token_json(struct worker *worker, size_t index)
{
    const struct token_settings *settings = &worker->config->tokens[index].settings;
    struct token_keeper_report report;
    token_keeper_report(worker->keepers[index], &report);
    size_t keys =
        report.state == TOKEN_READY ? keyring_count(worker->keyring, index, report.epoch) : 0;
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:{s:i, s:i, s:i}, s:i, s:i, s:I, s:I, s:I}", "name",
        settings->name, "state", report.slow ? "slow" : state_names[report.state], "problem",
        text_json(report.problem.text), "label", text_json(report.description.label), "serial",
        text_json(report.description.serial), "sessions", "open", (int)report.sessions_open,
        "in_use", (int)report.sessions_in_use, "max", (int)settings->max_sessions, "in_flight",
        (int)report.in_flight, "waiting", (int)report.waiting, "keys", (json_int_t)keys,
        "signatures", (json_int_t)report.signatures, "failures", (json_int_t)report.failures);
}

static json_t *tokens_json(struct worker *worker)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < worker->config->token_count; i++)
        json_array_append_new(tokens, token_json(worker, i));
    return tokens;
}

static json_t *status_json(struct worker *worker)
{
    size_t connections;
    uint64_t refused;
    connections_counts(&worker->connections, &connections, &refused);
    return json_pack(
        "{s:s, s:i, s:I, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "version", IMMURE_VERSION, "pid",
        (int)getpid(), "uptime_s", (json_int_t)((clock_now_ms() - worker->started) / 1000),
        "config", text_json(worker->config->path), "connections", (json_int_t)connections,
        "connections_refused", (json_int_t)refused, "overtaken",
        (json_int_t)atomic_load(&worker->overtaken), "requests", requests_json(worker), "refusals",
        refusals_json(worker), "grants", grants_json(worker), "tokens", tokens_json(worker));
}

enum wire_status request_status(struct request *request)
{
    if (!request->connection->is_operator && request->connection->grants == 0)
        return request_not_granted(request, NULL);
    json_t *status = status_json(request->worker);
    size_t size = 0;
    if (status != NULL)
        size = json_dumpb(status, (char *)request->payload, REPLY_PAYLOAD_SIZE_MAX, JSON_COMPACT);
    json_decref(status);
    if (size == 0 || size > REPLY_PAYLOAD_SIZE_MAX)
        return problem_set(&request->problem, WIRE_BUSY, "no memory for the status");
    request->payload_size = size;
    return WIRE_OK;
}
