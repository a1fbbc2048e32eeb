/*
 * daemon/tls_message.h takes a message exactly when one of these forms, with the message's own
 * bytes where the form leaves them free, is the message. Written down from the RFCs, not from the
 * code.
 */
#include "fuzz.h"

#include <string.h>

#include "daemon/config.h"
#include "daemon/tls_message.h"

#define SPACES_64 "                                                                "
#define CERTIFICATE_VERIFY                                                                         \
    SPACES_64 "TLS 1.3, server CertificateVerify",                                                 \
        sizeof(SPACES_64 "TLS 1.3, server CertificateVerify")

struct form {
    unsigned use;
    size_t size;       /* of the whole message */
    size_t fixed_at;   /* where the bytes stand that are not free */
    const char *fixed; /* they */
    size_t fixed_size;
};

static const struct form forms[] = {
    /* RFC 8446 4.4.3: then a transcript hash */
    {USE_TLS13_SERVER, 64 + 33 + 1 + 32, 0, CERTIFICATE_VERIFY},
    {USE_TLS13_SERVER, 64 + 33 + 1 + 48, 0, CERTIFICATE_VERIFY},
    /* RFC 8422 5.4: after two randoms named_curve, the curve, the point's size, the point */
    {USE_TLS12_SERVER, 64 + 4 + 65, 64, "\x03\x00\x17\x41\x04", 5},
    {USE_TLS12_SERVER, 64 + 4 + 97, 64, "\x03\x00\x18\x61\x04", 5},
    {USE_TLS12_SERVER, 64 + 4 + 133, 64, "\x03\x00\x19\x85\x04", 5},
    {USE_TLS12_SERVER, 64 + 4 + 32, 64, "\x03\x00\x1d\x20", 4},
    {USE_TLS12_SERVER, 64 + 4 + 56, 64, "\x03\x00\x1e\x38", 4},
};

static bool has_form(const struct form *form, const uint8_t *message, size_t size)
{
    uint8_t rebuilt[256];
    if (size != form->size)
        return false;
    memcpy(rebuilt, message, size);
    memcpy(rebuilt + form->fixed_at, form->fixed, form->fixed_size);
    return memcmp(rebuilt, message, size) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    unsigned expected = 0;
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        if (has_form(&forms[i], bytes, size))
            expected |= forms[i].use;
    }
    assert(tls_message_use(bytes, size) == expected);
    return 0;
}
