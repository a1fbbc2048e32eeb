#include "quick_key.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/pem.h>
#include <string.h>

#define NUMBER_SIZE 32 /* bytes of P-256 */

/* FIPS 186-4 6.4 with k = 1: r is the x coordinate of the generator, s = z + r d mod n. */
static CK_BYTE r[NUMBER_SIZE];
static BIGNUM *n, *rd;

static BIGNUM *private_number(const char *path)
{
    BIGNUM *d = NULL;
    BIO *file = BIO_new_file(path, "r");
    EVP_PKEY *key = file != NULL ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;
    if (key != NULL && EVP_PKEY_get_bits(key) == 8 * NUMBER_SIZE)
        EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d);
    EVP_PKEY_free(key);
    BIO_free(file);
    return d;
}

bool quick_key_load(const char *path)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    BN_CTX *context = BN_CTX_new();
    BIGNUM *d = private_number(path), *x = BN_new();
    n = BN_new();
    rd = BN_new();
    bool good = group != NULL && context != NULL && d != NULL && x != NULL && n != NULL &&
                rd != NULL && BN_copy(n, EC_GROUP_get0_order(group)) != NULL &&
                EC_POINT_get_affine_coordinates(group, EC_GROUP_get0_generator(group), x, NULL,
                                                context) == 1 &&
                BN_nnmod(x, x, n, context) == 1 && BN_mod_mul(rd, x, d, n, context) == 1 &&
                BN_bn2binpad(x, r, NUMBER_SIZE) == NUMBER_SIZE;
    BN_clear_free(d);
    BN_free(x);
    BN_CTX_free(context);
    EC_GROUP_free(group);
    return good;
}

CK_RV quick_key_sign(const CK_BYTE *digest, CK_ULONG digest_size, CK_BYTE *signature,
                     CK_ULONG *signature_size)
{
    if (digest_size != NUMBER_SIZE)
        return CKR_DATA_LEN_RANGE;
    if (*signature_size < 2 * NUMBER_SIZE)
        return CKR_BUFFER_TOO_SMALL;
    BN_CTX *context = BN_CTX_new();
    BIGNUM *s = BN_bin2bn(digest, NUMBER_SIZE, NULL);
    bool good = context != NULL && s != NULL && BN_mod_add(s, s, rd, n, context) == 1 &&
                BN_bn2binpad(s, signature + NUMBER_SIZE, NUMBER_SIZE) == NUMBER_SIZE;
    memcpy(signature, r, NUMBER_SIZE);
    *signature_size = 2 * NUMBER_SIZE;
    BN_free(s);
    BN_CTX_free(context);
    return good ? CKR_OK : CKR_FUNCTION_FAILED;
}
