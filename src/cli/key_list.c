/*
 * immure key list: the keys on the tokens, with the worst verdict of a key's copies.
 */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/key_attributes.h"
#include "cli/key_kind.h"
#include "cli/keys.h"
#include "cli/report.h"

/* Enough to tell the keys of a host apart; 'key show' prints the whole id. */
#define SHORT_ID_SIZE 16

/* Copies of one key: items `first` to `first + count`. */
struct key_row {
    const struct found_key *copies;
    size_t count;
    enum verdict verdict;
};

static enum verdict verdict_of(const struct found_key *key)
{
    struct key_attributes attributes;
    struct problem problem;
    if (key_attributes_look(key->token, key->key.handle, &attributes, &problem) != TOKEN_OK)
        report_warning("%s", problem.text);
    return key_verdict(&attributes);
}

/* The row that begins at item `first`. */
static struct key_row row_at(const struct found_keys *found, size_t first)
{
    struct key_row row = {&found->items[first], 0, VERDICT_IN_TOKEN};
    while (first + row.count < found->count && keys_are_same(row.copies, &row.copies[row.count])) {
        enum verdict verdict = verdict_of(&row.copies[row.count++]);
        row.verdict = verdict < row.verdict ? verdict : row.verdict;
    }
    return row;
}

/* --- JSON ------------------------------------------------------------------------------------ */

static json_t *row_json(const struct key_row *row)
{
    const struct token_key *key = &row->copies[0].key;
    char id[KEY_ID_TEXT_SIZE], type[KEY_TYPE_TEXT_SIZE];
    hex_encode(key->id, KEY_ID_SIZE, id);
    key_type_text(key->type, key->bits, type);

    json_t *tokens = json_array();
    for (size_t i = 0; i < row->count; i++)
        json_array_append_new(tokens, json_text(token_name(row->copies[i].token)));
    return json_pack("{s:o, s:s, s:o, s:s, s:s}", "name", json_text(key->label), "type", type,
                     "tokens", tokens, "key_id", id, "verdict", verdict_word(row->verdict));
}

static enum exit_status list_json(const struct found_keys *found)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < found->count;) {
        struct key_row row = row_at(found, i);
        json_array_append_new(keys, row_json(&row));
        i += row.count;
    }
    return print_json(
        json_pack("{s:o, s:I}", "keys", keys, "unusable", (json_int_t)found->unusable));
}

/* --- Table ----------------------------------------------------------------------------------- */

static void add_row(struct table *table, const struct key_row *row)
{
    const struct token_key *key = &row->copies[0].key;
    char id[KEY_ID_TEXT_SIZE], type[KEY_TYPE_TEXT_SIZE], tokens[256] = "";
    size_t used = 0;
    hex_encode(key->id, KEY_ID_SIZE, id);
    id[SHORT_ID_SIZE] = '\0';
    key_type_text(key->type, key->bits, type);
    for (size_t i = 0; i < row->count && used < sizeof(tokens); i++)
        used += (size_t)snprintf(tokens + used, sizeof(tokens) - used, "%s%s", i > 0 ? "," : "",
                                 token_name(row->copies[i].token));
    const char *const cells[] = {key->label[0] != '\0' ? key->label : "(no name)", type, tokens, id,
                                 verdict_word(row->verdict)};
    table_row(table, cells);
}

static enum exit_status list_table(const struct found_keys *found)
{
    static const char *const heading[] = {"NAME", "TYPE", "TOKENS", "KEY ID", "VERDICT"};
    struct table table = {.columns = ARRAY_SIZE(heading)};
    if (found->count == 0) {
        report_note("no key");
        return STATUS_OK;
    }
    table_row(&table, heading);
    for (size_t i = 0; i < found->count;) {
        struct key_row row = row_at(found, i);
        add_row(&table, &row);
        i += row.count;
    }
    return print_table(&table);
}

static enum exit_status run(const struct arguments *arguments)
{
    struct tokens tokens;
    struct found_keys found = {0};
    const struct token_key_query every = {0};

    enum exit_status status = tokens_open(arguments, &tokens);
    if (status == STATUS_OK)
        status = keys_find(&tokens, &every, &found);
    if (status == STATUS_OK) {
        keys_sort(&found);
        status = arguments->json ? list_json(&found) : list_table(&found);
    }
    if (found.unusable > 0)
        report_warning("%zu more private key%s cannot be used: no public key with the same CKA_ID",
                       found.unusable, found.unusable == 1 ? "" : "s");
    found_keys_clear(&found);
    tokens_close(&tokens);
    return status;
}

static const struct option_spec options[] = {
    {OPTION("token", "TOKEN", token, "only the keys on this token")},
};

const struct command command_key_list = {
    .group = "key",
    .name = "list",
    .summary = "List the keys on the tokens, each with a verdict on its safety",
    .page = "immure-key(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
