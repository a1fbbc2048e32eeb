/*
 * The decoder (provider-decoder(7)) of key references. OpenSSL collects all decoders anew for each
 * key that it loads, ours or not, in a time that grows with the square of their number; so there is
 * one, and it goes from PEM to the key in one step.
 *
 * That works where OpenSSL wants a key. Its store instead takes the DER (an object reference is
 * of use to it only with the key management that it fetches first, the default provider's), and
 * looks for decoders of that, whatever their input: the same one, which reads DER as well.
 */
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <string.h>

#include "provider/provider.h"

/* A reference in base64 with its armour; longer blocks are not ours. */
#define PEM_BLOCK_SIZE_MAX (2 * KEY_REFERENCE_SIZE_MAX)
/* PEM lines have 64 characters (RFC 7468 2), explanatory text may have more. */
#define LINE_SIZE 512

#define PEM_BEGIN  "-----BEGIN "
#define PEM_END    "-----END "
#define PEM_DASHES "-----"

/* The structure= of a reference's DER. */
#define REFERENCE_STRUCTURE "ImmureKeyReference"

static OSSL_FUNC_decoder_newctx_fn decoder_newctx;
static OSSL_FUNC_decoder_freectx_fn decoder_freectx;
static OSSL_FUNC_decoder_does_selection_fn decoder_does_selection;
static OSSL_FUNC_decoder_decode_fn decoder_decode;

/* There is nothing to keep: the provider is the context. */
static void *decoder_newctx(void *provctx)
{
    return provctx;
}

static void decoder_freectx(void *context)
{
    (void)context;
}

static int decoder_does_selection(void *provctx, int selection)
{
    (void)provctx;
    return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

static int raise_damaged(const struct provider *provider, const char *how)
{
    PROVIDER_RAISE(provider, REASON_REFERENCE_DAMAGED,
                   "%s; write it anew with: immure key reference NAME -o FILE", how);
    return 0;
}

/* The label in what follows "-----BEGIN ". */
static void read_label(const char *text, char label[LINE_SIZE])
{
    snprintf(label, LINE_SIZE, "%.*s", (int)strcspn(text, "\r\n"), text);
    char *dashes = strstr(label, PEM_DASHES);
    if (dashes != NULL)
        *dashes = '\0';
}

/*
 * Reads up to and with the end of the next PEM block and keeps its lines in `block`, unless it
 * grows too long to be ours. True if there was one.
 */
static bool read_block(BIO *in, BIO *block, char label[LINE_SIZE])
{
    char line[LINE_SIZE];
    size_t kept = 0;
    bool ended = false;

    label[0] = '\0';
    while (!ended && BIO_gets(in, line, sizeof(line)) > 0) {
        if (label[0] == '\0' && strncmp(line, PEM_BEGIN, strlen(PEM_BEGIN)) == 0)
            read_label(line + strlen(PEM_BEGIN), label);
        if (label[0] == '\0')
            continue;
        kept += strlen(line);
        if (kept <= PEM_BLOCK_SIZE_MAX)
            BIO_puts(block, line);
        ended = strncmp(line, PEM_END, strlen(PEM_END)) == 0;
    }
    OPENSSL_cleanse(line, sizeof(line)); /* of somebody's private key, perhaps */
    return label[0] != '\0';
}

int reference_deliver(struct provider *provider, uint8_t *der, size_t size, OSSL_CALLBACK *callback,
                      void *argument, const char **damaged)
{
    struct key *key = key_of_reference(provider, der, size, damaged);
    if (key == NULL)
        return 0;
    struct key_pointer pointer = {.key = key};
    char *type = (char *)key_type_name(key->type); /* not changed: OSSL_PARAM has no const */
    char structure[] = REFERENCE_STRUCTURE;
    OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE, type, strlen(type)),
        OSSL_PARAM_octet_string(OSSL_OBJECT_PARAM_REFERENCE, &pointer, sizeof(pointer)),
        OSSL_PARAM_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE, structure, strlen(structure)),
        OSSL_PARAM_octet_string(OSSL_OBJECT_PARAM_DATA, der, size),
        OSSL_PARAM_END,
    };
    int done = callback(params, argument);
    key_free(pointer.key); /* NULL once it was taken */
    return done;
}

static int deliver_der(struct provider *provider, uint8_t *der, size_t size,
                       OSSL_CALLBACK *callback, void *argument)
{
    const char *damaged;
    int result = reference_deliver(provider, der, size, callback, argument, &damaged);
    return damaged == NULL ? result : raise_damaged(provider, damaged);
}

static int raise_label(const struct provider *provider, const char *label)
{
    PROVIDER_RAISE(provider, REASON_REFERENCE_LABEL,
                   "it is '%s' and must be '" KEY_REFERENCE_PEM_LABEL "'", label);
    return 0;
}

static bool is_reference(const uint8_t *der, size_t size)
{
    struct key_reference reference;
    if (!key_reference_decode(der, size, &reference))
        return false;
    key_reference_clear(&reference);
    return true;
}

/* What is not ours is passed over without an error (1): other decoders have their turn. */
static int decode_block(struct provider *provider, BIO *block, const char *label,
                        OSSL_CALLBACK *callback, void *argument)
{
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long size = 0;
    int result = 1;

    ERR_set_mark();
    bool whole = PEM_read_bio(block, &name, &header, &der, &size) == 1;
    ERR_pop_to_mark();
    if (strcmp(label, KEY_REFERENCE_PEM_LABEL) == 0)
        result = whole ? deliver_der(provider, der, (size_t)size, callback, argument)
                       : raise_damaged(provider, "its base64 text is not whole");
    else if (strncmp(label, "IMMURE", strlen("IMMURE")) == 0 ||
             (whole && is_reference(der, (size_t)size)))
        result = raise_label(provider, label);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(der, (size_t)size); /* a private key, if it was not ours */
    return result;
}

static int decode_pem(struct provider *provider, BIO *in, OSSL_CALLBACK *callback, void *argument)
{
    char label[LINE_SIZE];
    int result = 1;
    BIO *block = BIO_new(BIO_s_secmem());
    if (block != NULL && read_block(in, block, label))
        result = decode_block(provider, block, label, callback, argument);
    BIO_free(block);
    return result;
}

static int decode_der(struct provider *provider, BIO *in, OSSL_CALLBACK *callback, void *argument)
{
    int result = 1;
    uint8_t *der = OPENSSL_malloc(KEY_REFERENCE_SIZE_MAX);
    int size = der != NULL ? BIO_read(in, der, KEY_REFERENCE_SIZE_MAX) : 0;
    if (size > 0 && is_reference(der, (size_t)size))
        result = deliver_der(provider, der, (size_t)size, callback, argument);
    OPENSSL_clear_free(der, KEY_REFERENCE_SIZE_MAX); /* a private key, if it was not ours */
    return result;
}

static bool is_der(BIO *in)
{
    uint8_t first = 0;
    int position = BIO_tell(in);
    return position >= 0 && BIO_read(in, &first, 1) == 1 && BIO_seek(in, position) >= 0 &&
           first == (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED);
}

static int decoder_decode(void *context, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *callback,
                          void *argument, OSSL_PASSPHRASE_CALLBACK *passphrase, void *pass_argument)
{
    struct provider *provider = context;
    (void)passphrase;
    (void)pass_argument;
    if (!decoder_does_selection(provider, selection))
        return 1;

    BIO *bio = BIO_new_from_core_bio(provider->libctx, in);
    int result = 1;
    if (bio != NULL)
        result = (is_der(bio) ? decode_der : decode_pem)(provider, bio, callback, argument);
    BIO_free(bio);
    return result;
}

static const OSSL_DISPATCH decoder_functions[] = {
    {OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))decoder_newctx},
    {OSSL_FUNC_DECODER_FREECTX, (void (*)(void))decoder_freectx},
    {OSSL_FUNC_DECODER_DOES_SELECTION, (void (*)(void))decoder_does_selection},
    {OSSL_FUNC_DECODER_DECODE, (void (*)(void))decoder_decode},
    {0, NULL},
};

const OSSL_ALGORITHM decoder_algorithms[] = {
    {"DER", PROPERTIES ",input=pem", decoder_functions, "Immure key reference"},
    {NULL, NULL, NULL, NULL},
};
