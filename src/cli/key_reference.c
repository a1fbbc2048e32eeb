/*
 * immure key reference: the PEM file that stands in a web server's configuration for the key.
 */
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/key_kind.h"
#include "cli/keys.h"
#include "cli/report.h"
#include "wire/reference.h"

/* The two lines above the PEM block (design: key references). */
static void write_comment(BIO *out, const struct found_keys *found)
{
    const struct token_key *key = &found->items[0].key;
    char id[KEY_ID_TEXT_SIZE], type[KEY_TYPE_TEXT_SIZE];
    key_type_text(key->type, key->bits, type);
    BIO_printf(out, "Immure key reference: %s (%s), token%s", key_display_name(key, id), type,
               found->count > 1 ? "s" : "");
    for (size_t i = 0; i < found->count; i++)
        BIO_printf(out, "%s \"%s\"", i > 0 ? "," : "", token_name(found->items[i].token));
    BIO_puts(out, ".\nThis file holds no private key. It names one; the key is in the HSM.\n");
}

static bool write_reference(BIO *out, const struct found_keys *found)
{
    const struct found_key *first = &found->items[0];
    char id[KEY_ID_TEXT_SIZE], uri[TOKEN_KEY_URI_SIZE_MAX], name[KEY_NAME_SIZE_MAX + 1];
    token_key_uri(first->token, &first->key, uri, sizeof(uri));
    snprintf(name, sizeof(name), "%s", key_display_name(&first->key, id));

    struct key_reference reference = {
        .spki = first->spki, .spki_size = first->key.spki_size, .name = name, .uri = uri};
    size_t size = 0;
    uint8_t *der = key_reference_encode(&reference, &size);
    if (der == NULL)
        return false;
    write_comment(out, found);
    int written = PEM_write_bio(out, KEY_REFERENCE_PEM_LABEL, "", der, (long)size);
    OPENSSL_free(der);
    return written > 0;
}

static enum exit_status put(const struct arguments *arguments, const struct found_keys *found,
                            const char *pem, size_t size)
{
    const struct token_key *key = &found->items[0].key;
    const char *file = output_file(arguments->output);
    char id[KEY_ID_TEXT_SIZE];
    hex_encode(key->id, KEY_ID_SIZE, id);
    enum exit_status status = STATUS_OK;

    if (!arguments->json || file != NULL)
        status = write_pem(file, pem, size, KEY_REFERENCE_PEM_LABEL, arguments->force);
    if (status == STATUS_OK && arguments->json)
        status = print_json(json_pack("{s:o, s:s, s:s#, s:o}", "name", json_text(key->label),
                                      "key_id", id, "reference", pem, (int)size, "file",
                                      file != NULL ? json_text(file) : json_null()));
    return status;
}

static enum exit_status refer(const struct arguments *arguments, const struct found_keys *found)
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *pem = NULL;
    enum exit_status status = STATUS_FAILED;
    if (memory == NULL || !write_reference(memory, found)) {
        status = report_openssl("cannot encode the key reference");
    } else {
        long size = BIO_get_mem_data(memory, &pem);
        status = put(arguments, found, pem, (size_t)size);
    }
    BIO_free(memory);
    return status;
}

static enum exit_status run(const struct arguments *arguments)
{
    struct tokens tokens;
    struct found_keys found = {0};
    enum exit_status status = tokens_open(arguments, &tokens);
    if (status == STATUS_OK)
        status = keys_find_named(&tokens, arguments->operands[0], &found);
    if (status == STATUS_OK) {
        keys_sort(&found);
        status = refer(arguments, &found);
    }
    found_keys_clear(&found);
    tokens_close(&tokens);
    return status;
}

static const struct option_spec options[] = {
    {OPTION("output", "FILE", output, "write to FILE instead of standard output"), .letter = 'o'},
    {OPTION("force", NULL, force, "replace FILE even if it is no key reference")},
    {OPTION("token", "TOKEN", token, "look on this token only")},
};

const struct command command_key_reference = {
    .group = "key",
    .name = "reference",
    .operands = {"NAME"},
    .summary = "Write the reference that a web server reads in place of the key",
    .page = "immure-key(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
