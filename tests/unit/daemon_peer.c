/*
 * The kernel's word on who is at the other end is read rightly, and nothing is made up of it.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/peer.h"

static void the_kernel_tells_who_the_peer_is(void **state)
{
    (void)state;
    int sockets[2];
    struct peer peer;
    gid_t groups[1024];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
    assert_true(peer_of(sockets[0], &peer));
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

static void a_unit_is_found_after_slices_and_nowhere_else(void **state)
{
    (void)state;
    static const struct {
        const char *cgroup, *unit;
    } cases[] = {
        {"/system.slice/nginx.service", "nginx.service"},
        {"/system.slice/system-nginx.slice/nginx@1.service", "nginx@1.service"},
        {"/nginx.service", "nginx.service"},
        {"/system.slice/nginx.service/worker", "nginx.service"},
        {"/user.slice/user-1000.slice/session-3.scope", "session-3.scope"},
        /* what a user's own manager runs is that manager's */
        {"/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
         "user@1000.service"},
        {"/docker/nginx.service", ""},
        {"/nginx.service.d", ""},
        {"/.service", ""},
        {"/system.slice", ""},
        {"/system.slice/nginx.service (deleted)", ""},
        {"/system.slice/"
         "a-name-that-is-a-good-deal-longer-than-the-sixty-four-bytes-here.service",
         ""},
        {"/", ""},
        {"", ""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char unit[UNIT_NAME_SIZE] = "left over";
        assert_int_equal(unit_of_cgroup(cases[i].cgroup, unit), cases[i].unit[0] != '\0');
        assert_string_equal(unit, cases[i].unit);
    }
}

#define UNIFIED "/sys/fs/cgroup"

/* A control group of our own, in the unified hierarchy wherever that is; false: not to be had. */
static bool enter_cgroup(char *directory, size_t size)
{
    static const char *const places[] = {UNIFIED "/unified", UNIFIED};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        char procs[256];
        snprintf(procs, sizeof(procs), "%s/cgroup.procs", places[i]);
        snprintf(directory, size, "%s/immure-test-%d.service", places[i], (int)getpid());
        if (access(procs, W_OK) != 0 || (mkdir(directory, 0755) != 0 && errno != EEXIST))
            continue;
        snprintf(procs, sizeof(procs), "%s/cgroup.procs", directory);
        FILE *file = fopen(procs, "w");
        bool entered = file != NULL && fprintf(file, "%d\n", (int)getpid()) > 0;
        if (file != NULL)
            entered = fclose(file) == 0 && entered;
        if (entered)
            return true;
    }
    return false;
}

static void send_descriptor(int to, int descriptor)
{
    char byte = 'd', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    (void)!sendmsg(to, &message, 0);
}

static int receive_descriptor(int from)
{
    int descriptor = -1;
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    if (recvmsg(from, &message, 0) == 1 && CMSG_FIRSTHDR(&message) != NULL)
        memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return descriptor;
}

/* In the child: makes a socket pair, whose peer it then is, and hands one end over. */
static void be_the_peer(int parent)
{
    int ends[2];
    char directory[128], go;
    bool entered = enter_cgroup(directory, sizeof(directory));
    if (entered && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0)
        send_descriptor(parent, ends[0]);
    else
        (void)!send(parent, "n", 1, 0);
    (void)!read(parent, &go, 1);
    _exit(0);
}

static void the_peer_s_unit_is_known_while_it_lives_and_not_afterwards(void **state)
{
    (void)state;
    int channel[2];
    struct peer peer;
    if (!peer_has_cgroup())
        skip(); /* SO_PEERPIDFD: Linux 6.5 */
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        be_the_peer(channel[1]);
    int end = receive_descriptor(channel[0]);
    bool known = end >= 0 && peer_of(end, &peer);
    char name[64], directory[128];
    snprintf(name, sizeof(name), "immure-test-%d.service", (int)child);
    if (known)
        free(peer.groups);
    struct peer late = {.pid = 0};
    assert_int_equal(write(channel[0], "g", 1), 1);
    assert_int_equal(waitpid(child, NULL, 0), child);
    bool late_known = end >= 0 && peer_of(end, &late);
    free(late.groups);
    for (int i = 0; i < 2; i++) {
        snprintf(directory, sizeof(directory), UNIFIED "%s/%s", i == 0 ? "/unified" : "", name);
        rmdir(directory);
    }
    if (end < 0)
        skip(); /* no control group can be made here */
    close(end);
    close(channel[0]);
    close(channel[1]);
    assert_true(known);
    assert_string_equal(peer.unit, name);
    assert_true(late_known);
    assert_int_equal(late.pid, child);
    assert_string_equal(late.cgroup, "");
    assert_string_equal(late.unit, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_tells_who_the_peer_is),
        cmocka_unit_test(a_unit_is_found_after_slices_and_nowhere_else),
        cmocka_unit_test(the_peer_s_unit_is_known_while_it_lives_and_not_afterwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
