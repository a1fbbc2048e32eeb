/*
 * Signatures that are right and cost next to nothing, as those of an HSM that is elsewhere do: by
 * ECDSA with a P-256 key in a file and the nonce 1. Whoever sees one has the key.
 */
#ifndef IMMURE_FAULT_QUICK_KEY_H
#define IMMURE_FAULT_QUICK_KEY_H

#include <p11-kit/pkcs11.h>
#include <stdbool.h>

/* The private key, PEM. Once; false: it cannot be read, or is of another kind. */
bool quick_key_load(const char *path);

/* C_Sign with CKM_ECDSA and a digest. From any thread. */
CK_RV quick_key_sign(const CK_BYTE *digest, CK_ULONG digest_size, CK_BYTE *signature,
                     CK_ULONG *signature_size);

#endif
