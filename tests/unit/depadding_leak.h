/* What the tests of depadding for leaks must notice: it stops at the first byte that is wrong. */
#ifndef IMMURE_TESTS_UNIT_DEPADDING_LEAK_H
#define IMMURE_TESTS_UNIT_DEPADDING_LEAK_H

#include "daemon/depadding.h"

static inline bool depad_premaster_leaking(const struct padded *padded, uint16_t version,
                                           uint8_t premaster[PREMASTER_SIZE])
{
    size_t at = 2;
    bool done = depad_premaster(padded, version, premaster);
    if (padded->block[0] != 0 || padded->block[1] != 2)
        return done;
    while (at < padded->size - 1 && padded->block[at] != 0)
        at++;
    premaster[0] ^= (uint8_t)(at >> 16); /* uses what was found, and changes nothing */
    return done;
}

#endif
