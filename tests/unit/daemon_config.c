/*
 * Mistakes in immure.conf are found, with the line they are on; good files mean what they say.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config.h"

static char directory[] = "/tmp/immure-unit-XXXXXX";
static char conf_path[64], pin_path[64];

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    int failure = fclose(file);
    assert_int_equal(failure, 0);
    assert_int_equal(chmod(path, mode), 0);
}

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(conf_path, sizeof(conf_path), "%s/immure.conf", directory);
    snprintf(pin_path, sizeof(pin_path), "%s/pin", directory);
    write_file(pin_path, "1234\n", 0600);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(conf_path);
    unlink(pin_path);
    return rmdir(directory);
}

#define TOKEN "[token a]\nmodule = /m.so\nuri = pkcs11:token=a\n"
#define GRANT "[grant g]\nuser = root\nkeys = *\n"

struct mistake {
    const char *text;
    int line;
    const char *says;
};

static const struct mistake mistakes[] = {
    {"socket = /s\n", 1, "before the first section"},
    {"\n[imured]\n", 2, "unknown section [imured]"},
    {"[immured x]\n", 1, "takes no name"},
    {"[immured]\n[immured]\n", 2, "is there twice"},
    {"[immured]\n" TOKEN "[immured]\n", 5, "is there twice"},
    {"[immured\n", 1, "closing bracket"},
    {"[immured] socket = /s\n", 1, "begin a new line"},
    {"[immured]\nsocket\n", 2, "neither a section nor"},
    {"[immured]\nsocket =\n", 2, "has no value"},
    {"[immured]\nsocket = relative\n", 2, "absolute path"},
    {"[immured]\nlog-level = loud\n", 2, "give error, warning"},
    {"[immured]\nallow-exec = perhaps\n", 2, "give yes or no"},
    {"[immured]\naudit = logs\n", 2, "give the absolute path of a directory, or off"},
    {"# comment\n[immured]\n\n  colour = red\n", 4, "unknown key colour"},
    {"[immured]\nsocket = /a\nsocket = /b\n", 3, "given twice"},
    {"[token]\n", 1, "give it one name"},
    {"[token a b]\n", 1, "give it one name"},
    {"[token a/b]\n", 1, "give it one name"},
    {TOKEN TOKEN, 4, "[token a] is there twice"},
    {"[token a]\nuri = pkcs11:token=a\n", 1, "lacks module"},
    {"\n[token a]\nmodule = /m.so\n[immured]\n", 2, "lacks uri"},
    {"[token a]\nmodule = m.so\n", 2, "absolute path"},
    {"[token a]\nuri = token=a\n", 2, "RFC 7512"},
    {"[token a]\nuri = pkcs11:token=a?pin-value=1234\n", 2, "remove pin-value"},
    {TOKEN "max-sessions = 0\n", 4, "give a number from 1"},
    {TOKEN "max-sessions = 1025\n", 4, "give a number from 1"},
    {TOKEN "max-sessions = -1\n", 4, "give a number from 1"},
    {TOKEN "max-sessions = 4x\n", 4, "give a number from 1"},
    {TOKEN "verify-signatures = never\n", 4, "give first or always"},
    {TOKEN "pin-file = /nonexistent/pin\n", 4, "install -m 600 "},
    {TOKEN "pin-file = pin\n", 4, "absolute path"},
    {TOKEN "pin-file = /tmp\n", 4, "no regular file"},
    {TOKEN "pin-credential = ../x\n", 4, "no path"},
    {TOKEN "pin = 1234\n", 4, "unknown key pin"},
    {"[grant g]\nkeys = *\n", 1, "none of user, group, unit and cgroup"},
    {"[grant g]\nuser = root\n", 1, "lacks keys"},
    {"[grant g]\nuser = nobody-has-this-name\n", 2, "no such user"},
    {"[grant g]\ngroup = nobody-has-this-name\n", 2, "no such group"},
    {"[grant g]\nuser = 4294967295\n", 2, "no such user"},
    {"[grant g]\nkeys = ,\n", 2, "no pattern"},
    {"[grant g]\nuse = everything\n", 2, "use = everything"},
    {"[grant g]\nuse = ,\n", 2, "use is empty"},
    {"[grant g]\nunit = nginx\n", 2, "as in nginx.service"},
    {"[grant g]\nunit = /system.slice/nginx.service\n", 2, "as in nginx.service"},
    {"[grant g]\ncgroup = web\n", 2, "control group's path"},
    {"[grant g]\ncgroup = /web/\n", 2, "control group's path"},
    {"[grant g]\ncgroup = /\n", 2, "control group's path"},
    {"[grant g]\nrate = 100\n", 2, "as in 100/s"},
    {"[grant g]\nrate = 0/s\n", 2, "as in 100/s"},
    {"[grant g]\nrate = /s\n", 2, "as in 100/s"},
    {"[grant g]\nrate = 1000001/s\n", 2, "as in 100/s"},
    {"[grant g]\nrate = 99999999999999999999/s\n", 2, "as in 100/s"},
    {"[grant g]\nrate = 1/fortnight\n", 2, "as in 100/s"},
    {"[grant g]\nburst = 0\n", 2, "burst = 0"},
    {"[grant g]\nover-rate = shrug\n", 2, "alarm or refuse"},
    {"[grant g]\nuser = 0\nkeys = *\nburst = 5\n", 1, "without rate"},
    {"[grant g]\nuser = 0\nkeys = *\nover-rate = refuse\n", 1, "without rate"},
    {GRANT GRANT, 4, "[grant g] is there twice"},
};

static void expect_mistake(const struct mistake *mistake)
{
    struct config *config = (struct config *)&conf_path;
    struct problem problem = {.text = ""};
    char place[96];
    write_file(conf_path, mistake->text, 0644);
    if (config_load(conf_path, &config, &problem) != -1)
        fail_msg("this is taken:\n%s", mistake->text);
    assert_null(config);
    snprintf(place, sizeof(place), "%s:%d: ", conf_path, mistake->line);
    if (strncmp(problem.text, place, strlen(place)) != 0 ||
        strstr(problem.text, mistake->says) == NULL)
        fail_msg("expected \"%s...%s\", got \"%s\" for:\n%s", place, mistake->says, problem.text,
                 mistake->text);
}

static void each_mistake_is_named_with_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(mistakes); i++)
        expect_mistake(&mistakes[i]);
}

static void an_overlong_line_is_a_mistake_and_not_cut(void **state)
{
    (void)state;
    static char text[6000] = "[immured]\nsocket = /";
    memset(text + strlen(text), 'x', sizeof(text) - strlen(text) - 1);
    expect_mistake(&(struct mistake){text, 2, "longer than"});
}

static void a_pin_file_that_others_can_read_is_a_mistake(void **state)
{
    (void)state;
    char text[256];
    snprintf(text, sizeof(text), TOKEN "pin-file = %s\n", pin_path);
    static const mode_t modes[] = {0640, 0620, 0604, 0602};
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        assert_int_equal(chmod(pin_path, modes[i]), 0);
        expect_mistake(&(struct mistake){text, 4, "chmod 600"});
    }
    assert_int_equal(chmod(pin_path, 0600), 0);
}

static void a_missing_file_is_a_mistake(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct problem problem;
    assert_int_equal(config_load("/nonexistent/immure.conf", &config, &problem), -1);
    assert_non_null(strstr(problem.text, "/nonexistent/immure.conf"));
}

static struct config *load(const char *text)
{
    struct config *config = NULL;
    struct problem problem = {.text = ""};
    write_file(conf_path, text, 0644);
    if (config_load(conf_path, &config, &problem) != 0)
        fail_msg("%s", problem.text);
    return config;
}

static void every_setting_arrives(void **state)
{
    (void)state;
    char text[1024];
    snprintf(text, sizeof(text),
             "; comment\n[immured]\n  socket = /run/s.sock\nlog-level = debug\n"
             "audit = /a\n\n"
             "[token prod]\nmodule = /m.so\nuri = pkcs11:token=prod;serial=1\npin-file = %s\n"
             "max-sessions = 3\nverify-signatures = always\nlibrary-parameters = "
             "configdir='sql:/d' x=y\n"
             "[grant web]\nuser = 33\ngroup = root\nkeys = www, shop-* \tapi\n"
             "use = tls13-server, sign\nunit = nginx.service\ncgroup = /system.slice\n"
             "burst = 7\nrate = 600/min\nover-rate = refuse\n"
             "[grant plain]\nuser=0\nkeys=*\nrate = 50/h\n",
             pin_path);
    struct config *config = load(text);
    const struct token_config *token = &config->tokens[0];
    const struct grant_config *grant = &config->grants[0];
    assert_string_equal(config->socket, "/run/s.sock");
    assert_string_equal(config->audit, "/a");
    assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(config->token_count, 1);
    assert_string_equal(token->settings.name, "prod");
    assert_string_equal(token->settings.uri, "pkcs11:token=prod;serial=1");
    assert_string_equal(token->settings.library_parameters, "configdir='sql:/d' x=y");
    assert_int_equal(token->settings.max_sessions, 3);
    assert_true(token->verify_always);
    assert_int_equal(config->grant_count, 2);
    assert_true(grant->has_user && grant->user == 33 && grant->has_group && grant->group == 0);
    assert_string_equal(grant->keys[0], "www");
    assert_string_equal(grant->keys[1], "shop-*");
    assert_string_equal(grant->keys[2], "api");
    assert_null(grant->keys[3]);
    assert_int_equal(grant->uses, USE_TLS13_SERVER | USE_SIGN);
    assert_string_equal(grant->unit, "nginx.service");
    assert_string_equal(grant->cgroup, "/system.slice");
    assert_int_equal(grant->rate.interval_ns, 100000000);
    assert_int_equal(grant->rate.burst, 7);
    assert_true(grant->rate.refuse);
    assert_int_equal(config->grants[1].rate.interval_ns, UINT64_C(72000000000));
    assert_int_equal(config->grants[1].rate.burst, 50);
    assert_false(config->grants[1].rate.refuse);
    assert_int_equal(config->grants[1].uses, USE_TLS_SERVER);
    assert_false(config->grants[1].has_group);
    config_free(config);
}

static void an_empty_file_gives_the_defaults(void **state)
{
    (void)state;
    struct config *config = load("");
    assert_string_equal(config->socket, "/run/immure/immure.sock");
    assert_string_equal(config->audit, "/var/log/immure");
    assert_int_equal(config->log_level, LOG_LEVEL_INFO);
    assert_int_equal(config->token_count + config->grant_count, 0);
    config_free(config);
    config = load("[immured]\naudit = off\n");
    assert_null(config->audit);
    config_free(config);
}

static void the_pin_is_the_first_line(void **state)
{
    (void)state;
    static char longest[PIN_SIZE_MAX + 2], too_long[PIN_SIZE_MAX + 2];
    memset(longest, '7', PIN_SIZE_MAX);
    longest[PIN_SIZE_MAX] = '\n';
    memset(too_long, '7', PIN_SIZE_MAX + 1);
    const struct {
        const char *file;
        size_t size; /* 0: no PIN */
    } cases[] = {
        {"1234\n", 4}, {"1234", 4}, {"1234\r\nmore\n", 4},   {" 1 2 ", 5},
        {"\n1234", 0}, {"", 0},     {longest, PIN_SIZE_MAX}, {too_long, 0},
    };
    const struct token_config token = {.pin_file = pin_path};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pin *pin = NULL;
        struct problem problem;
        write_file(pin_path, cases[i].file, 0600);
        int result = config_read_pin(&token, &pin, &problem);
        assert_int_equal(result, cases[i].size > 0 ? 1 : -1);
        if (result == 1) {
            assert_int_equal(pin->size, cases[i].size);
            assert_int_equal(strlen(pin->text), cases[i].size);
            assert_memory_equal(pin->text, cases[i].file, cases[i].size);
        } else {
            assert_null(pin);
        }
        pin_free(pin);
    }
}

static void a_credential_is_read_from_systemd_s_directory(void **state)
{
    (void)state;
    char name[] = "pin";
    const struct token_config token = {.pin_credential = name};
    struct pin *pin = NULL;
    struct problem problem;
    write_file(pin_path, "5678\n", 0600);
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(config_read_pin(&token, &pin, &problem), -1);
    assert_non_null(strstr(problem.text, "LoadCredential=pin:"));
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    assert_int_equal(config_read_pin(&token, &pin, &problem), 1);
    assert_string_equal(pin->text, "5678");
    pin_free(pin);
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void no_pin_configured_is_no_error(void **state)
{
    (void)state;
    const struct token_config token = {.pin_file = NULL};
    struct pin *pin = NULL;
    struct problem problem;
    assert_int_equal(config_read_pin(&token, &pin, &problem), 0);
    assert_null(pin);
}

static void the_option_outranks_the_environment(void **state)
{
    (void)state;
    unsetenv("IMMURE_CONF");
    assert_string_equal(config_path(NULL), CONFIG_PATH_DEFAULT);
    setenv("IMMURE_CONF", "/e", 1);
    assert_string_equal(config_path(NULL), "/e");
    assert_string_equal(config_path("/o"), "/o");
    unsetenv("IMMURE_CONF");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_is_named_with_its_line),
        cmocka_unit_test(an_overlong_line_is_a_mistake_and_not_cut),
        cmocka_unit_test(a_pin_file_that_others_can_read_is_a_mistake),
        cmocka_unit_test(a_missing_file_is_a_mistake),
        cmocka_unit_test(every_setting_arrives),
        cmocka_unit_test(an_empty_file_gives_the_defaults),
        cmocka_unit_test(the_pin_is_the_first_line),
        cmocka_unit_test(a_credential_is_read_from_systemd_s_directory),
        cmocka_unit_test(no_pin_configured_is_no_error),
        cmocka_unit_test(the_option_outranks_the_environment),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
