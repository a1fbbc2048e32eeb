/*
 * Deadlines: points in time of CLOCK_MONOTONIC, in milliseconds.
 */
#ifndef IMMURE_BASE_CLOCK_H
#define IMMURE_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Now, in milliseconds of CLOCK_MONOTONIC. */
static inline uint64_t clock_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Milliseconds until `deadline`, 0 when it has passed. */
static inline uint32_t clock_left_ms(uint64_t deadline)
{
    uint64_t now = clock_now_ms();
    if (deadline <= now)
        return 0;
    return deadline - now > UINT32_MAX ? UINT32_MAX : (uint32_t)(deadline - now);
}

/* The same length of time, or point in time, as a struct timespec. */
static inline struct timespec clock_timespec(uint64_t milliseconds)
{
    return (struct timespec){.tv_sec = (time_t)(milliseconds / 1000),
                             .tv_nsec = (long)(milliseconds % 1000) * 1000000};
}

#endif
