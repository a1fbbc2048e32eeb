/*
 * Names for a certificate request: the subject and the subject alternative names.
 */
#ifndef IMMURE_CLI_SUBJECT_H
#define IMMURE_CLI_SUBJECT_H

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/problem.h"
#include "cli/command.h"

/*
 * Adds the subject to `name`: "/C=DE/O=Example/CN=www", most general first, or RFC 4514's
 * "CN=www,O=Example,C=DE", which is the same, written from its end. A backslash takes the meaning
 * from the next character, or stands with two hexadecimal digits for a byte; '+' (several values
 * in one) and '#' (BER) of RFC 4514 are not taken. 0, or -1 and a problem.
 */
int subject_parse(const char *text, X509_NAME *name, struct problem *problem) MUST_USE;

/*
 * The names of all texts, each a comma-separated list: an IP address where it is one, else a DNS
 * name, unless a prefix DNS:, IP:, email: or URI: says what it is. NULL and a problem if one is
 * wrong; an empty list gives no names.
 */
GENERAL_NAMES *san_parse(const struct text_list *texts, struct problem *problem) MUST_USE;

#endif
