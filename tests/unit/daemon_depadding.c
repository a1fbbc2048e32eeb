/*
 * What is padded rightly comes out; what is not gives what the draft says, or a premaster secret
 * that tells nothing.
 */
#include "test.h"

#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

#include "base/constant_time.h"
#include "blocks.h"

/* The key and the vectors of draft-irtf-cfrg-rsa-guidance, appendix B.1. */
static const char key_der[] =
    "MIIEowIBAAKCAQEAyMyDlxQJjaVsqiNkD5PciZfBY3KWj8Gwxt9RE8HJTosh5IrSKX5lQZARtObY9ec7G3iyV0AD"
    "IdHva2AtTsjOjRQclJBetK0wZjmkkgZTS25/JgdCPpff/RM8iNchOZ3vvH6WzNy9fzquH+iScSv7SSmBfVEWZkQK"
    "H6y3ogj16hZZEK3Yo/LUlyAjYMy2MgJPDQcWnBkY8xb3lLFDrvVOyHUipMApePlomYC/+/ZJwwfoGBm/+IQJY41I"
    "vZS+FStZ/2SfoL1inQ/6GBPDq/S1a9PC6lRl3/oUWJKSqdiiStJr5+4FEHQbY4LUPIPVv6QKRmE9BivkRVF9vK8M"
    "tOGnaQIDAQABAoIBABRVAQ4PLVh2Y6Zmpv8czbvw7dgQBkbQKgI5IpCJksStOeVWWSlybvZQjDpxFY7wtv91HTnQ"
    "dYC7LS8GMhBELQYD/1DbvXs1/iybsZpHoa+FpMJJAeAsqLWLeRmyDt8yqs+/Ua20vEthubfpaMqk1XD3DvGNgGMi"
    "iJPkfUOe/KeTJZvPLNEIo9hojN8HjnrHmZafIznSwfUiuWloRimpM7quwmgWJeq4T05W9ER+nYj7mhmc9xAj4OJX"
    "sURBszyE07xnyoAx0mEmGBA6egpAhEJi912IkM1hblH5A1SI/W4Jnej/bWWk/xGCVIB8n1jS+7qLoVHcjGi+NJyX"
    "eiBOBMECgYEA+PWta6gokxvqRZuKP23AQdI0gkCcJXHpY/MfdIYColY3GziD7UWez5cFJkWe3RbgVSL1pF2UdRsu"
    "wtrycsf4gWpSwA0YCAFxY02omdeXMiL1G5N2MFSGlqn32MJKWUl8HvzUVc+5fuhtK200lyszL9owPwSZm062tcwL"
    "sz53Yd0CgYEAznouO0mpC5YzChLcaCvfvfuujdbcA7YUeu+9V1dD8PbaTYYjUGG3Gv2crS00Al5WrIaw93Q+s14a"
    "y8ojeJVCRGW3Bu0iF15XGMjHC2cD6o9rUQ+UW+SOWja7PDyRcytYnfwF1y2AkDGURSvaITSGR+xylD8RqEbmL66+"
    "jrU2sP0CgYB2/hXxiuI5zfHfa0RcpLxruWjXiMIZM6T13NKAAz1nEgYswIpt8gTB+9C+RjB0Q+bdSmRWN1Qp1OA4"
    "yiVvrxyb3pHGsXt2+BmV+RxIy768e/DjSUwINZ5OjNalh9e5bWIh/X4PtcVXXwgu5XdpeYBxsru0oyI4FRtHMUu2"
    "VHkDEQKBgQCZiEiwVUmaEAnLx9KUs2sf/fICDm5zZAU+lN4aAA3JNAWH9+JydvaM32CNdTtjN3sDtvQITSwCfEs4"
    "lgpiM7qe2XOLdvEOp1vkVgeL9wH2fMaz8/3BhuZDNsdrNy6AkQ7ICwrcwj0C+5rhBIaigkgHW06n5W3fzziC5FFW"
    "FHGikQKBgGQ790ZCn32DZnoGUwITR++/wF5jUfghqd67YODszeUAWtnp7DHlWPfpLCkyjnRWnXzvfHTKvCs1XtQB"
    "oaCRS048uwZITlgZYFEWntFMqi76bqBE4FTSYUTMFinFUBBVigThM/RLfCRNrCW/kTxXuJDuSfVIJZzWNAT+9oWd"
    "z5da";

static const struct {
    const char *what, *ciphertext, *message;
} vectors[] = {
    {"a right one",
     "8bfe264e85d3bdeaa6b8851b8e3b956ee3d226fd3f69063a86880173a273d9f283b2eebdd1ed35f7e02d91c5"
     "71981b6737d5320bd8396b0f3ad5b019daec1b0aab3cbbc026395f4fd14f13673f2dfc81f9b660ec26ac381e"
     "6db3299b4e460b43fab9955df2b3cfaa20e900e19c856238fd371899c2bf2ce8c868b76754e5db3b036533fd"
     "603746be13c10d4e3e6022ebc905d20c2a7f32b215a4cd53b3f44ca1c327d2c2b651145821c08396c89071f6"
     "65349c25e44d2733cd9305985ceef6430c3cf57af5fa224089221218fa34737c79c446d28a94c41c96e4e92a"
     "c53fbcf384dea8419ea089f8784445a492c812eb0d409467f75afd7d4d1078886205a066",
     "6c6f72656d20697073756d20646f6c6f722073697420616d6574"},
    {"a wrong one, which gives an empty message",
     "20aaa8adbbc593a924ba1c5c7990b5c2242ae4b99d0fe636a19a4cf754edbcee774e472fe028160ed42634f8"
     "864900cb514006da642cae6ae8c7d087caebcfa6dad1551301e130344989a1d462d4164505f6393933450c67"
     "bc6d39d8f5160907cabc251b737925a1cf21e5c6aa5781b7769f6a2a583d97cce008c0f8b6add5f0b2bd80be"
     "e60237aa39bb20719fe75749f4bc4e42466ef5a861ae3a92395c7d858d430bfe38040f445ea93fa2958b5035"
     "39800ffa5ce5f8cf51fa8171a91f36cb4f4575e8de6b4d3f096ee140b938fd2f50ee13f0d050222e2a72b0a3"
     "069ff3a6738e82c87090caa5aed4fcbe882c49646aa250b98f12f83c8d528113614a29e7",
     ""},
    {"a wrong one, which gives the longest message",
     "48cceab10f39a4db32f60074feea473cbcdb7accf92e150417f76b44756b190e843e79ec12aa85083a21f543"
     "7e7bad0a60482e601198f9d86923239c8786ee728285afd0937f7dde12717f28389843d7375912b07b991f4f"
     "db0190fced8ba665314367e8c5f9d2981d0f5128feeb46cb50fc237e64438a86df198dd0209364ae3a842d77"
     "532b66b7ef263b83b1541ed671b120dfd660462e2107a4ee7b964e734a7bd68d90dda61770658a3c24294853"
     "2da32648687e0318286473f675b412d6468f013f14d760a358dfcad3cda2afeec5e268a37d250c37f722f468"
     "a70dfd92d7294c3c1ee1e7f8843b7d16f9f37ef35748c3ae93aa155cdcdfeb4e78567303",
     "22d850137b9eebe092b24f602dc5bb7918c16bd89ddbf20467b119d205f9c2e4bd7d2592cf1e532106e0f335"
     "57565923c73a02d4f09c0c22bea89148183e60317f7028b3aa1f261f91c979393101d7e15f4067e63979b327"
     "51658ef769610fe97cf9cef3278b3117d384051c3b1d82c251c2305418c8f6840530e631aad63e70e20e025b"
     "cd8efb54c92ec6d3b106a2f8e64eeff7d38495b0fc50c97138af4b1c0a67a1c4e27b077b8439332edfa8608d"
     "feae653cd6a628ac550395f7e74390e42c11682234870925eeaa1fa71b76cf1f2ee3bda69f6717033ff8b7c9"
     "5c9799e7a3bea5e7e4a1c359772fb6b1c6e6c516661dfe30c3"},
    {"a wrong one, whose length is the last but one drawn",
     "1439e08c3f84c1a7fec74ce07614b20e01f6fa4e8c2a6cffdc3520d8889e5d9a950c6425798f85d4be38d300"
     "ea5695f13ecd4cb389d1ff5b82484b494d6280ab7fa78e645933981cb934cce8bfcd114cc0e6811eefa47aae"
     "20af638a1cd163d2d3366186d0a07df0c81f6c9f3171cf3561472e98a6006bf75ddb457bed036dcce199369d"
     "e7d94ef2c68e8467ee0604eea2b3009479162a7891ba5c40cab17f49e1c438cb6eaea4f76ce23cce0e483ff0"
     "e96fa790ea15be67671814342d0a23f4a20262b6182e72f3a67cd289711503c85516a9ed225422f98b116f1a"
     "b080a80abd6f0216df88d8cfd67c139243be8dd78502a7aaf6bc99d7da71bcdf627e7354",
     "0f9b"},
    {"a wrong one, whose length is the last but two drawn",
     "1690ebcceece2ce024f382e467cf8510e74514120937978576caf684d4a02ad569e8d76cbe365a060e00779d"
     "e2f0865ccf0d923de3b4783a4e2c74f422e2f326086c390b658ba47f31ab013aa80f468c71256e5fa5679b24"
     "e83cd82c3d1e05e398208155de2212993cd2b8bab6987cf4cc1293f19909219439d74127545e9ed8a706961b"
     "8ee2119f6bfacafbef91b75a789ba65b8b833bc6149cf49b5c4d2c6359f62808659ba6541e1cd24bf7f74104"
     "86b5103f6c0ea29334ea6f4975b17387474fe920710ea61568d7b7c0a7916acf21665ad5a31c4eabcde44f8f"
     "b6120d8457afa1f3c85d517cda364af620113ae5a3c52a048821731922737307f77a1081",
     "4f02"},
    {"a right one with a zero at its start",
     "00a2e8f114ea8d05d12dc843e3cc3b2edc8229ff2a028bda29ba9d55e3cd02911902fef1f42a075bf05e8016"
     "e8567213d6f260fa49e360779dd81aeea3e04c2cb567e0d72b98bf754014561b7511e083d20e0bfb9cd23f8a"
     "0d3c88900c49d2fcd5843ff0765607b2026f28202a87aa94678aed22a0c20724541394cd8f44e373eba1d2ba"
     "e98f516c1e2ba3d86852d064f856b1daf24795e767a2b90396e50743e3150664afab131fe40ea405dcf572dd"
     "1079af1d3f0392ccadcca0a12740dbb213b925ca2a06b1bc1383e83a658c82ba2e7427342379084d5f66b544"
     "579f07664cb26edd4f10fd913fdbc0de05ef887d4d1ec1ac95652397ea7fd4e4759fda8b",
     "6c6f72656d20697073756d"},
};

static size_t decode(const char *hex, uint8_t *bytes, size_t size)
{
    size_t used = 0;
    if (hex[0] != '\0')
        assert_int_equal(OPENSSL_hexstr2buf_ex(bytes, size, &used, hex, '\0'), 1);
    return used;
}

static EVP_PKEY *read_key(void)
{
    uint8_t der[2048];
    int size = EVP_DecodeBlock(der, (const uint8_t *)key_der, (int)strlen(key_der));
    assert_true(size > 0);
    const uint8_t *at = der;
    EVP_PKEY *key = d2i_PrivateKey(EVP_PKEY_RSA, NULL, &at, size);
    assert_non_null(key);
    return key;
}

/* In the draft the rejection key is a digest of the private exponent. */
static void make_draft_key(EVP_PKEY *key, uint8_t rejection_key[REJECTION_KEY_SIZE])
{
    BIGNUM *d = NULL;
    uint8_t bytes[BLOCK_SIZE];
    assert_int_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_D, &d), 1);
    assert_int_equal(BN_bn2binpad(d, bytes, BLOCK_SIZE), BLOCK_SIZE);
    assert_true(rejection_key_make(bytes, BLOCK_SIZE, rejection_key));
    BN_free(d);
}

static void decrypt_raw(EVP_PKEY *key, const uint8_t ciphertext[BLOCK_SIZE],
                        uint8_t block[BLOCK_SIZE])
{
    size_t size = BLOCK_SIZE;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    assert_int_equal(EVP_PKEY_decrypt_init(context), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(context, RSA_NO_PADDING), 1);
    assert_int_equal(EVP_PKEY_decrypt(context, block, &size, ciphertext, BLOCK_SIZE), 1);
    assert_int_equal(size, BLOCK_SIZE);
    EVP_PKEY_CTX_free(context);
}

static void messages_are_those_of_the_draft(void **state)
{
    (void)state;
    EVP_PKEY *key = read_key();
    uint8_t rejection_key[REJECTION_KEY_SIZE];
    make_draft_key(key, rejection_key);
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        uint8_t ciphertext[BLOCK_SIZE], block[BLOCK_SIZE], message[BLOCK_SIZE],
            expected[BLOCK_SIZE];
        size_t size = 0, expected_size = decode(vectors[i].message, expected, sizeof(expected));
        assert_int_equal(decode(vectors[i].ciphertext, ciphertext, BLOCK_SIZE), BLOCK_SIZE);
        decrypt_raw(key, ciphertext, block);
        const struct padded padded = {block, ciphertext, BLOCK_SIZE, rejection_key};
        print_message("%s\n", vectors[i].what);
        assert_true(depad_message(&padded, message, &size));
        assert_int_equal(size, expected_size);
        assert_memory_equal(message, expected, size);
    }
    EVP_PKEY_free(key);
}

/* --- Made up -------------------------------------------------------------------------------- */

static const uint8_t some_key[REJECTION_KEY_SIZE] = "some rejection key, 31 bytes ..";

/* The ciphertext need not be the block's, which only the private key could tell. */
static void premaster_of(const uint8_t block[BLOCK_SIZE], uint8_t ciphertext_byte, uint8_t key_byte,
                         uint16_t version, uint8_t premaster[PREMASTER_SIZE])
{
    uint8_t ciphertext[BLOCK_SIZE] = {ciphertext_byte}, key[REJECTION_KEY_SIZE];
    memcpy(key, some_key, sizeof(key));
    key[0] ^= key_byte;
    const struct padded padded = {block, ciphertext, BLOCK_SIZE, key};
    memset(premaster, 0xee, PREMASTER_SIZE);
    assert_true(depad_premaster(&padded, version, premaster));
    assert_int_equal(premaster[0] << 8 | premaster[1], version);
}

static void assert_differ(const uint8_t a[PREMASTER_SIZE], const uint8_t b[PREMASTER_SIZE])
{
    assert_memory_not_equal(a + 2, b + 2, PREMASTER_SIZE - 2);
}

static void a_right_premaster_secret_comes_out(void **state)
{
    uint8_t block[BLOCK_SIZE], premaster[PREMASTER_SIZE];
    (void)state;
    make_block(block);
    premaster_of(block, 0, 0, VERSION, premaster);
    assert_memory_equal(premaster, block + BLOCK_SIZE - PREMASTER_SIZE, PREMASTER_SIZE);
}

static void all_wrong_ones_give_the_same_synthetic_one(void **state)
{
    uint8_t block[BLOCK_SIZE], first[PREMASTER_SIZE], premaster[PREMASTER_SIZE];
    (void)state;
    make_wrong_block(block, &wrongs[0]);
    premaster_of(block, 0, 0, VERSION, first);
    for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
        print_message("%s\n", wrongs[i].what);
        make_wrong_block(block, &wrongs[i]);
        premaster_of(block, 0, 0, VERSION, premaster);
        assert_memory_equal(premaster, first, PREMASTER_SIZE);
        assert_differ(premaster, block + BLOCK_SIZE - PREMASTER_SIZE);
    }
}

/* Asked with another version than is in it, a right one answers as a wrong one does. */
static void synthetic_ones_depend_on_key_ciphertext_and_version(void **state)
{
    uint8_t right[BLOCK_SIZE], wrong[BLOCK_SIZE], premaster[PREMASTER_SIZE], other[PREMASTER_SIZE];
    (void)state;
    make_block(right);
    make_wrong_block(wrong, &wrongs[0]);
    premaster_of(wrong, 0, 0, VERSION, premaster);
    premaster_of(wrong, 1, 0, VERSION, other);
    assert_differ(premaster, other);
    premaster_of(wrong, 0, 1, VERSION, other);
    assert_differ(premaster, other);
    premaster_of(wrong, 0, 0, 0x0302, other);
    assert_differ(premaster, other);
    premaster_of(right, 0, 0, 0x0302, premaster);
    assert_memory_equal(premaster, other, PREMASTER_SIZE);
}

static void messages_of_all_sizes_come_out_and_wrong_ones_do_not(void **state)
{
    uint8_t block[BLOCK_SIZE], message[BLOCK_SIZE];
    const uint8_t ciphertext[BLOCK_SIZE] = {0};
    const struct padded padded = {block, ciphertext, BLOCK_SIZE, some_key};
    size_t size, synthetic_size = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
        make_wrong_block(block, &wrongs[i]);
        assert_true(depad_message(&padded, message, &size));
        if (!wrongs[i].also_for_messages)
            continue;
        assert_true(synthetic_size == 0 || size == synthetic_size);
        synthetic_size = size;
        assert_memory_not_equal(message, block + BLOCK_SIZE - size, size);
    }
    assert_true(synthetic_size > 16); /* else the comparisons above say little */
    for (size_t expected = 0; expected <= BLOCK_SIZE - PKCS1_OVERHEAD; expected++) {
        make_block(block);
        block[BLOCK_SIZE - PREMASTER_SIZE - 1] = 1;
        block[BLOCK_SIZE - 1 - expected] = 0;
        assert_true(depad_message(&padded, message, &size));
        assert_int_equal(size, expected);
        assert_memory_equal(message, block + BLOCK_SIZE - size, size);
        for (size_t i = size; i < BLOCK_SIZE; i++)
            assert_int_equal(message[i], 0);
    }
}

static void bytes_move_by_any_distance(void **state)
{
    uint8_t bytes[300];
    (void)state;
    for (uint32_t distance = 0; distance <= 300; distance++) {
        for (size_t i = 0; i < 300; i++)
            bytes[i] = (uint8_t)(i % 255 + 1);
        constant_time_move_right(bytes, 300, distance);
        for (size_t i = 0; i < 300; i++)
            assert_int_equal(bytes[i], i < distance ? 0 : (i - distance) % 255 + 1);
        constant_time_move_left(bytes, 300, distance);
        for (size_t i = 0; i < 300; i++)
            assert_int_equal(bytes[i], i < 300 - distance ? i % 255 + 1 : 0);
    }
}

static void a_challenge_is_a_keys_own_and_below_its_modulus(void **state)
{
    uint8_t challenge[DEPADDING_SIZE_MAX], other[DEPADDING_SIZE_MAX], id[32] = {0};
    (void)state;
    assert_true(rejection_challenge(id, challenge, sizeof(challenge)));
    assert_int_equal(challenge[0], 0);
    id[0] = 1;
    assert_true(rejection_challenge(id, other, sizeof(other)));
    assert_memory_not_equal(challenge, other, sizeof(other));
}

static void blocks_too_small_for_a_premaster_secret_are_refused(void **state)
{
    uint8_t block[PREMASTER_SIZE + PKCS1_OVERHEAD - 1] = {0}, premaster[PREMASTER_SIZE];
    const struct padded padded = {block, block, sizeof(block), some_key};
    (void)state;
    assert_false(depad_premaster(&padded, VERSION, premaster));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_those_of_the_draft),
        cmocka_unit_test(a_right_premaster_secret_comes_out),
        cmocka_unit_test(all_wrong_ones_give_the_same_synthetic_one),
        cmocka_unit_test(synthetic_ones_depend_on_key_ciphertext_and_version),
        cmocka_unit_test(messages_of_all_sizes_come_out_and_wrong_ones_do_not),
        cmocka_unit_test(bytes_move_by_any_distance),
        cmocka_unit_test(a_challenge_is_a_keys_own_and_below_its_modulus),
        cmocka_unit_test(blocks_too_small_for_a_premaster_secret_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
