/*
 * immured: lets TLS servers use keys that are in PKCS#11 tokens. See immured(8).
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/asked_pin.h"
#include "daemon/config.h"
#include "daemon/config_check.h"
#include "daemon/master.h"
#include "daemon/sandbox.h"
#include "daemon/trusted_path.h"

#define EXIT_USAGE 2

static const char usage[] =
    "usage: immured [-t] [-c FILE] [--ask-pin]\n"
    "\n"
    "Lets TLS servers use private keys that are in PKCS#11 tokens. Stays in the\n"
    "foreground; logs to standard error; reloads on SIGHUP, ends on SIGTERM.\n"
    "\n"
    "  -c, --config FILE   the configuration (default " CONFIG_PATH_DEFAULT ",\n"
    "                      or IMMURE_CONF)\n"
    "  -t, --test-config   check the configuration and exit\n"
    "      --ask-pin       ask on the terminal for the PINs of tokens that have\n"
    "                      neither pin-file nor pin-credential\n"
    "  -V, --version       print the version and exit\n"
    "  -h, --help          print this and exit\n"
    "\n"
    "See immured(8) and immure.conf(5).\n";

struct arguments {
    const char *config;
    bool test_config, ask_pin;
};

enum { OPTION_ASK_PIN = 256 };

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"test-config", no_argument, NULL, 't'},
    {"ask-pin", no_argument, NULL, OPTION_ASK_PIN},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* -1: go on; otherwise exit with this status. */
static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
    int option;
    while ((option = getopt_long(argc, argv, "c:thV", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            arguments->config = optarg;
            break;
        case 't':
            arguments->test_config = true;
            break;
        case OPTION_ASK_PIN:
            arguments->ask_pin = true;
            break;
        case 'V':
            puts("immured " IMMURE_VERSION);
            return EXIT_SUCCESS;
        case 'h':
            fputs(usage, stdout);
            return EXIT_SUCCESS;
        default:
            fputs("immured --help lists the options.\n", stderr);
            return EXIT_USAGE;
        }
    }
    if (optind == argc)
        return -1;
    fprintf(stderr, "immured: %s: no argument is wanted here\nimmured --help lists the options.\n",
            argv[optind]);
    return EXIT_USAGE;
}

static int run(const struct arguments *arguments, const struct config *config)
{
    struct asked_pins pins = {.count = 0};
    struct problem problem;
    int status = EXIT_FAILURE;
    log_set_level(config->log_level);
    if (geteuid() == 0)
        log_warning("running as root: a user of its own that can reach the token is enough, and "
                    "safer");
    if (sandbox_filter(config->allow_exec, &problem) != 0)
        log_warning("%s", problem.text);
    if (arguments->ask_pin && asked_pins_ask(&pins, config, &problem) != 0)
        log_error("%s", problem.text);
    else
        status = master_run(config, &pins);
    asked_pins_clear(&pins);
    return status;
}

static const char *plural(size_t count)
{
    return count == 1 ? "" : "s";
}

static int test_config(const struct config *config)
{
    struct problem problem;
    if (config_check(config, &problem) != 0) {
        log_error("%s", problem.text);
        return EXIT_FAILURE;
    }
    printf("%s: good: %zu token%s, %zu grant%s, socket %s\n", config->path, config->token_count,
           plural(config->token_count), config->grant_count, plural(config->grant_count),
           config->socket);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.config = NULL};
    struct config *config = NULL;
    struct problem problem;
    int status = parse_arguments(argc, argv, &arguments);
    if (status >= 0)
        return status;
    if (sandbox_shut(&problem) != 0 ||
        config_load(config_path(arguments.config), &config, &problem) != 0 ||
        trusted_path_check_config(config, &problem) != 0) {
        log_error("%s", problem.text);
        config_free(config);
        return EXIT_FAILURE;
    }
    status = arguments.test_config ? test_config(config) : run(&arguments, config);
    config_free(config);
    return status;
}
