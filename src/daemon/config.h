/*
 * /etc/immure/immure.conf: one INI file for immured and the CLI; immure.conf(5) describes it.
 *
 * Read once into memory that does not change afterwards, so that any thread may read it. PINs
 * are not in it; config_read_pin() reads them when they are needed.
 */
#ifndef IMMURE_DAEMON_CONFIG_H
#define IMMURE_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "base/log.h"
#include "base/problem.h"
#include "base/secret.h"
#include "daemon/use.h"
#include "token/token.h"

#define CONFIG_PATH_DEFAULT "/etc/immure/immure.conf"

/* A grant is one bit in a word of 64: see grant.h. */
#define CONFIG_GRANTS_MAX 64
/* A host has few HSMs; the bound keeps per-key tables small. */
#define CONFIG_TOKENS_MAX 16

/* A million a second is more than any token makes, and an interval of 1,000 ns. */
#define GRANT_RATE_MAX 1000000

struct token_config {
    struct token_settings settings;
    int module_line;      /* of "module =", for messages */
    char *pin_file;       /* or NULL */
    char *pin_credential; /* a name in $CREDENTIALS_DIRECTORY, or NULL */
    bool verify_always;   /* each signature, not only RSA's and each key's first */
};

struct grant_config {
    char *name;
    bool has_user, has_group; /* of these four, all that are set must fit */
    uid_t user;
    gid_t group;
    char *unit;    /* of systemd, "nginx.service", or NULL */
    char *cgroup;  /* a path in the unified hierarchy, without a slash at its end, or NULL */
    char **keys;   /* fnmatch(3) patterns of key names, NULL-terminated */
    unsigned uses; /* bits of enum use */
    struct grant_rate {
        uint64_t count;       /* the number in "rate = 100/s" */
        uint64_t interval_ns; /* between two uses; 0: any number is fine */
        uint64_t burst;       /* so many may come at once after a rest */
        bool refuse;          /* what is beyond is refused, not only told */
    } rate;
};

struct config {
    char *path;
    char *socket;
    char *audit; /* the audit log's directory; NULL: off */
    enum log_level log_level;
    bool allow_exec; /* modules may run programs */
    struct token_config tokens[CONFIG_TOKENS_MAX];
    size_t token_count;
    struct grant_config grants[CONFIG_GRANTS_MAX];
    size_t grant_count;
};

/* The path to use: `option` (-c) if not NULL, else $IMMURE_CONF, else CONFIG_PATH_DEFAULT. */
const char *config_path(const char *option);

/*
 * Reads and checks the whole file. 0 and a config to free with config_free(), or -1 and a problem
 * that begins with "FILE:LINE: " and says what to do; CONFIG_DENIED in place of -1 where it is that
 * this process may not read the file or a PIN file. Unknown sections and keys, keys given
 * twice, bad values, sections without a needed key and PIN files that are missing, unreadable,
 * or readable or writable by group or others are errors.
 */
#define CONFIG_DENIED (-2)
int config_load(const char *path, struct config **config, struct problem *problem) MUST_USE;

/* The same without a look at the PIN files: for those who use no token, and may not read them. */
int config_load_without_pins(const char *path, struct config **config,
                             struct problem *problem) MUST_USE;
void config_free(struct config *config);

/*
 * Reads the PIN from pin-file or pin-credential: the first line, without its line end. 1: *pin is
 * set, the caller frees it. 0: the configuration names no PIN. -1: it cannot be read.
 */
int config_read_pin(const struct token_config *token, struct pin **pin,
                    struct problem *problem) MUST_USE;

#endif
