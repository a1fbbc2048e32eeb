/*
 * TLS12_RSA_PREMASTER and RSA_DECRYPT: what may be decrypted, and how. What the token gives never
 * leaves this file; see depadding.h for what does.
 */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <string.h>

#include "base/secret.h"
#include "daemon/depadding.h"
#include "daemon/key_operation.h"
#include "daemon/permission.h"
#include "wire/cursor.h"

/* In secret memory. */
struct plaintext {
    uint8_t block[RSA_BLOCK_SIZE_MAX];
    uint8_t probe[RSA_BLOCK_SIZE_MAX]; /* the same of what is decrypted to see the key at work */
};

struct decryption {
    struct request *request;
    enum use use;
    struct keyring_key key;
    EVP_PKEY *public_key;
    const uint8_t *ciphertext;
    size_t size;
    const uint8_t *rejection_key; /* the keyring's; NULL: it has none yet */
    struct plaintext *plaintext;
    bool wrong;                 /* the token did not decrypt the probe */
    char words[KEY_WORDS_SIZE]; /* key_words()'s */
};

static const char *key_words(struct decryption *decryption)
{
    request_key_words(decryption->request, decryption->request->wire.key_id, decryption->words);
    return decryption->words;
}

/* --- What may be decrypted --- */

/* RFC 8017 5.1.2: a ciphertext is a number below the modulus, and as long as it. */
static bool is_ciphertext(const struct decryption *decryption)
{
    BIGNUM *number = BN_bin2bn(decryption->ciphertext, (int)decryption->size, NULL),
           *modulus = NULL;
    bool done =
        number != NULL && decryption->size == (size_t)EVP_PKEY_get_size(decryption->public_key) &&
        EVP_PKEY_get_bn_param(decryption->public_key, OSSL_PKEY_PARAM_RSA_N, &modulus) == 1 &&
        BN_cmp(number, modulus) < 0;
    BN_free(number);
    BN_free(modulus);
    return done;
}

static enum wire_status check_ciphertext(struct decryption *decryption)
{
    struct request *request = decryption->request;
    if (decryption->key.type != KEY_TYPE_RSA)
        return permission_refuse(request, WIRE_UNSUPPORTED_SCHEME, RULE_CIPHERTEXT,
                                 "decryption is not for key %s, which is of type %s",
                                 key_words(decryption), key_type_name(decryption->key.type));
    decryption->public_key = keyring_public_key(request->worker->keyring, request->wire.key_id);
    if (decryption->public_key == NULL)
        return problem_set(&request->problem, WIRE_TOKEN_FAILED, "out of memory");
    if (is_ciphertext(decryption))
        return WIRE_OK;
    return permission_refuse(request, WIRE_MESSAGE_REFUSED, RULE_CIPHERTEXT,
                             "%zu bytes are no ciphertext for key %s of %u bits", decryption->size,
                             key_words(decryption), decryption->key.bits);
}

/* --- Decrypting --- */

static bool has_raw(struct token *token)
{
    return token_has_mechanism(token, CKM_RSA_X_509, CKF_DECRYPT);
}

static enum token_error decrypt_with(struct decryption *decryption, struct token *token,
                                     CK_OBJECT_HANDLE key, const uint8_t *ciphertext,
                                     uint8_t block[RSA_BLOCK_SIZE_MAX])
{
    struct request *request = decryption->request;
    const struct token_ciphertext what = {key, ciphertext, decryption->size};
    return has_raw(token)
               ? token_decrypt_raw(token, &what, request->deadline, block, &request->problem)
               : token_decrypt_pkcs1(token, &what, request->deadline, block, &request->problem);
}

static bool encrypt(EVP_PKEY *public_key, int padding, const uint8_t *input, size_t input_size,
                    uint8_t *output, size_t size)
{
    ERR_set_mark();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, public_key, NULL);
    bool done = context != NULL && EVP_PKEY_encrypt_init(context) == 1 &&
                EVP_PKEY_CTX_set_rsa_padding(context, padding) == 1 &&
                EVP_PKEY_encrypt(context, output, &size, input, input_size) == 1;
    EVP_PKEY_CTX_free(context);
    ERR_pop_to_mark();
    return done;
}

/*
 * What a token is asked to decrypt to see that it is this key which does it, and to make the key's
 * rejection key: the key's challenge, or, where the token takes padded ones alone, its first bytes
 * encrypted.
 */
static bool make_probe(const struct decryption *decryption, bool raw,
                       uint8_t probe[RSA_BLOCK_SIZE_MAX])
{
    uint8_t challenge[RSA_BLOCK_SIZE_MAX];
    const uint8_t *id = decryption->request->wire.key_id;
    if (raw)
        return rejection_challenge(id, probe, decryption->size);
    return rejection_challenge(id, challenge, decryption->size) &&
           encrypt(decryption->public_key, RSA_PKCS1_PADDING, challenge, REJECTION_KEY_SIZE, probe,
                   decryption->size);
}

/* Whether the block is what the key makes of the probe. */
static bool is_response(const struct decryption *decryption, bool raw, const uint8_t *probe,
                        const uint8_t *block)
{
    uint8_t again[RSA_BLOCK_SIZE_MAX], challenge[RSA_BLOCK_SIZE_MAX];
    size_t size = decryption->size;
    if (raw)
        return encrypt(decryption->public_key, RSA_NO_PADDING, block, size, again, size) &&
               memcmp(again, probe, size) == 0;
    return rejection_challenge(decryption->request->wire.key_id, challenge, size) &&
           memcmp(block + size - REJECTION_KEY_SIZE, challenge, REJECTION_KEY_SIZE) == 0;
}

/*
 * A token that takes padded ciphertexts alone would not tell the response, so the rejection key is
 * a random one there.
 */
static enum token_error set_rejection_key(struct decryption *decryption, bool raw,
                                          const uint8_t *response)
{
    struct request *request = decryption->request;
    uint8_t rejection_key[REJECTION_KEY_SIZE];
    bool made = raw ? rejection_key_make(response, decryption->size, rejection_key)
                    : RAND_priv_bytes(rejection_key, sizeof(rejection_key)) == 1;
    if (made)
        decryption->rejection_key = keyring_set_rejection_key(request->worker->keyring,
                                                              request->wire.key_id, rejection_key);
    OPENSSL_cleanse(rejection_key, sizeof(rejection_key));
    if (decryption->rejection_key != NULL)
        return TOKEN_OK;
    return problem_set(
        &request->problem, TOKEN_FAILED,
        "no memory for a secret of key %s: raise LimitMEMLOCK=", key_words(decryption));
}

static enum token_error probe(struct decryption *decryption, struct token *token,
                              CK_OBJECT_HANDLE key)
{
    uint8_t ciphertext[RSA_BLOCK_SIZE_MAX], *block = decryption->plaintext->probe;
    bool raw = has_raw(token);
    if (!make_probe(decryption, raw, ciphertext))
        return problem_set(&decryption->request->problem, TOKEN_FAILED, "out of memory");
    enum token_error error = decrypt_with(decryption, token, key, ciphertext, block);
    if (error != TOKEN_OK)
        return error;
    bool right = is_response(decryption, raw, ciphertext, block);
    if (!right && !raw) /* it need not be the key: see token_decrypt_pkcs1() */
        return problem_set(&decryption->request->problem, TOKEN_FAILED,
                           "what was encrypted for key %s was not decrypted",
                           key_words(decryption));
    decryption->wrong = !right;
    if (decryption->wrong || decryption->rejection_key != NULL)
        return TOKEN_OK;
    return set_rejection_key(decryption, raw, block);
}

/*
 * A handle may have come to name another key, and what that one makes of a ciphertext looks like
 * wrong padding. So the key is seen at work whenever its handle is not known to be right.
 */
static enum token_error perform(struct key_operation *operation, struct token *token,
                                const struct key_place *place)
{
    struct decryption *decryption = operation->context;
    enum token_error error = decrypt_with(decryption, token, place->handle, decryption->ciphertext,
                                          decryption->plaintext->block);
    bool known = place->verified && token_sessions_opened(token) == place->sessions;
    if (error != TOKEN_OK || (known && decryption->rejection_key != NULL))
        return error;
    return probe(decryption, token, place->handle);
}

static enum token_error check(struct key_operation *operation, size_t index, uint64_t epoch)
{
    struct decryption *decryption = operation->context;
    if (decryption->wrong) {
        decryption->wrong = false; /* of this token; the next one may be right */
        return key_operation_wrong(operation, index, epoch, "decrypted wrongly");
    }
    key_operation_right(operation, index);
    return TOKEN_OK;
}

/* --- The two operations --- */

static enum wire_status decrypt(struct decryption *decryption)
{
    struct request *request = decryption->request;
    enum wire_status status = permission_of_key(request, &decryption->key);
    if (status == WIRE_OK)
        status = check_ciphertext(decryption);
    if (status == WIRE_OK)
        status = permission_to_use(request, &decryption->key, decryption->use);
    if (status != WIRE_OK)
        return status;
    decryption->plaintext = secret_alloc(sizeof(*decryption->plaintext));
    if (decryption->plaintext == NULL)
        return problem_set(&request->problem, WIRE_TOKEN_FAILED,
                           "no memory for what is decrypted: raise LimitMEMLOCK=");
    decryption->rejection_key =
        keyring_rejection_key(request->worker->keyring, request->wire.key_id);
    struct key_operation operation = {.request = request,
                                      .key = &decryption->key,
                                      .perform = perform,
                                      .check = check,
                                      .context = decryption};
    return key_operation_run(&operation);
}

static void clear(struct decryption *decryption)
{
    secret_free(decryption->plaintext, sizeof(*decryption->plaintext));
    EVP_PKEY_free(decryption->public_key);
}

static struct padded padded_of(const struct decryption *decryption)
{
    return (struct padded){decryption->plaintext->block, decryption->ciphertext, decryption->size,
                           decryption->rejection_key};
}

/* The reply's payload is `size` bytes, if they were `made`. */
static enum wire_status finish(struct request *request, bool made, size_t size)
{
    if (!made)
        return problem_set(&request->problem, WIRE_TOKEN_FAILED, "OpenSSL cannot make an HMAC");
    request->payload_size = size;
    return WIRE_OK;
}

enum wire_status request_tls12_rsa_premaster(struct request *request)
{
    struct reader reader = reader_of(request->wire.payload, request->wire.payload_size);
    uint16_t version = reader_u16(&reader);
    struct decryption decryption = {.request = request,
                                    .use = USE_TLS12_RSA_DECRYPT,
                                    .ciphertext = reader.at,
                                    .size = reader.left};
    enum wire_status status = decrypt(&decryption);
    if (status == WIRE_OK) {
        const struct padded padded = padded_of(&decryption);
        bool made = depad_premaster(&padded, version, request->payload);
        status = finish(request, made, PREMASTER_SIZE);
    }
    clear(&decryption);
    return status;
}

enum wire_status request_rsa_decrypt(struct request *request)
{
    struct decryption decryption = {.request = request,
                                    .use = USE_DECRYPT,
                                    .ciphertext = request->wire.payload,
                                    .size = request->wire.payload_size};
    size_t size = 0;
    enum wire_status status = decrypt(&decryption);
    if (status == WIRE_OK) {
        const struct padded padded = padded_of(&decryption);
        bool made = depad_message(&padded, request->payload, &size);
        status = finish(request, made, size);
    }
    clear(&decryption);
    return status;
}
