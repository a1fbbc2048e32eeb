/*
 * What devices do differently, in one place: each with the device and where it is documented.
 */
#ifndef IMMURE_TOKEN_QUIRKS_H
#define IMMURE_TOKEN_QUIRKS_H

#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "token/token.h"

/* What a mechanism is for, where the device's flags say it in a way of its own. */
CK_FLAGS quirk_flags(CK_MECHANISM_TYPE mechanism, CK_FLAGS flags) MUST_USE;

/* A group that Immure's keys can be in. */
struct group {
    enum key_type type;
    unsigned bits;
    const char *name;  /* OpenSSL's */
    size_t point_size; /* of the public key: X9.62 uncompressed, or RFC 8032 5.1.2 */
};

/* The group that CKA_EC_PARAMS names, in any of the ways that devices name it, or NULL. */
const struct group *quirk_group(const uint8_t *params, size_t size) MUST_USE;

/*
 * The public key of `group->point_size` bytes inside a CKA_EC_POINT, in any of the ways that
 * devices wrap it, or NULL. It points into `value`.
 */
const uint8_t *quirk_point(const struct group *group, const uint8_t *value, size_t size) MUST_USE;

/*
 * The YubiHSM 2's module finds nothing by CKA_EC_POINT and CKA_MODULUS, and says CKR_OK (yubihsm-
 * shell, pkcs11/yubihsm_pkcs11.c, C_FindObjectsInit()). Where a search by public key has never
 * found one, up to so many keys are compared: the objects that a YubiHSM 2 holds (User Guide,
 * "Hardware specifications"). With more, each key that is not there would cost thousands of calls.
 */
#define QUIRK_BLIND_KEYS_MAX 256

/* How CKA_EC_POINT may be written; the order in which to search. */
enum quirk_point_form { POINT_OCTET_STRING, POINT_RAW, POINT_BIT_STRING, POINT_FORMS };

/* DER tag and length of a P-521 point as an OCTET STRING are 3 bytes, as a BIT STRING 4. */
#define QUIRK_POINT_SIZE_MAX (133 + 4)

/* Writes the point in this form; returns its size. */
size_t quirk_point_write(enum quirk_point_form form, const uint8_t *point, size_t point_size,
                         uint8_t value[QUIRK_POINT_SIZE_MAX]) MUST_USE;

#endif
