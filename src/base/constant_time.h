/*
 * Choosing and copying without a branch or an address that depends on what is secret.
 *
 * A mask has all bits set (true) or none. The numbers compared are below 2^31. Pure; any thread.
 */
#ifndef IMMURE_BASE_CONSTANT_TIME_H
#define IMMURE_BASE_CONSTANT_TIME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/attributes.h"

/* The compiler must not know that a mask has one of two values, or it could make it a branch. */
static inline uint32_t mask_hide(uint32_t mask)
{
    __asm__("" : "+r"(mask));
    return mask;
}

/* a < b */
static inline uint32_t mask_less(uint32_t a, uint32_t b)
{
    return mask_hide(0U - ((a - b) >> 31));
}

static inline uint32_t mask_equal(uint32_t a, uint32_t b)
{
    return mask_less(a ^ b, 1);
}

static inline uint32_t mask_choose(uint32_t mask, uint32_t a, uint32_t b)
{
    return (mask & a) | (~mask & b);
}

/*
 * Moves the bytes `distance` (secret, at most `size`) towards the start, and zeros come after them;
 * in about log2(size) passes over all bytes.
 */
static inline void constant_time_move_left(uint8_t *bytes, size_t size, uint32_t distance)
{
    for (size_t step = 1; step <= size; step *= 2) {
        uint8_t moves = (uint8_t)~mask_equal(distance & (uint32_t)step, 0);
        for (size_t i = 0; i < size; i++) {
            uint8_t moved = i + step < size ? bytes[i + step] : 0;
            bytes[i] = (uint8_t)((moves & moved) | (~moves & bytes[i]));
        }
    }
}

/* The same towards the end, zeros before them. */
static inline void constant_time_move_right(uint8_t *bytes, size_t size, uint32_t distance)
{
    for (size_t step = 1; step <= size; step *= 2) {
        uint8_t moves = (uint8_t)~mask_equal(distance & (uint32_t)step, 0);
        for (size_t i = size; i-- > 0;) {
            uint8_t moved = i >= step ? bytes[i - step] : 0;
            bytes[i] = (uint8_t)((moves & moved) | (~moves & bytes[i]));
        }
    }
}

#endif
