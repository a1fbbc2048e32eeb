/* A cheap load of TLS 1.3 handshakes: what make bench and tests put on a server. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "load.h"

enum exit_status { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

#define CLIENTS_MAX        4096 /* each takes 56 KiB, and a descriptor */
#define COUNT_MAX          1e9
#define SECONDS_MAX        3600.0
#define RATE_MAX           1e6
#define CLIENTS_DEFAULT    16
#define SECONDS_DEFAULT    1.0
#define TIMEOUT_MS_DEFAULT 10000
#define NAME_DEFAULT       "localhost"

static const char HELP[] =
    "Usage: handshakes --connect ADDRESS:PORT [OPTION]...\n"
    "Makes TLS 1.3 handshakes with a server on this host and says how many, and how fast. It is\n"
    "cheap, so that the server can be measured on the same machine: its key share is a constant\n"
    "and it does not verify the certificate, so use it for nothing else.\n"
    "\n"
    "  --connect ADDRESS:PORT  the server, on a loopback address (127.0.0.0/8)\n"
    "  --name NAME             server name to ask for (" NAME_DEFAULT ")\n"
    "  --alpn PROTOCOL         protocol to offer (none)\n"
    "  --clients N             connections under way at a time (16)\n"
    "  --seconds S             for how long handshakes are started (1, unless --count is given)\n"
    "  --warm-up S             how much of it, at the beginning, is not measured (0)\n"
    "  --count N               how many handshakes are started\n"
    "  --rate R                start at most R a second; a latency then counts from when the\n"
    "                          handshake was due\n"
    "  --timeout MS            a connection that takes longer has failed (10000)\n"
    "  --request               GET / on each connection, and expect the status 200\n"
    "  --abort KIND            clients that leave after a few milliseconds, without an answer:\n"
    "                          after-hello, half-hello, garbage, plain or mixed\n"
    "  --json                  print the result as JSON\n"
    "  --help                  print this\n"
    "\n"
    "Exit status: 0, or 1 when a handshake failed, or 2 for bad usage.\n";

struct arguments {
    struct load_settings load;
    const char *name, *alpn;
    bool has_address, makes_request, json, help;
    char request[TLS_NAME_MAX + 64];
};

static bool read_number(const char *text, double least, double most, double *number)
{
    char *end;
    *number = strtod(text, &end);
    return end != text && *end == '\0' && *number >= least && *number <= most;
}

static bool read_whole(const char *text, double most, double *number)
{
    return read_number(text, 1, most, number) && *number == (double)(uint64_t)*number;
}

static bool read_address(const char *text, struct sockaddr_in *address)
{
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    double port;
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host) ||
        !read_whole(colon + 1, UINT16_MAX, &port))
        return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &address->sin_addr) == 1 &&
           ntohl(address->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static bool read_abort(const char *text, enum load_abort *abort)
{
    static const char *const KINDS[] = {
        [LOAD_ABORT_AFTER_HELLO] = "after-hello",
        [LOAD_ABORT_HALF_HELLO] = "half-hello",
        [LOAD_ABORT_GARBAGE] = "garbage",
        [LOAD_ABORT_PLAIN] = "plain",
        [LOAD_ABORT_MIXED] = "mixed",
    };
    for (size_t i = LOAD_ABORT_AFTER_HELLO; i < ARRAY_SIZE(KINDS); i++)
        if (strcmp(KINDS[i], text) == 0) {
            *abort = (enum load_abort)i;
            return true;
        }
    return false;
}

static bool take_connect(struct arguments *arguments, const char *value)
{
    arguments->has_address = read_address(value, &arguments->load.address);
    return arguments->has_address;
}

static bool take_name(struct arguments *arguments, const char *value)
{
    arguments->name = value;
    return true;
}

static bool take_alpn(struct arguments *arguments, const char *value)
{
    arguments->alpn = value;
    return true;
}

static bool take_clients(struct arguments *arguments, const char *value)
{
    double number = 0;
    bool is_good = read_whole(value, CLIENTS_MAX, &number);
    arguments->load.clients = (unsigned)number;
    return is_good;
}

static bool take_seconds(struct arguments *arguments, const char *value)
{
    return read_number(value, 0.01, SECONDS_MAX, &arguments->load.seconds);
}

static bool take_warm_up(struct arguments *arguments, const char *value)
{
    return read_number(value, 0, SECONDS_MAX, &arguments->load.warm_up);
}

static bool take_count(struct arguments *arguments, const char *value)
{
    double number = 0;
    bool is_good = read_whole(value, COUNT_MAX, &number);
    arguments->load.count = (uint64_t)number;
    return is_good;
}

static bool take_rate(struct arguments *arguments, const char *value)
{
    return read_number(value, 0.01, RATE_MAX, &arguments->load.rate);
}

static bool take_timeout(struct arguments *arguments, const char *value)
{
    double number = 0;
    bool is_good = read_whole(value, SECONDS_MAX * 1000, &number);
    arguments->load.timeout_ms = (unsigned)number;
    return is_good;
}

static bool take_request(struct arguments *arguments, const char *value)
{
    (void)value;
    return arguments->makes_request = true;
}

static bool take_abort(struct arguments *arguments, const char *value)
{
    return read_abort(value, &arguments->load.abort);
}

static bool take_json(struct arguments *arguments, const char *value)
{
    (void)value;
    return arguments->json = true;
}

static bool take_help(struct arguments *arguments, const char *value)
{
    (void)value;
    return arguments->help = true;
}

static const struct {
    const char *name;
    const char *wanted; /* NULL: it takes no value */
    bool (*take)(struct arguments *arguments, const char *value);
} OPTIONS[] = {
    {"connect", "a loopback address and a port, such as 127.0.0.1:8443", take_connect},
    {"name", "a server name", take_name},
    {"alpn", "a protocol, such as h2", take_alpn},
    {"clients", "1 to 4096", take_clients},
    {"seconds", "0.01 to 3600", take_seconds},
    {"warm-up", "0 to 3600", take_warm_up},
    {"count", "1 to 1000000000", take_count},
    {"rate", "0.01 to 1000000", take_rate},
    {"timeout", "1 to 3600000", take_timeout},
    {"request", NULL, take_request},
    {"abort", "after-hello, half-hello, garbage, plain or mixed", take_abort},
    {"json", NULL, take_json},
    {"help", NULL, take_help},
};

static bool read_options(int argc, char **argv, struct arguments *arguments)
{
    struct option known[ARRAY_SIZE(OPTIONS) + 1] = {0};
    int index;
    for (size_t i = 0; i < ARRAY_SIZE(OPTIONS); i++)
        known[i] =
            (struct option){.name = OPTIONS[i].name,
                            .has_arg = OPTIONS[i].wanted != NULL ? required_argument : no_argument,
                            .val = (int)i};
    while ((index = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (index == '?')
            return false; /* getopt has said why */
        if (!OPTIONS[index].take(arguments, optarg)) {
            fprintf(stderr, "handshakes: --%s %s: give %s\n", OPTIONS[index].name, optarg,
                    OPTIONS[index].wanted);
            return false;
        }
    }
    if (optind == argc && (arguments->has_address || arguments->help))
        return true;
    fprintf(stderr, "handshakes: %s\n",
            optind < argc ? "takes options only; see --help" : "--connect is missing; see --help");
    return false;
}

/* What follows from the options together. */
static bool complete(struct arguments *arguments)
{
    struct load_settings *load = &arguments->load;
    if (!tls_hello_make(&load->hello, arguments->name, arguments->alpn)) {
        fprintf(stderr, "handshakes: a name has at most %d bytes\n", TLS_NAME_MAX);
        return false;
    }
    if (load->seconds <= 0 && load->count == 0)
        load->seconds = SECONDS_DEFAULT;
    if (load->seconds > 0 && load->warm_up >= load->seconds) {
        fprintf(stderr, "handshakes: --warm-up leaves nothing of --seconds\n");
        return false;
    }
    snprintf(arguments->request, sizeof(arguments->request),
             "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", arguments->name);
    load->request = arguments->makes_request ? arguments->request : NULL;
    return true;
}

/* A descriptor for each client, as far as the system allows. */
static void allow_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        perror("handshakes: setrlimit");
}

static enum exit_status measure(const struct arguments *arguments)
{
    struct tally tally = {0};
    enum exit_status status = STATUS_FAILED;
    allow_descriptors();
    if (!load_run(&arguments->load, &tally))
        perror("handshakes");
    else if ((arguments->json ? tally_print_json(&tally) : tally_print(&tally)) &&
             tally.failed == 0)
        status = STATUS_OK;
    tally_free(&tally);
    return status;
}

int main(int argc, char **argv)
{
    static struct arguments arguments = {
        .load = {.clients = CLIENTS_DEFAULT, .timeout_ms = TIMEOUT_MS_DEFAULT},
        .name = NAME_DEFAULT,
    };
    if (!read_options(argc, argv, &arguments))
        return STATUS_USAGE;
    if (arguments.help)
        return fputs(HELP, stdout) >= 0 && fflush(stdout) == 0 ? (int)STATUS_OK
                                                               : (int)STATUS_FAILED;
    return complete(&arguments) ? (int)measure(&arguments) : (int)STATUS_USAGE;
}
