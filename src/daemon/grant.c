#include "daemon/grant.h"

#include <fnmatch.h>
#include <string.h>

static bool is_member(const struct peer *peer, gid_t group)
{
    if (peer->gid == group)
        return true;
    for (size_t i = 0; i < peer->group_count; i++) {
        if (peer->groups[i] == group)
            return true;
    }
    return false;
}

/* In the group or below it. */
static bool is_in_cgroup(const struct peer *peer, const char *cgroup)
{
    size_t size = strlen(cgroup);
    return strncmp(peer->cgroup, cgroup, size) == 0 &&
           (peer->cgroup[size] == '\0' || peer->cgroup[size] == '/');
}

static bool fits(const struct grant_config *grant, const struct peer *peer)
{
    return (!grant->has_user || grant->user == peer->uid) &&
           (!grant->has_group || is_member(peer, grant->group)) &&
           (grant->unit == NULL || strcmp(grant->unit, peer->unit) == 0) &&
           (grant->cgroup == NULL || is_in_cgroup(peer, grant->cgroup));
}

grant_set grants_of_peer(const struct config *config, const struct peer *peer)
{
    grant_set grants = 0;
    for (size_t i = 0; i < config->grant_count; i++) {
        if (fits(&config->grants[i], peer))
            grants |= (grant_set)1 << i;
    }
    return grants;
}

static bool covers(const struct grant_config *grant, const char *name)
{
    for (char *const *pattern = grant->keys; *pattern != NULL; pattern++) {
        if (fnmatch(*pattern, name, 0) == 0)
            return true;
    }
    return false;
}

grant_set grants_of_key(const struct config *config, const char *name)
{
    grant_set grants = 0;
    for (size_t i = 0; i < config->grant_count; i++) {
        if (covers(&config->grants[i], name))
            grants |= (grant_set)1 << i;
    }
    return grants;
}

size_t grants_first(const struct config *config, grant_set grants, unsigned uses)
{
    size_t i = 0;
    while (i < config->grant_count &&
           ((grants & (grant_set)1 << i) == 0 || (config->grants[i].uses & uses) == 0))
        i++;
    return i;
}

unsigned grants_uses(const struct config *config, grant_set grants)
{
    unsigned uses = 0;
    for (size_t i = 0; i < config->grant_count; i++) {
        if (grants & (grant_set)1 << i)
            uses |= config->grants[i].uses;
    }
    return uses;
}
