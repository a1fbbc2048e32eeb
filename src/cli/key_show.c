/*
 * immure key show: where a key is, how each copy is protected, and what that means.
 */
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/key_attributes.h"
#include "cli/key_kind.h"
#include "cli/keys.h"
#include "cli/report.h"

/* An ML-DSA-87 public key is 3,620 bytes of PEM. */
#define PUBLIC_PEM_SIZE_MAX 4096

struct copy_look {
    struct key_attributes attributes;
    enum verdict verdict;
    char uri[TOKEN_KEY_URI_SIZE_MAX];
};

static enum exit_status look_at(const struct found_key *key, struct copy_look *look)
{
    struct problem problem;
    if (key_attributes_look(key->token, key->key.handle, &look->attributes, &problem) != TOKEN_OK)
        return report_failure("%s", problem.text);
    look->verdict = key_verdict(&look->attributes);
    token_key_uri(key->token, &key->key, look->uri, sizeof(look->uri));
    return STATUS_OK;
}

static enum exit_status public_pem(const struct token_key *key, char pem[PUBLIC_PEM_SIZE_MAX])
{
    BIO *memory = BIO_new(BIO_s_mem());
    int size = -1;
    if (memory != NULL &&
        PEM_write_bio(memory, PEM_STRING_PUBLIC, "", key->spki, (long)key->spki_size) > 0)
        size = BIO_read(memory, pem, PUBLIC_PEM_SIZE_MAX - 1);
    pem[size > 0 ? size : 0] = '\0';
    BIO_free(memory);
    return size > 0 ? STATUS_OK : report_openssl("cannot write the public key");
}

/* --- JSON ------------------------------------------------------------------------------------ */

static json_t *copy_json(const struct found_key *key, const struct copy_look *look)
{
    return json_pack("{s:o, s:o, s:o, s:s, s:s, s:o}", "token", json_text(token_name(key->token)),
                     "name", json_text(key->key.label), "uri", json_text(look->uri), "verdict",
                     verdict_word(look->verdict), "verdict_text", verdict_text(look->verdict),
                     "attributes", key_attributes_json(&look->attributes));
}

static enum exit_status show_json(const struct found_keys *found, const char *pem)
{
    json_t *copies = json_array();
    enum verdict worst = VERDICT_IN_TOKEN;
    for (size_t i = 0; i < found->count; i++) {
        struct copy_look look = {0};
        if (look_at(&found->items[i], &look) != STATUS_OK) {
            json_decref(copies);
            return STATUS_FAILED;
        }
        worst = look.verdict < worst ? look.verdict : worst;
        json_array_append_new(copies, copy_json(&found->items[i], &look));
    }

    const struct token_key *key = &found->items[0].key;
    char id[KEY_ID_TEXT_SIZE], type[KEY_TYPE_TEXT_SIZE];
    hex_encode(key->id, KEY_ID_SIZE, id);
    key_type_text(key->type, key->bits, type);
    return print_json(json_pack("{s:o, s:s, s:s, s:s, s:s, s:s, s:o}", "name",
                                json_text(key->label), "type", type, "key_id", id, "verdict",
                                verdict_word(worst), "verdict_text", verdict_text(worst),
                                "public_key", pem, "tokens", copies));
}

/* --- Text ------------------------------------------------------------------------------------ */

static enum exit_status print_copy(const struct found_key *key, const char *name)
{
    struct copy_look look = {0};
    if (look_at(key, &look) != STATUS_OK)
        return STATUS_FAILED;
    putchar('\n');
    print_field("Token", "%s", token_name(key->token));
    if (strcmp(key->key.label, name) != 0)
        print_field("Name there", "%s", key->key.label);
    print_field("URI", "%s", look.uri);
    key_attributes_print(&look.attributes);
    print_field("Verdict", "%s", verdict_text(look.verdict));
    return STATUS_OK;
}

static enum exit_status show_text(const struct found_keys *found, const char *pem)
{
    const struct token_key *key = &found->items[0].key;
    char id[KEY_ID_TEXT_SIZE], type[KEY_TYPE_TEXT_SIZE];
    hex_encode(key->id, KEY_ID_SIZE, id);
    key_type_text(key->type, key->bits, type);

    print_field("Name", "%s", key->label);
    print_field("Type", "%s", type);
    print_field("Key id", "%s", id);
    enum exit_status status = STATUS_OK;
    for (size_t i = 0; i < found->count && status == STATUS_OK; i++)
        status = print_copy(&found->items[i], key->label);
    if (status == STATUS_OK && pem != NULL)
        printf("\n%s", pem);
    return status;
}

/* All copies, those of other names too: the named ones first gave the public key. */
static enum exit_status find_copies(const struct tokens *tokens, const char *name,
                                    struct found_keys *copies)
{
    struct found_keys named = {0};
    enum exit_status status = keys_find_named(tokens, name, &named);
    if (status == STATUS_OK) {
        struct token_key_query query = {.spki = named.items[0].key.spki,
                                        .spki_size = named.items[0].key.spki_size};
        status = keys_find(tokens, &query, copies);
    }
    if (status == STATUS_OK && copies->count == 0)
        status = report_failure("key \"%s\" has just gone from its token", name);
    found_keys_clear(&named);
    return status;
}

static enum exit_status show(const struct arguments *arguments, const struct found_keys *found)
{
    char pem[PUBLIC_PEM_SIZE_MAX];
    bool wants_pem = arguments->json || arguments->public_key;
    if (wants_pem && public_pem(&found->items[0].key, pem) != STATUS_OK)
        return STATUS_FAILED;
    return arguments->json ? show_json(found, pem) : show_text(found, wants_pem ? pem : NULL);
}

static enum exit_status run(const struct arguments *arguments)
{
    struct tokens tokens;
    struct found_keys copies = {0};
    enum exit_status status = tokens_open(arguments, &tokens);
    if (status == STATUS_OK)
        status = find_copies(&tokens, arguments->operands[0], &copies);
    if (status == STATUS_OK)
        status = show(arguments, &copies);
    found_keys_clear(&copies);
    tokens_close(&tokens);
    return status;
}

static const struct option_spec options[] = {
    {OPTION("public", NULL, public_key, "also print the public key in PEM")},
    {OPTION("token", "TOKEN", token, "look on this token only")},
};

const struct command command_key_show = {
    .group = "key",
    .name = "show",
    .operands = {"NAME"},
    .summary = "Show a key: on which tokens it is, how it is protected, and a verdict",
    .page = "immure-key(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
