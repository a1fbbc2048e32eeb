/*
 * immure key generate: a key pair that is made in the token and cannot leave it.
 */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/key_kind.h"
#include "cli/key_pair.h"
#include "cli/progress.h"
#include "cli/report.h"

static const uint8_t public_exponent[] = {1, 0, 1}; /* 65537 */

static CK_RV generate_once(struct key_pair *pair, const struct key_kind *kind, size_t params,
                           bool all)
{
    struct template private_template = {0}, public_template = {0};
    CK_MECHANISM mechanism = {kind->generation, NULL, 0};
    CK_ULONG bits = kind->bits;

    template_add_private(&private_template, pair->decrypts, all);
    template_add_public(&public_template, pair->decrypts, all);
    key_pair_add_names(pair, &private_template);
    key_pair_add_names(pair, &public_template);
    if (kind->type == KEY_TYPE_RSA) {
        template_add(&public_template, CKA_MODULUS_BITS, &bits, sizeof(bits));
        template_add(&public_template, CKA_PUBLIC_EXPONENT, public_exponent,
                     sizeof(public_exponent));
    } else {
        template_add(&public_template, kind->params_type, kind->params[params],
                     kind->params_sizes[params]);
    }
    CK_RV rv = pair->session.functions->C_GenerateKeyPair(
        pair->session.handle, &mechanism, public_template.attributes, public_template.count,
        private_template.attributes, private_template.count, &pair->public_handle,
        &pair->private_handle);
    return key_pair_made(key_pair_made(rv, &pair->public_handle), &pair->private_handle);
}

/* The first refusal is the one that tells; the others are of what was tried instead. */
static CK_RV generate(struct key_pair *pair, const struct key_kind *kind)
{
    CK_RV first = generate_once(pair, kind, 0, true), rv = first;
    for (size_t params = 0; params < KEY_KIND_PARAMS_MAX && template_refused(rv); params++) {
        bool has_params = kind->params[params] != NULL;
        if (params > 0 && has_params)
            rv = generate_once(pair, kind, params, true);
        if (template_refused(rv) && (params == 0 || has_params))
            rv = generate_once(pair, kind, params, false);
    }
    return rv == CKR_OK ? rv : first;
}

static enum exit_status generate_with_progress(struct key_pair *pair, const struct key_kind *kind)
{
    char what[96];
    struct problem problem;
    snprintf(what, sizeof(what), "making a %s key on token %s", kind->name,
             token_name(pair->token));
    struct progress *progress = progress_start(what);
    CK_RV rv = generate(pair, kind);
    progress_stop(progress);
    if (rv == CKR_OK)
        return STATUS_OK;
    token_error_of(pair->token, rv, what, &problem);
    return report_failure("%s", problem.text);
}

static enum exit_status generate_on(struct token *token, const struct key_kind *kind,
                                    const struct arguments *arguments)
{
    struct key_pair pair;
    struct found_keys found = {0};
    struct key_attributes attributes;

    enum exit_status status = key_pair_begin(&pair, token, arguments);
    if (status == STATUS_OK)
        status = generate_with_progress(&pair, kind);
    if (status == STATUS_OK)
        status = key_pair_check(&pair, &found, &attributes);
    key_pair_end(&pair, status == STATUS_OK);
    if (status == STATUS_OK)
        status = key_pair_print(arguments, &found.items[0], &attributes);
    found_keys_clear(&found);
    return status;
}

static enum exit_status run(const struct arguments *arguments)
{
    const struct key_kind *kind = key_kind_by_name(arguments->type);
    if (kind == NULL)
        return report_usage("there is no key type \"%s\"; choose one of " KEY_KIND_NAMES,
                            arguments->type);
    enum exit_status status = key_name_check(arguments->operands[0]);
    if (status == STATUS_OK)
        status = key_pair_check_decrypt(arguments, kind);
    if (status != STATUS_OK)
        return status;

    struct tokens tokens;
    status = tokens_open_one(arguments, &tokens);
    if (status == STATUS_OK &&
        !token_has_mechanism(tokens.opened[0], kind->generation, CKF_GENERATE_KEY_PAIR))
        status = report_failure("token %s cannot make %s keys; choose another --type or --token",
                                token_name(tokens.opened[0]), kind->name);
    if (status == STATUS_OK)
        status = key_name_unused(&tokens, arguments->operands[0]);
    if (status == STATUS_OK)
        status = generate_on(tokens.opened[0], kind, arguments);
    tokens_close(&tokens);
    return status;
}

static const struct option_spec options[] = {
    {OPTION("type", "TYPE", type, KEY_KIND_NAMES), .letter = 't', .is_required = true},
    {KEY_PAIR_DECRYPT_OPTION},
    {OPTION("token", "TOKEN", token, "the token to make it on; needed if several are configured")},
};

const struct command command_key_generate = {
    .group = "key",
    .name = "generate",
    .operands = {"NAME"},
    .summary = "Make a key in a token, which signs and cannot leave it",
    .page = "immure-key(1)",
    .options = options,
    .option_count = ARRAY_SIZE(options),
    .run = run,
};
