#include "base/problem.h"

#include <stdarg.h>
#include <stdio.h>

void problem_clean(char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            *text = '?';
    }
}

int problem_set(struct problem *problem, int code, const char *format, ...)
{
    if (problem == NULL)
        return code;

    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->text, sizeof(problem->text), format, arguments);
    va_end(arguments);
    problem_clean(problem->text);
    return code;
}

int problem_prefix(struct problem *problem, int code, const char *format, ...)
{
    if (problem == NULL)
        return code;

    char context[PROBLEM_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context, sizeof(context), format, arguments);
    va_end(arguments);

    struct problem original = *problem;
    return problem_set(problem, code, "%s: %s", context, original.text);
}
