/* What every unit test includes: cmocka needs these in this order. */
#ifndef IMMURE_TESTS_UNIT_TEST_H
#define IMMURE_TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#ifndef assert_uint_in_range /* its name before cmocka 2 */
#define assert_uint_in_range assert_in_range
#endif

#endif
