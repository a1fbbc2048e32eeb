/*
 * PKCS#11 templates: what Immure asks of the keys that it makes and imports.
 */
#ifndef IMMURE_CLI_TEMPLATE_H
#define IMMURE_CLI_TEMPLATE_H

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/attributes.h"

/* The longest is an imported RSA key's: 15 flags and names, 8 numbers. */
#define TEMPLATE_SIZE_MAX 32

/* The random CKA_ID of a new pair: as unique as a UUID. */
#define NEW_CKA_ID_SIZE 16

/* Attributes for one object; the values stay the caller's. */
struct template
{
    CK_ATTRIBUTE attributes[TEMPLATE_SIZE_MAX];
    CK_ULONG count;
};

void template_add(struct template *template, CK_ATTRIBUTE_TYPE type, const void *value,
                  size_t size);

/*
 * The attributes of a private key that signs, or also decrypts, and cannot leave, or of its public
 * key. Tokens that refuse an attribute they do not know get the key without those that only forbid
 * what we never use (`all` false).
 */
void template_add_private(struct template *template, bool decrypts, bool all);
void template_add_public(struct template *template, bool decrypts, bool all);

/* A private key or secret key for this session alone, which can only unwrap others. */
void template_add_session_unwrap(struct template *template);

#endif
