/*
 * A backlog gives requests back in their order, whole, and holds their connections meanwhile.
 */
#include "test.h"

#include <string.h>

#include "daemon/backlog.h"
#include "daemon/request.h"
#include "wire/reference.h"

static struct connection connection = {.references = 1};

static struct backlog_request *request_of(unsigned number)
{
    const struct request request = {.connection = &connection,
                                    .datagram = (const uint8_t *)&number,
                                    .datagram_size = sizeof(number),
                                    .deadline = number,
                                    .passed_over = number + 1};
    return backlog_request_new(&request);
}

static void requests_come_back_in_their_order(void **state)
{
    (void)state;
    struct backlog backlog = {.count = 0};
    for (int round = 0; round < 2; round++) { /* it is usable again once it was empty */
        for (unsigned i = 0; i < 5; i++)
            assert_true(backlog_add(&backlog, request_of(i), false));
        assert_int_equal(atomic_load(&connection.references), 6);
        for (unsigned i = 0; i < 5; i++) {
            struct backlog_request *request = backlog_take(&backlog);
            assert_non_null(request);
            assert_int_equal(request->deadline, i);
            assert_int_equal(request->passed_over, i + 1);
            assert_int_equal(request->size, sizeof(i));
            assert_memory_equal(request->datagram, &i, sizeof(i));
            backlog_request_free(request);
        }
        assert_null(backlog_take(&backlog));
        assert_int_equal(atomic_load(&connection.references), 1);
    }
}

static void check_next(struct backlog *backlog, unsigned number)
{
    struct backlog_request *request = backlog_take(backlog);
    assert_non_null(request);
    assert_int_equal(request->deadline, number);
    backlog_request_free(request);
}

static void what_waits_again_comes_first(void **state)
{
    (void)state;
    struct backlog backlog = {.count = 0};
    assert_true(backlog_add(&backlog, request_of(1), true));
    assert_true(backlog_add(&backlog, request_of(2), false));
    assert_true(backlog_add(&backlog, request_of(0), true));
    assert_true(backlog_add(&backlog, request_of(3), false));
    for (unsigned i = 0; i < 4; i++)
        check_next(&backlog, i);
    assert_null(backlog_take(&backlog));
    assert_int_equal(atomic_load(&connection.references), 1);
}

static void a_full_backlog_takes_no_more(void **state)
{
    (void)state;
    struct backlog backlog = {.count = 0};
    for (unsigned i = 0; i < BACKLOG_MAX; i++)
        assert_true(backlog_add(&backlog, request_of(i), false));
    struct backlog_request *one_more = request_of(0);
    assert_false(backlog_add(&backlog, one_more, false));
    for (unsigned i = 0; i < BACKLOG_AGAIN_MAX; i++) /* what had a place is not turned away */
        assert_true(backlog_add(&backlog, request_of(i), true));
    assert_false(backlog_add(&backlog, one_more, true));
    backlog_request_free(one_more);
    for (unsigned i = 0; i < BACKLOG_MAX + BACKLOG_AGAIN_MAX; i++)
        backlog_request_free(backlog_take(&backlog));
    assert_int_equal(atomic_load(&connection.references), 1);
}

/* With the header of 48 bytes; of FIND_KEY, one byte more. */
static void what_the_largest_keys_and_groups_need_is_copied(void **state)
{
    (void)state;
    static const uint8_t datagram[WIRE_DATAGRAM_SIZE_MAX];
    static const size_t sizes[] = {
        48 + 64 + 2 + 1024 + 2 + 1 + 2 + 1024, /* TLS 1.2: DHE with 8,192 bits (RFC 7919 A.5) */
        48 + 1 + 2614,                         /* the public key of ML-DSA-87 (RFC 9881) */
        48 + 1 + KEY_REFERENCE_SIZE_MAX,       /* whatever public key is looked for */
    };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct request request = {
            .connection = &connection, .datagram = datagram, .datagram_size = sizes[i]};
        struct backlog_request *copy = backlog_request_new(&request);
        assert_non_null(copy);
        backlog_request_free(copy);
    }
}

static void what_is_too_large_is_not_copied(void **state)
{
    (void)state;
    static const uint8_t datagram[BACKLOG_REQUEST_SIZE_MAX + 1];
    struct request request = {
        .connection = &connection, .datagram = datagram, .datagram_size = BACKLOG_REQUEST_SIZE_MAX};
    struct backlog_request *largest = backlog_request_new(&request);
    assert_non_null(largest);
    backlog_request_free(largest);
    backlog_request_free(NULL);
    request.datagram_size++;
    assert_null(backlog_request_new(&request));
    assert_int_equal(atomic_load(&connection.references), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back_in_their_order),
        cmocka_unit_test(what_waits_again_comes_first),
        cmocka_unit_test(a_full_backlog_takes_no_more),
        cmocka_unit_test(what_the_largest_keys_and_groups_need_is_copied),
        cmocka_unit_test(what_is_too_large_is_not_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
