/*
 * Decoders (provider-decoder(7)) of key references: PEM, as in a file, to DER; and DER, from
 * there or from store.c, to a key. OpenSSL selects the latter by the key's type, so there is one
 * for each, and each passes over what is not its own.
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

/* The structure= of a reference, between the two kinds of decoders. */
#define REFERENCE_STRUCTURE "ImmureKeyReference"

static OSSL_FUNC_decoder_newctx_fn pem_newctx, rsa_newctx, ec_newctx, ed25519_newctx;
static OSSL_FUNC_decoder_freectx_fn decoder_freectx;
static OSSL_FUNC_decoder_does_selection_fn decoder_does_selection;
static OSSL_FUNC_decoder_decode_fn decode_pem, decode_der;

struct decoder {
    struct provider *provider;
    enum key_type type; /* of the keys it makes; not used for PEM */
};

static void *decoder_newctx(void *provctx, enum key_type type)
{
    struct decoder *decoder = OPENSSL_zalloc(sizeof(*decoder));
    if (decoder == NULL)
        return NULL;
    decoder->provider = provctx;
    decoder->type = type;
    return decoder;
}

static void *pem_newctx(void *provctx)
{
    return decoder_newctx(provctx, KEY_TYPE_RSA);
}

static void *rsa_newctx(void *provctx)
{
    return decoder_newctx(provctx, KEY_TYPE_RSA);
}

static void *ec_newctx(void *provctx)
{
    return decoder_newctx(provctx, KEY_TYPE_EC);
}

static void *ed25519_newctx(void *provctx)
{
    return decoder_newctx(provctx, KEY_TYPE_ED25519);
}

static void decoder_freectx(void *context)
{
    OPENSSL_free(context);
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

/*
 * Hands the key to OpenSSL, which has our key management take it with keymgmt_load(). What is no
 * reference, or another decoder's, is passed over (1).
 */
static int deliver_key(const struct decoder *decoder, const uint8_t *der, size_t size,
                       OSSL_CALLBACK *callback, void *argument)
{
    const char *damaged;
    struct key *key = key_of_reference(decoder->provider, der, size, &damaged);
    if (key == NULL && damaged != NULL)
        return raise_damaged(decoder->provider, damaged);
    if (key == NULL || key->type != decoder->type) {
        key_free(key);
        return 1;
    }

    int object = OSSL_OBJECT_PKEY;
    char *type = (char *)key_type_name(key->type); /* not changed: OSSL_PARAM has no const */
    OSSL_PARAM params[] = {
        OSSL_PARAM_int(OSSL_OBJECT_PARAM_TYPE, &object),
        OSSL_PARAM_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE, type, strlen(type)),
        OSSL_PARAM_octet_string(OSSL_OBJECT_PARAM_REFERENCE, &key, sizeof(key)),
        OSSL_PARAM_END,
    };
    int done = callback(params, argument);
    key_free(key); /* NULL once it was taken */
    return done;
}

static int decode_der(void *context, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *callback,
                      void *argument, OSSL_PASSPHRASE_CALLBACK *passphrase, void *pass_argument)
{
    const struct decoder *decoder = context;
    int result = 1;
    size_t size = 0;
    (void)selection, (void)passphrase, (void)pass_argument;

    BIO *bio = BIO_new_from_core_bio(decoder->provider->libctx, in);
    uint8_t *der = OPENSSL_malloc(KEY_REFERENCE_SIZE_MAX);
    if (bio != NULL && der != NULL) {
        int got;
        while (size < KEY_REFERENCE_SIZE_MAX &&
               (got = BIO_read(bio, der + size, (int)(KEY_REFERENCE_SIZE_MAX - size))) > 0)
            size += (size_t)got;
        result = deliver_key(decoder, der, size, callback, argument);
    }
    OPENSSL_free(der);
    BIO_free(bio);
    return result;
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

int reference_deliver(uint8_t *der, size_t size, OSSL_CALLBACK *callback, void *argument,
                      const char **damaged)
{
    struct key_reference reference;
    enum key_type type;
    *damaged = "it is not the DER of a reference";
    if (!key_reference_decode(der, size, &reference))
        return 0;
    *damaged = "its public key is of no supported type";
    bool known = key_type_of_spki(reference.spki, reference.spki_size, &type);
    key_reference_clear(&reference);
    if (!known)
        return 0;

    char *type_name = (char *)key_type_name(type); /* not changed: OSSL_PARAM has no const */
    char structure[] = REFERENCE_STRUCTURE;
    int object = OSSL_OBJECT_PKEY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_int(OSSL_OBJECT_PARAM_TYPE, &object),
        OSSL_PARAM_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE, type_name, strlen(type_name)),
        OSSL_PARAM_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE, structure, strlen(structure)),
        OSSL_PARAM_octet_string(OSSL_OBJECT_PARAM_DATA, der, size),
        OSSL_PARAM_END,
    };
    *damaged = NULL;
    return callback(params, argument);
}

static int deliver_der(const struct provider *provider, uint8_t *der, size_t size,
                       OSSL_CALLBACK *callback, void *argument)
{
    const char *damaged;
    int result = reference_deliver(der, size, callback, argument, &damaged);
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

static int decode_pem(void *context, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *callback,
                      void *argument, OSSL_PASSPHRASE_CALLBACK *passphrase, void *pass_argument)
{
    const struct decoder *decoder = context;
    char label[LINE_SIZE];
    int result = 1;
    (void)selection, (void)passphrase, (void)pass_argument;

    BIO *bio = BIO_new_from_core_bio(decoder->provider->libctx, in);
    BIO *block = BIO_new(BIO_s_secmem());
    if (bio != NULL && block != NULL && read_block(bio, block, label))
        result = decode_block(decoder->provider, block, label, callback, argument);
    BIO_free(block);
    BIO_free(bio);
    return result;
}

#define DECODER(type, format)                                                                      \
    static const OSSL_DISPATCH type##_decoder[] = {                                                \
        {OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))type##_newctx},                                 \
        {OSSL_FUNC_DECODER_FREECTX, (void (*)(void))decoder_freectx},                              \
        {OSSL_FUNC_DECODER_DOES_SELECTION, (void (*)(void))decoder_does_selection},                \
        {OSSL_FUNC_DECODER_DECODE, (void (*)(void))decode_##format},                               \
        {0, NULL},                                                                                 \
    }

DECODER(pem, pem);
DECODER(rsa, der);
DECODER(ec, der);
DECODER(ed25519, der);

#define PEM_INPUT PROPERTIES ",input=pem"
#define DER_INPUT PROPERTIES ",input=der,structure=" REFERENCE_STRUCTURE

const OSSL_ALGORITHM decoder_algorithms[] = {
    {"DER", PEM_INPUT, pem_decoder, "Immure key reference in PEM"},
    {"RSA", DER_INPUT, rsa_decoder, "Immure key reference, RSA"},
    {"EC", DER_INPUT, ec_decoder, "Immure key reference, EC"},
    {"ED25519", DER_INPUT, ed25519_decoder, "Immure key reference, Ed25519"},
    {NULL, NULL, NULL, NULL},
};
