#include "cli/subject.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/err.h>
#include <string.h>
#include <strings.h>

/* RFC 5280 A.1's largest upper bound of an attribute that anyone uses (ub-name). */
#define VALUE_SIZE_MAX 32768
#define TYPE_SIZE_MAX  64
/* RFC 1035 2.3.4: 253 characters as text. */
#define DNS_NAME_SIZE_MAX  253
#define DNS_LABEL_SIZE_MAX 63
/* A URI is the longest; longer ones are no names of a server. */
#define SAN_SIZE_MAX 2048

/* --- Subject --------------------------------------------------------------------------------- */

static int hex_value(char digit)
{
    if (!isxdigit((unsigned char)digit))
        return -1;
    return isdigit((unsigned char)digit) ? digit - '0' : tolower((unsigned char)digit) - 'a' + 10;
}

/* The character after a backslash, or the byte of two digits: RFC 4514 3. Advances *at. */
static unsigned char unescape(const char **at)
{
    const char *text = *at;
    int high = hex_value(text[0]), low = high >= 0 ? hex_value(text[1]) : -1;
    *at += low >= 0 ? 2 : 1;
    return (unsigned char)(low >= 0 ? high << 4 | low : text[0]);
}

/* Reads up to an unescaped separator or the end; returns the length, or -1 with a problem. */
static int read_value(const char **at, char separator, unsigned char *value,
                      struct problem *problem)
{
    size_t length = 0;
    const char *text = *at;
    while (*text != '\0' && *text != separator) {
        unsigned char next = (unsigned char)*text++;
        if (next == '+')
            return problem_set(problem, -1, "\"+\" in the subject: write it as \"\\+\"");
        if (next == '\\' && *text == '\0')
            return problem_set(problem, -1, "the subject ends with a backslash");
        if (next == '\\')
            next = unescape(&text);
        if (length == VALUE_SIZE_MAX)
            return problem_set(problem, -1, "a value in the subject is too long");
        value[length++] = next;
    }
    *at = text;
    return (int)length;
}

static int read_type(const char **at, char *type, struct problem *problem)
{
    size_t length = strcspn(*at, "=/,\\+");
    if ((*at)[length] != '=' || length == 0 || length >= TYPE_SIZE_MAX)
        return problem_set(problem, -1, "the subject has no TYPE=VALUE at \"%.40s\"", *at);
    memcpy(type, *at, length);
    type[length] = '\0';
    *at += length + 1;
    return 0;
}

/* Adds one; `first` puts it before those that are there. */
static int add_entry(X509_NAME *name, const char *type, const unsigned char *value, int length,
                     bool first, struct problem *problem)
{
    if (length == 0)
        return problem_set(problem, -1, "%s in the subject is empty", type);
    if (X509_NAME_add_entry_by_txt(name, type, MBSTRING_UTF8, value, length, first ? 0 : -1, 0) ==
        1)
        return 0;
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    problem_set(problem, -1, "%s=%.*s in the subject: %s", type, length > 64 ? 64 : length,
                (const char *)value, reason != NULL ? reason : "refused");
    ERR_clear_error();
    return -1;
}

int subject_parse(const char *text, X509_NAME *name, struct problem *problem)
{
    static unsigned char value[VALUE_SIZE_MAX];
    char type[TYPE_SIZE_MAX];
    char separator = *text == '/' ? '/' : ',';

    if (separator == '/')
        text++;
    for (;;) {
        text += separator == ',' ? strspn(text, " ") : 0;
        if (read_type(&text, type, problem) != 0)
            return -1;
        if (separator == ',' && *text == '#')
            return problem_set(problem, -1, "%s=# in the subject: BER values are not taken", type);
        int length = read_value(&text, separator, value, problem);
        if (length < 0 || add_entry(name, type, value, length, separator == ',', problem) != 0)
            return -1;
        if (*text == '\0')
            return 0;
        text++;
    }
}

/* --- Subject alternative names --------------------------------------------------------------- */

static const struct {
    const char *prefix;
    int type;
} prefixes[] = {
    {"DNS:", GEN_DNS},
    {"IP:", GEN_IPADD},
    {"email:", GEN_EMAIL},
    {"URI:", GEN_URI},
};

static bool is_ip_address(const char *text)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

/* Letters, digits, '_', and '-' in between (RFC 1034 3.5, RFC 1123 2.1). */
static bool is_dns_label(const char *text, size_t length)
{
    static const char characters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return length > 0 && length <= DNS_LABEL_SIZE_MAX && strspn(text, characters) >= length &&
           text[0] != '-' && text[length - 1] != '-';
}

/* "*." at most once and in front. No root's dot: certificates have none (RFC 5280 4.2.1.6). */
static bool is_dns_name(const char *text)
{
    if (strlen(text) > DNS_NAME_SIZE_MAX)
        return false;
    if (strncmp(text, "*.", 2) == 0)
        text += 2;
    for (;;) {
        size_t length = strcspn(text, ".");
        if (!is_dns_label(text, length))
            return false;
        if (text[length] == '\0') /* a number at the end is that of a mistyped address */
            return strspn(text, "0123456789") < length;
        text += length + 1;
    }
}

static int san_type(const char **text)
{
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
        size_t length = strlen(prefixes[i].prefix);
        if (strncasecmp(*text, prefixes[i].prefix, length) == 0) {
            *text += length;
            return prefixes[i].type;
        }
    }
    return is_ip_address(*text) ? GEN_IPADD : GEN_DNS;
}

static bool is_plain_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

static int san_check(int type, const char *value, const char *text, struct problem *problem)
{
    if (*value == '\0')
        return problem_set(problem, -1, "--san \"%s\": a name is empty", text);
    if (!is_plain_ascii(value))
        return problem_set(problem, -1,
                           "--san \"%s\" has a blank, or a character that is not ASCII; write "
                           "international names in their xn-- form",
                           text);
    if (type == GEN_DNS && !is_dns_name(value))
        return problem_set(problem, -1, "--san \"%s\" is no DNS name", text);
    if (type == GEN_IPADD && !is_ip_address(value))
        return problem_set(problem, -1, "--san \"%s\" is no IP address", text);
    if (type == GEN_EMAIL && strchr(value, '@') == NULL)
        return problem_set(problem, -1, "--san \"%s\" is no e-mail address", text);
    if (type == GEN_URI && strchr(value, ':') == NULL)
        return problem_set(problem, -1, "--san \"%s\" is no absolute URI", text);
    return 0;
}

static int san_add(GENERAL_NAMES *names, const char *text, struct problem *problem)
{
    const char *value = text;
    int type = san_type(&value);
    if (san_check(type, value, text, problem) != 0)
        return -1;
    GENERAL_NAME *name = a2i_GENERAL_NAME(NULL, NULL, NULL, type, value, 0);
    if (name != NULL && sk_GENERAL_NAME_push(names, name) > 0)
        return 0;
    GENERAL_NAME_free(name);
    ERR_clear_error();
    return problem_set(problem, -1, "--san \"%s\" cannot be taken", text);
}

static int san_add_list(GENERAL_NAMES *names, const char *text, struct problem *problem)
{
    for (;;) {
        char item[SAN_SIZE_MAX];
        size_t length = strcspn(text, ",");
        if (length >= sizeof(item))
            return problem_set(problem, -1, "--san \"%.40s...\" is too long", text);
        memcpy(item, text, length);
        item[length] = '\0';
        if (san_add(names, item, problem) != 0)
            return -1;
        if (text[length] == '\0')
            return 0;
        text += length + 1;
    }
}

GENERAL_NAMES *san_parse(const struct text_list *texts, struct problem *problem)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    if (names == NULL)
        problem_set(problem, 0, "out of memory");
    for (size_t i = 0; i < texts->count && names != NULL; i++) {
        if (san_add_list(names, texts->items[i], problem) != 0) {
            GENERAL_NAMES_free(names);
            names = NULL;
        }
    }
    return names;
}
