#include "cli/keys.h"

#include <ctype.h>
#include <openssl/asn1.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/key_kind.h"
#include "cli/report.h"
#include "wire/reference.h"

/* --- Finding --------------------------------------------------------------------------------- */

struct search {
    struct found_keys *found;
    struct token *token;
    const char *id; /* only this key id, in hexadecimal, or NULL */
};

static bool found_keys_reserve(struct found_keys *found)
{
    if (found->count < found->capacity)
        return true;
    size_t capacity = 2 * found->capacity + 8;
    struct found_key *items = reallocarray(found->items, capacity, sizeof(*items));
    if (items == NULL)
        return false;
    found->items = items;
    found->capacity = capacity;
    return true;
}

bool found_keys_add(struct found_keys *found, struct token *token, const struct token_key *key)
{
    uint8_t *spki = malloc(key->spki_size);
    if (spki == NULL || !found_keys_reserve(found)) {
        free(spki);
        found->out_of_memory = true;
        return false;
    }
    memcpy(spki, key->spki, key->spki_size);
    struct found_key *item = &found->items[found->count++];
    *item = (struct found_key){token, *key, spki};
    item->key.spki = spki;
    return true;
}

static bool add_if_wanted(const struct token_key *key, void *context)
{
    const struct search *search = context;
    char id[KEY_ID_TEXT_SIZE];
    hex_encode(key->id, KEY_ID_SIZE, id);
    if (search->id != NULL && strcasecmp(search->id, id) != 0)
        return true;
    return found_keys_add(search->found, search->token, key);
}

static void find_on_token(const struct token_key_query *query, struct search *search)
{
    struct problem problem;
    unsigned unusable = 0;
    enum token_error error = token_find_keys(search->token, query, clock_now_ms() + CLI_DEADLINE_MS,
                                             add_if_wanted, search, &unusable, &problem);
    search->found->unusable += unusable;
    if (error == TOKEN_OK)
        return;
    report_warning("%s", problem.text);
    search->found->failed_tokens++;
}

static enum exit_status find_keys(const struct tokens *tokens, const struct token_key_query *query,
                                  const char *id, struct found_keys *found)
{
    for (size_t i = 0; i < tokens->count && !found->out_of_memory; i++) {
        struct search search = {found, tokens->opened[i], id};
        find_on_token(query, &search);
    }
    if (found->out_of_memory)
        return report_failure("out of memory");
    if (found->failed_tokens == tokens->count)
        return report_failure("no token could be searched for keys");
    return STATUS_OK;
}

enum exit_status keys_find(const struct tokens *tokens, const struct token_key_query *query,
                           struct found_keys *found)
{
    return find_keys(tokens, query, NULL, found);
}

static bool is_key_id(const char *name)
{
    return strlen(name) == KEY_ID_TEXT_SIZE - 1 &&
           strspn(name, "0123456789abcdefABCDEF") == KEY_ID_TEXT_SIZE - 1;
}

static enum exit_status report_not_found(const struct tokens *tokens,
                                         const struct found_keys *found, const char *name)
{
    if (found->unusable > 0 && !is_key_id(name))
        return report_failure("key \"%s\" cannot be used: the token has its private key, but not "
                              "its public key (an object with the same CKA_ID)",
                              name);
    if (tokens->missing + found->failed_tokens > 0)
        return report_failure("no key \"%s\" on the tokens that could be searched; see the "
                              "warnings above",
                              name);
    return report_failure("there is no key \"%s\"; 'immure key list' shows the keys", name);
}

static enum exit_status report_ambiguous(const struct found_keys *found, const char *name)
{
    report_failure("\"%s\" names several keys; give the key id instead of the name:", name);
    for (size_t i = 0; i < found->count; i++) {
        const struct token_key *key = &found->items[i].key;
        char id[KEY_ID_TEXT_SIZE], type[KEY_TYPE_TEXT_SIZE];
        hex_encode(key->id, KEY_ID_SIZE, id);
        key_type_text(key->type, key->bits, type);
        report_note("  %s  %s on token %s", id, type, token_name(found->items[i].token));
    }
    return STATUS_FAILED;
}

enum exit_status keys_find_named(const struct tokens *tokens, const char *name,
                                 struct found_keys *found)
{
    bool by_id = is_key_id(name);
    struct token_key_query query = {.label = by_id ? NULL : name};
    enum exit_status status = find_keys(tokens, &query, by_id ? name : NULL, found);
    if (status != STATUS_OK)
        return status;
    if (found->count == 0)
        return report_not_found(tokens, found, name);
    for (size_t i = 1; i < found->count; i++) {
        if (memcmp(found->items[i].key.id, found->items[0].key.id, KEY_ID_SIZE) != 0)
            return report_ambiguous(found, name);
    }
    return STATUS_OK;
}

enum exit_status key_name_unused(const struct tokens *tokens, const char *name)
{
    struct found_keys found = {0};
    struct token_key_query query = {.label = name};
    enum exit_status status = keys_find(tokens, &query, &found);
    if (status == STATUS_OK && found.count + found.unusable > 0)
        status = report_failure("token %s has a key \"%s\" already; choose another name, or see "
                                "'immure key show'",
                                token_name(tokens->opened[0]), name);
    found_keys_clear(&found);
    return status;
}

void found_keys_clear(struct found_keys *found)
{
    for (size_t i = 0; i < found->count; i++)
        free(found->items[i].spki);
    free(found->items);
    *found = (struct found_keys){0};
}

/* --- Order ----------------------------------------------------------------------------------- */

static int compare_keys(const void *left, const void *right)
{
    const struct found_key *one = left, *other = right;
    int order = strcmp(one->key.label, other->key.label);
    if (order == 0)
        order = memcmp(one->key.id, other->key.id, KEY_ID_SIZE);
    return order != 0 ? order : strcmp(token_name(one->token), token_name(other->token));
}

void keys_sort(struct found_keys *found)
{
    if (found->count > 0)
        qsort(found->items, found->count, sizeof(*found->items), compare_keys);
}

bool keys_are_same(const struct found_key *one, const struct found_key *other)
{
    return strcmp(one->key.label, other->key.label) == 0 &&
           memcmp(one->key.id, other->key.id, KEY_ID_SIZE) == 0;
}

/* --- Names ----------------------------------------------------------------------------------- */

static bool is_plain_utf8(const char *text)
{
    int left = (int)strlen(text);
    while (left > 0) {
        unsigned long character;
        int used = UTF8_getc((const unsigned char *)text, left, &character);
        /* C0 and C1 control characters */
        if (used <= 0 || character < 0x20 || (character >= 0x7f && character < 0xa0))
            return false;
        text += used;
        left -= used;
    }
    return true;
}

enum exit_status key_name_check(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length > KEY_NAME_SIZE_MAX)
        return report_usage("a key's name has 1 to %d bytes, this one %zu", KEY_NAME_SIZE_MAX,
                            length);
    if (!is_plain_utf8(name))
        return report_usage("\"%s\" is no name for a key: use UTF-8 without control characters",
                            name);
    if (name[0] == '/')
        return report_usage("\"%s\" is no name for a key: it would be taken for a path", name);
    if (is_key_id(name))
        return report_usage("\"%s\" is no name for a key: it would be taken for a key id", name);
    return STATUS_OK;
}

const char *key_display_name(const struct token_key *key, char buffer[KEY_ID_TEXT_SIZE])
{
    if (key->label[0] != '\0')
        return key->label;
    hex_encode(key->id, KEY_ID_SIZE, buffer);
    return buffer;
}

const char *shell_quote(const char *name, char buffer[SHELL_NAME_SIZE])
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "._@:+-";
    if (name[0] != '-' && name[0] != '\0' && strspn(name, plain) == strlen(name))
        return name;
    char *to = buffer;
    *to++ = '\'';
    for (; *name != '\0' && to < buffer + SHELL_NAME_SIZE - 6; name++) {
        if (*name == '\'')
            to = mempcpy(to, "'\\''", 4);
        else
            *to++ = *name;
    }
    *to++ = '\'';
    *to = '\0';
    return buffer;
}

/* --- Use ------------------------------------------------------------------------------------- */

EVP_PKEY *key_public(const struct token_key *key)
{
    const unsigned char *at = key->spki;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)key->spki_size);
    if (pkey == NULL)
        report_openssl(key_type_is_ml_dsa(key->type) ? "ML-DSA needs OpenSSL 3.5 or later"
                                                     : "cannot read the public key");
    return pkey;
}

enum exit_status key_sign(const struct found_key *key, const uint8_t *message, size_t message_size,
                          uint8_t signature[SIGNATURE_SIZE_MAX], size_t *size)
{
    const struct scheme *scheme = key_signing_of(key->key.type, key->key.bits).scheme;
    uint8_t digest[SCHEME_DIGEST_SIZE_MAX];
    size_t digest_size = 0;
    struct problem problem;

    if (scheme == NULL)
        return report_failure("keys of this kind do not sign here");
    if (scheme->digest != NULL) {
        if (!EVP_Q_digest(NULL, scheme->digest, NULL, message, message_size, digest, &digest_size))
            return report_openssl("cannot hash");
        message = digest;
        message_size = digest_size;
    }
    struct token_signing_key signing_key = {key->key.handle, key->key.type, key->key.bits};
    if (token_sign(key->token, &signing_key, scheme, message, message_size,
                   clock_now_ms() + CLI_DEADLINE_MS, signature, size, &problem) != TOKEN_OK)
        return report_failure("%s", problem.text);
    return STATUS_OK;
}
