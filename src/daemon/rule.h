/*
 * The rules by which a request is refused, each with a name for logs, counters and the audit log.
 */
#ifndef IMMURE_DAEMON_RULE_H
#define IMMURE_DAEMON_RULE_H

enum rule {
    RULE_NONE, /* nothing was refused */
    RULE_GRANT,
    RULE_USE,
    RULE_RATE,
    RULE_SCHEME,
    RULE_DIGEST,
    RULE_CIPHERTEXT,
    RULE_MESSAGE,
    RULE_TLS13_CONTEXT,
    RULE_TLS13_HASH,
    RULE_TLS13_SCHEME,
    RULE_TLS12_TRANSCRIPT,
    RULE_TLS12_DER,
    RULE_TLS12_SSH,
    RULE_TLS12_CURVE,
    RULE_TLS12_POINT,
    RULE_TLS12_GROUP,
    RULE_TLS12_PUBLIC_VALUE,
    RULE_CSR_FORM,
    RULE_CSR_KEY,
    RULE_COUNT
};

/* "tls13-context"; "none" for RULE_NONE. */
const char *rule_name(enum rule rule);

/* What the rule found, as "its named curve is not one of TLS 1.2". */
const char *rule_text(enum rule rule);

#endif
