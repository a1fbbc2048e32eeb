/*
 * Compiler attributes used all over.
 */
#ifndef IMMURE_BASE_ATTRIBUTES_H
#define IMMURE_BASE_ATTRIBUTES_H

#define MUST_USE                    __attribute__((warn_unused_result))
#define PRINTF(template, arguments) __attribute__((format(printf, template, arguments)))

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#endif
