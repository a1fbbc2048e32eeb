#include "daemon/grant.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <sys/socket.h>

static bool read_groups(int socket, struct peer *peer)
{
    socklen_t size = 0;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0)
        return true; /* it has none */
    if (errno != ERANGE)
        return false;
    peer->groups = malloc(size);
    if (peer->groups == NULL)
        return false;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &size) != 0) {
        free(peer->groups);
        return false;
    }
    peer->group_count = size / sizeof(gid_t);
    return true;
}

bool grant_peer_of(int socket, struct peer *peer)
{
    struct ucred credentials;
    socklen_t size = sizeof(credentials);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return false;
    *peer = (struct peer){.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
    return read_groups(socket, peer);
}

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

grant_set grants_of_peer(const struct config *config, const struct peer *peer)
{
    grant_set grants = 0;
    for (size_t i = 0; i < config->grant_count; i++) {
        const struct grant_config *grant = &config->grants[i];
        bool user_fits = !grant->has_user || grant->user == peer->uid;
        bool group_fits = !grant->has_group || is_member(peer, grant->group);
        if (user_fits && group_fits)
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

unsigned grants_uses(const struct config *config, grant_set grants)
{
    unsigned uses = 0;
    for (size_t i = 0; i < config->grant_count; i++) {
        if (grants & (grant_set)1 << i)
            uses |= config->grants[i].uses;
    }
    return uses;
}
