#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <ini.h>
#include <p11-kit/uri.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "audit/files.h"
#include "daemon/config_pin.h"
#include "daemon/unit.h"

/* inih's buffer for a line; a PKCS#11 URI of several long attributes fits many times. */
#define LINE_SIZE_MAX 4096

#define BLANKS     " \t"
#define SEPARATORS BLANKS ","

struct parser {
    FILE *file;
    int line;
    struct config *config;
    const struct section *section; /* NULL before the first header */
    char *section_title;           /* "token prod", for messages */
    int section_line;
    void *target;  /* what the section fills in: a part of `config` */
    unsigned seen; /* bit i: section->settings[i] was given */
    bool immured_seen;
    bool without_pins; /* PIN files are not looked at */
    bool failed;
    bool denied; /* failed, because we may not read a PIN file */
    struct problem *problem;
};

/* Reads one value into the parser's target; false: the parser has failed with a problem. */
typedef bool setter(struct parser *parser, const char *value);

struct setting {
    const char *name;
    setter *set;
    bool required;
};

struct section {
    const char *kind;
    bool named;
    void *(*begin)(struct parser *parser, const char *name); /* the target, or NULL: failed */
    bool (*end)(struct parser *parser);                      /* checks the whole; may be NULL */
    const struct setting *settings;
    size_t setting_count;
};

static bool fail_at(struct parser *parser, int line, const char *format, ...) PRINTF(3, 4);

static bool fail_at(struct parser *parser, int line, const char *format, ...)
{
    char text[PROBLEM_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    parser->failed = true;
    problem_set(parser->problem, -1, "%s:%d: %s", parser->config->path, line, text);
    return false;
}

#define fail(parser, ...) fail_at((parser), (parser)->line, __VA_ARGS__)

static bool copy_string(struct parser *parser, const char *value, const char **copy)
{
    *copy = strdup(value);
    return *copy != NULL || fail(parser, "out of memory");
}

/* Settings are const for everyone but their owner. */
static void free_string(const char *string)
{
    free((char *)string);
}

/* --- [immured] --- */

static void *immured_begin(struct parser *parser, const char *name)
{
    (void)name;
    if (parser->immured_seen) {
        fail(parser, "[immured] is there twice: make one section of both");
        return NULL;
    }
    parser->immured_seen = true;
    return parser->config;
}

static bool set_socket(struct parser *parser, const char *value)
{
    struct config *config = parser->target;
    const size_t size_max = sizeof(((struct sockaddr_un *)0)->sun_path);
    if (value[0] != '/' || strlen(value) >= size_max)
        return fail(parser, "socket = %s: give an absolute path of at most %zu bytes", value,
                    size_max - 1);
    free(config->socket);
    config->socket = strdup(value);
    return config->socket != NULL || fail(parser, "out of memory");
}

static bool set_audit(struct parser *parser, const char *value)
{
    struct config *config = parser->target;
    bool off = strcmp(value, "off") == 0;
    if (!off && value[0] != '/')
        return fail(parser, "audit = %s: give the absolute path of a directory, or off", value);
    free(config->audit);
    config->audit = off ? NULL : strdup(value);
    return off || config->audit != NULL || fail(parser, "out of memory");
}

static bool set_log_level(struct parser *parser, const char *value)
{
    struct config *config = parser->target;
    return log_level_from_name(value, &config->log_level) ||
           fail(parser, "log-level = %s: give error, warning, notice, info or debug", value);
}

static bool set_allow_exec(struct parser *parser, const char *value)
{
    struct config *config = parser->target;
    config->allow_exec = strcmp(value, "yes") == 0;
    return config->allow_exec || strcmp(value, "no") == 0 ||
           fail(parser, "allow-exec = %s: give yes or no", value);
}

static const struct setting immured_settings[] = {
    {"socket", set_socket, false},
    {"log-level", set_log_level, false},
    {"allow-exec", set_allow_exec, false},
    {"audit", set_audit, false},
};

/* --- [token NAME] --- */

static void *token_begin(struct parser *parser, const char *name)
{
    struct config *config = parser->config;
    for (size_t i = 0; i < config->token_count; i++) {
        if (strcmp(config->tokens[i].settings.name, name) == 0) {
            fail(parser, "[token %s] is there twice: name each token differently", name);
            return NULL;
        }
    }
    if (config->token_count == CONFIG_TOKENS_MAX) {
        fail(parser, "more than %d [token] sections", CONFIG_TOKENS_MAX);
        return NULL;
    }
    struct token_config *token = &config->tokens[config->token_count++];
    token->settings.max_sessions = TOKEN_MAX_SESSIONS_DEFAULT;
    return copy_string(parser, name, &token->settings.name) ? token : NULL;
}

static bool token_end(struct parser *parser)
{
    const struct token_config *token = parser->target;
    if (token->pin_file != NULL && token->pin_credential != NULL)
        return fail_at(parser, parser->section_line,
                       "[%s] has both pin-file and pin-credential: keep one of them",
                       parser->section_title);
    return true;
}

static bool set_module(struct parser *parser, const char *value)
{
    struct token_config *token = parser->target;
    if (value[0] != '/')
        return fail(parser, "module = %s: give the absolute path of the PKCS#11 library", value);
    token->module_line = parser->line;
    return copy_string(parser, value, &token->settings.module);
}

static bool check_uri(struct parser *parser, const char *value, P11KitUri *uri)
{
    int rv =
        p11_kit_uri_parse(value, P11_KIT_URI_FOR_TOKEN | P11_KIT_URI_FOR_MODULE_WITH_VERSION, uri);
    if (rv != P11_KIT_URI_OK)
        return fail(parser,
                    "uri = %s: %s; give an RFC 7512 URI of a token, as in pkcs11:token=prod", value,
                    p11_kit_uri_message(rv));
    if (p11_kit_uri_get_pin_value(uri) != NULL)
        return fail(parser, "uri holds a PIN, which does not belong here: remove pin-value and use "
                            "pin-file or pin-credential");
    return true;
}

static bool set_uri(struct parser *parser, const char *value)
{
    struct token_config *token = parser->target;
    P11KitUri *uri = p11_kit_uri_new();
    bool good = uri != NULL ? check_uri(parser, value, uri) : fail(parser, "out of memory");
    p11_kit_uri_free(uri);
    return good && copy_string(parser, value, &token->settings.uri);
}

static bool check_pin_file(struct parser *parser, const char *path)
{
    struct problem problem;
    int file = config_open_pin_file(path, &problem);
    parser->denied = file == CONFIG_DENIED;
    if (file < 0)
        return fail(parser, "%s", problem.text);
    close(file);
    return true;
}

static bool set_pin_file(struct parser *parser, const char *value)
{
    struct token_config *token = parser->target;
    if (value[0] != '/')
        return fail(parser, "pin-file = %s: give an absolute path", value);
    if (!parser->without_pins && !check_pin_file(parser, value))
        return false;
    token->pin_file = strdup(value);
    return token->pin_file != NULL || fail(parser, "out of memory");
}

static bool set_pin_credential(struct parser *parser, const char *value)
{
    struct token_config *token = parser->target;
    if (strchr(value, '/') != NULL || value[0] == '.')
        return fail(parser, "pin-credential = %s: give the name that LoadCredential= has, no path",
                    value);
    token->pin_credential = strdup(value);
    return token->pin_credential != NULL || fail(parser, "out of memory");
}

static bool parse_number(const char *value, unsigned long max, unsigned long *number)
{
    char *end = NULL;
    errno = 0;
    *number = strtoul(value, &end, 10);
    return isdigit((unsigned char)value[0]) && *end == '\0' && errno == 0 && *number <= max;
}

static bool set_max_sessions(struct parser *parser, const char *value)
{
    struct token_config *token = parser->target;
    unsigned long number;
    if (!parse_number(value, TOKEN_MAX_SESSIONS_LIMIT, &number) || number == 0)
        return fail(parser, "max-sessions = %s: give a number from 1 to %d", value,
                    TOKEN_MAX_SESSIONS_LIMIT);
    token->settings.max_sessions = (unsigned)number;
    return true;
}

static bool set_library_parameters(struct parser *parser, const char *value)
{
    struct token_config *token = parser->target;
    return copy_string(parser, value, &token->settings.library_parameters);
}

static bool set_verify(struct parser *parser, const char *value)
{
    struct token_config *token = parser->target;
    token->verify_always = strcmp(value, "always") == 0;
    if (!token->verify_always && strcmp(value, "first") != 0)
        return fail(parser, "verify-signatures = %s: give first or always", value);
    return true;
}

static const struct setting token_settings[] = {
    {"module", set_module, true},
    {"uri", set_uri, true},
    {"pin-file", set_pin_file, false},
    {"pin-credential", set_pin_credential, false},
    {"max-sessions", set_max_sessions, false},
    {"verify-signatures", set_verify, false},
    {"library-parameters", set_library_parameters, false},
};

/* --- [grant NAME] --- */

static void *grant_begin(struct parser *parser, const char *name)
{
    struct config *config = parser->config;
    for (size_t i = 0; i < config->grant_count; i++) {
        if (strcmp(config->grants[i].name, name) == 0) {
            fail(parser, "[grant %s] is there twice: name each grant differently", name);
            return NULL;
        }
    }
    if (config->grant_count == CONFIG_GRANTS_MAX) {
        fail(parser, "more than %d [grant] sections", CONFIG_GRANTS_MAX);
        return NULL;
    }
    struct grant_config *grant = &config->grants[config->grant_count++];
    grant->uses = USE_TLS_SERVER;
    grant->name = strdup(name);
    if (grant->name == NULL)
        fail(parser, "out of memory");
    return grant->name != NULL ? grant : NULL;
}

static bool grant_end(struct parser *parser)
{
    struct grant_config *grant = parser->target;
    if (!grant->has_user && !grant->has_group && grant->unit == NULL && grant->cgroup == NULL)
        return fail_at(parser, parser->section_line,
                       "[%s] says none of user, group, unit and cgroup: add at least one of them",
                       parser->section_title);
    if (grant->rate.interval_ns == 0 && (grant->rate.burst != 0 || grant->rate.refuse))
        return fail_at(parser, parser->section_line, "[%s] has burst or over-rate without rate",
                       parser->section_title);
    if (grant->rate.burst == 0)
        grant->rate.burst = grant->rate.count;
    return true;
}

/* The highest id means "none" to chown(2) and its kind. */
#define ID_MAX (UINT32_MAX - 1UL)

static bool set_user(struct parser *parser, const char *value)
{
    struct grant_config *grant = parser->target;
    unsigned long number;
    const struct passwd *user = NULL;
    if (!parse_number(value, ID_MAX, &number)) {
        user = getpwnam(value);
        if (user == NULL)
            return fail(parser, "user = %s: there is no such user here", value);
    }
    grant->has_user = true;
    grant->user = user != NULL ? user->pw_uid : (uid_t)number;
    return true;
}

static bool set_group(struct parser *parser, const char *value)
{
    struct grant_config *grant = parser->target;
    unsigned long number;
    const struct group *group = NULL;
    if (!parse_number(value, ID_MAX, &number)) {
        group = getgrnam(value);
        if (group == NULL)
            return fail(parser, "group = %s: there is no such group here", value);
    }
    grant->has_group = true;
    grant->group = group != NULL ? group->gr_gid : (gid_t)number;
    return true;
}

/* Calls `take` for each word of the value, until it fails. */
static bool for_each_word(struct parser *parser, const char *value,
                          bool (*take)(struct parser *parser, const char *word))
{
    char words[LINE_SIZE_MAX], *rest = NULL;
    snprintf(words, sizeof(words), "%s", value);
    for (char *word = strtok_r(words, SEPARATORS, &rest); word != NULL;
         word = strtok_r(NULL, SEPARATORS, &rest)) {
        if (!take(parser, word))
            return false;
    }
    return true;
}

static bool add_key_pattern(struct parser *parser, const char *word)
{
    struct grant_config *grant = parser->target;
    size_t count = 0;
    while (grant->keys != NULL && grant->keys[count] != NULL)
        count++;
    char **keys = reallocarray(grant->keys, count + 2, sizeof(*keys));
    if (keys == NULL)
        return fail(parser, "out of memory");
    grant->keys = keys;
    keys[count] = strdup(word);
    keys[count + 1] = NULL;
    return keys[count] != NULL || fail(parser, "out of memory");
}

static bool set_keys(struct parser *parser, const char *value)
{
    const struct grant_config *grant = parser->target;
    return for_each_word(parser, value, add_key_pattern) &&
           (grant->keys != NULL || fail(parser, "keys has no pattern: give names, or * for all"));
}

static bool add_use(struct parser *parser, const char *word)
{
    struct grant_config *grant = parser->target;
    char names[USE_NAMES_SIZE];
    unsigned uses = use_by_name(word);
    use_names(USE_ALL, names, sizeof(names));
    grant->uses |= uses;
    return uses != 0 || fail(parser, "use = %s: give some of %s", word, names);
}

static bool set_use(struct parser *parser, const char *value)
{
    struct grant_config *grant = parser->target;
    grant->uses = 0;
    return for_each_word(parser, value, add_use) &&
           (grant->uses != 0 || fail(parser, "use is empty: remove it, or say tls-server"));
}

static bool set_unit(struct parser *parser, const char *value)
{
    struct grant_config *grant = parser->target;
    char unit[UNIT_NAME_SIZE];
    if (!unit_of_cgroup(value, unit) || strcmp(unit, value) != 0)
        return fail(parser,
                    "unit = %s: give the name of a systemd service or scope, as in nginx.service, "
                    "of at most %d bytes",
                    value, UNIT_NAME_SIZE - 1);
    grant->unit = strdup(value);
    return grant->unit != NULL || fail(parser, "out of memory");
}

static bool set_cgroup(struct parser *parser, const char *value)
{
    struct grant_config *grant = parser->target;
    size_t size = strlen(value);
    if (value[0] != '/' || size < 2 || value[size - 1] == '/' || size >= CGROUP_PATH_SIZE)
        return fail(
            parser,
            "cgroup = %s: give a control group's path, as in /machine.slice/web, of at most "
            "%d bytes",
            value, CGROUP_PATH_SIZE - 1);
    grant->cgroup = strdup(value);
    return grant->cgroup != NULL || fail(parser, "out of memory");
}

static bool set_rate(struct parser *parser, const char *value)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } spans[] = {{"/s", 1000000000}, {"/min", 60000000000}, {"/h", 3600000000000}};
    struct grant_config *grant = parser->target;
    char words[16];
    size_t digits = strspn(value, "0123456789");
    unsigned long count = 0;
    snprintf(words, sizeof(words), "%.*s", (int)digits, value);
    if (parse_number(words, GRANT_RATE_MAX, &count) && count > 0) {
        for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
            if (strcmp(value + digits, spans[i].name) == 0)
                grant->rate.interval_ns = spans[i].ns / count;
        }
    }
    grant->rate.count = count;
    return grant->rate.interval_ns != 0 ||
           fail(parser, "rate = %s: give a number from 1 to %d and /s, /min or /h, as in 100/s",
                value, GRANT_RATE_MAX);
}

static bool set_burst(struct parser *parser, const char *value)
{
    struct grant_config *grant = parser->target;
    unsigned long number = 0;
    if (!parse_number(value, GRANT_RATE_MAX, &number) || number == 0)
        return fail(parser, "burst = %s: give a number from 1 to %d", value, GRANT_RATE_MAX);
    grant->rate.burst = number;
    return true;
}

static bool set_over_rate(struct parser *parser, const char *value)
{
    struct grant_config *grant = parser->target;
    grant->rate.refuse = strcmp(value, "refuse") == 0;
    return grant->rate.refuse || strcmp(value, "alarm") == 0 ||
           fail(parser, "over-rate = %s: give alarm or refuse", value);
}

static const struct setting grant_settings[] = {
    {"user", set_user, false},     {"group", set_group, false}, {"unit", set_unit, false},
    {"cgroup", set_cgroup, false}, {"keys", set_keys, true},    {"use", set_use, false},
    {"rate", set_rate, false},     {"burst", set_burst, false}, {"over-rate", set_over_rate, false},
};

/* --- The file --- */

static const struct section sections[] = {
    {"immured", false, immured_begin, NULL, immured_settings, ARRAY_SIZE(immured_settings)},
    {"token", true, token_begin, token_end, token_settings, ARRAY_SIZE(token_settings)},
    {"grant", true, grant_begin, grant_end, grant_settings, ARRAY_SIZE(grant_settings)},
};

static bool end_section(struct parser *parser)
{
    const struct section *section = parser->section;
    if (section == NULL)
        return true;
    for (size_t i = 0; i < section->setting_count; i++) {
        if (section->settings[i].required && (parser->seen & 1U << i) == 0)
            return fail_at(parser, parser->section_line, "[%s] lacks %s: add a line \"%s = ...\"",
                           parser->section_title, section->settings[i].name,
                           section->settings[i].name);
    }
    return section->end == NULL || section->end(parser);
}

static const struct section *find_section(const char *kind)
{
    for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
        if (strcmp(sections[i].kind, kind) == 0)
            return &sections[i];
    }
    return NULL;
}

/* Names go into log lines, shell commands and JSON: no blanks, no control characters. */
static bool name_is_plain(const char *name)
{
    for (const char *c = name; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && strchr("._-", *c) == NULL)
            return false;
    }
    return name[0] != '\0';
}

/* `title` is what stood between the brackets: "immured", "token NAME", "grant NAME". */
static bool begin_section(struct parser *parser, const char *title)
{
    if (!end_section(parser))
        return false;

    char *rest = NULL;
    free(parser->section_title);
    parser->section_title = strdup(title);
    char words[LINE_SIZE_MAX];
    snprintf(words, sizeof(words), "%s", title);
    const char *kind = strtok_r(words, BLANKS, &rest);
    const char *name = strtok_r(NULL, BLANKS, &rest);
    const struct section *section = kind != NULL ? find_section(kind) : NULL;
    if (parser->section_title == NULL)
        return fail(parser, "out of memory");
    if (section == NULL)
        return fail(parser,
                    "unknown section [%s]: there are [immured], [token NAME] and "
                    "[grant NAME]",
                    title);
    if (section->named != (name != NULL && name_is_plain(name)) ||
        strtok_r(NULL, BLANKS, &rest) != NULL)
        return fail(parser, "section [%s]: %s", title,
                    section->named ? "give it one name of letters, digits, dots, dashes and "
                                     "underscores, as in [token prod]"
                                   : "it takes no name");

    parser->section = section;
    parser->section_line = parser->line;
    parser->seen = 0;
    parser->target = section->begin(parser, name);
    return parser->target != NULL;
}

/*
 * inih tells neither lines nor headers of empty sections, cuts section names at 50 bytes and
 * ignores what follows a header's bracket; so headers are looked at here, on the way to it.
 */
static bool look_at_header(struct parser *parser, const char *line)
{
    const char *start = line + strspn(line, BLANKS);
    if (*start != '[')
        return true;
    char title[LINE_SIZE_MAX];
    size_t size = strcspn(start + 1, "]\r\n");
    if (start[1 + size] != ']')
        return fail(parser, "a section's header lacks its closing bracket");
    const char *after = start + size + 2;
    after += strspn(after, BLANKS "\r\n");
    if (*after != '\0' && *after != ';' && *after != '#')
        return fail(parser, "there is more on the line of a section's header: begin a new line");
    snprintf(title, sizeof(title), "%.*s", (int)size, start + 1);
    return begin_section(parser, title);
}

/* inih's reader: one line, as fgets(3); NULL ends the parsing. */
static char *read_line(char *line, int size, void *context)
{
    struct parser *parser = context;
    if (parser->failed || fgets(line, size, parser->file) == NULL)
        return NULL;
    parser->line++;
    if (strchr(line, '\n') == NULL && !feof(parser->file))
        fail(parser, "the line is longer than %d bytes, or holds a NUL", size - 2);
    else
        look_at_header(parser, line);
    return parser->failed ? NULL : line;
}

static bool set_value(struct parser *parser, const char *name, const char *value)
{
    const struct section *section = parser->section;
    if (section == NULL)
        return fail(parser, "%s stands before the first section: begin with [immured]", name);
    for (size_t i = 0; i < section->setting_count; i++) {
        if (strcmp(section->settings[i].name, name) != 0)
            continue;
        if ((parser->seen & 1U << i) != 0)
            return fail(parser, "%s is given twice in [%s]", name, parser->section_title);
        if (value[0] == '\0')
            return fail(parser, "%s has no value", name);
        parser->seen |= 1U << i;
        return section->settings[i].set(parser, value);
    }
    return fail(parser, "unknown key %s in [%s]: see immure.conf(5)", name, parser->section_title);
}

/* inih's handler; 1 always, because a failure is kept in the parser. */
static int handle_value(void *context, const char *section, const char *name, const char *value)
{
    struct parser *parser = context;
    (void)section;
    if (!parser->failed)
        set_value(parser, name, value);
    return 1;
}

static int parse_file(struct parser *parser)
{
    ini_max_line = LINE_SIZE_MAX;
    ini_allow_multiline = false; /* an indented line is a setting like any other */
    int bad_line = ini_parse_stream(read_line, parser, handle_value, parser);
    if (parser->failed)
        return -1;
    if (bad_line < 0)
        fail(parser, "out of memory");
    else if (bad_line > 0)
        fail_at(parser, bad_line, "neither a section nor \"key = value\" nor a comment");
    else if (ferror(parser->file))
        fail(parser, "cannot be read on: %s", strerror(errno));
    else
        end_section(parser);
    return parser->failed ? -1 : 0;
}

static int fail_to_open(const char *path, int error, struct problem *problem)
{
    if (error == EACCES)
        return problem_set(problem, CONFIG_DENIED, "%s: user id %u may not read it", path,
                           (unsigned)geteuid());
    return problem_set(problem, -1,
                       "%s: cannot be opened (%s): %sname another with -c or IMMURE_CONF; "
                       "immure.conf(5) has an example",
                       path, strerror(error), error == ENOENT ? "create it, or " : "");
}

static int load(struct config *config, const char *path, bool without_pins, struct problem *problem)
{
    config->path = strdup(path);
    config->socket = strdup(IMMURE_SOCKET_DEFAULT);
    config->audit = strdup(AUDIT_DIRECTORY_DEFAULT);
    config->log_level = LOG_LEVEL_INFO;
    if (config->path == NULL || config->socket == NULL || config->audit == NULL)
        return problem_set(problem, -1, "%s: out of memory", path);

    struct parser parser = {.config = config, .without_pins = without_pins, .problem = problem};
    parser.file = fopen(path, "re");
    if (parser.file == NULL)
        return fail_to_open(path, errno, problem);
    int result = parse_file(&parser);
    free(parser.section_title);
    fclose(parser.file);
    return parser.denied ? CONFIG_DENIED : result;
}

static int load_new(const char *path, bool without_pins, struct config **config,
                    struct problem *problem)
{
    *config = calloc(1, sizeof(**config));
    if (*config == NULL)
        return problem_set(problem, -1, "%s: out of memory", path);
    int result = load(*config, path, without_pins, problem);
    if (result == 0)
        return 0;
    config_free(*config);
    *config = NULL;
    return result;
}

int config_load(const char *path, struct config **config, struct problem *problem)
{
    return load_new(path, false, config, problem);
}

int config_load_without_pins(const char *path, struct config **config, struct problem *problem)
{
    return load_new(path, true, config, problem);
}

static void free_token(struct token_config *token)
{
    free_string(token->settings.name);
    free_string(token->settings.module);
    free_string(token->settings.uri);
    free_string(token->settings.library_parameters);
    free(token->pin_file);
    free(token->pin_credential);
}

static void free_grant(struct grant_config *grant)
{
    for (char **key = grant->keys; key != NULL && *key != NULL; key++)
        free(*key);
    free(grant->keys);
    free(grant->unit);
    free(grant->cgroup);
    free(grant->name);
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    for (size_t i = 0; i < config->token_count; i++)
        free_token(&config->tokens[i]);
    for (size_t i = 0; i < config->grant_count; i++)
        free_grant(&config->grants[i]);
    free(config->path);
    free(config->socket);
    free(config->audit);
    free(config);
}

const char *config_path(const char *option)
{
    if (option != NULL)
        return option;
    const char *environment = getenv("IMMURE_CONF");
    return environment != NULL && environment[0] != '\0' ? environment : CONFIG_PATH_DEFAULT;
}
