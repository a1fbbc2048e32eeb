#include "cli/template.h"

#include <assert.h>

struct flag {
    CK_ATTRIBUTE_TYPE type;
    CK_BBOOL value;
    bool needed; /* false: only forbids a use, and may be left out */
};

static const struct flag private_flags[] = {
    {CKA_TOKEN, CK_TRUE, true},     {CKA_PRIVATE, CK_TRUE, true},
    {CKA_SENSITIVE, CK_TRUE, true}, {CKA_EXTRACTABLE, CK_FALSE, true},
    {CKA_SIGN, CK_TRUE, true},      {CKA_UNWRAP, CK_FALSE, false},
    {CKA_DERIVE, CK_FALSE, false},  {CKA_SIGN_RECOVER, CK_FALSE, false},
};

/* The first is of keys that only sign. */
static const struct flag decrypt_flags[] = {
    {CKA_DECRYPT, CK_FALSE, false},
    {CKA_DECRYPT, CK_TRUE, true},
};

static const struct flag public_flags[] = {
    {CKA_TOKEN, CK_TRUE, true},     {CKA_VERIFY, CK_TRUE, true},
    {CKA_PRIVATE, CK_FALSE, false}, {CKA_WRAP, CK_FALSE, false},
    {CKA_DERIVE, CK_FALSE, false},  {CKA_VERIFY_RECOVER, CK_FALSE, false},
};

/*
 * NSS has a new pair that decrypts encrypt something, and destroys it where its public key may not
 * (nss, lib/softoken/pkcs11c.c, sftk_PairwiseConsistencyCheck).
 */
static const struct flag encrypt_flags[] = {
    {CKA_ENCRYPT, CK_FALSE, false},
    {CKA_ENCRYPT, CK_TRUE, false},
};

static const struct flag session_unwrap_flags[] = {
    {CKA_TOKEN, CK_FALSE, true},       {CKA_PRIVATE, CK_TRUE, true}, {CKA_SENSITIVE, CK_TRUE, true},
    {CKA_EXTRACTABLE, CK_FALSE, true}, {CKA_UNWRAP, CK_TRUE, true},
};

void template_add(struct template *template, CK_ATTRIBUTE_TYPE type, const void *value, size_t size)
{
    assert(template->count < TEMPLATE_SIZE_MAX);
    /* PKCS#11 has one struct for reading and writing; a template is only read. */
    template->attributes[template->count++] = (CK_ATTRIBUTE){type, (void *)value, size};
}

static void add_flags(struct template *template, const struct flag *flags, size_t count, bool all)
{
    for (size_t i = 0; i < count; i++) {
        if (all || flags[i].needed)
            template_add(template, flags[i].type, &flags[i].value, sizeof(flags[i].value));
    }
}

void template_add_private(struct template *template, bool decrypts, bool all)
{
    add_flags(template, &decrypt_flags[decrypts ? 1 : 0], 1, all);
    add_flags(template, private_flags, ARRAY_SIZE(private_flags), all);
}

void template_add_public(struct template *template, bool decrypts, bool all)
{
    add_flags(template, &encrypt_flags[decrypts ? 1 : 0], 1, all);
    add_flags(template, public_flags, ARRAY_SIZE(public_flags), all);
}

void template_add_session_unwrap(struct template *template)
{
    add_flags(template, session_unwrap_flags, ARRAY_SIZE(session_unwrap_flags), true);
}
