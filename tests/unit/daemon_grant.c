/*
 * A peer gets the grants of its user and groups, a key those of its name, and no others.
 */
#include "test.h"

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

static char nginx_service[] = "nginx.service", web[] = "/machine.slice/web";

/* 0: a unit; 1: a unit and a user; 2: a control group */
static const struct config unit_config = {
    .grants = {{.unit = nginx_service, .keys = all_keys, .uses = USE_TLS13_SERVER},
               {.unit = nginx_service,
                .has_user = true,
                .user = 33,
                .keys = all_keys,
                .uses = USE_TLS12_SERVER | USE_CSR},
               {.cgroup = web, .keys = all_keys, .uses = USE_SIGN}},
    .grant_count = 3,
};

static void unit_and_control_group_must_be_the_peer_s(void **state)
{
    (void)state;
    const struct {
        struct peer peer;
        grant_set grants;
    } cases[] = {
        {{.uid = 33, .unit = "nginx.service", .cgroup = "/system.slice/nginx.service"}, 3},
        {{.uid = 0, .unit = "nginx.service", .cgroup = "/system.slice/nginx.service"}, 1},
        {{.uid = 33, .unit = "nginx.servic", .cgroup = "/system.slice/nginx.servic"}, 0},
        {{.uid = 33}, 0}, /* not established */
        {{.cgroup = "/machine.slice/web"}, 4},
        {{.cgroup = "/machine.slice/web/worker"}, 4},
        {{.cgroup = "/machine.slice/web2"}, 0},
        {{.cgroup = "/machine.slice"}, 0},
        {{.cgroup = "/other/machine.slice/web"}, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(grants_of_peer(&unit_config, &cases[i].peer), cases[i].grants);
}

static void the_first_grant_that_allows_a_use_is_found(void **state)
{
    (void)state;
    assert_int_equal(grants_first(&unit_config, 7, USE_TLS13_SERVER), 0);
    assert_int_equal(grants_first(&unit_config, 7, USE_CSR | USE_SIGN), 1);
    assert_int_equal(grants_first(&unit_config, 5, USE_CSR | USE_SIGN), 2);
    assert_int_equal(grants_first(&unit_config, 1, USE_CSR | USE_SIGN), 3);
    assert_int_equal(grants_first(&unit_config, 0, USE_TLS13_SERVER), 3);
    assert_int_equal(grants_first(&unit_config, 7, USE_DECRYPT), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_and_group_must_both_fit),
        cmocka_unit_test(patterns_cover_whole_names),
        cmocka_unit_test(uses_add_up_over_the_grants_that_fit),
        cmocka_unit_test(unit_and_control_group_must_be_the_peer_s),
        cmocka_unit_test(the_first_grant_that_allows_a_use_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
