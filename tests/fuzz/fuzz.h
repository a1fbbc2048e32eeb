/*
 * What every fuzz target includes. A target is one function that takes any bytes and asserts
 * what must be true of what the code made of them; with libFuzzer tools/fuzz runs it, without it
 * replay.c gives it the kept inputs.
 */
#ifndef IMMURE_TESTS_FUZZ_FUZZ_H
#define IMMURE_TESTS_FUZZ_FUZZ_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

#ifdef NDEBUG
#error "a fuzz target without assert() finds nothing"
#endif

/* libFuzzer's name. `bytes` are the caller's and may not be changed; 0 always. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#endif
