/*
 * What others than root and oneself can change is found, wherever on the way it is.
 *
 * As root, which is trusted: each case is made in a directory of its own, then one thing is opened.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/trusted_path.h"

#define NOBODY 65534
#define PATH   "way/library"

/* top/vendor/lib/module.so; top/way -> vendor/lib; top/way/library -> module.so */
static char top[] = "/tmp/immure-unit-XXXXXX";

struct opened {
    const char *name; /* below `top`; NULL: nothing */
    mode_t mode;      /* 0: as it is */
    uid_t owner;
    gid_t group;
    const char *says; /* NULL: it is good */
};

static const struct opened cases[] = {
    {NULL, 0, 0, 0, NULL},
    {"vendor/lib/module.so", 0644, 0, NOBODY, NULL},
    {"vendor/lib/module.so", 0664, 0, 0, NULL},
    {"vendor/lib/module.so", 0664, 0, NOBODY, "mode 0664): chmod g-w "},
    {"vendor/lib/module.so", 0646, 0, 0, "mode 0646): chmod o-w "},
    {"vendor/lib/module.so", 0666, 0, NOBODY, "mode 0666): chmod go-w "},
    {"vendor/lib/module.so", 0, NOBODY, 0, "owner 65534 (nobody)"},
    {"vendor/lib", 0777, 0, 0, "mode 0777): chmod o-w "},
    {"vendor/lib", 01777, 0, 0, NULL},
    {"vendor/lib", 0, NOBODY, 0, ": run it as the owner (runuser -u nobody -- immured), or chown "},
    {"vendor", 0775, 0, NOBODY, "mode 0775): chmod g-w "},
    {"way", 0, NOBODY, 0, ": chown -h root "},
    {"vendor/lib/library", 0, NOBODY, 0, ": chown -h root "},
};

/* A name below `top`, in memory that lasts until the call after the next. */
static const char *below(const char *name)
{
    static char paths[2][128];
    static unsigned turn;
    char *path = paths[turn++ % 2];
    snprintf(path, sizeof(paths[0]), "%s/%s", top, name);
    return path;
}

static void open_one(const struct opened *opened)
{
    if (opened->name == NULL)
        return;
    const char *path = below(opened->name);
    assert_int_equal(lchown(path, opened->owner, opened->group), 0);
    if (opened->mode != 0)
        assert_int_equal(chmod(path, opened->mode), 0);
}

static void close_again(const struct opened *opened)
{
    struct stat status;
    if (opened->name == NULL)
        return;
    const char *path = below(opened->name);
    assert_int_equal(lchown(path, 0, 0), 0);
    assert_int_equal(lstat(path, &status), 0);
    if (!S_ISLNK(status.st_mode))
        assert_int_equal(chmod(path, S_ISDIR(status.st_mode) ? 0755 : 0644), 0);
}

static int set_up(void **state)
{
    (void)state;
    if (geteuid() != 0 || mkdtemp(top) == NULL || chmod(top, 0755) != 0 ||
        mkdir(below("vendor"), 0755) != 0 || mkdir(below("vendor/lib"), 0755) != 0 ||
        symlink("vendor/lib", below("way")) != 0 ||
        symlink("../lib/./module.so", below("vendor/lib/library")) != 0)
        return geteuid() != 0 ? 0 : -1;
    FILE *file = fopen(below("vendor/lib/module.so"), "w");
    return file != NULL && fclose(file) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"vendor/lib/module.so", "vendor/lib/library", "way"};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        unlink(below(names[i]));
    rmdir(below("vendor/lib"));
    rmdir(below("vendor"));
    rmdir(top);
    return 0;
}

static void skip_unless_root(void)
{
    if (geteuid() != 0)
        skip();
}

static void test_what_others_can_change_is_found_and_how_to_mend_it(void **state)
{
    (void)state;
    skip_unless_root();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct opened *opened = &cases[i];
        struct problem problem = {.text = "it is good"};
        open_one(opened);
        int result = trusted_path_check("the module", below(PATH), &problem);
        if (result != (opened->says != NULL ? -1 : 0) ||
            (opened->says != NULL && (strstr(problem.text, opened->says) == NULL ||
                                      strstr(problem.text, below(opened->name)) == NULL)))
            fail_msg("case %zu, %s: %s", i, opened->name, problem.text);
        close_again(opened);
    }
}

static void test_what_is_missing_must_not_be_for_anybody_to_make(void **state)
{
    struct problem problem;
    (void)state;
    skip_unless_root();
    assert_int_equal(trusted_path_check("the module", below("way/missing/too"), &problem), 0);
    assert_int_equal(chmod(below("vendor/lib"), 01777), 0);
    assert_int_equal(trusted_path_check("the module", below("way/missing"), &problem), -1);
    assert_non_null(strstr(problem.text, "anybody can put it there"));
    assert_int_equal(chmod(below("vendor/lib"), 0755), 0);
}

static void test_links_that_lead_in_a_circle_end(void **state)
{
    struct problem problem;
    (void)state;
    skip_unless_root();
    assert_int_equal(symlink("circle", below("circle")), 0);
    int result = trusted_path_check("the module", below("circle"), &problem);
    unlink(below("circle"));
    assert_int_equal(result, -1);
    assert_non_null(strstr(problem.text, "Too many levels of symbolic links"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_others_can_change_is_found_and_how_to_mend_it),
        cmocka_unit_test(test_what_is_missing_must_not_be_for_anybody_to_make),
        cmocka_unit_test(test_links_that_lead_in_a_circle_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
