/* What every unit test includes: cmocka needs these in this order. */
#ifndef IMMURE_TESTS_UNIT_TEST_H
#define IMMURE_TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
