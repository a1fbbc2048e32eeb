/*
 * immure key import: moves a private key from a PEM file into a token.
 */
#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/terminal.h"
#include "cli/commands.h"
#include "cli/key_file.h"
#include "cli/key_object.h"
#include "cli/key_wrap.h"
#include "cli/progress.h"
#include "cli/report.h"

/* --- The key --------------------------------------------------------------------------------- */

/* NULL is reported. Public points are compared and stored uncompressed from here on. */
static const struct key_kind *kind_of(const struct key_file *file)
{
    const struct key_kind *kind = key_kind_of_pkey(file->pkey);
    if (kind == NULL)
        report_failure("%s holds a key of a kind that cannot be imported (%s, %d bits); take one "
                       "of " KEY_KIND_NAMES,
                       file->path, EVP_PKEY_get0_type_name(file->pkey),
                       EVP_PKEY_get_bits(file->pkey));
    else if (kind->type == KEY_TYPE_EC)
        EVP_PKEY_set_utf8_string_param(file->pkey, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                       "uncompressed");
    return kind;
}

static enum exit_status refuse_duplicate(const struct tokens *tokens, const uint8_t *spki,
                                         size_t size)
{
    struct found_keys found = {0};
    struct token_key_query query = {.spki = spki, .spki_size = size};
    enum exit_status status = keys_find(tokens, &query, &found);
    if (status == STATUS_OK && found.count > 0)
        status = report_failure("token %s has this key already, as \"%s\"",
                                token_name(tokens->opened[0]), found.items[0].key.label);
    found_keys_clear(&found);
    return status;
}

/* --- Into the token -------------------------------------------------------------------------- */

static enum token_error bring_in_private(struct key_pair *pair, const struct key_kind *kind,
                                         const EVP_PKEY *pkey, struct problem *problem)
{
    enum token_error error =
        problem_set(problem, TOKEN_UNSUPPORTED, "the token cannot unwrap keys");
    if (key_wrap_available(pair->token))
        error = key_wrap_import(pair, kind, pkey, problem);
    if (error != TOKEN_UNSUPPORTED && error != TOKEN_FAILED && error != TOKEN_BUSY)
        return error;
    report_warning("the key passes the token's module unencrypted (%s)", problem->text);
    return key_object_create_private(pair, kind, pkey, problem);
}

static enum exit_status bring_in(struct key_pair *pair, const struct key_kind *kind,
                                 const EVP_PKEY *pkey)
{
    struct problem problem;
    enum token_error error = key_object_create_public(pair, kind, pkey, &problem);
    if (error == TOKEN_OK)
        error = bring_in_private(pair, kind, pkey, &problem);
    return error == TOKEN_OK ? STATUS_OK : report_failure("%s", problem.text);
}

static enum exit_status verify(const EVP_PKEY *pkey, const struct found_key *key,
                               const uint8_t *message, size_t message_size,
                               const uint8_t *signature, size_t size)
{
    const struct scheme *scheme = key_signing_of(key->key.type, key->key.bits).scheme;
    EVP_PKEY *public_key = key_public(&key->key);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_same = public_key != NULL && EVP_PKEY_eq(public_key, pkey) == 1;
    bool done =
        is_same && context != NULL && scheme != NULL &&
        EVP_DigestVerifyInit_ex(context, NULL, scheme->digest, NULL, NULL, public_key, NULL) == 1 &&
        EVP_DigestVerify(context, signature, size, message, message_size) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(public_key);
    return done ? STATUS_OK
                : report_openssl("the key in the token does not sign as the one in the file does, "
                                 "so it was removed again");
}

/* The token's key must be the file's key: it signs, and the file's public key verifies. */
static enum exit_status try_key(const EVP_PKEY *pkey, const struct found_key *key)
{
    uint8_t message[32], signature[SIGNATURE_SIZE_MAX];
    size_t size = 0;
    if (RAND_bytes(message, sizeof(message)) != 1)
        return report_openssl("cannot draw a message to sign");
    enum exit_status status = key_sign(key, message, sizeof(message), signature, &size);
    return status == STATUS_OK ? verify(pkey, key, message, sizeof(message), signature, size)
                               : status;
}

static enum exit_status import(const struct arguments *arguments, struct token *token,
                               const struct key_kind *kind, const EVP_PKEY *pkey)
{
    struct key_pair pair;
    struct found_keys found = {0};
    struct key_attributes attributes;

    enum exit_status status = key_pair_begin(&pair, token, arguments);
    struct progress *progress = progress_start("moving the key into the token");
    if (status == STATUS_OK)
        status = bring_in(&pair, kind, pkey);
    progress_stop(progress);
    if (status == STATUS_OK)
        status = key_pair_check(&pair, &found, &attributes);
    if (status == STATUS_OK)
        status = try_key(pkey, &found.items[0]);
    key_pair_end(&pair, status == STATUS_OK);
    if (status == STATUS_OK)
        status = key_pair_print(arguments, &found.items[0], &attributes);
    found_keys_clear(&found);
    return status;
}

/* --- The file that is left ------------------------------------------------------------------- */

static bool wants_shred(const struct arguments *arguments, const struct key_file *file)
{
    char question[512], answer[8];
    struct problem problem;
    if (arguments->shred || arguments->keep || !terminal_is_interactive())
        return arguments->shred;
    snprintf(question, sizeof(question), "Overwrite and remove %s%s now? [y/N] ", file->path,
             file->has_certificate ? " (it holds a certificate as well)" : "");
    return terminal_ask(question, answer, sizeof(answer), &problem) > 0 &&
           (answer[0] == 'y' || answer[0] == 'Y');
}

static enum exit_status finish_file(const struct arguments *arguments, const struct key_file *file)
{
    report_note("a key that was on a disk may have been copied: replace it when you can, with one "
                "of 'immure key generate'");
    if (wants_shred(arguments, file))
        return key_file_shred(file);
    report_note("%s still holds the private key; remove it when nothing needs it any more",
                file->path);
    return STATUS_OK;
}

/* --- Command --------------------------------------------------------------------------------- */

static enum exit_status import_file(const struct arguments *arguments, const struct key_file *file,
                                    const struct key_kind *kind)
{
    struct tokens tokens;
    unsigned char *spki = NULL;
    int size = i2d_PUBKEY(file->pkey, &spki);
    if (size <= 0)
        return report_openssl("cannot encode the public key");

    enum exit_status status = tokens_open_one(arguments, &tokens);
    if (status == STATUS_OK)
        status = key_name_unused(&tokens, arguments->operands[0]);
    if (status == STATUS_OK)
        status = refuse_duplicate(&tokens, spki, (size_t)size);
    if (status == STATUS_OK)
        status = import(arguments, tokens.opened[0], kind, file->pkey);
    tokens_close(&tokens);
    OPENSSL_free(spki);
    return status;
}

static enum exit_status run(const struct arguments *arguments)
{
    if (arguments->shred && arguments->keep)
        return report_usage("--shred and --keep exclude each other");
    enum exit_status status = key_name_check(arguments->operands[0]);
    if (status != STATUS_OK)
        return status;

    struct key_file file;
    status = key_file_read(arguments->operands[1], &file);
    const struct key_kind *kind = status == STATUS_OK ? kind_of(&file) : NULL;
    if (status == STATUS_OK)
        status = kind != NULL ? key_pair_check_decrypt(arguments, kind) : STATUS_FAILED;
    if (status == STATUS_OK)
        status = import_file(arguments, &file, kind);
    if (status == STATUS_OK)
        status = finish_file(arguments, &file);
    EVP_PKEY_free(file.pkey);
    return status;
}

static const struct option_spec options[] = {
    {OPTION("shred", NULL, shred, "overwrite and remove FILE afterwards, unasked")},
    {OPTION("keep", NULL, keep, "leave FILE as it is, unasked")},
    {KEY_PAIR_DECRYPT_OPTION},
    {OPTION("token", "TOKEN", token, "the token to bring it to; needed if several are configured")},
};

const struct command command_key_import = {
    .group = "key",
    .name = "import",
    .operands = {"NAME", "FILE"},
    .summary = "Move a private key from a PEM file into a token",
    .detail =
        "The key goes in wrapped where the token can unwrap. A key that was on a disk should\n"
        "be replaced by one that was made in the token.",
    .page = "immure-key(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
