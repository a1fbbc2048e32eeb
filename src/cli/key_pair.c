#include "cli/key_pair.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "cli/key_kind.h"
#include "cli/report.h"

enum exit_status key_pair_check_decrypt(const struct arguments *arguments,
                                        const struct key_kind *kind)
{
    if (arguments->decrypt && kind->type != KEY_TYPE_RSA)
        return report_usage("--decrypt is for RSA keys, and %s is none", kind->name);
    return STATUS_OK;
}

enum exit_status key_pair_begin(struct key_pair *pair, struct token *token,
                                const struct arguments *arguments)
{
    struct problem problem;
    *pair = (struct key_pair){
        .token = token, .name = arguments->operands[0], .decrypts = arguments->decrypt};
    if (RAND_bytes(pair->cka_id, sizeof(pair->cka_id)) != 1)
        return report_openssl("cannot draw a random CKA_ID");
    if (token_session_take(token, clock_now_ms() + CLI_DEADLINE_MS, &pair->session, &problem) !=
        TOKEN_OK)
        return report_failure("%s", problem.text);
    return STATUS_OK;
}

static void destroy_object(const struct key_pair *pair, CK_OBJECT_HANDLE handle, const char *what)
{
    struct problem problem;
    if (handle == CK_INVALID_HANDLE)
        return;
    CK_RV rv = pair->session.functions->C_DestroyObject(pair->session.handle, handle);
    if (rv == CKR_OK)
        return;
    token_error_of(pair->token, rv, what, &problem);
    report_warning("%s; it stays on the token: 'immure key destroy'", problem.text);
}

void key_pair_end(struct key_pair *pair, bool keep)
{
    if (pair->session.functions == NULL)
        return;
    if (!keep) {
        destroy_object(pair, pair->private_handle, "removing the unfinished private key");
        destroy_object(pair, pair->public_handle, "removing the unfinished public key");
    }
    token_session_return(pair->token, &pair->session, false);
    pair->session.functions = NULL;
}

CK_RV key_pair_made(CK_RV rv, CK_OBJECT_HANDLE *handle)
{
    if (rv != CKR_OK)
        *handle = CK_INVALID_HANDLE;
    return rv;
}

void key_pair_add_names(const struct key_pair *pair, struct template *template)
{
    template_add(template, CKA_LABEL, pair->name, strlen(pair->name));
    template_add(template, CKA_ID, pair->cka_id, sizeof(pair->cka_id));
}

bool template_refused(CK_RV rv)
{
    static const CK_RV refusals[] = {
        CKR_ATTRIBUTE_TYPE_INVALID,  CKR_ATTRIBUTE_VALUE_INVALID, CKR_ATTRIBUTE_READ_ONLY,
        CKR_TEMPLATE_INCONSISTENT,   CKR_TEMPLATE_INCOMPLETE,     CKR_DOMAIN_PARAMS_INVALID,
        CKR_MECHANISM_PARAM_INVALID, CKR_ARGUMENTS_BAD,           CKR_GENERAL_ERROR,
        CKR_FUNCTION_FAILED,         CKR_CURVE_NOT_SUPPORTED,
    };
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        if (refusals[i] == rv)
            return true;
    }
    return false;
}

/* --- Looking at it --------------------------------------------------------------------------- */

struct copy_context {
    struct found_keys *found;
    struct token *token;
};

static bool copy_key(const struct token_key *key, void *context)
{
    struct copy_context *copy = context;
    found_keys_add(copy->found, copy->token, key);
    return false;
}

static enum exit_status check_attributes(const struct key_pair *pair,
                                         const struct key_attributes *attributes)
{
    if (attributes->sensitive != ANSWER_YES || attributes->extractable != ANSWER_NO)
        return report_failure("token %s did not make key \"%s\" sensitive and non-extractable "
                              "as asked, so it was destroyed again; see the token's policy",
                              token_name(pair->token), pair->name);
    if (attributes->sign == ANSWER_NO)
        return report_failure("token %s does not let key \"%s\" sign, so it was destroyed again",
                              token_name(pair->token), pair->name);
    if (pair->decrypts && attributes->decrypt == ANSWER_NO)
        return report_failure("token %s does not let key \"%s\" decrypt, so it was destroyed again",
                              token_name(pair->token), pair->name);
    return STATUS_OK;
}

enum exit_status key_pair_check(const struct key_pair *pair, struct found_keys *found,
                                struct key_attributes *attributes)
{
    struct problem problem;
    struct token_session session = pair->session;
    struct copy_context copy = {found, pair->token};
    struct token_key_query query = {.label = pair->name};

    if (key_attributes_read(pair->token, &session, pair->private_handle, attributes, &problem) !=
            TOKEN_OK ||
        token_find_keys_in_session(pair->token, &session, &query, copy_key, &copy, NULL,
                                   &problem) != TOKEN_OK)
        return report_failure("%s", problem.text);
    if (found->count == 0)
        return report_failure("token %s made key \"%s\" but does not show its public key, so it "
                              "was destroyed again%s%s",
                              token_name(pair->token), pair->name,
                              pair->refusal.text[0] != '\0' ? "; " : "", pair->refusal.text);
    return check_attributes(pair, attributes);
}

/* --- Saying it ------------------------------------------------------------------------------- */

static enum exit_status print_pair_json(const struct found_key *key,
                                        const struct key_attributes *attributes, const char *id,
                                        const char *type)
{
    enum verdict verdict = key_verdict(attributes);
    char uri[TOKEN_KEY_URI_SIZE_MAX];
    token_key_uri(key->token, &key->key, uri, sizeof(uri));
    return print_json(
        json_pack("{s:o, s:s, s:o, s:s, s:o, s:s, s:s, s:o}", "name", json_text(key->key.label),
                  "type", type, "token", json_text(token_name(key->token)), "key_id", id, "uri",
                  json_text(uri), "verdict", verdict_word(verdict), "verdict_text",
                  verdict_text(verdict), "attributes", key_attributes_json(attributes)));
}

enum exit_status key_pair_print(const struct arguments *arguments, const struct found_key *key,
                                const struct key_attributes *attributes)
{
    char id[KEY_ID_TEXT_SIZE], type[KEY_TYPE_TEXT_SIZE], quoted[SHELL_NAME_SIZE];
    hex_encode(key->key.id, KEY_ID_SIZE, id);
    key_type_text(key->key.type, key->key.bits, type);
    if (arguments->json)
        return print_pair_json(key, attributes, id, type);

    const char *name = shell_quote(key->key.label, quoted);
    print_field("Name", "%s", key->key.label);
    print_field("Type", "%s", type);
    print_field("Token", "%s", token_name(key->token));
    print_field("Key id", "%s", id);
    print_field("Verdict", "%s", verdict_text(key_verdict(attributes)));
    printf("Next, a certificate request and the file that the web server reads:\n"
           "  immure csr %s --san HOST -o FILE.csr\n"
           "  immure key reference %s -o FILE.pem\n",
           name, name);
    return STATUS_OK;
}
