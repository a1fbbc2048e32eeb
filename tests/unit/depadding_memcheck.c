/*
 * Under valgrind: no branch and no address of depadding depends on the decrypted block, which is
 * marked as undefined so that memcheck tells each that does.
 */
#include "test.h"

#include <valgrind/memcheck.h>

#include "blocks.h"
#include "depadding_leak.h"

static const uint8_t ciphertext[BLOCK_SIZE] = {1}, some_key[REJECTION_KEY_SIZE] = {2};

typedef bool depad_function(const struct padded *padded, uint16_t version,
                            uint8_t premaster[PREMASTER_SIZE]);

static bool depad_as_message(const struct padded *padded, uint16_t version,
                             uint8_t premaster[PREMASTER_SIZE])
{
    uint8_t message[BLOCK_SIZE];
    size_t size;
    (void)version;
    bool done = depad_message(padded, message, &size);
    memcpy(premaster, message, PREMASTER_SIZE);
    return done;
}

static unsigned errors_in(depad_function *depad)
{
    uint8_t block[BLOCK_SIZE], premaster[PREMASTER_SIZE];
    const struct padded padded = {block, ciphertext, BLOCK_SIZE, some_key};
    unsigned before = VALGRIND_COUNT_ERRORS;
    make_block(block);
    VALGRIND_MAKE_MEM_UNDEFINED(block, sizeof(block));
    assert_true(depad(&padded, VERSION, premaster));
    unsigned errors = VALGRIND_COUNT_ERRORS - before;
    /* Else this has marked nothing that the result depends on. */
    assert_int_not_equal(VALGRIND_CHECK_MEM_IS_DEFINED(premaster, sizeof(premaster)), 0);
    return errors;
}

static void nothing_depends_on_the_block(void **state)
{
    (void)state;
    assert_int_equal(errors_in(depad_premaster), 0);
    assert_int_equal(errors_in(depad_as_message), 0);
}

static void a_planted_leak_is_noticed(void **state)
{
    (void)state;
    assert_true(errors_in(depad_premaster_leaking) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_depends_on_the_block),
        cmocka_unit_test(a_planted_leak_is_noticed),
    };
    if (!RUNNING_ON_VALGRIND) {
        print_error("run it under valgrind\n");
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
