#include "daemon/use.h"

#include <stdio.h>
#include <string.h>

/* The first with all bits of a set names it. */
static const struct {
    const char *name;
    unsigned uses;
} words[] = {
    {"tls-server", USE_TLS_SERVER},
    {"tls13-server", USE_TLS13_SERVER},
    {"tls12-server", USE_TLS12_SERVER},
    {"tls12-server-dhe", USE_TLS12_SERVER_DHE},
    {"tls12-rsa-decrypt", USE_TLS12_RSA_DECRYPT},
    {"csr", USE_CSR},
    {"sign", USE_SIGN},
    {"decrypt", USE_DECRYPT},
};

unsigned use_by_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(words[i].name, name) == 0)
            return words[i].uses;
    }
    return 0;
}

const char *use_name(unsigned use)
{
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (words[i].uses == use)
            return words[i].name;
    }
    return "unknown";
}

void use_names(unsigned uses, char *names, size_t size)
{
    size_t used = 0;
    names[0] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(words) && used < size; i++) {
        if ((uses & words[i].uses) != words[i].uses)
            continue;
        used += (size_t)snprintf(names + used, size - used, "%s%s", used > 0 ? ", " : "",
                                 words[i].name);
        if (uses != USE_ALL)
            uses &= ~words[i].uses;
    }
}
