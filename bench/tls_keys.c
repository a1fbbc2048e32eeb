#include "tls_keys.h"

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <string.h>

#include "wire/cursor.h"

#define TYPE_PROTECTED 23     /* application_data, as which every protected record goes */
#define VERSION        0x0303 /* in a record's header */
#define HKDF_LABEL_MAX 80     /* bytes of an HkdfLabel with the labels used here and a hash */
#define LABEL_PREFIX   "tls13 "
static const uint8_t ZEROS[TLS_HASH_SIZE];

static EVP_MAC_CTX *new_hmac(void)
{
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0), OSSL_PARAM_END};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac);
    if (context != NULL && EVP_MAC_CTX_set_params(context, parameters) != 1) {
        EVP_MAC_CTX_free(context);
        return NULL;
    }
    return context;
}

/* HKDF-Extract of RFC 5869 is this as well, with the salt as its key. */
static bool hmac(struct tls_crypto *crypto, const uint8_t key[TLS_HASH_SIZE], const uint8_t *bytes,
                 size_t size, uint8_t result[TLS_HASH_SIZE])
{
    size_t written = 0;
    return EVP_MAC_init(crypto->hmac, key, TLS_HASH_SIZE, NULL) == 1 &&
           EVP_MAC_update(crypto->hmac, bytes, size) == 1 &&
           EVP_MAC_final(crypto->hmac, result, &written, TLS_HASH_SIZE) == 1;
}

/* HKDF-Expand-Label (RFC 8446 7.1) of at most one hash, which one HMAC makes. */
static bool expand(struct tls_crypto *crypto, const uint8_t secret[TLS_HASH_SIZE],
                   const char *label, const uint8_t *context, size_t context_size, uint8_t *result,
                   size_t size)
{
    uint8_t info[HKDF_LABEL_MAX], block[TLS_HASH_SIZE];
    struct writer writer = writer_of(info, sizeof(info));
    writer_u16(&writer, (uint16_t)size);
    writer_u8(&writer, (uint8_t)(strlen(LABEL_PREFIX) + strlen(label)));
    writer_bytes(&writer, LABEL_PREFIX, strlen(LABEL_PREFIX));
    writer_bytes(&writer, label, strlen(label));
    writer_u8(&writer, (uint8_t)context_size);
    writer_bytes(&writer, context, context_size);
    writer_u8(&writer, 1); /* HKDF-Expand's counter */
    if (writer.failed || !hmac(crypto, secret, info, writer.used, block))
        return false;
    memcpy(result, block, size);
    return true;
}

static bool derive(struct tls_crypto *crypto, const uint8_t secret[TLS_HASH_SIZE],
                   const char *label, const uint8_t hash[TLS_HASH_SIZE],
                   uint8_t result[TLS_HASH_SIZE])
{
    return expand(crypto, secret, label, hash, TLS_HASH_SIZE, result, TLS_HASH_SIZE);
}

static bool traffic_keys(struct tls_crypto *crypto, const uint8_t secret[TLS_HASH_SIZE],
                         const char *label, const uint8_t hash[TLS_HASH_SIZE],
                         struct tls_traffic *traffic)
{
    traffic->sequence = 0;
    return derive(crypto, secret, label, hash, traffic->secret) &&
           expand(crypto, traffic->secret, "key", NULL, 0, traffic->key, TLS_KEY_SIZE) &&
           expand(crypto, traffic->secret, "iv", NULL, 0, traffic->iv, TLS_IV_SIZE);
}

bool tls_crypto_init(struct tls_crypto *crypto)
{
    uint8_t early[TLS_HASH_SIZE];
    *crypto = (struct tls_crypto){
        .sha256 = EVP_MD_fetch(NULL, "SHA256", NULL),
        .scratch = EVP_MD_CTX_new(),
        .hmac = new_hmac(),
        .aes = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL),
        .seal = EVP_CIPHER_CTX_new(),
        .open = EVP_CIPHER_CTX_new(),
    };
    return crypto->sha256 != NULL && crypto->scratch != NULL && crypto->hmac != NULL &&
           crypto->aes != NULL && crypto->seal != NULL && crypto->open != NULL &&
           EVP_EncryptInit_ex2(crypto->seal, crypto->aes, NULL, NULL, NULL) == 1 &&
           EVP_DecryptInit_ex2(crypto->open, crypto->aes, NULL, NULL, NULL) == 1 &&
           EVP_Digest("", 0, crypto->empty_hash, NULL, crypto->sha256, NULL) == 1 &&
           hmac(crypto, ZEROS, ZEROS, sizeof(ZEROS), early) &&
           derive(crypto, early, "derived", crypto->empty_hash, crypto->early_derived);
}

void tls_crypto_free(struct tls_crypto *crypto)
{
    EVP_MD_free(crypto->sha256);
    EVP_MD_CTX_free(crypto->scratch);
    EVP_MAC_CTX_free(crypto->hmac);
    EVP_CIPHER_free(crypto->aes);
    EVP_CIPHER_CTX_free(crypto->seal);
    EVP_CIPHER_CTX_free(crypto->open);
}

bool tls_transcript_hash(struct tls_crypto *crypto, const EVP_MD_CTX *transcript,
                         uint8_t hash[TLS_HASH_SIZE])
{
    return EVP_MD_CTX_copy_ex(crypto->scratch, transcript) == 1 &&
           EVP_DigestFinal_ex(crypto->scratch, hash, NULL) == 1;
}

bool tls_handshake_keys(struct tls_crypto *crypto, const uint8_t shared[TLS_HASH_SIZE],
                        const uint8_t hash[TLS_HASH_SIZE], struct tls_traffic *client,
                        struct tls_traffic *server, uint8_t master[TLS_HASH_SIZE])
{
    uint8_t handshake[TLS_HASH_SIZE], derived[TLS_HASH_SIZE];
    return hmac(crypto, crypto->early_derived, shared, TLS_HASH_SIZE, handshake) &&
           traffic_keys(crypto, handshake, "c hs traffic", hash, client) &&
           traffic_keys(crypto, handshake, "s hs traffic", hash, server) &&
           derive(crypto, handshake, "derived", crypto->empty_hash, derived) &&
           hmac(crypto, derived, ZEROS, sizeof(ZEROS), master);
}

bool tls_application_keys(struct tls_crypto *crypto, const uint8_t master[TLS_HASH_SIZE],
                          const uint8_t hash[TLS_HASH_SIZE], struct tls_traffic *client,
                          struct tls_traffic *server)
{
    return traffic_keys(crypto, master, "c ap traffic", hash, client) &&
           traffic_keys(crypto, master, "s ap traffic", hash, server);
}

bool tls_finished(struct tls_crypto *crypto, const struct tls_traffic *traffic,
                  const uint8_t hash[TLS_HASH_SIZE], uint8_t verify[TLS_HASH_SIZE])
{
    uint8_t key[TLS_HASH_SIZE];
    return expand(crypto, traffic->secret, "finished", NULL, 0, key, sizeof(key)) &&
           hmac(crypto, key, hash, TLS_HASH_SIZE, verify);
}

/* RFC 8446 5.3: the sequence number, big-endian, over the last bytes of the IV. */
static void next_nonce(struct tls_traffic *traffic, uint8_t nonce[TLS_IV_SIZE])
{
    uint64_t sequence = traffic->sequence++;
    memcpy(nonce, traffic->iv, TLS_IV_SIZE);
    for (size_t i = TLS_IV_SIZE; sequence != 0; sequence >>= 8)
        nonce[--i] ^= (uint8_t)sequence;
}

bool tls_seal(struct tls_crypto *crypto, struct tls_traffic *traffic, uint8_t type,
              const uint8_t *content, size_t size, uint8_t *record)
{
    uint8_t nonce[TLS_IV_SIZE], *text = record + TLS_HEADER_SIZE;
    struct writer header = writer_of(record, TLS_HEADER_SIZE);
    int written = 0;
    writer_u8(&header, TYPE_PROTECTED);
    writer_u16(&header, VERSION);
    writer_u16(&header, (uint16_t)(size + 1 + TLS_TAG_SIZE));
    memcpy(text, content, size);
    text[size++] = type;
    next_nonce(traffic, nonce);
    return EVP_EncryptInit_ex2(crypto->seal, NULL, traffic->key, nonce, NULL) == 1 &&
           EVP_EncryptUpdate(crypto->seal, NULL, &written, record, TLS_HEADER_SIZE) == 1 &&
           EVP_EncryptUpdate(crypto->seal, text, &written, text, (int)size) == 1 &&
           EVP_EncryptFinal_ex(crypto->seal, text + size, &written) == 1 &&
           EVP_CIPHER_CTX_ctrl(crypto->seal, EVP_CTRL_AEAD_GET_TAG, TLS_TAG_SIZE, text + size) == 1;
}

/* TLSInnerPlaintext (RFC 8446 5.2): the content, its type, zeros. */
static bool split_inner(const uint8_t *text, size_t size, uint8_t *type, size_t *content_size)
{
    while (size > 0 && text[size - 1] == 0)
        size--;
    if (size == 0)
        return false;
    *content_size = size - 1;
    *type = text[size - 1];
    return true;
}

bool tls_open(struct tls_crypto *crypto, struct tls_traffic *traffic, uint8_t *record, size_t size,
              uint8_t *type, size_t *content_size)
{
    uint8_t nonce[TLS_IV_SIZE], *text = record + TLS_HEADER_SIZE;
    int written = 0;
    if (size < TLS_RECORD_OVERHEAD)
        return false;
    size -= TLS_HEADER_SIZE + TLS_TAG_SIZE;
    next_nonce(traffic, nonce);
    return EVP_DecryptInit_ex2(crypto->open, NULL, traffic->key, nonce, NULL) == 1 &&
           EVP_DecryptUpdate(crypto->open, NULL, &written, record, TLS_HEADER_SIZE) == 1 &&
           EVP_DecryptUpdate(crypto->open, text, &written, text, (int)size) == 1 &&
           EVP_CIPHER_CTX_ctrl(crypto->open, EVP_CTRL_AEAD_SET_TAG, TLS_TAG_SIZE, text + size) ==
               1 &&
           EVP_DecryptFinal_ex(crypto->open, text + size, &written) == 1 &&
           split_inner(text, size, type, content_size);
}
