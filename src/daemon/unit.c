#include "daemon/unit.h"

#include <stddef.h>
#include <string.h>

static bool ends_with(const char *text, size_t size, const char *end)
{
    return size > strlen(end) && memcmp(text + size - strlen(end), end, strlen(end)) == 0;
}

bool unit_of_cgroup(const char *cgroup, char unit[UNIT_NAME_SIZE])
{
    unit[0] = '\0';
    size_t size = 0;
    do {
        cgroup += size + strspn(cgroup + size, "/");
        size = strcspn(cgroup, "/");
    } while (ends_with(cgroup, size, ".slice"));
    if (size >= UNIT_NAME_SIZE ||
        (!ends_with(cgroup, size, ".service") && !ends_with(cgroup, size, ".scope")))
        return false;
    memcpy(unit, cgroup, size);
    unit[size] = '\0';
    return true;
}
