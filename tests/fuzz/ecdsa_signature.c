/*
 * token/ecdsa_signature.h: the DER is the one that OpenSSL makes of the same two numbers.
 */
#include "fuzz.h"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <string.h>

#include "token/ecdsa_signature.h"

/* SEQUENCE and two INTEGERs with a zero byte before each number. */
#define DER_SIZE_MAX (3 + 2 * (2 + 1) + ECDSA_RAW_SIZE_MAX)

static size_t openssl_encode(const uint8_t *raw, size_t half, uint8_t der[DER_SIZE_MAX])
{
    ECDSA_SIG *signature = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, (int)half, NULL), *s = BN_bin2bn(raw + half, (int)half, NULL);
    assert(signature != NULL && r != NULL && s != NULL);
    bool valid = !BN_is_zero(r) && !BN_is_zero(s);
    assert(ECDSA_SIG_set0(signature, r, s) == 1);
    int size = valid ? i2d_ECDSA_SIG(signature, &(unsigned char *){der}) : 0;
    ECDSA_SIG_free(signature);
    assert(size >= 0);
    return (size_t)size;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t ours[DER_SIZE_MAX], theirs[DER_SIZE_MAX];
    size_t written = ecdsa_signature_encode(bytes, size, ours, sizeof(ours));
    if (size % 2 != 0 || size > ECDSA_RAW_SIZE_MAX) {
        assert(written == 0);
        return 0;
    }
    assert(written == openssl_encode(bytes, size / 2, theirs));
    assert(memcmp(ours, theirs, written) == 0);
    assert(written == 0 || ecdsa_signature_encode(bytes, size, ours, written - 1) == 0);
    return 0;
}
