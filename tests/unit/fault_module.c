/*
 * The fault module itself, before a SoftHSM without tokens: that what it is told to do happens.
 */
#include "test.h"

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOFTHSM "/usr/lib/softhsm/libsofthsm2.so"
#define SKIPPED 77 /* meson's */

static CK_FUNCTION_LIST *functions;
static char directory[] = "/tmp/immure-fault-XXXXXX";

/* It must be another file each time, as faults.h says. */
static void tell(const char *commands)
{
    FILE *file = fopen(FAULT_MODULE ".new", "w");
    assert_non_null(file);
    assert_true(fputs(commands, file) >= 0);
    int failure = fclose(file);
    assert_int_equal(failure, 0);
    assert_int_equal(rename(FAULT_MODULE ".new", FAULT_MODULE ".fault"), 0);
}

static CK_RV ask(void)
{
    CK_ULONG count = 0;
    return functions->C_GetSlotList(CK_FALSE, NULL, &count);
}

static void a_command_holds_until_the_file_is_gone(void **state)
{
    (void)state;
    assert_int_equal(ask(), CKR_OK);
    tell("fail 0x30 C_GetSlotList\n");
    assert_int_equal(ask(), CKR_DEVICE_ERROR);
    assert_int_equal(ask(), CKR_DEVICE_ERROR);
    assert_int_equal(unlink(FAULT_MODULE ".fault"), 0);
    assert_int_equal(ask(), CKR_OK);
}

static void a_command_with_a_count_holds_so_often_and_again_when_repeated(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        tell("delay 1\nfail 0x31 C_GetSlotList x2\n");
        assert_int_equal(ask(), CKR_DEVICE_MEMORY);
        assert_int_equal(ask(), CKR_DEVICE_MEMORY);
        assert_int_equal(ask(), CKR_OK);
    }
    assert_int_equal(unlink(FAULT_MODULE ".fault"), 0);
}

static void a_child_of_fork_has_no_initialized_module(void **state)
{
    (void)state;
    pid_t pid = fork();
    int status = 0;
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(ask() == CKR_CRYPTOKI_NOT_INITIALIZED ? EXIT_SUCCESS : EXIT_FAILURE);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(ask(), CKR_OK);
}

static int load(void **state)
{
    (void)state;
    char conf[sizeof(directory) + sizeof("/conf")];
    CK_C_GetFunctionList get = NULL;
    assert_non_null(mkdtemp(directory));
    unlink(FAULT_MODULE ".fault"); /* of a run that failed */
    snprintf(conf, sizeof(conf), "%s/conf", directory);
    FILE *file = fopen(conf, "w");
    assert_non_null(file);
    fprintf(file, "directories.tokendir = %s\n", directory);
    int failure = fclose(file);
    assert_int_equal(failure, 0);
    setenv("SOFTHSM2_CONF", conf, 1);
    void *library = dlopen(FAULT_MODULE, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    *(void **)&get = dlsym(library, "C_GetFunctionList");
    assert_non_null(get);
    assert_int_equal(get(&functions), CKR_OK);
    return functions->C_Initialize(NULL) == CKR_OK ? 0 : -1;
}

static int unload(void **state)
{
    (void)state;
    char conf[sizeof(directory) + sizeof("/conf")];
    snprintf(conf, sizeof(conf), "%s/conf", directory);
    unlink(conf);
    rmdir(directory);
    return functions->C_Finalize(NULL) == CKR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_holds_until_the_file_is_gone),
        cmocka_unit_test(a_command_with_a_count_holds_so_often_and_again_when_repeated),
        cmocka_unit_test(a_child_of_fork_has_no_initialized_module),
    };
    if (access(SOFTHSM, R_OK) != 0)
        return SKIPPED;
    return cmocka_run_group_tests(tests, load, unload);
}
