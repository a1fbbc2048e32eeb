#include "base/problem.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* U+0080 to U+009F in UTF-8: terminals take U+009B for ESC [ (ECMA-48 5.3). */
static bool is_c1_control(const char *text)
{
    return (unsigned char)text[0] == 0xc2 && (unsigned char)text[1] >= 0x80 &&
           (unsigned char)text[1] < 0xa0;
}

void problem_clean(char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (is_c1_control(text))
            text[0] = text[1] = '?';
        else if (c < 0x20 || c == 0x7f)
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
