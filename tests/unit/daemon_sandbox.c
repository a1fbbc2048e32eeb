/*
 * What immured gives up at its start is gone, what vendors' libraries need is not.
 *
 * Each look is taken in a child process, as there is no way back. All arguments are -1, with which
 * no call does anything even where it is not denied.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox.h"

/* The wait status of a child that calls `look`, whose result is its exit status. */
static int status_of(int (*look)(void))
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        setsid(); /* no terminal is hung up, or typed into */
        _exit(look());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static int filter(bool allow_exec)
{
    struct problem problem;
    int result = sandbox_filter(allow_exec, &problem);
    if (result != 0)
        fprintf(stderr, "%s\n", problem.text);
    return result;
}

static int count_names(void)
{
    int unknown = 0;
    for (size_t i = 0; i < sandbox_denied_count; i++) {
        if (seccomp_syscall_resolve_name(sandbox_denied[i]) == __NR_SCMP_ERROR) {
            fprintf(stderr, "%s: there is no such system call\n", sandbox_denied[i]);
            unknown++;
        }
    }
    return unknown;
}

/* How many are not denied. */
static int call_all(void)
{
    int passed = 0;
    if (filter(false) != 0)
        return -1;
    for (size_t i = 0; i < sandbox_denied_count; i++) {
        int number = seccomp_syscall_resolve_name(sandbox_denied[i]);
        if (number >= 0 && (syscall(number, -1, -1, -1, -1, -1, -1) != -1 || errno != EPERM)) {
            fprintf(stderr, "%s is not denied: %s\n", sandbox_denied[i], strerror(errno));
            passed++;
        }
    }
    return passed;
}

static void test_every_call_of_the_list_exists_and_is_denied(void **state)
{
    (void)state;
    assert_int_equal(count_names(), 0);
    assert_int_equal(status_of(call_all), 0);
}

static int make_namespaces(void)
{
    struct clone_args arguments = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    if (filter(false) != 0)
        return 1;
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(0);
    if (pid != -1 || errno != EPERM)
        return 2;
    pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (pid == 0)
        _exit(0);
    return pid == -1 && errno == ENOSYS ? 0 : 3;
}

static void test_no_namespace_is_made_by_clone(void **state)
{
    (void)state;
    assert_int_equal(status_of(make_namespaces), 0);
}

/* The kernel looks at the low 32 bits of the request, so the high ones are not a way around. */
static int type_into_terminal(void)
{
    if (filter(false) != 0)
        return 1;
    bool plain = syscall(SYS_ioctl, STDIN_FILENO, TIOCSTI, "x") == -1 && errno == EPERM;
    bool high = syscall(SYS_ioctl, STDIN_FILENO, TIOCSTI | 1UL << 40, "x") == -1 && errno == EPERM;
    return plain && high ? 0 : 2;
}

static void test_nothing_is_typed_into_the_terminal(void **state)
{
    (void)state;
    assert_int_equal(status_of(type_into_terminal), 0);
}

static void run_true(void)
{
    execl("/bin/true", "true", NULL);
}

static int exec_denied(void)
{
    if (filter(false) != 0)
        return 1;
    run_true();
    return errno == EPERM ? 2 : 3;
}

static int exec_allowed(void)
{
    if (filter(true) != 0)
        return 1;
    run_true();
    return 2;
}

static void test_programs_are_run_only_when_that_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(WEXITSTATUS(status_of(exec_denied)), 2);
    assert_int_equal(status_of(exec_allowed), 0);
}

#ifdef __x86_64__
/* getpid(2) by its number of i386. */
static int call_as_i386(void)
{
    long result = 20;
    if (filter(false) != 0)
        return 1;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
    return 2;
}

static void test_calls_by_another_architectures_numbers_end_the_process(void **state)
{
    (void)state;
    assert_int_equal(WTERMSIG(status_of(call_as_i386)), SIGSYS);
}
#endif

static void *touch_nothing(void *context)
{
    return context;
}

static int do_what_libraries_do(void)
{
    pthread_t thread;
    int status = -1;
    if (filter(false) != 0)
        return 1;
    if (pthread_create(&thread, NULL, touch_nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return 2;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 3;
}

static void test_threads_and_forks_go_on_working(void **state)
{
    (void)state;
    assert_int_equal(status_of(do_what_libraries_do), 0);
}

static int shut(void)
{
    struct problem problem;
    struct rlimit core;
    int inherited = dup(STDERR_FILENO);
    if (sandbox_shut(&problem) != 0 || getrlimit(RLIMIT_CORE, &core) != 0)
        return 1;
    bool closed = fcntl(inherited, F_GETFD) == -1 && fcntl(STDERR_FILENO, F_GETFD) != -1;
    bool private = umask(0) == (S_IRWXG | S_IRWXO);
    return closed && private && core.rlim_max == 0 && prctl(PR_GET_DUMPABLE) == 0 &&
                   prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
               ? 0
               : 2;
}

static void test_no_dump_no_privileges_no_inherited_descriptor_no_open_file_mode(void **state)
{
    (void)state;
    assert_int_equal(status_of(shut), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_of_the_list_exists_and_is_denied),
        cmocka_unit_test(test_no_namespace_is_made_by_clone),
        cmocka_unit_test(test_nothing_is_typed_into_the_terminal),
        cmocka_unit_test(test_programs_are_run_only_when_that_is_allowed),
#ifdef __x86_64__
        cmocka_unit_test(test_calls_by_another_architectures_numbers_end_the_process),
#endif
        cmocka_unit_test(test_threads_and_forks_go_on_working),
        cmocka_unit_test(test_no_dump_no_privileges_no_inherited_descriptor_no_open_file_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
