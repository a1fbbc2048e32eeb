#include "cli/audit_time.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    char letter;
    uint64_t milliseconds;
} units[] = {
    {'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}, {'w', 604800000},
};

static bool read_ago(const char *text, uint64_t now, uint64_t *milliseconds)
{
    char *rest = NULL;
    unsigned long count = strtoul(text, &rest, 10);
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        if (*rest != units[i].letter || rest[1] != '\0')
            continue;
        bool before_1970 = count > now / units[i].milliseconds;
        *milliseconds = before_1970 ? 0 : now - count * units[i].milliseconds;
        return true;
    }
    return false;
}

/* ".123": milliseconds; what is finer is left out. */
static const char *read_fraction(const char *text, uint64_t *milliseconds)
{
    uint64_t unit = 100;
    if (*text != '.')
        return text;
    while (isdigit((unsigned char)*++text)) {
        *milliseconds += unit * (uint64_t)(*text - '0');
        unit /= 10;
    }
    return text;
}

static bool read_instant(const char *text, uint64_t *milliseconds)
{
    struct tm tm = {.tm_isdst = 0};
    uint64_t fraction = 0;
    const char *rest = strptime(text, "%Y-%m-%d", &tm);
    if (rest != NULL && *rest != '\0') {
        rest = strptime(rest, "T%H:%M:%S", &tm);
        rest = rest != NULL ? read_fraction(rest, &fraction) : NULL;
        rest = rest != NULL ? strptime(rest, "%z", &tm) : NULL;
    }
    if (rest == NULL || *rest != '\0')
        return false;
    long zone = tm.tm_gmtoff; /* timegm() clears it */
    time_t seconds = timegm(&tm) - zone;
    *milliseconds = (uint64_t)seconds * 1000 + fraction;
    return seconds >= 0;
}

bool audit_time_option(const char *text, uint64_t now, uint64_t *milliseconds)
{
    return isdigit((unsigned char)text[0]) &&
           (read_ago(text, now, milliseconds) || read_instant(text, milliseconds));
}
