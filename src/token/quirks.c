#include "token/quirks.h"

#include <string.h>

#include "wire/cursor.h"

/* NSS 3.132's C_GetMechanismInfo() says CKF_GENERATE of it, which is for secret keys. */
CK_FLAGS quirk_flags(CK_MECHANISM_TYPE mechanism, CK_FLAGS flags)
{
    bool means_pair = mechanism == CKM_ML_DSA_KEY_PAIR_GEN && (flags & CKF_GENERATE) != 0;
    return means_pair ? flags | CKF_GENERATE_KEY_PAIR : flags;
}

static const struct group p256 = {KEY_TYPE_EC, 256, "P-256", 65};
static const struct group p384 = {KEY_TYPE_EC, 384, "P-384", 97};
static const struct group p521 = {KEY_TYPE_EC, 521, "P-521", 133};
static const struct group ed25519 = {KEY_TYPE_ED25519, 256, "ED25519", 32};

#define DER(literal) (const uint8_t *)(literal), sizeof(literal) - 1

/* CKA_EC_PARAMS: an OID, or a PrintableString curveName (PKCS#11 v3.0 2.3.3 and 2.3.5). */
static const struct {
    const uint8_t *params;
    size_t size;
    const struct group *group;
} group_names[] = {
    {DER("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"), &p256},
    {DER("\x06\x05\x2b\x81\x04\x00\x22"), &p384},
    {DER("\x06\x05\x2b\x81\x04\x00\x23"), &p521},
    {DER("\x06\x03\x2b\x65\x70"), &ed25519},
    {DER("\x13\x09secp256r1"), &p256},
    {DER("\x13\x09secp384r1"), &p384},
    {DER("\x13\x09secp521r1"), &p521},
    /* SoftHSM 2.6 knows Ed25519 by this name alone (SoftHSMv2 src/lib/crypto/OSSLUtil.cpp). */
    {DER("\x13\x0c"
         "edwards25519"),
     &ed25519},
    /* The OID of GnuPG, which PKCS#11 v3.0 2.3.5 lists as an example, too. */
    {DER("\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01"), &ed25519},
};

const struct group *quirk_group(const uint8_t *params, size_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(group_names); i++) {
        if (group_names[i].size == size && memcmp(group_names[i].params, params, size) == 0)
            return group_names[i].group;
    }
    return NULL;
}

#define DER_BIT_STRING   0x03
#define DER_OCTET_STRING 0x04
#define DER_LONG_LENGTH  0x80
#define DER_LENGTH_1     0x81

static void write_header(struct writer *writer, uint8_t tag, size_t length)
{
    writer_u8(writer, tag);
    if (length >= DER_LONG_LENGTH)
        writer_u8(writer, DER_LENGTH_1);
    writer_u8(writer, (uint8_t)length);
}

size_t quirk_point_write(enum quirk_point_form form, const uint8_t *point, size_t point_size,
                         uint8_t value[QUIRK_POINT_SIZE_MAX])
{
    struct writer writer = writer_of(value, QUIRK_POINT_SIZE_MAX);
    switch (form) {
    case POINT_OCTET_STRING: /* PKCS#11 v2.40 2.3.3 */
        write_header(&writer, DER_OCTET_STRING, point_size);
        break;
    case POINT_BIT_STRING: /* OpenSC 0.23's pkcs11-tool, for Ed25519 (OpenSC #2952) */
        write_header(&writer, DER_BIT_STRING, point_size + 1);
        writer_u8(&writer, 0);
        break;
    case POINT_RAW: /* PKCS#11 v3.1 2.3.5, for Ed25519, as NSS has it; v2.20 could be read so */
    case POINT_FORMS:
        break;
    }
    writer_bytes(&writer, point, point_size);
    return writer.failed ? 0 : writer.used;
}

const uint8_t *quirk_point(const struct group *group, const uint8_t *value, size_t size)
{
    if (size < group->point_size)
        return NULL;
    const uint8_t *point = value + (size - group->point_size);
    for (int form = 0; form < POINT_FORMS; form++) {
        uint8_t expected[QUIRK_POINT_SIZE_MAX];
        if (quirk_point_write(form, point, group->point_size, expected) == size &&
            memcmp(expected, value, size) == 0)
            return point;
    }
    return NULL;
}
