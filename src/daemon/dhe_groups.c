#include "daemon/dhe_groups.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[DHE_GROUPS_MAX] = {
    "ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192", "modp_1536",
    "modp_2048", "modp_3072", "modp_4096", "modp_6144", "modp_8192"};

static EVP_PKEY *parameters_of(const char *name)
{
    EVP_PKEY *parameters = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
    OSSL_PARAM group[] = {
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)name, strlen(name)),
        OSSL_PARAM_END};
    if (context != NULL && EVP_PKEY_fromdata_init(context) == 1 &&
        EVP_PKEY_fromdata(context, &parameters, EVP_PKEY_KEY_PARAMETERS, group) != 1)
        parameters = NULL;
    EVP_PKEY_CTX_free(context);
    return parameters;
}

static void add(struct dhe_groups *groups, const BIGNUM *prime)
{
    size_t size = (size_t)BN_num_bytes(prime);
    uint8_t *bytes = malloc(size);
    if (bytes == NULL)
        return;
    BN_bn2bin(prime, bytes);
    groups->group[groups->count].prime = bytes;
    groups->group[groups->count++].size = size;
}

void dhe_groups_load(struct dhe_groups *groups)
{
    groups->count = 0;
    ERR_set_mark();
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        BIGNUM *prime = NULL;
        EVP_PKEY *parameters = parameters_of(names[i]);
        if (parameters != NULL &&
            EVP_PKEY_get_bn_param(parameters, OSSL_PKEY_PARAM_FFC_P, &prime) == 1)
            add(groups, prime);
        BN_free(prime);
        EVP_PKEY_free(parameters);
    }
    ERR_pop_to_mark();
}

void dhe_groups_free(struct dhe_groups *groups)
{
    for (size_t i = 0; i < groups->count; i++)
        free(groups->group[i].prime);
    groups->count = 0;
}

bool dhe_groups_have(const struct dhe_groups *groups, const uint8_t *prime, size_t size)
{
    for (size_t i = 0; i < groups->count; i++) {
        if (groups->group[i].size == size && memcmp(groups->group[i].prime, prime, size) == 0)
            return true;
    }
    return false;
}
