/*
 * provider/decoder.c, by OpenSSL's own interface: in any PEM or DER it finds a key only where
 * there is a reference, which it hands on to the byte.
 */
#include "fuzz.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <string.h>

#include "wire/reference.h"

extern OSSL_provider_init_fn OSSL_provider_init;

/* The DER that the key comes with decodes, and as PEM gives the same key again. */
static int take_key(OSSL_DECODER_INSTANCE *instance, const OSSL_PARAM *params, void *argument)
{
    struct key_reference reference;
    const OSSL_PARAM *data = OSSL_PARAM_locate_const(params, OSSL_OBJECT_PARAM_DATA);
    (void)instance;
    assert(data != NULL && key_reference_decode(data->data, data->data_size, &reference));
    key_reference_clear(&reference);
    BIO *again = argument;
    return again == NULL ||
           PEM_write_bio(again, KEY_REFERENCE_PEM_LABEL, "", data->data, (long)data->data_size) > 0;
}

static void release_nothing(void *argument)
{
    (void)argument;
}

/* A decoding with Immure's decoder alone. */
static OSSL_DECODER_CTX *make_context(void)
{
    OSSL_LIB_CTX *library = OSSL_LIB_CTX_new();
    assert(library != NULL);
    assert(OSSL_PROVIDER_add_builtin(library, "immure", OSSL_provider_init) == 1);
    assert(OSSL_PROVIDER_load(library, "default") != NULL);
    assert(OSSL_PROVIDER_load(library, "immure") != NULL);
    OSSL_DECODER *decoder = OSSL_DECODER_fetch(library, "DER", "provider=immure");
    OSSL_DECODER_CTX *context = OSSL_DECODER_CTX_new();
    assert(decoder != NULL && context != NULL);
    assert(OSSL_DECODER_CTX_add_decoder(context, decoder) == 1);
    assert(OSSL_DECODER_CTX_set_construct(context, take_key) == 1);
    assert(OSSL_DECODER_CTX_set_cleanup(context, release_nothing) == 1);
    return context;
}

static bool decode(OSSL_DECODER_CTX *context, BIO *again, const uint8_t *bytes, size_t size)
{
    assert(OSSL_DECODER_CTX_set_construct_data(context, again) == 1);
    bool found = OSSL_DECODER_from_data(context, &bytes, &size) == 1;
    ERR_clear_error();
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static OSSL_DECODER_CTX *context;
    context = context != NULL ? context : make_context();
    BIO *again = BIO_new(BIO_s_mem());
    assert(again != NULL);
    if (decode(context, again, bytes, size)) {
        uint8_t *pem;
        long pem_size = BIO_get_mem_data(again, &pem);
        assert(decode(context, NULL, pem, (size_t)pem_size));
    }
    BIO_free(again);
    return 0;
}
