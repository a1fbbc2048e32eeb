/*
 * stop_at_exit COMMAND...: runs the command, and stops it as it ends, with its memory still there.
 *
 * Then writes its pid, a line, to standard error, and waits for a line on standard input before
 * it lets it go. Its exit status is the command's.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_OF_OURS 125

__attribute__((noreturn)) static void die(const char *what)
{
    perror(what);
    exit(STATUS_OF_OURS);
}

__attribute__((noreturn)) static void run_traced(char **command)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0)
        die("ptrace");
    execvp(command[0], command);
    die(command[0]);
}

static void let_go(pid_t pid, int signal)
{
    if (ptrace(PTRACE_CONT, pid, NULL, (void *)(long)signal) != 0)
        die("ptrace");
}

/* The signal that the command is to get: those of the tracing itself are not for it. */
static int handle_stop(pid_t pid, int status)
{
    int signal = WSTOPSIG(status);
    if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8)) {
        fprintf(stderr, "%d\n", (int)pid);
        getchar();
    }
    return signal == SIGTRAP ? 0 : signal;
}

int main(int argc, char **argv)
{
    int status = 0;
    if (argc < 2)
        return STATUS_OF_OURS;
    pid_t pid = fork();
    if (pid == 0)
        run_traced(argv + 1);
    if (pid < 0 || waitpid(pid, &status, 0) != pid ||
        ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL) != 0)
        die("ptrace");
    let_go(pid, 0);
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status))
        let_go(pid, handle_stop(pid, status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_OF_OURS;
}
