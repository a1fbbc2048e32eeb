/*
 * immure key destroy: removes a key from its tokens, for good.
 */
#include <stdio.h>
#include <string.h>

#include "base/terminal.h"
#include "cli/commands.h"
#include "cli/key_kind.h"
#include "cli/keys.h"
#include "cli/report.h"
#include "wire/reference.h"

/* The private key first: with it gone, what else goes wrong is only untidy. */
static enum token_error destroy_in(const struct token_session *session, const struct found_key *key,
                                   struct problem *problem)
{
    struct token_public_objects public;
    enum token_error error = token_find_public(key->token, session, &key->key, &public, problem);
    if (error != TOKEN_OK)
        return error;
    CK_RV rv = session->functions->C_DestroyObject(session->handle, key->key.handle);
    if (rv != CKR_OK)
        return token_error_of(key->token, rv, "destroying the private key", problem);
    for (size_t i = 0; i < public.count; i++) {
        rv = session->functions->C_DestroyObject(session->handle, public.handles[i]);
        if (rv == CKR_OK || rv == CKR_OBJECT_HANDLE_INVALID)
            continue;
        token_error_of(key->token, rv, "removing the public key", problem);
        report_warning("%s; the private key is destroyed", problem->text);
    }
    return TOKEN_OK;
}

static enum exit_status destroy_copy(const struct found_key *key)
{
    struct token_session session;
    struct problem problem;
    enum token_error error =
        token_session_take(key->token, clock_now_ms() + CLI_DEADLINE_MS, &session, &problem);
    if (error == TOKEN_OK) {
        error = destroy_in(&session, key, &problem);
        token_session_return(key->token, &session, error == TOKEN_UNAVAILABLE);
    }
    return error == TOKEN_OK ? STATUS_OK : report_failure("%s", problem.text);
}

/* --- Asking ---------------------------------------------------------------------------------- */

static enum exit_status confirm(const struct found_keys *found, const char *name)
{
    char answer[KEY_NAME_SIZE_MAX + 2], type[KEY_TYPE_TEXT_SIZE];
    struct problem problem;
    if (!terminal_is_interactive())
        return report_failure("there is no terminal to ask on, so \"%s\" is not destroyed; add "
                              "--yes to destroy it unasked",
                              name);
    key_type_text(found->items[0].key.type, found->items[0].key.bits, type);
    report_note("this destroys the %s key \"%s\" for good:", type, name);
    for (size_t i = 0; i < found->count; i++)
        report_note("  \"%s\" on token %s", found->items[i].key.label,
                    token_name(found->items[i].token));
    if (terminal_ask("Type its name to go on: ", answer, sizeof(answer), &problem) < 0)
        return report_failure("%s; nothing is destroyed", problem.text);
    if (strcmp(answer, name) != 0)
        return report_failure("that is not \"%s\"; nothing is destroyed", name);
    return STATUS_OK;
}

/* --- Command --------------------------------------------------------------------------------- */

static enum exit_status destroy_all(const struct arguments *arguments,
                                    const struct found_keys *found)
{
    json_t *destroyed = json_array();
    enum exit_status status = STATUS_OK;
    for (size_t i = 0; i < found->count; i++) {
        const char *token = token_name(found->items[i].token);
        if (destroy_copy(&found->items[i]) != STATUS_OK) {
            status = STATUS_FAILED;
            continue;
        }
        json_array_append_new(destroyed, json_text(token));
        if (!arguments->json)
            printf("Destroyed %s on token %s.\n", arguments->operands[0], token);
    }
    if (arguments->json) {
        enum exit_status printed = print_json(json_pack(
            "{s:o, s:O}", "name", json_text(arguments->operands[0]), "destroyed_on", destroyed));
        status = status == STATUS_OK ? printed : status;
    }
    json_decref(destroyed);
    return status;
}

static enum exit_status run(const struct arguments *arguments)
{
    struct tokens tokens;
    struct found_keys found = {0};
    enum exit_status status = tokens_open(arguments, &tokens);
    if (status == STATUS_OK)
        status = keys_find_named(&tokens, arguments->operands[0], &found);
    if (status == STATUS_OK && !arguments->yes)
        status = confirm(&found, arguments->operands[0]);
    if (status == STATUS_OK)
        status = destroy_all(arguments, &found);
    if (status == STATUS_OK && tokens.missing + found.failed_tokens > 0)
        status = report_failure("the tokens in the warnings above may still hold this key");
    found_keys_clear(&found);
    tokens_close(&tokens);
    return status;
}

static const struct option_spec options[] = {
    {OPTION("yes", NULL, yes, "do not ask"), .letter = 'y'},
    {OPTION("token", "TOKEN", token, "destroy it on this token only")},
};

const struct command command_key_destroy = {
    .group = "key",
    .name = "destroy",
    .operands = {"NAME"},
    .summary = "Destroy a key on all tokens that hold it",
    .detail = "Asks for the name on the terminal; without one it refuses, unless --yes is given.",
    .page = "immure-key(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
