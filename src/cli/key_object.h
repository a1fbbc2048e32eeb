/*
 * PKCS#11 objects from an OpenSSL key, and what they share with a wrapped import.
 */
#ifndef IMMURE_CLI_KEY_OBJECT_H
#define IMMURE_CLI_KEY_OBJECT_H

#include <openssl/evp.h>

#include "cli/key_kind.h"
#include "cli/key_pair.h"

/*
 * With C_CreateObject: the module sees the key. On success pair->private_handle is set. After the
 * public key, with which it is found out how the token has the curve named.
 */
enum token_error key_object_create_private(struct key_pair *pair, const struct key_kind *kind,
                                           const EVP_PKEY *pkey, struct problem *problem) MUST_USE;

/*
 * Creates the public key object; sets pair->public_handle and pair->params. A refusal is no error,
 * as the token may show the public key when it has the private one: pair->refusal says it. The
 * YubiHSM 2's module takes a public key only then (yubihsm-shell, pkcs11/yubihsm_pkcs11.c,
 * C_CreateObject()).
 */
enum token_error key_object_create_public(struct key_pair *pair, const struct key_kind *kind,
                                          const EVP_PKEY *pkey, struct problem *problem) MUST_USE;

/* Adds class, key type, protection and names of the pair's private key. */
void template_add_private_key(const struct key_pair *pair, const struct key_kind *kind, bool all,
                              struct template *template);

/* TOKEN_FAILED, with OpenSSL's reason; empties its error queue. */
enum token_error openssl_failed(const char *what, struct problem *problem);

#endif
