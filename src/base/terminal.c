#include "base/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

/* Those after which a terminal without echo would be left behind. */
static const int guarded_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};

static volatile sig_atomic_t caught_signal;

static void catch_signal(int number)
{
    caught_signal = number;
}

/* One line into `text`, NUL-terminated without its end: its length, or -1 (see errno, caught). */
static int read_line(int fd, char *text, size_t size, const sigset_t *signals_during)
{
    struct pollfd input = {.fd = fd, .events = POLLIN};
    if (ppoll(&input, 1, NULL, signals_during) < 0)
        return -1;
    ssize_t length = read(fd, text, size);
    if (length <= 0) {
        errno = length == 0 ? ENODATA : errno;
        return -1;
    }
    if (text[length - 1] != '\n') {
        tcflush(fd, TCIFLUSH);
        errno = (size_t)length == size ? EMSGSIZE : ENODATA;
        return -1;
    }
    text[length - 1] = '\0';
    return (int)length - 1;
}

static void set_echo(int fd, const struct termios *settings, bool echo)
{
    struct termios wanted = *settings;
    if (!echo)
        wanted.c_lflag = (wanted.c_lflag & ~(tcflag_t)ECHO) | ECHONL | ICANON;
    tcsetattr(fd, TCSAFLUSH, &wanted);
}

/*
 * The signals are blocked but for the wait, where they interrupt it; so none can come between a
 * look at caught_signal and the wait, and none before the settings are back.
 */
static int ask_once(int fd, const char *question, bool echo, char *text, size_t size)
{
    struct termios settings;
    if (tcgetattr(fd, &settings) != 0)
        return -1;

    sigset_t blocked, before;
    struct sigaction old[ARRAY_SIZE(guarded_signals)];
    struct sigaction action = {.sa_handler = catch_signal};
    sigemptyset(&blocked);
    caught_signal = 0;
    for (size_t i = 0; i < ARRAY_SIZE(guarded_signals); i++)
        sigaddset(&blocked, guarded_signals[i]);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    for (size_t i = 0; i < ARRAY_SIZE(guarded_signals); i++) {
        sigaction(guarded_signals[i], NULL, &old[i]);
        if (old[i].sa_handler != SIG_IGN)
            sigaction(guarded_signals[i], &action, NULL);
    }

    set_echo(fd, &settings, echo);
    dprintf(fd, "%s", question);
    int length = read_line(fd, text, size, &before);
    int error = errno;
    tcsetattr(fd, TCSAFLUSH, &settings);

    for (size_t i = 0; i < ARRAY_SIZE(guarded_signals); i++)
        sigaction(guarded_signals[i], &old[i], NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return length;
}

static int ask(const char *question, bool echo, char *text, size_t size, struct problem *problem)
{
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return problem_set(problem, -1, "there is no terminal to ask on");

    int length, error;
    do {
        length = ask_once(fd, question, echo, text, size);
        error = errno;
        if (caught_signal != 0)
            raise(caught_signal); /* ends the process; or stops it, and we ask again later */
    } while (length < 0 && (caught_signal != 0 || error == EINTR));
    close(fd);

    if (length < 0 && error == EMSGSIZE)
        return problem_set(problem, -1, "the answer is longer than %zu bytes", size - 1);
    if (length < 0)
        return problem_set(problem, -1, "no answer on the terminal");
    return length;
}

int terminal_ask_secret(const char *question, char *text, size_t size, struct problem *problem)
{
    return ask(question, false, text, size, problem);
}

int terminal_ask(const char *question, char *text, size_t size, struct problem *problem)
{
    return ask(question, true, text, size, problem);
}

bool terminal_is_interactive(void)
{
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return false;
    close(fd);
    return isatty(STDIN_FILENO) == 1;
}
