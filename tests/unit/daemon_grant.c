/*
 * A peer gets the grants of its user and groups, a key those of its name, and no others.
 */
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/grant.h"

static char www[] = "www", shop[] = "shop-*", all[] = "*";
static char *www_keys[] = {www, shop, NULL}, *all_keys[] = {all, NULL};

/* 0: user 33; 1: group 44; 2: user 33 and group 44, for all keys */
static const struct config config = {
    .grants = {{.has_user = true, .user = 33, .keys = www_keys, .uses = USE_TLS13_SERVER},
               {.has_group = true, .group = 44, .keys = www_keys, .uses = USE_TLS12_SERVER},
               {.has_user = true,
                .has_group = true,
                .user = 33,
                .group = 44,
                .keys = all_keys,
                .uses = USE_SIGN}},
    .grant_count = 3,
};

static void user_and_group_must_both_fit(void **state)
{
    (void)state;
    gid_t groups[] = {7, 44};
    const struct {
        struct peer peer;
        grant_set grants;
    } cases[] = {
        {{.uid = 33, .gid = 33}, 1},
        {{.uid = 34, .gid = 44}, 2},
        {{.uid = 33, .gid = 44}, 7},
        {{.uid = 33, .gid = 33, .groups = groups, .group_count = 2}, 7},
        {{.uid = 33, .gid = 33, .groups = groups, .group_count = 1}, 1},
        {{.uid = 0, .gid = 0}, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(grants_of_peer(&config, &cases[i].peer), cases[i].grants);
}

static void patterns_cover_whole_names(void **state)
{
    (void)state;
    assert_int_equal(grants_of_key(&config, "www"), 7);
    assert_int_equal(grants_of_key(&config, "shop-eu"), 7);
    assert_int_equal(grants_of_key(&config, "www2"), 4);
    assert_int_equal(grants_of_key(&config, "awww"), 4);
    assert_int_equal(grants_of_key(&config, "shop"), 4);
    assert_int_equal(grants_of_key(&config, ""), 4);
}

static void uses_add_up_over_the_grants_that_fit(void **state)
{
    (void)state;
    assert_int_equal(grants_uses(&config, 0), 0);
    assert_int_equal(grants_uses(&config, 1), USE_TLS13_SERVER);
    assert_int_equal(grants_uses(&config, 3), USE_TLS_SERVER);
    assert_int_equal(grants_uses(&config, 4), USE_SIGN);
}

static void the_kernel_tells_who_the_peer_is(void **state)
{
    (void)state;
    int sockets[2];
    struct peer peer;
    gid_t groups[1024];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
    assert_true(grant_peer_of(sockets[0], &peer));
    int count = getgroups(ARRAY_SIZE(groups), groups);
    assert_int_equal(peer.uid, geteuid());
    assert_int_equal(peer.gid, getegid());
    assert_int_equal(peer.pid, getpid());
    assert_int_equal(peer.group_count, count);
    if (count > 0)
        assert_memory_equal(peer.groups, groups, (size_t)count * sizeof(gid_t));
    free(peer.groups);
    close(sockets[0]);
    close(sockets[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_and_group_must_both_fit),
        cmocka_unit_test(patterns_cover_whole_names),
        cmocka_unit_test(uses_add_up_over_the_grants_that_fit),
        cmocka_unit_test(the_kernel_tells_who_the_peer_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
