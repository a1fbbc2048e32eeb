/*
 * Decrypted RSA blocks with right and wrong padding around a premaster secret, as ROBOT's (Böck,
 * Somorovsky, Young 2018).
 */
#ifndef IMMURE_TESTS_UNIT_BLOCKS_H
#define IMMURE_TESTS_UNIT_BLOCKS_H

#include <string.h>

#include "daemon/depadding.h"

#define BLOCK_SIZE 256
#define VERSION    0x0303

/* One byte of a right block is changed to make a wrong one. */
static const struct wrong {
    const char *what;
    size_t at;
    uint8_t byte;
    bool also_for_messages; /* else this is a right block with another message */
} wrongs[] = {
    {"another first byte", 0, 1, true},
    {"a block for signatures", 1, 1, true},
    {"a zero right after the type", 2, 0, true},
    {"a zero in the first eight bytes of padding", 9, 0, true},
    {"a zero in the padding", 10, 0, false},
    {"a zero too early", BLOCK_SIZE - PREMASTER_SIZE - 2, 0, false},
    {"no zero where there should be", BLOCK_SIZE - PREMASTER_SIZE - 1, 7, false},
    {"another major version", BLOCK_SIZE - PREMASTER_SIZE, 2, false},
    {"another minor version", BLOCK_SIZE - PREMASTER_SIZE + 1, 2, false},
};

static inline void make_block(uint8_t block[BLOCK_SIZE])
{
    for (size_t i = 0; i < BLOCK_SIZE; i++)
        block[i] = (uint8_t)(i % 255 + 1); /* nowhere zero */
    block[0] = 0;
    block[1] = 2;
    block[BLOCK_SIZE - PREMASTER_SIZE - 1] = 0;
    block[BLOCK_SIZE - PREMASTER_SIZE] = VERSION >> 8;
    block[BLOCK_SIZE - PREMASTER_SIZE + 1] = VERSION & 0xff;
}

static inline void make_wrong_block(uint8_t block[BLOCK_SIZE], const struct wrong *wrong)
{
    make_block(block);
    block[wrong->at] = wrong->byte;
}

#endif
