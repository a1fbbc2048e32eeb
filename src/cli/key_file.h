/*
 * A private key in a PEM file: read once, and removed when it is in a token.
 */
#ifndef IMMURE_CLI_KEY_FILE_H
#define IMMURE_CLI_KEY_FILE_H

#include <openssl/evp.h>
#include <sys/stat.h>

#include "cli/command.h"

struct key_file {
    const char *path;
    struct stat status; /* of the file that was read: no other is shredded */
    EVP_PKEY *pkey;
    bool has_certificate; /* the file holds one as well */
};

/* Asks for the pass phrase on the terminal where there is one. Free pkey in any case. */
enum exit_status key_file_read(const char *path, struct key_file *file) MUST_USE;

/* Overwrites the file once, syncs it, and removes it; a symbolic link is followed. */
enum exit_status key_file_shred(const struct key_file *file) MUST_USE;

#endif
