/*
 * The keyring finds what was put into it, under the grants of its name, at its newest place.
 */
#include "test.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "daemon/keyring.h"

static char www[] = "www", all[] = "*";
static char *www_keys[] = {www, NULL}, *all_keys[] = {all, NULL};
static const struct config config = {
    .token_count = 2, .grant_count = 2, .grants = {{.keys = www_keys}, {.keys = all_keys}}};

static struct token_key key_of(unsigned number, const char *label, CK_OBJECT_HANDLE handle)
{
    static const uint8_t spki[] = "no public key";
    struct token_key key = {.handle = handle, .type = KEY_TYPE_EC, .bits = 256};
    key.spki = spki;
    key.spki_size = sizeof(spki);
    memcpy(key.id, &number, sizeof(number));
    snprintf(key.label, sizeof(key.label), "%s", label);
    return key;
}

static void keys_are_found_by_id_with_the_grants_of_their_name(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_new(&config);
    struct keyring_key found;
    char name[TOKEN_LABEL_SIZE_MAX + 1];
    for (unsigned i = 0; i < 1000; i++) {
        struct token_key key = key_of(i, i % 2 == 0 ? "www" : "other", i + 1);
        assert_true(keyring_put(keyring, &key, i % 2, 5));
    }
    for (unsigned i = 0; i < 1000; i++) {
        struct token_key key = key_of(i, "", 0);
        assert_true(keyring_get(keyring, key.id, &found));
        assert_int_equal(found.places[i % 2].handle, i + 1);
        assert_int_equal(found.places[1 - i % 2].epoch, 0);
        assert_int_equal(found.grants, i % 2 == 0 ? 3 : 2);
        assert_true(keyring_name(keyring, key.id, name));
        assert_string_equal(name, i % 2 == 0 ? "www" : "other");
    }
    struct token_key unknown = key_of(1000, "", 0);
    assert_false(keyring_get(keyring, unknown.id, &found));
    assert_int_equal(keyring_count(keyring, 0, 5), 500);
    assert_int_equal(keyring_count(keyring, 0, 6), 0);
    keyring_free(keyring);
}

static void the_first_token_s_label_is_the_name_and_may_change(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_new(&config);
    char name[TOKEN_LABEL_SIZE_MAX + 1];
    struct keyring_key found;
    const struct token_key old = key_of(1, "www", 1), copy = key_of(1, "copy", 2);
    assert_true(keyring_put(keyring, &old, 0, 1) && keyring_put(keyring, &copy, 1, 1));
    assert_true(keyring_name(keyring, old.id, name));
    assert_string_equal(name, "www");
    const struct token_key renamed = key_of(1, "renamed", 1);
    assert_true(keyring_put(keyring, &renamed, 0, 2));
    assert_true(keyring_get(keyring, old.id, &found));
    assert_int_equal(found.grants, 2);
    keyring_free(keyring);
}

static void only_the_place_that_failed_is_forgotten(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_new(&config);
    struct keyring_key found;
    const struct token_key first = key_of(1, "www", 1), second = key_of(1, "www", 2);
    assert_true(keyring_put(keyring, &first, 0, 1));
    assert_true(keyring_get(keyring, first.id, &found));
    assert_true(keyring_put(keyring, &second, 0, 2)); /* found again meanwhile */
    keyring_forget(keyring, first.id, 0, &found.places[0]);
    assert_true(keyring_get(keyring, first.id, &found));
    assert_int_equal(found.places[0].handle, 2);
    keyring_forget(keyring, first.id, 0, &found.places[0]);
    assert_true(keyring_get(keyring, first.id, &found));
    assert_int_equal(found.places[0].epoch, 0);
    keyring_free(keyring);
}

static void a_missing_key_is_remembered_until_it_is_found(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_new(&config);
    const struct token_key key = key_of(1, "www", 1), other = key_of(2, "www", 1);
    keyring_set_missing(keyring, key.id);
    assert_true(keyring_is_missing(keyring, key.id));
    assert_false(keyring_is_missing(keyring, other.id));
    assert_true(keyring_put(keyring, &key, 0, 1));
    assert_false(keyring_is_missing(keyring, key.id));
    keyring_free(keyring);
}

static void a_place_is_verified_until_the_key_is_found_anew(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_new(&config);
    const struct token_key key = key_of(1, "www", 7);
    const struct key_place elsewhere = {.handle = 8, .epoch = 1};
    struct keyring_key found;
    assert_true(keyring_put(keyring, &key, 0, 1) && keyring_get(keyring, key.id, &found));
    assert_false(found.places[0].verified);
    keyring_set_verified(keyring, key.id, 0, &elsewhere, 3);
    assert_true(keyring_get(keyring, key.id, &found) && !found.places[0].verified);
    keyring_set_verified(keyring, key.id, 0, &found.places[0], 3);
    assert_true(keyring_get(keyring, key.id, &found) && found.places[0].verified);
    assert_true(keyring_put(keyring, &key, 0, 2) && keyring_get(keyring, key.id, &found));
    assert_false(found.places[0].verified);
    keyring_free(keyring);
}

static void the_public_key_is_the_one_that_was_found(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_new(&config);
    EVP_PKEY *made = EVP_EC_gen("P-256");
    uint8_t *spki = NULL;
    struct token_key key = key_of(1, "www", 7);
    key.spki_size = (size_t)i2d_PUBKEY(made, &spki);
    key.spki = spki;
    assert_true(keyring_put(keyring, &key, 0, 1));
    for (int i = 0; i < 2; i++) {
        EVP_PKEY *found = keyring_public_key(keyring, key.id);
        assert_non_null(found);
        assert_int_equal(EVP_PKEY_eq(found, made), 1);
        EVP_PKEY_free(found);
    }
    const struct token_key unreadable = key_of(2, "www", 8), unknown = key_of(3, "www", 9);
    assert_true(keyring_put(keyring, &unreadable, 0, 1));
    assert_null(keyring_public_key(keyring, unreadable.id));
    assert_null(keyring_public_key(keyring, unknown.id));
    OPENSSL_free(spki);
    EVP_PKEY_free(made);
    keyring_free(keyring);
}

static void each_keys_first_rejection_key_is_kept(void **state)
{
    (void)state;
    struct keyring *keyring = keyring_new(&config);
    for (unsigned i = 0; i < 1000; i++) {
        const uint8_t first[REJECTION_KEY_SIZE] = {(uint8_t)i, (uint8_t)(i >> 8), 1};
        const uint8_t second[REJECTION_KEY_SIZE] = {(uint8_t)i, (uint8_t)(i >> 8), 2};
        const struct token_key key = key_of(i, "www", 7);
        assert_null(keyring_set_rejection_key(keyring, key.id, first));
        assert_true(keyring_put(keyring, &key, 0, 1));
        assert_null(keyring_rejection_key(keyring, key.id));
        assert_memory_equal(keyring_set_rejection_key(keyring, key.id, first), first,
                            sizeof(first));
        assert_memory_equal(keyring_set_rejection_key(keyring, key.id, second), first,
                            sizeof(first));
    }
    for (unsigned i = 0; i < 1000; i++) {
        const uint8_t first[REJECTION_KEY_SIZE] = {(uint8_t)i, (uint8_t)(i >> 8), 1};
        const struct token_key key = key_of(i, "www", 7);
        assert_memory_equal(keyring_rejection_key(keyring, key.id), first, sizeof(first));
    }
    keyring_free(keyring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_found_by_id_with_the_grants_of_their_name),
        cmocka_unit_test(the_first_token_s_label_is_the_name_and_may_change),
        cmocka_unit_test(only_the_place_that_failed_is_forgotten),
        cmocka_unit_test(a_missing_key_is_remembered_until_it_is_found),
        cmocka_unit_test(a_place_is_verified_until_the_key_is_found_anew),
        cmocka_unit_test(the_public_key_is_the_one_that_was_found),
        cmocka_unit_test(each_keys_first_rejection_key_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
