/*
 * Bringing a private key into a token encrypted, so that the module, and what lies between it and
 * the device, does not see the key.
 */
#ifndef IMMURE_CLI_KEY_WRAP_H
#define IMMURE_CLI_KEY_WRAP_H

#include <openssl/evp.h>

#include "cli/key_kind.h"
#include "cli/key_pair.h"

/* True if the token lists all that key_wrap_import() needs. */
bool key_wrap_available(struct token *token) MUST_USE;

/*
 * The token makes an RSA pair for this session; an AES-256 key from here comes in under it
 * (CKM_RSA_PKCS_OAEP); the private key's PKCS#8 comes in under that (RFC 5649). On success
 * pair->private_handle is set.
 */
enum token_error key_wrap_import(struct key_pair *pair, const struct key_kind *kind,
                                 const EVP_PKEY *pkey, struct problem *problem) MUST_USE;

#endif
