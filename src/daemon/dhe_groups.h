/*
 * The finite-field groups in which a TLS 1.2 server may offer DHE: those of RFC 7919 and RFC 3526,
 * as OpenSSL has them. All have the generator 2.
 */
#ifndef IMMURE_DAEMON_DHE_GROUPS_H
#define IMMURE_DAEMON_DHE_GROUPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

#define DHE_GROUPS_MAX 11

struct dhe_groups {
    size_t count;
    struct {
        uint8_t *prime; /* big-endian */
        size_t size;    /* bytes */
    } group[DHE_GROUPS_MAX];
};

/* All that OpenSSL has; without any, no DHE message is recognised. Free it with the next. */
void dhe_groups_load(struct dhe_groups *groups);
void dhe_groups_free(struct dhe_groups *groups);

/* The prime, big-endian without leading zeros, is that of a group. From any thread. */
bool dhe_groups_have(const struct dhe_groups *groups, const uint8_t *prime, size_t size) MUST_USE;

#endif
