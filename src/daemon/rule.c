#include "daemon/rule.h"

static const struct {
    const char *name, *text;
} rules[RULE_COUNT] = {
    [RULE_NONE] = {"none", ""},
    [RULE_GRANT] = {"grant", "no grant covers this client and key"},
    [RULE_USE] = {"use", "no grant allows this use"},
    [RULE_RATE] = {"rate", "the grant's rate is used up"},
    [RULE_SCHEME] = {"scheme", "the scheme is not for this key and operation"},
    [RULE_DIGEST] = {"digest", "it has not the length of the scheme's digest"},
    [RULE_CIPHERTEXT] = {"ciphertext", "it is no ciphertext for this key"},
    [RULE_MESSAGE] = {"message", "it is nothing that a TLS server signs, and no CSR"},
    [RULE_TLS13_CONTEXT] = {"tls13-context",
                            "after TLS 1.3's 64 blanks there is no \"server CertificateVerify\""},
    [RULE_TLS13_HASH] = {"tls13-hash", "TLS 1.3's transcript hash has not 32 or 48 bytes"},
    [RULE_TLS13_SCHEME] = {"tls13-scheme", "TLS 1.3 does not allow this scheme with this key"},
    [RULE_TLS12_TRANSCRIPT] = {"tls12-transcript",
                               "it begins like the handshake that a TLS client signs"},
    [RULE_TLS12_DER] = {"tls12-der", "it is a key exchange, and DER as well"},
    [RULE_TLS12_SSH] = {"tls12-ssh", "it is a key exchange, and begins as what SSH signs"},
    [RULE_TLS12_CURVE] = {"tls12-curve", "its named curve is not one of TLS 1.2"},
    [RULE_TLS12_POINT] = {"tls12-point", "it does not end with one point of its named curve"},
    [RULE_TLS12_GROUP] = {"tls12-group", "its DHE group is none of RFC 7919 and RFC 3526"},
    [RULE_TLS12_PUBLIC_VALUE] = {"tls12-public-value",
                                 "it does not end with one public value of its DHE group"},
    [RULE_CSR_FORM] = {"csr-form", "it is DER, and no CertificationRequestInfo"},
    [RULE_CSR_KEY] = {"csr-key", "it requests a certificate for another key"},
};

const char *rule_name(enum rule rule)
{
    return rules[rule].name;
}

const char *rule_text(enum rule rule)
{
    return rules[rule].text;
}
