/*
 * What went wrong, in words for an operator.
 *
 * A function that can fail in more than one way returns its layer's error code and, into the
 * struct problem of its caller, one line that says what failed, where, and what to do. The line
 * never holds a PIN, a message to be signed or key material, and has no newline at its end.
 */
#ifndef IMMURE_BASE_PROBLEM_H
#define IMMURE_BASE_PROBLEM_H

#include "base/attributes.h"

/* Fits, with its prefix, into OpenSSL's error data (1,024 bytes) and nginx's log line (2,048). */
#define PROBLEM_TEXT_SIZE 640

struct problem {
    char text[PROBLEM_TEXT_SIZE]; /* NUL-terminated; cut if it was longer */
};

/*
 * Writes the line and returns `code`, so that a caller can say
 * `return problem_set(problem, -1, ...)`. `problem` may be NULL. Control characters in the
 * result become '?', so that text from a token or a peer cannot forge a log line.
 */
int problem_set(struct problem *problem, int code, const char *format, ...) PRINTF(3, 4);

/* Puts "context: " before the line that is there, and returns `code`. `problem` may be NULL. */
int problem_prefix(struct problem *problem, int code, const char *format, ...) PRINTF(3, 4);

/* Control characters in the text become '?'. For whatever goes to a log or a terminal. */
void problem_clean(char *text);

#endif
