/*
 * Questions to the person at the terminal. Not for what is in a host.
 */
#ifndef IMMURE_BASE_TERMINAL_H
#define IMMURE_BASE_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attributes.h"
#include "base/problem.h"

/*
 * Asks on /dev/tty without echo and reads one line, without its end, into `text`, which should
 * be secret memory; NUL-terminated. The line is read straight into it, the terminal's settings
 * are restored before a signal takes effect. Returns the length, or -1 and a problem: there is
 * no terminal, the line does not fit, or input ended.
 */
int terminal_ask_secret(const char *question, char *text, size_t size,
                        struct problem *problem) MUST_USE;

/* True when a question would reach a person: standard input and /dev/tty are a terminal. */
bool terminal_is_interactive(void) MUST_USE;

/* The same with echo. */
int terminal_ask(const char *question, char *text, size_t size, struct problem *problem) MUST_USE;

#endif
