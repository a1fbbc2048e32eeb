/*
 * daemon/unit.h: a unit is a whole part of the path, after slices alone.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/unit.h"

static bool ends_with(const char *text, size_t size, const char *end)
{
    return size > strlen(end) && memcmp(text + size - strlen(end), end, strlen(end)) == 0;
}

/* Its first part that is no slice. */
static bool is_place_of(const char *unit, const char *path)
{
    size_t size = 0;
    for (const char *part = path; *part != '\0'; part += size) {
        part += strspn(part, "/");
        size = strcspn(part, "/");
        if (!ends_with(part, size, ".slice"))
            return size == strlen(unit) && memcmp(part, unit, size) == 0;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char unit[UNIT_NAME_SIZE];
    char *path = strndup((const char *)bytes, size);
    assert(path != NULL);
    if (unit_of_cgroup(path, unit)) {
        assert(ends_with(unit, strlen(unit), ".service") ||
               ends_with(unit, strlen(unit), ".scope"));
        assert(is_place_of(unit, path));
    } else {
        assert(unit[0] == '\0');
    }
    free(path);
    return 0;
}
