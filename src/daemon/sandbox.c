#include "daemon/sandbox.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/*
 * Not here, because PKCS#11 libraries may have reasons: keyctl(2) (Kerberos, TPM), writable and
 * executable memory (libffi in p11-kit), NUMA and scheduling, SysV IPC (openCryptoki).
 */
const char *const sandbox_denied[] = {
/* Other processes: their memory, descriptors and registers. */
#ifndef __SANITIZE_ADDRESS__ /* which attaches to its own threads to look for leaks */
    "ptrace",
#endif
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_getfd",
    /* Other views of the system, and ways into the kernel that namespaces open. */
    "chroot",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "umount",
    "umount2",
    "unshare",
    /* The kernel itself. */
    "bpf",
    "delete_module",
    "finit_module",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "lookup_dcookie",
    "modify_ldt",
    "perf_event_open",
    "personality",
    "syslog",
    "userfaultfd",
    "vm86",
    "vm86old",
    /* Files past their directories' permissions. */
    "fanotify_init",
    "open_by_handle_at",
    /* The whole host's. */
    "acct",
    "adjtimex",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_settime",
    "clock_settime64",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "setdomainname",
    "sethostname",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "vhangup",
};
const size_t sandbox_denied_count = ARRAY_SIZE(sandbox_denied);

static const char *const exec_calls[] = {"execve", "execveat"};

/* Denied where an argument has these bits under this mask. */
static const struct {
    const char *name;
    unsigned argument; /* from 0 */
    scmp_datum_t mask, bits;
} denied_with[] = {
/* The first argument but on these, where glibc's order is reversed in the kernel. */
#if defined(__s390__) || defined(__CRIS__)
#define CLONE_FLAGS 1
#else
#define CLONE_FLAGS 0
#endif
    {"clone", CLONE_FLAGS, CLONE_NEWCGROUP, CLONE_NEWCGROUP},
    {"clone", CLONE_FLAGS, CLONE_NEWIPC, CLONE_NEWIPC},
    {"clone", CLONE_FLAGS, CLONE_NEWNET, CLONE_NEWNET},
    {"clone", CLONE_FLAGS, CLONE_NEWNS, CLONE_NEWNS},
    {"clone", CLONE_FLAGS, CLONE_NEWPID, CLONE_NEWPID},
    {"clone", CLONE_FLAGS, CLONE_NEWUSER, CLONE_NEWUSER},
    {"clone", CLONE_FLAGS, CLONE_NEWUTS, CLONE_NEWUTS},
    /* Types into the terminal that immured was started from. The kernel looks at 32 bits. */
    {"ioctl", 1, UINT_MAX, TIOCSTI},
};

/* --- Process --- */

int sandbox_shut(struct problem *problem)
{
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = 0};
    int passed = sd_listen_fds(0);
    closefrom(SD_LISTEN_FDS_START + (passed > 0 ? passed : 0));
    umask(S_IRWXG | S_IRWXO);
    if (prctl(PR_SET_DUMPABLE, 0) == 0 && setrlimit(RLIMIT_CORE, &none) == 0 &&
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        return 0;
    return problem_set(problem, -1,
                       "cannot keep debuggers, core dumps and new privileges from this process: "
                       "%s",
                       strerror(errno));
}

/* --- seccomp --- */

/* libseccomp's errors are negative errno; what this kernel or architecture lacks needs no rule. */
static int deny(scmp_filter_ctx filter, const char *name)
{
    int number = seccomp_syscall_resolve_name(name);
    return number == __NR_SCMP_ERROR ? 0
                                     : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0);
}

static int deny_all(scmp_filter_ctx filter, const char *const names[], size_t count)
{
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = deny(filter, names[i]);
    return result;
}

static int deny_by_argument(scmp_filter_ctx filter)
{
    int result = 0;
    for (size_t i = 0; i < ARRAY_SIZE(denied_with) && result == 0; i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM),
                                  seccomp_syscall_resolve_name(denied_with[i].name), 1,
                                  SCMP_CMP(denied_with[i].argument, SCMP_CMP_MASKED_EQ,
                                           denied_with[i].mask, denied_with[i].bits));
    return result;
}

static int add_denied(scmp_filter_ctx filter, bool allow_exec)
{
    int result = deny_all(filter, sandbox_denied, sandbox_denied_count);
    if (result == 0 && !allow_exec)
        result = deny_all(filter, exec_calls, ARRAY_SIZE(exec_calls));
    return result == 0 ? deny_by_argument(filter) : result;
}

/* Its flags are in memory, where no filter sees them; glibc then uses clone(2). */
static int add_clone3(scmp_filter_ctx filter, bool allow_exec)
{
    (void)allow_exec;
    return seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

/* `log`: 1: the kernel is to log each call that meets a rule (Linux 4.14); 0: it is not. */
static int load(int (*add_rules)(scmp_filter_ctx filter, bool allow_exec), bool allow_exec,
                uint32_t log)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL)
        return -ENOMEM;
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, log);
    /* A second set of numbers for the same calls (i386, x32) would lead around the rules. */
    int result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (result == 0)
        result = add_rules(filter, allow_exec);
    if (result == 0)
        result = seccomp_load(filter);
    seccomp_release(filter);
    return result;
}

int sandbox_filter(bool allow_exec, struct problem *problem)
{
    int result = load(add_denied, allow_exec, 1);
    if (result == 0) /* in a filter of its own, as each start of a thread tries it */
        result = load(add_clone3, allow_exec, 0);
    if (result == 0)
        return 0;
    return problem_set(problem, -1, "no seccomp filter, so libraries may make any system call: %s",
                       strerror(-result));
}
