/*
 * SIGN and SIGN_DIGEST: with which scheme, and how.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/key_operation.h"
#include "daemon/permission.h"
#include "daemon/signature_check.h"
#include "wire/scheme.h"

struct signing {
    struct request *request;
    const struct scheme *scheme;
    struct keyring_key key;
    const uint8_t *input; /* what the token signs */
    size_t input_size;
    char words[KEY_WORDS_SIZE]; /* key_words()'s */
};

static const char *key_words(struct signing *signing)
{
    request_key_words(signing->request, signing->request->wire.key_id, signing->words);
    return signing->words;
}

static bool is_raw(const struct scheme *scheme)
{
    return scheme->code == SCHEME_RSA_PKCS1_RAW || scheme->code == SCHEME_ECDSA_RAW;
}

static enum wire_status check_scheme(struct signing *signing)
{
    struct request *request = signing->request;
    bool digest_given = request->wire.operation == WIRE_SIGN_DIGEST;
    const struct scheme *scheme = scheme_by_code(request->wire.scheme);
    if (scheme == NULL)
        return permission_refuse(request, WIRE_UNSUPPORTED_SCHEME, RULE_SCHEME,
                                 "signature scheme 0x%04x is unknown", request->wire.scheme);
    signing->scheme = scheme;
    if (scheme->key_type != signing->key.type)
        return permission_refuse(request, WIRE_UNSUPPORTED_SCHEME, RULE_SCHEME,
                                 "%s is not for key %s, which is of type %s", scheme->name,
                                 key_words(signing), key_type_name(signing->key.type));
    if (digest_given ? key_type_is_pure(scheme->key_type) : is_raw(scheme))
        return permission_refuse(request, WIRE_UNSUPPORTED_SCHEME, RULE_SCHEME, "%s is for %s only",
                                 scheme->name, digest_given ? "messages" : "digests");
    return WIRE_OK;
}

/* --- Signing --- */

static enum token_error sign_with(struct key_operation *operation, struct token *token,
                                  const struct key_place *place)
{
    const struct signing *signing = operation->context;
    struct request *request = operation->request;
    const struct token_signing_key key = {
        .handle = place->handle, .type = signing->key.type, .bits = signing->key.bits};
    return token_sign(token, &key, signing->scheme, signing->input, signing->input_size,
                      request->deadline, request->payload, &request->payload_size,
                      &request->problem);
}

/*
 * RSA's always: see signature_check.h. Others' once from each place and after each opening of a
 * session, unless configured.
 */
static bool needs_check(const struct key_operation *operation, size_t index)
{
    const struct token_config *token = &operation->request->worker->config->tokens[index];
    return operation->key->type == KEY_TYPE_RSA || token->verify_always || operation->stale ||
           !operation->key->places[index].verified;
}

static enum token_error check_signature(struct key_operation *operation, size_t index,
                                        uint64_t epoch)
{
    struct signing *signing = operation->context;
    struct request *request = operation->request;
    if (!needs_check(operation, index))
        return TOKEN_OK;
    EVP_PKEY *public_key = keyring_public_key(request->worker->keyring, request->wire.key_id);
    bool right = public_key != NULL &&
                 signature_check(public_key, signing->scheme, signing->input, signing->input_size,
                                 request->payload, request->payload_size);
    if (right)
        key_operation_right(operation, index);
    else
        OPENSSL_cleanse(request->payload, request->payload_size);
    EVP_PKEY_free(public_key);
    if (right)
        return TOKEN_OK;
    if (public_key == NULL)
        return problem_set(&request->problem, TOKEN_UNSUPPORTED,
                           "a signature with key %s cannot be checked: %s", key_words(signing),
                           key_type_is_ml_dsa(signing->key.type) ? "ML-DSA needs OpenSSL 3.5"
                                                                 : "out of memory");
    return key_operation_wrong(operation, index, epoch, "made a wrong signature");
}

static enum wire_status sign(struct signing *signing)
{
    struct key_operation operation = {.request = signing->request,
                                      .key = &signing->key,
                                      .perform = sign_with,
                                      .check = check_signature,
                                      .context = signing};
    return key_operation_run(&operation);
}

static enum wire_status prepare(struct signing *signing)
{
    struct request *request = signing->request;
    enum wire_status status = permission_of_key(request, &signing->key);
    if (status == WIRE_OK)
        status = check_scheme(signing);
    if (status != WIRE_OK)
        return status;
    return request->wire.operation == WIRE_SIGN_DIGEST
               ? permission_to_sign_digest(request, &signing->key, signing->scheme)
               : permission_to_sign(request, &signing->key, signing->scheme);
}

enum wire_status request_sign(struct request *request)
{
    struct signing signing = {.request = request,
                              .input = request->wire.payload,
                              .input_size = request->wire.payload_size};
    uint8_t digest[SCHEME_DIGEST_SIZE_MAX];
    enum wire_status status = prepare(&signing);
    if (status != WIRE_OK)
        return status;
    if (signing.scheme->digest != NULL) {
        if (!digest_message(&request->worker->digests, signing.scheme, request->wire.payload,
                            request->wire.payload_size, digest))
            return problem_set(&request->problem, WIRE_TOKEN_FAILED,
                               "OpenSSL cannot make a %s digest", signing.scheme->digest);
        signing.input = digest;
        signing.input_size = signing.scheme->digest_size;
    }
    return sign(&signing);
}

enum wire_status request_sign_digest(struct request *request)
{
    struct signing signing = {.request = request,
                              .input = request->wire.payload,
                              .input_size = request->wire.payload_size};
    enum wire_status status = prepare(&signing);
    return status == WIRE_OK ? sign(&signing) : status;
}
