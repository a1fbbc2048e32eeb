/*
 * src/token against a real token, SoftHSM, in a directory of its own. Faults that SoftHSM does
 * not have are made by exchanging functions of the token's function list.
 */
#include "test.h"

#include <dlfcn.h>
#include <ftw.h>
#include <gnu/libc-version.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "token/internal.h"
#include "token/quirks.h"
#include "wire/reference.h"

#define SOFTHSM      "/usr/lib/softhsm/libsofthsm2.so"
#define PIN          "1234"
#define SO_PIN       "12345678"
#define URI_ONE      "pkcs11:token=one"
#define SKIPPED      77 /* meson's */
#define TEST_TIMEOUT 5000

/*
 * SoftHSM 2.6.1 leaks some 40 bytes each time it uses an Ed25519 key. The sanitizer sees whose
 * they are only when it unwinds the slow way.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libsofthsm2.so";
}

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "fast_unwind_on_malloc=0";
}

static struct problem problem;

static uint64_t soon(void)
{
    return clock_now_ms() + TEST_TIMEOUT;
}

static void assert_problem(const char *text)
{
    if (strstr(problem.text, text) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", text, problem.text);
}

/* --- Making tokens and keys ------------------------------------------------------------------ */

static char directory[] = "/tmp/immure-unit-XXXXXX";

static void make_token(CK_FUNCTION_LIST *functions, const char *name)
{
    CK_SLOT_ID slots[8];
    CK_ULONG count = 8;
    CK_SESSION_HANDLE session;
    CK_UTF8CHAR label[32];
    memset(label, ' ', sizeof(label));
    for (size_t i = 0; name[i] != '\0'; i++)
        label[i] = (CK_UTF8CHAR)name[i];
    assert_int_equal(functions->C_GetSlotList(CK_TRUE, NULL, &count), CKR_OK);
    assert_int_equal(functions->C_GetSlotList(CK_TRUE, slots, &count), CKR_OK);
    CK_SLOT_ID slot = slots[count - 1]; /* SoftHSM's last one is free */
    assert_int_equal(functions->C_InitToken(slot, (CK_UTF8CHAR *)SO_PIN, 8, label), CKR_OK);
    assert_int_equal(
        functions->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session),
        CKR_OK);
    assert_int_equal(functions->C_Login(session, CKU_SO, (CK_UTF8CHAR *)SO_PIN, 8), CKR_OK);
    assert_int_equal(functions->C_InitPIN(session, (CK_UTF8CHAR *)PIN, 4), CKR_OK);
    assert_int_equal(functions->C_CloseSession(session), CKR_OK);
}

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

struct key_kind {
    const char *label;
    CK_MECHANISM_TYPE generator;
    CK_ULONG bits;      /* RSA */
    const char *params; /* else */
    size_t params_size;
};

static const struct key_kind kinds[] = {
    {"p256", CKM_EC_KEY_PAIR_GEN, 0, "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", 10},
    {"p384", CKM_EC_KEY_PAIR_GEN, 0, "\x06\x05\x2b\x81\x04\x00\x22", 7},
    {"p521", CKM_EC_KEY_PAIR_GEN, 0, "\x06\x05\x2b\x81\x04\x00\x23", 7},
    {"rsa2048", CKM_RSA_PKCS_KEY_PAIR_GEN, 2048, NULL, 0},
    {"rsa3072", CKM_RSA_PKCS_KEY_PAIR_GEN, 3072, NULL, 0},
    {"ed25519", CKM_EC_EDWARDS_KEY_PAIR_GEN, 0, "\x13\x0c\x65\x64wards25519", 14},
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

struct pair {
    CK_OBJECT_HANDLE public, private;
};

static struct pair generate(const struct token_session *session, const struct key_kind *kind,
                            const char *label, const char *id)
{
    CK_MECHANISM mechanism = {kind->generator, NULL, 0};
    CK_ULONG bits = kind->bits;
    struct pair pair = {0};
    CK_ATTRIBUTE public[] = {
        {CKA_TOKEN, &yes, 1},
        {CKA_LABEL, unconst(label), strlen(label)},
        {CKA_ID, unconst(id), strlen(id)},
        {bits != 0 ? CKA_MODULUS_BITS : CKA_EC_PARAMS,
         bits != 0 ? (void *)&bits : unconst(kind->params),
         bits != 0 ? sizeof(bits) : kind->params_size},
    };
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &yes, 1},
        {CKA_SENSITIVE, &yes, 1},
        {CKA_EXTRACTABLE, &no, 1},
        {CKA_SIGN, &yes, 1},
        {CKA_LABEL, unconst(label), strlen(label)},
        {CKA_ID, unconst(id), strlen(id)},
    };
    assert_int_equal(session->functions->C_GenerateKeyPair(session->handle, &mechanism, public, 4,
                                                           private, 6, &pair.public, &pair.private),
                     CKR_OK);
    return pair;
}

/* --- Opening --------------------------------------------------------------------------------- */

static struct token_settings settings_of(const char *uri, unsigned max_sessions)
{
    return (struct token_settings){.name = "test",
                                   .module = SOFTHSM,
                                   .uri = uri,
                                   .max_sessions = max_sessions,
                                   .read_write = true};
}

static enum token_error log_in(struct token *token, const char *text)
{
    struct pin *pin = pin_new();
    assert_non_null(pin);
    pin->size = strlen(text);
    memcpy(pin->text, text, pin->size);
    enum token_error error = token_login(token, pin, &problem);
    pin_free(pin);
    return error;
}

static struct token *open_logged_in(unsigned max_sessions)
{
    struct token_settings settings = settings_of(URI_ONE, max_sessions);
    struct token *token = NULL;
    if (token_open(&settings, &token, &problem) != TOKEN_OK || log_in(token, PIN) != TOKEN_OK)
        fail_msg("%s", problem.text);
    return token;
}

static struct token_session take(struct token *token)
{
    struct token_session session;
    if (token_session_take(token, soon(), &session, &problem) != TOKEN_OK)
        fail_msg("%s", problem.text);
    return session;
}

static int make_tokens_and_keys(void **state)
{
    char path[64];
    struct module *module;
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/softhsm2.conf", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n",
            directory);
    fclose(file);
    setenv("SOFTHSM2_CONF", path, 1);

    assert_int_equal(module_acquire(SOFTHSM, NULL, &module, &problem), TOKEN_OK);
    make_token(module_functions(module), "one");
    make_token(module_functions(module), "two");
    module_release(module);

    struct token *token = open_logged_in(1);
    struct token_session session = take(token);
    for (size_t i = 0; i < KIND_COUNT; i++)
        generate(&session, &kinds[i], kinds[i].label, kinds[i].label);
    token_session_return(token, &session, false);
    token_close(token);
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static int remove_tokens(void **state)
{
    (void)state;
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static enum token_error open_with(const char *module, const char *uri)
{
    struct token_settings settings = settings_of(uri, 4);
    struct token *token = NULL;
    settings.module = module;
    enum token_error error = token_open(&settings, &token, &problem);
    assert_true((error == TOKEN_OK) == (token != NULL));
    token_close(token);
    return error;
}

static void what_is_no_module_is_a_clear_error(void **state)
{
    (void)state;
    assert_int_equal(open_with("libsofthsm2.so", URI_ONE), TOKEN_UNAVAILABLE);
    assert_problem("token test: the module path libsofthsm2.so is not absolute");
    assert_int_equal(open_with("/no/such/module.so", URI_ONE), TOKEN_UNAVAILABLE);
    assert_problem("cannot find the module /no/such/module.so: No such file");
    assert_int_equal(open_with("/usr/lib", URI_ONE), TOKEN_UNAVAILABLE);
    assert_problem("is no file");
    assert_int_equal(open_with("/etc/passwd", URI_ONE), TOKEN_UNAVAILABLE);
    assert_problem("cannot load the module");
    Dl_info libc;
    assert_int_not_equal(dladdr(unconst(gnu_get_libc_version), &libc), 0);
    assert_int_equal(open_with(libc.dli_fname, URI_ONE), TOKEN_UNAVAILABLE);
    assert_problem("is not a PKCS#11 module: it has no C_GetFunctionList");
    assert_int_equal(open_with(SOFTHSM, URI_ONE), TOKEN_OK);
}

static void a_uri_that_names_not_one_token_is_an_error_that_lists_what_is_there(void **state)
{
    (void)state;
    assert_int_equal(open_with(SOFTHSM, "file:/etc"), TOKEN_BAD_URI);
    assert_problem("not a PKCS#11 URI");
    assert_int_equal(open_with(SOFTHSM, "pkcs11:token=%zz"), TOKEN_BAD_URI);
    assert_int_equal(open_with(SOFTHSM, "pkcs11:token=three"), TOKEN_BAD_URI);
    assert_problem("fits no token");
    assert_problem("\"one\"");
    assert_problem("\"two\"");
    assert_int_equal(open_with(SOFTHSM, "pkcs11:model=SoftHSM%20v2"), TOKEN_BAD_URI);
    assert_problem("fits more than one token");
    assert_int_equal(open_with(SOFTHSM, "pkcs11:token=one?pin-value=4711"), TOKEN_BAD_URI);
    assert_problem("must not hold a PIN");
    assert_null(strstr(problem.text, "4711"));
    assert_int_equal(open_with(SOFTHSM, "pkcs11:token=one;model=SoftHSM%20v2"), TOKEN_OK);
}

static void a_slot_is_found_by_its_number(void **state)
{
    char uri[64];
    struct token *token = open_logged_in(1);
    CK_SLOT_ID slot = token->slot.id;
    (void)state;
    token_close(token);
    snprintf(uri, sizeof(uri), "pkcs11:slot-id=%lu", slot);
    assert_int_equal(open_with(SOFTHSM, uri), TOKEN_OK);
    snprintf(uri, sizeof(uri), "pkcs11:token=two;slot-id=%lu", slot);
    assert_int_equal(open_with(SOFTHSM, uri), TOKEN_BAD_URI);
}

static void one_module_cannot_have_two_sets_of_parameters(void **state)
{
    struct token *token = open_logged_in(1), *other = NULL;
    struct token_settings settings = settings_of("pkcs11:token=two", 1);
    (void)state;
    settings.library_parameters = "configdir=/x";
    assert_int_equal(token_open(&settings, &other, &problem), TOKEN_FAILED);
    assert_problem("library-parameters");
    assert_null(other);
    token_close(token);
}

static void the_token_says_what_it_is(void **state)
{
    struct token_description description;
    struct token *token = open_logged_in(1);
    (void)state;
    assert_int_equal(token_describe(token, &description, &problem), TOKEN_OK);
    assert_string_equal(description.label, "one");
    assert_string_equal(description.model, "SoftHSM v2");
    assert_true(description.login_required);
    assert_false(description.pin_locked);
    assert_string_equal(token_name(token), "test");
    assert_true(token_has_mechanism(token, CKM_ECDSA, CKF_SIGN));
    assert_false(token_has_mechanism(token, CKM_ECDSA, CKF_WRAP));
    assert_false(token_has_mechanism(token, 0x7fffffff, 0));
    token_close(token);
}

static void error_names_are_the_standards(void **state)
{
    (void)state;
    assert_string_equal(token_rv_name(CKR_PIN_INCORRECT), "CKR_PIN_INCORRECT");
    assert_string_equal(token_rv_name(0x80000123), "CKR_0x80000123");
}

/* --- Login ----------------------------------------------------------------------------------- */

static unsigned login_calls;
static CK_FLAGS pin_flags;

static CK_RV counting_login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR *pin,
                            CK_ULONG size)
{
    (void)session;
    (void)user;
    (void)pin;
    (void)size;
    login_calls++;
    return CKR_PIN_INCORRECT;
}

static CK_FUNCTION_LIST *real;

static CK_RV token_info_with_flags(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = real->C_GetTokenInfo(slot, info);
    info->flags |= pin_flags;
    return rv;
}

/* A list whose functions can be exchanged. */
static CK_FUNCTION_LIST *exchange_functions(struct token *token)
{
    static CK_FUNCTION_LIST functions;
    real = module_functions(token->module);
    functions = *real;
    token->functions = &functions;
    return &functions;
}

static void a_wrong_pin_is_refused_and_the_right_one_still_works(void **state)
{
    struct token_settings settings = settings_of(URI_ONE, 1);
    struct token *token;
    (void)state;
    assert_int_equal(token_open(&settings, &token, &problem), TOKEN_OK);
    assert_int_equal(log_in(token, "9999"), TOKEN_PIN_INCORRECT);
    assert_problem("token test: login failed: CKR_PIN_INCORRECT");
    assert_null(strstr(problem.text, "9999"));
    assert_int_equal(token_login(token, NULL, &problem), TOKEN_PIN_INCORRECT);
    assert_problem("needs a PIN");
    assert_int_equal(log_in(token, PIN), TOKEN_OK);
    assert_int_equal(log_in(token, PIN), TOKEN_OK); /* already logged in */
    token_close(token);
}

static void the_last_try_of_a_pin_is_never_spent(void **state)
{
    struct token_settings settings = settings_of(URI_ONE, 1);
    struct token *token;
    (void)state;
    assert_int_equal(token_open(&settings, &token, &problem), TOKEN_OK);
    CK_FUNCTION_LIST *functions = exchange_functions(token);
    functions->C_GetTokenInfo = token_info_with_flags;
    functions->C_Login = counting_login;
    login_calls = 0;
    pin_flags = CKF_USER_PIN_FINAL_TRY;
    assert_int_equal(log_in(token, PIN), TOKEN_PIN_LOCKED);
    pin_flags = CKF_USER_PIN_LOCKED;
    assert_int_equal(log_in(token, PIN), TOKEN_PIN_LOCKED);
    assert_int_equal(login_calls, 0);
    pin_flags = 0;
    assert_int_equal(log_in(token, PIN), TOKEN_PIN_INCORRECT);
    assert_int_equal(login_calls, 1);
    token_close(token);
}

/* --- Finding keys ---------------------------------------------------------------------------- */

#define FOUND_MAX 16

struct found {
    struct token_key keys[FOUND_MAX];
    uint8_t spki[FOUND_MAX][1024];
    size_t count, stop_at;
    unsigned unusable;
};

static bool collect(const struct token_key *key, void *context)
{
    struct found *found = context;
    assert_true(found->count < FOUND_MAX && key->spki_size <= sizeof(found->spki[0]));
    found->keys[found->count] = *key;
    memcpy(found->spki[found->count], key->spki, key->spki_size);
    found->keys[found->count].spki = found->spki[found->count];
    found->count++;
    return found->count != found->stop_at;
}

static size_t find(struct token *token, struct token_key_query query, struct found *found)
{
    memset(found, 0, sizeof(*found));
    if (token_find_keys(token, &query, soon(), collect, found, &found->unusable, &problem) !=
        TOKEN_OK)
        fail_msg("%s", problem.text);
    return found->count;
}

static const struct token_key *key_labelled(const struct found *found, const char *label)
{
    for (size_t i = 0; i < found->count; i++) {
        if (strcmp(found->keys[i].label, label) == 0)
            return &found->keys[i];
    }
    fail_msg("no key is called %s", label);
    return NULL;
}

static void every_key_is_found_with_its_public_key(void **state)
{
    struct token *token = open_logged_in(2);
    struct found found;
    (void)state;
    assert_int_equal(find(token, (struct token_key_query){0}, &found), KIND_COUNT);
    assert_int_equal(found.unusable, 0);
    for (size_t i = 0; i < KIND_COUNT; i++) {
        const struct token_key *key = key_labelled(&found, kinds[i].label);
        const unsigned char *at = key->spki;
        EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)key->spki_size);
        uint8_t id[KEY_ID_SIZE];
        assert_non_null(pkey);
        assert_true(EVP_PKEY_is_a(pkey, key_type_name(key->type)));
        assert_int_equal(key->bits, key->type == KEY_TYPE_ED25519 ? 256 : EVP_PKEY_get_bits(pkey));
        assert_true(key_id_of_spki(key->spki, key->spki_size, id));
        assert_memory_equal(id, key->id, sizeof(id));
        assert_int_not_equal(key->public_handle, CK_INVALID_HANDLE);
        assert_int_equal(key->cka_id_size, strlen(kinds[i].label));
        EVP_PKEY_free(pkey);
    }
    token_close(token);
}

static void a_key_is_found_by_label_by_uri_and_by_public_key(void **state)
{
    struct token *token = open_logged_in(2);
    struct found all, found;
    char uri[512];
    (void)state;
    find(token, (struct token_key_query){0}, &all);
    for (size_t i = 0; i < KIND_COUNT; i++) {
        const struct token_key *key = key_labelled(&all, kinds[i].label);
        token_key_uri(token, key, uri, sizeof(uri));
        const struct token_key_query queries[] = {
            {.label = kinds[i].label},
            {.uri = uri},
            {.spki = key->spki, .spki_size = key->spki_size},
            {.label = key->label, .uri = uri, .spki = key->spki, .spki_size = key->spki_size},
        };
        for (size_t q = 0; q < sizeof(queries) / sizeof(queries[0]); q++) {
            assert_int_equal(find(token, queries[q], &found), 1);
            assert_int_equal(found.keys[0].handle, key->handle);
            assert_int_equal(found.keys[0].public_handle, key->public_handle);
            assert_memory_equal(found.keys[0].id, key->id, KEY_ID_SIZE);
        }
    }
    token_close(token);
}

static void what_does_not_fit_is_not_found(void **state)
{
    struct token *token = open_logged_in(2);
    struct found all, found;
    (void)state;
    find(token, (struct token_key_query){0}, &all);
    const struct token_key *key = key_labelled(&all, "p256");
    assert_int_equal(find(token, (struct token_key_query){.label = "p25"}, &found), 0);
    assert_int_equal(find(token, (struct token_key_query){.label = "none"}, &found), 0);
    assert_int_equal(
        find(token, (struct token_key_query){.uri = "pkcs11:token=two;object=p256"}, &found), 0);
    assert_int_equal(
        find(token, (struct token_key_query){.uri = "pkcs11:object=p256;id=p384"}, &found), 0);
    assert_int_equal(
        find(token, (struct token_key_query){.label = "p384", .uri = "pkcs11:object=p256"}, &found),
        0);
    assert_int_equal(find(token,
                          (struct token_key_query){
                              .label = "p384", .spki = key->spki, .spki_size = key->spki_size},
                          &found),
                     0);
    assert_int_equal(
        find(token, (struct token_key_query){.spki = (const uint8_t *)"x", .spki_size = 1}, &found),
        0);
    assert_int_equal(token_find_keys(token, &(struct token_key_query){.uri = "nonsense"}, soon(),
                                     collect, &found, NULL, &problem),
                     TOKEN_BAD_URI);
    token_close(token);
}

static void the_callback_can_stop_the_search(void **state)
{
    struct token *token = open_logged_in(1);
    struct found found = {.stop_at = 2};
    (void)state;
    assert_int_equal(token_find_keys(token, &(struct token_key_query){0}, soon(), collect, &found,
                                     NULL, &problem),
                     TOKEN_OK);
    assert_int_equal(found.count, 2);
    token_close(token);
}

static void a_uri_that_does_not_fit_its_buffer_is_left_out(void **state)
{
    struct token *token = open_logged_in(1);
    struct token_key key = {.label = "a name"};
    char uri[64], small[8] = "?";
    (void)state;
    token_key_uri(token, &key, uri, sizeof(uri));
    assert_string_equal(uri, "pkcs11:token=one;object=a%20name;type=private");
    token_key_uri(token, &key, small, sizeof(small));
    assert_string_equal(small, "");
    token_close(token);
}

static void destroy_in(struct token *token, CK_OBJECT_HANDLE object)
{
    struct token_session session = take(token);
    assert_int_equal(session.functions->C_DestroyObject(session.handle, object), CKR_OK);
    token_session_return(token, &session, false);
}

static void destroy_pair(struct token *token, struct pair pair)
{
    destroy_in(token, pair.private);
    destroy_in(token, pair.public);
}

static struct pair generate_in(struct token *token, size_t kind, const char *label, const char *id)
{
    struct token_session session = take(token);
    struct pair pair = generate(&session, &kinds[kind], label, id);
    token_session_return(token, &session, false);
    return pair;
}

/* An EC private key does not show its own point in SoftHSM. */
static void a_wrong_public_key_is_never_taken_for_a_private_key(void **state)
{
    const struct token_key_query twin = {.label = "twin"}, sister = {.label = "sister"};
    struct token *token = open_logged_in(2);
    struct found found;
    (void)state;
    struct pair one = generate_in(token, 0, "twin", "twin");
    struct pair two = generate_in(token, 0, "twin", "twin");
    struct pair three = generate_in(token, 0, "sister", "twin");
    struct pair other = generate_in(token, 1, "cousin", "twin");

    assert_int_equal(find(token, (struct token_key_query){0}, &found), KIND_COUNT + 2);
    assert_int_equal(found.unusable, 2);
    assert_int_equal(key_labelled(&found, "sister")->handle, three.private);
    assert_int_equal(key_labelled(&found, "sister")->public_handle, three.public);
    assert_int_equal(key_labelled(&found, "cousin")->public_handle, other.public);
    assert_int_equal(find(token, twin, &found), 0);
    assert_int_equal(found.unusable, 2);
    assert_int_equal(find(token, sister, &found), 1);

    destroy_in(token, two.public); /* two private keys, one public key */
    assert_int_equal(find(token, twin, &found), 0);
    destroy_in(token, two.private);
    assert_int_equal(find(token, twin, &found), 1);
    assert_int_equal(found.keys[0].public_handle, one.public);
    two = generate_in(token, 0, "twin", "twin");
    destroy_in(token, two.private); /* one private key, two public keys */
    assert_int_equal(find(token, twin, &found), 0);
    assert_int_equal(found.unusable, 1);

    destroy_in(token, two.public);
    destroy_pair(token, one);
    destroy_pair(token, three);
    destroy_pair(token, other);
    token_close(token);
}

static void an_overlong_label_is_left_out(void **state)
{
    struct token *token = open_logged_in(1);
    struct found found;
    char label[TOKEN_LABEL_SIZE_MAX + 50];
    (void)state;
    memset(label, 'x', sizeof(label));
    label[sizeof(label) - 1] = '\0';
    struct pair pair = generate_in(token, 0, label, "overlong");
    assert_int_equal(find(token, (struct token_key_query){.uri = "pkcs11:id=overlong"}, &found), 1);
    assert_string_equal(found.keys[0].label, "");
    assert_int_equal(found.keys[0].public_handle, pair.public);
    destroy_pair(token, pair);
    token_close(token);
}

static void keys_with_long_ids_are_found_by_them(void **state)
{
    struct token *token = open_logged_in(1);
    struct found all, found;
    struct pair pairs[2];
    char id[101], uri[1024];
    (void)state;
    memset(id, 'i', sizeof(id));
    id[100] = '\0';
    for (int i = 0; i < 2; i++) {
        id[99] = (char)('0' + i);
        pairs[i] = generate_in(token, 0, "long", id);
    }
    assert_int_equal(find(token, (struct token_key_query){.label = "long"}, &all), 2);
    for (size_t i = 0; i < 2; i++) {
        token_key_uri(token, &all.keys[i], uri, sizeof(uri));
        assert_int_equal(find(token, (struct token_key_query){.uri = uri}, &found), 1);
        assert_int_equal(found.keys[0].handle, all.keys[i].handle);
        destroy_pair(token, pairs[i]);
    }
    token_close(token);
}

static unsigned searches;

static CK_RV count_searches(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count)
{
    searches++;
    return real->C_FindObjectsInit(session, template, count);
}

static void what_is_longer_than_any_id_or_label_never_reaches_the_token(void **state)
{
    static const struct {
        const char *name;
        int size_max;
    } attributes[] = {{"id", TOKEN_CKA_ID_SIZE_MAX}, {"object", TOKEN_LABEL_SIZE_MAX}};
    struct token *token = open_logged_in(1);
    struct found found;
    char value[300], uri[400];
    (void)state;
    memset(value, 'x', sizeof(value));
    exchange_functions(token)->C_FindObjectsInit = count_searches;
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
        for (int more = 0; more < 2; more++) {
            snprintf(uri, sizeof(uri), "pkcs11:%s=%.*s", attributes[i].name,
                     attributes[i].size_max + more, value);
            searches = 0;
            assert_int_equal(find(token, (struct token_key_query){.uri = uri}, &found), 0);
            assert_int_equal(searches, 1 - more);
        }
    }
    value[TOKEN_LABEL_SIZE_MAX + 1] = '\0';
    searches = 0;
    assert_int_equal(find(token, (struct token_key_query){.label = value}, &found), 0);
    assert_int_equal(searches, 0);
    token_close(token);
}

/* Answers up to the first attribute that the object has not, which here is CKA_ID. */
static CK_RV answer_in_part(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                            CK_ATTRIBUTE *template, CK_ULONG count)
{
    for (CK_ULONG i = 0; i < count; i++) {
        CK_RV rv = template[i].type == CKA_ID
                       ? CKR_ATTRIBUTE_TYPE_INVALID
                       : real->C_GetAttributeValue(session, object, &template[i], 1);
        if (rv != CKR_OK) {
            template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
            return rv;
        }
    }
    return CKR_OK;
}

static void what_the_token_has_not_answered_is_taken_for_nothing(void **state)
{
    struct token *token = open_logged_in(1);
    struct found found;
    (void)state;
    exchange_functions(token)->C_GetAttributeValue = answer_in_part;
    assert_int_not_equal(find(token, (struct token_key_query){0}, &found), 0);
    for (size_t i = 0; i < found.count; i++) {
        assert_string_equal(found.keys[i].label, "");
        assert_int_equal(found.keys[i].cka_id_size, 0);
    }
    token_close(token);
}

static CK_RV find_whole_class(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count)
{
    for (CK_ULONG i = 0; i < count; i++) {
        if (template[i].type == CKA_CLASS)
            return real->C_FindObjectsInit(session, &template[i], 1);
    }
    return real->C_FindObjectsInit(session, NULL, 0);
}

static void a_token_that_finds_too_much_does_not_mislead(void **state)
{
    static const struct token_key_query queries[] = {
        {.label = "p384"},
        {.uri = "pkcs11:object=p384"},
        {.uri = "pkcs11:id=p384"},
    };
    struct token *token = open_logged_in(1);
    struct found found;
    (void)state;
    exchange_functions(token)->C_FindObjectsInit = find_whole_class;
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        assert_int_equal(find(token, queries[i], &found), 1);
        assert_string_equal(found.keys[0].label, "p384");
        assert_int_equal(found.keys[0].bits, 384);
    }
    token_close(token);
}

static atomic_uint attribute_reads;

static CK_RV count_reads(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *template,
                         CK_ULONG count)
{
    atomic_fetch_add(&attribute_reads, 1);
    return real->C_GetAttributeValue(session, object, template, count);
}

/* As the YubiHSM 2's module: an empty set, and CKR_OK. */
static CK_RV find_nothing_by_value(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template,
                                   CK_ULONG count)
{
    CK_OBJECT_CLASS none = CKO_VENDOR_DEFINED;
    CK_ATTRIBUTE nothing = {CKA_CLASS, &none, sizeof(none)};
    for (CK_ULONG i = 0; i < count; i++) {
        if (template[i].type == CKA_EC_POINT || template[i].type == CKA_MODULUS)
            return real->C_FindObjectsInit(session, &nothing, 1);
    }
    return real->C_FindObjectsInit(session, template, count);
}

/* More objects than a small device holds. */
static CK_RV find_crowds(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *objects, CK_ULONG max,
                         CK_ULONG *count)
{
    CK_RV rv = real->C_FindObjects(session, objects, max, count);
    while (rv == CKR_OK && *count > 0 && *count < max && *count <= QUIRK_BLIND_KEYS_MAX) {
        objects[*count] = objects[0];
        ++*count;
    }
    return rv;
}

static void a_small_token_that_cannot_search_by_public_keys_has_its_keys_compared(void **state)
{
    struct token *token = open_logged_in(1);
    struct found all, found;
    (void)state;
    find(token, (struct token_key_query){0}, &all);
    CK_FUNCTION_LIST *functions = exchange_functions(token);
    functions->C_FindObjectsInit = find_nothing_by_value;
    for (size_t i = 0; i < all.count; i++) {
        struct token_key_query query = {.spki = all.keys[i].spki,
                                        .spki_size = all.keys[i].spki_size};
        assert_int_equal(find(token, query, &found), 1);
        assert_int_equal(found.keys[0].handle, all.keys[i].handle);
        query.label = "none";
        assert_int_equal(find(token, query, &found), 0);
    }
    functions->C_FindObjects = find_crowds;
    const struct token_key_query first = {.spki = all.keys[0].spki,
                                          .spki_size = all.keys[0].spki_size};
    assert_int_equal(find(token, first, &found), 0);
    token_close(token);
}

static unsigned reads_of_a_miss(struct token *token, const struct found *missing)
{
    const struct token_key_query query = {.spki = missing->keys[0].spki,
                                          .spki_size = missing->keys[0].spki_size};
    struct found found;
    atomic_store(&attribute_reads, 0);
    assert_int_equal(find(token, query, &found), 0);
    return atomic_load(&attribute_reads);
}

static void of_a_token_that_can_search_keys_are_compared_once(void **state)
{
    struct token *token = open_logged_in(1);
    struct found missing;
    (void)state;
    struct pair pair = generate_in(token, 0, "missing", "missing");
    find(token, (struct token_key_query){.label = "missing"}, &missing);
    destroy_pair(token, pair);
    CK_FUNCTION_LIST *functions = exchange_functions(token);
    functions->C_GetAttributeValue = count_reads;
    assert_int_not_equal(reads_of_a_miss(token, &missing), 0);
    assert_int_equal(reads_of_a_miss(token, &missing), 0);
    token_close(token);
    token = open_logged_in(1);
    functions = exchange_functions(token);
    functions->C_GetAttributeValue = count_reads;
    functions->C_FindObjectsInit = find_nothing_by_value;
    assert_int_not_equal(reads_of_a_miss(token, &missing), 0);
    assert_int_not_equal(reads_of_a_miss(token, &missing), 0);
    token_close(token);
}

static void keys_without_an_id_pair_by_label_and_control_characters_are_replaced(void **state)
{
    struct token *token = open_logged_in(1);
    struct found found, again;
    (void)state;
    struct pair pair = generate_in(token, 0, "a\nb", "");

    assert_int_equal(find(token, (struct token_key_query){.label = "a\nb"}, &found), 1);
    assert_string_equal(found.keys[0].label, "a?b");
    assert_int_equal(found.keys[0].public_handle, pair.public);
    const struct token_key *key = &found.keys[0];
    const struct token_key_query query = {.spki = key->spki, .spki_size = key->spki_size};
    assert_int_equal(find(token, query, &again), 1);
    assert_int_equal(again.keys[0].handle, pair.private);
    assert_int_equal(find(token, (struct token_key_query){0}, &found), KIND_COUNT + 1);

    destroy_in(token, pair.public);
    assert_int_equal(find(token, (struct token_key_query){.label = "a\nb"}, &found), 0);
    assert_int_equal(found.unusable, 1);
    destroy_in(token, pair.private);
    token_close(token);
}

/* --- Signing --------------------------------------------------------------------------------- */

static const uint8_t message[] = "to be signed";

static void check_verified(EVP_PKEY *pkey, const struct scheme *scheme, const uint8_t *signature,
                           size_t size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *parameters = NULL;
    assert_int_equal(
        EVP_DigestVerifyInit_ex(context, &parameters, scheme->digest, NULL, NULL, pkey, NULL), 1);
    if (scheme->padding == SCHEME_PADDING_PSS) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST), 1);
    }
    assert_int_equal(EVP_DigestVerify(context, signature, size, message, sizeof(message)), 1);
    EVP_MD_CTX_free(context);
}

static void check_verified_raw(EVP_PKEY *pkey, const uint8_t *input, size_t input_size,
                               const uint8_t *signature, size_t size)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(pkey, NULL);
    assert_int_equal(EVP_PKEY_verify_init(context), 1);
    assert_int_equal(EVP_PKEY_verify(context, signature, size, input, input_size), 1);
    EVP_PKEY_CTX_free(context);
}

static void sign_and_verify(struct token *token, const struct token_key *key,
                            const struct scheme *scheme)
{
    struct token_signing_key signing = {key->handle, key->type, key->bits};
    uint8_t input[EVP_MAX_MD_SIZE], signature[SIGNATURE_SIZE_MAX];
    const unsigned char *at = key->spki;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)key->spki_size);
    size_t input_size = sizeof(message), size = 0;
    memcpy(input, message, sizeof(message));
    if (scheme->digest != NULL)
        assert_int_equal(
            EVP_Q_digest(NULL, scheme->digest, NULL, message, sizeof(message), input, &input_size),
            1);
    if (token_sign(token, &signing, scheme, input, input_size, soon(), signature, &size,
                   &problem) != TOKEN_OK)
        fail_msg("%s: %s", scheme->name, problem.text);
    if (scheme->code == SCHEME_RSA_PKCS1_RAW || scheme->code == SCHEME_ECDSA_RAW)
        check_verified_raw(pkey, input, input_size, signature, size);
    else
        check_verified(pkey, scheme, signature, size);
    EVP_PKEY_free(pkey);
}

static unsigned sign_with_all_schemes(struct token *token, const struct found *found)
{
    unsigned count = 0;
    for (uint32_t code = 0; code <= UINT16_MAX; code++) {
        const struct scheme *scheme = scheme_by_code((uint16_t)code);
        for (size_t i = 0; scheme != NULL && i < found->count; i++) {
            if (scheme->key_type != found->keys[i].type)
                continue;
            sign_and_verify(token, &found->keys[i], scheme);
            count++;
        }
    }
    return count;
}

static void every_scheme_signs_with_every_key_of_its_type(void **state)
{
    struct token *token = open_logged_in(2);
    struct found found;
    (void)state;
    find(token, (struct token_key_query){0}, &found);
    /* 7 schemes for 2 RSA keys, 4 for 3 EC keys, 1 for Ed25519 */
    for (int round = 0; round < 8; round++)
        assert_int_equal(sign_with_all_schemes(token, &found), 7 * 2 + 4 * 3 + 1);
    token_close(token);
}

static CK_RV sign_init_without_pss(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                   CK_OBJECT_HANDLE key)
{
    assert_int_not_equal(mechanism->mechanism, CKM_RSA_PKCS_PSS);
    return real->C_SignInit(session, mechanism, key);
}

static void hide_mechanism(struct token *token, CK_MECHANISM_TYPE type)
{
    for (size_t i = 0; i < token->mechanism_count; i++) {
        if (token->mechanisms[i].type == type)
            token->mechanisms[i].flags = 0;
    }
}

static void pss_works_without_the_tokens_own_pss(void **state)
{
    struct token *token = open_logged_in(2);
    struct found found;
    uint8_t digest[32] = {0}, signature[SIGNATURE_SIZE_MAX];
    size_t size;
    (void)state;
    find(token, (struct token_key_query){0}, &found);
    hide_mechanism(token, CKM_RSA_PKCS_PSS);
    exchange_functions(token)->C_SignInit = sign_init_without_pss;
    assert_int_equal(sign_with_all_schemes(token, &found), 7 * 2 + 4 * 3 + 1);

    hide_mechanism(token, CKM_RSA_X_509);
    const struct token_key *key = key_labelled(&found, "rsa2048");
    struct token_signing_key signing = {key->handle, key->type, key->bits};
    assert_int_equal(token_sign(token, &signing, scheme_by_code(0x0804), digest, sizeof(digest),
                                soon(), signature, &size, &problem),
                     TOKEN_UNSUPPORTED);
    assert_problem("has neither");
    token_close(token);
}

static enum token_error sign_as(struct token *token, const struct token_signing_key *key,
                                uint16_t code, size_t input_size)
{
    uint8_t input[1024] = {0}, signature[SIGNATURE_SIZE_MAX];
    size_t size = 1;
    enum token_error error = token_sign(token, key, scheme_by_code(code), input, input_size, soon(),
                                        signature, &size, &problem);
    assert_true(error == TOKEN_OK || size == 0);
    return error;
}

static struct token_signing_key signing_key(struct token *token, const char *label)
{
    struct found found;
    assert_int_equal(find(token, (struct token_key_query){.label = label}, &found), 1);
    return (struct token_signing_key){found.keys[0].handle, found.keys[0].type, found.keys[0].bits};
}

static void input_of_a_wrong_size_or_for_another_key_never_reaches_the_token(void **state)
{
    struct token *token = open_logged_in(1);
    struct token_signing_key ec = signing_key(token, "p256"), rsa = signing_key(token, "rsa2048");
    (void)state;
    assert_int_equal(sign_as(token, &ec, 0x0403, 31), TOKEN_FAILED);
    assert_int_equal(sign_as(token, &ec, 0x0403, 33), TOKEN_FAILED);
    assert_int_equal(sign_as(token, &rsa, 0x0804, 48), TOKEN_FAILED);
    assert_int_equal(sign_as(token, &rsa, 0x0403, 32), TOKEN_UNSUPPORTED);
    assert_int_equal(sign_as(token, &ec, 0x0804, 32), TOKEN_UNSUPPORTED);
    assert_int_equal(sign_as(token, &ec, SCHEME_ECDSA_RAW, 0), TOKEN_FAILED);
    assert_int_equal(sign_as(token, &ec, SCHEME_ECDSA_RAW, 65), TOKEN_FAILED);
    assert_int_equal(sign_as(token, &rsa, SCHEME_RSA_PKCS1_RAW, 0), TOKEN_FAILED);
    assert_int_equal(sign_as(token, &rsa, SCHEME_RSA_PKCS1_RAW, 256 - 11 + 1), TOKEN_FAILED);
    assert_int_equal(sign_as(token, &rsa, SCHEME_RSA_PKCS1_RAW, 256 - 11), TOKEN_OK);
    rsa.bits = 8192;
    assert_int_equal(sign_as(token, &rsa, 0x0804, 32), TOKEN_UNSUPPORTED);
    token_close(token);
}

static void a_destroyed_key_is_reported_as_gone_and_others_go_on(void **state)
{
    struct token *token = open_logged_in(1);
    struct pair pair = generate_in(token, 0, "victim", "victim");
    struct token_signing_key key = {pair.private, KEY_TYPE_EC, 256};
    (void)state;
    assert_int_equal(sign_as(token, &key, 0x0403, 32), TOKEN_OK);
    destroy_pair(token, pair);
    assert_int_equal(sign_as(token, &key, 0x0403, 32), TOKEN_KEY_GONE);
    struct token_signing_key other = signing_key(token, "p256");
    assert_int_equal(sign_as(token, &other, 0x0403, 32), TOKEN_OK);
    token_close(token);
}

static CK_ULONG signed_size;

static CK_RV measuring_sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG size,
                            CK_BYTE *signature, CK_ULONG *signature_size)
{
    signed_size = size;
    return real->C_Sign(session, data, size, signature, signature_size);
}

static void a_digest_longer_than_the_group_is_cut_before_the_token_sees_it(void **state)
{
    struct token *token = open_logged_in(1);
    struct token_signing_key key = signing_key(token, "p256");
    (void)state;
    exchange_functions(token)->C_Sign = measuring_sign;
    assert_int_equal(sign_as(token, &key, 0x0603, 64), TOKEN_OK);
    assert_int_equal(signed_size, 32);
    token_close(token);
}

/* --- Faults ---------------------------------------------------------------------------------- */

static void a_lost_session_is_replaced_while_the_login_lives(void **state)
{
    struct token *token = open_logged_in(2);
    struct token_signing_key key = signing_key(token, "p256");
    struct token_session one = take(token), two = take(token);
    unsigned open, in_use;
    (void)state;
    token_session_return(token, &one, false);
    CK_SESSION_HANDLE lost = two.handle;
    token_session_return(token, &two, false);
    assert_int_equal(token->functions->C_CloseSession(lost), CKR_OK);
    assert_int_equal(sign_as(token, &key, 0x0403, 32), TOKEN_OK);
    token_session_counts(token, &open, &in_use);
    assert_int_equal(open, 2);
    assert_int_equal(in_use, 0);
    token_close(token);
}

static void a_lost_login_is_unavailable_and_not_a_lost_key(void **state)
{
    struct token *token = open_logged_in(2);
    struct token_signing_key key = signing_key(token, "p256");
    struct found found;
    (void)state;
    assert_int_equal(token->functions->C_CloseAllSessions(token->slot.id), CKR_OK);
    assert_int_equal(sign_as(token, &key, 0x0403, 32), TOKEN_UNAVAILABLE);
    assert_problem("CKR_USER_NOT_LOGGED_IN");
    assert_int_equal(token_find_keys(token, &(struct token_key_query){0}, soon(), collect, &found,
                                     NULL, &problem),
                     TOKEN_UNAVAILABLE);
    token_close(token);

    token = open_logged_in(2);
    key = signing_key(token, "p256");
    assert_int_equal(sign_as(token, &key, 0x0403, 32), TOKEN_OK);
    token_close(token);
}

static CK_RV sign_result;

static CK_RV failing_sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG size,
                          CK_BYTE *signature, CK_ULONG *signature_size)
{
    (void)session;
    (void)data;
    (void)size;
    (void)signature;
    (void)signature_size;
    return sign_result;
}

static void errors_are_told_apart_and_leave_a_session_and_the_login(void **state)
{
    static const struct {
        CK_RV rv;
        enum token_error error;
    } cases[] = {
        {CKR_DEVICE_REMOVED, TOKEN_UNAVAILABLE},
        {CKR_DEVICE_ERROR, TOKEN_UNAVAILABLE},
        {CKR_USER_NOT_LOGGED_IN, TOKEN_UNAVAILABLE},
        {CKR_TOKEN_NOT_PRESENT, TOKEN_UNAVAILABLE},
        {CKR_CRYPTOKI_NOT_INITIALIZED, TOKEN_UNAVAILABLE},
        {CKR_SESSION_HANDLE_INVALID, TOKEN_UNAVAILABLE},
        {CKR_FUNCTION_FAILED, TOKEN_BUSY},
        {CKR_KEY_HANDLE_INVALID, TOKEN_KEY_GONE},
        {CKR_MECHANISM_INVALID, TOKEN_UNSUPPORTED},
        {0x80000001, TOKEN_FAILED},
    };
    struct token *token = open_logged_in(1);
    struct token_signing_key key = signing_key(token, "p256");
    CK_FUNCTION_LIST *functions = exchange_functions(token);
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sign_result = cases[i].rv;
        functions->C_Sign = failing_sign;
        assert_int_equal(sign_as(token, &key, 0x0403, 32), cases[i].error);
        assert_problem("token test: signing failed: CKR_");
        functions->C_Sign = real->C_Sign;
        assert_int_equal(sign_as(token, &key, 0x0403, 32), TOKEN_OK);
    }
    token_close(token);
}

static CK_RV short_sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG size, CK_BYTE *signature,
                        CK_ULONG *signature_size)
{
    CK_RV rv = real->C_Sign(session, data, size, signature, signature_size);
    *signature_size += *signature_size > 64 ? 1000 : (CK_ULONG)-1;
    return rv;
}

static void a_signature_of_a_wrong_size_is_refused(void **state)
{
    struct token *token = open_logged_in(1);
    struct token_signing_key ec = signing_key(token, "p256"), rsa = signing_key(token, "rsa2048");
    (void)state;
    exchange_functions(token)->C_Sign = short_sign;
    assert_int_equal(sign_as(token, &ec, 0x0403, 32), TOKEN_FAILED);
    assert_problem("a signature of 63 bytes, not of 64");
    assert_int_equal(sign_as(token, &rsa, 0x0804, 32), TOKEN_FAILED);
    token_close(token);
}

static const uint8_t *raw_signature; /* of P-256 */

static CK_RV given_sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG size, CK_BYTE *signature,
                        CK_ULONG *signature_size)
{
    CK_RV rv = real->C_Sign(session, data, size, signature, signature_size);
    memcpy(signature, raw_signature, *signature_size);
    return rv;
}

/* A mistake here makes one handshake in 256 fail, or an INTEGER negative. */
static void an_ecdsa_signature_is_minimal_der_of_numbers_above_zero(void **state)
{
    static const struct {
        uint8_t raw[64];
        uint8_t size;
        const char *der;
    } cases[] = {
        {.raw = {[31] = 1}, .size = 0},
        {.raw = {[63] = 1}, .size = 0},
        {.raw = {[31] = 1, [63] = 0x7f}, 8, "\x30\x06\x02\x01\x01\x02\x01\x7f"},
        {.raw = {[31] = 0x80, [62] = 0x80}, 11, "\x30\x09\x02\x02\x00\x80\x02\x03\x00\x80\x00"},
    };
    struct token *token = open_logged_in(1);
    struct token_signing_key key = signing_key(token, "p256");
    (void)state;
    exchange_functions(token)->C_Sign = given_sign;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t digest[32] = {0}, signature[SIGNATURE_SIZE_MAX];
        size_t size = 1;
        raw_signature = cases[i].raw;
        enum token_error error = token_sign(token, &key, scheme_by_code(0x0403), digest,
                                            sizeof(digest), soon(), signature, &size, &problem);
        assert_int_equal(error, cases[i].size > 0 ? TOKEN_OK : TOKEN_FAILED);
        assert_int_equal(size, cases[i].size);
        assert_memory_equal(signature, cases[i].der, size);
    }
    token_close(token);
}

/* --- Sessions -------------------------------------------------------------------------------- */

static atomic_uint opened, opened_most;
static unsigned device_limit;

static CK_RV counting_open(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                           CK_SESSION_HANDLE *session)
{
    unsigned now = atomic_fetch_add(&opened, 1) + 1;
    if (now > device_limit) {
        atomic_fetch_sub(&opened, 1);
        return CKR_SESSION_COUNT;
    }
    for (unsigned most = opened_most; now > most;)
        atomic_compare_exchange_weak(&opened_most, &most, now);
    return real->C_OpenSession(slot, flags, application, notify, session);
}

static CK_RV counting_close(CK_SESSION_HANDLE session)
{
    atomic_fetch_sub(&opened, 1);
    return real->C_CloseSession(session);
}

struct signer {
    struct token *token;
    struct token_signing_key key;
    unsigned failed;
};

static void *sign_often(void *context)
{
    struct signer *signer = context;
    uint8_t digest[32] = {0}, signature[SIGNATURE_SIZE_MAX];
    size_t size;
    for (int i = 0; i < 60; i++) {
        if (token_sign(signer->token, &signer->key, scheme_by_code(0x0403), digest, 32,
                       clock_now_ms() + 60000, signature, &size, NULL) != TOKEN_OK)
            signer->failed++;
    }
    return NULL;
}

static void sign_in_threads(unsigned max_sessions, unsigned limit)
{
    struct token_settings settings = settings_of(URI_ONE, max_sessions);
    struct token *token;
    pthread_t threads[8];
    struct signer signers[8];
    unsigned open, in_use;
    assert_int_equal(token_open(&settings, &token, &problem), TOKEN_OK);
    CK_FUNCTION_LIST *functions = exchange_functions(token);
    functions->C_OpenSession = counting_open;
    functions->C_CloseSession = counting_close;
    opened = opened_most = 0;
    device_limit = limit;
    assert_int_equal(log_in(token, PIN), TOKEN_OK);
    struct token_signing_key key = signing_key(token, "p256");
    for (size_t i = 0; i < 8; i++) {
        signers[i] = (struct signer){token, key, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, sign_often, &signers[i]), 0);
    }
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(signers[i].failed, 0);
    }
    assert_true(opened_most <= (limit < max_sessions ? limit : max_sessions));
    token_session_counts(token, &open, &in_use);
    assert_int_equal(open, opened);
    assert_int_equal(in_use, 0);
    token_close(token);
    assert_int_equal(opened, 0);
}

static void eight_threads_share_three_sessions(void **state)
{
    (void)state;
    sign_in_threads(3, 1000);
}

static void a_device_with_fewer_sessions_than_configured_is_shared(void **state)
{
    (void)state;
    sign_in_threads(8, 2);
}

/* --- Decryption ------------------------------------------------------------------------------ */

/* Encrypted for the key by OpenSSL. */
static struct token_ciphertext encrypt(struct token *token, const char *label, int padding,
                                       const uint8_t *plain, size_t size,
                                       uint8_t bytes[RSA_BLOCK_SIZE_MAX])
{
    struct found found;
    assert_int_equal(find(token, (struct token_key_query){.label = label}, &found), 1);
    const unsigned char *at = found.keys[0].spki;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)found.keys[0].spki_size);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    size_t written = RSA_BLOCK_SIZE_MAX;
    assert_int_equal(EVP_PKEY_encrypt_init(context), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(context, padding), 1);
    assert_int_equal(EVP_PKEY_encrypt(context, bytes, &written, plain, size), 1);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(pkey);
    return (struct token_ciphertext){found.keys[0].handle, bytes, written};
}

typedef enum token_error decrypt_function(struct token *token,
                                          const struct token_ciphertext *ciphertext,
                                          uint64_t deadline, uint8_t block[RSA_BLOCK_SIZE_MAX],
                                          struct problem *problem);

static CK_FUNCTION_LIST *real_functions;

/* A token that leaves out the zeros in front. */
static CK_RV decrypt_without_zeros(CK_SESSION_HANDLE session, CK_BYTE_PTR input, CK_ULONG size,
                                   CK_BYTE_PTR output, CK_ULONG_PTR output_size)
{
    CK_RV rv = real_functions->C_Decrypt(session, input, size, output, output_size);
    while (rv == CKR_OK && *output_size > 0 && output[0] == 0) {
        memmove(output, output + 1, *output_size - 1);
        --*output_size;
    }
    return rv;
}

static void a_decrypted_block_is_whole_whatever_the_token_leaves_out(void **state)
{
    static decrypt_function *const functions[] = {token_decrypt_raw, token_decrypt_pkcs1};
    static const char *const labels[] = {"rsa2048", "rsa3072"};
    struct token *token = open_logged_in(2);
    uint8_t plain[RSA_BLOCK_SIZE_MAX], bytes[RSA_BLOCK_SIZE_MAX], block[RSA_BLOCK_SIZE_MAX];
    (void)state;
    assert_int_equal(RAND_bytes(plain, sizeof(plain)), 1);
    for (size_t i = 0; i < 16; i++) {
        size_t size = i < 4 ? 48 : i < 8 ? 0 : i < 12 ? 1 : 2048 / 8 - PKCS1_OVERHEAD;
        struct token_ciphertext ciphertext =
            encrypt(token, labels[i / 2 % 2], RSA_PKCS1_PADDING, plain, size, bytes);
        assert_int_equal(functions[i % 2](token, &ciphertext, soon(), block, &problem), TOKEN_OK);
        assert_int_equal(block[0], 0);
        assert_int_equal(block[1], 2);
        for (size_t at = 2; at < ciphertext.size - size - 1; at++)
            assert_int_not_equal(block[at], 0);
        assert_int_equal(block[ciphertext.size - size - 1], 0);
        assert_memory_equal(block + ciphertext.size - size, plain, size);
    }

    uint8_t number[2048 / 8] = {0, 0, 0, 5};
    struct token_ciphertext ciphertext =
        encrypt(token, "rsa2048", RSA_NO_PADDING, number, sizeof(number), bytes);
    real_functions = module_functions(token->module);
    exchange_functions(token)->C_Decrypt = decrypt_without_zeros;
    assert_int_equal(token_decrypt_raw(token, &ciphertext, soon(), block, &problem), TOKEN_OK);
    assert_memory_equal(block, number, sizeof(number));
    token_close(token);
}

static CK_RV padding_error;

static CK_RV decrypt_with_error(CK_SESSION_HANDLE session, CK_BYTE_PTR input, CK_ULONG size,
                                CK_BYTE_PTR output, CK_ULONG_PTR output_size)
{
    CK_RV rv = real_functions->C_Decrypt(session, input, size, output, output_size);
    if (padding_error != CKR_OK)
        memset(output, 0x17, *output_size); /* which then means nothing */
    return padding_error != CKR_OK ? padding_error : rv;
}

static void wrong_padding_is_a_block_of_zeros_and_no_error_of_the_token(void **state)
{
    static const CK_RV errors[] = {CKR_OK, CKR_ENCRYPTED_DATA_INVALID, CKR_GENERAL_ERROR};
    static const uint8_t zeros[2048 / 8];
    struct token *token = open_logged_in(2);
    uint8_t number[2048 / 8] = {0, 2, 1, 0}, bytes[RSA_BLOCK_SIZE_MAX], block[RSA_BLOCK_SIZE_MAX];
    struct token_ciphertext ciphertext =
        encrypt(token, "rsa2048", RSA_NO_PADDING, number, sizeof(number), bytes);
    uint64_t sessions = token_sessions_opened(token);
    (void)state;
    real_functions = module_functions(token->module);
    exchange_functions(token)->C_Decrypt = decrypt_with_error;
    /* SoftHSM with OpenSSL 3.2 and later has no error of its own, but a message of its making. */
    for (size_t i = OpenSSL_version_num() >= 0x30200000L; i < ARRAY_SIZE(errors); i++) {
        padding_error = errors[i];
        assert_int_equal(token_decrypt_pkcs1(token, &ciphertext, soon(), block, &problem),
                         TOKEN_OK);
        assert_memory_equal(block, zeros, sizeof(zeros));
    }
    assert_int_equal(token_sessions_opened(token), sessions); /* wrong padding costs none */
    padding_error = CKR_DEVICE_REMOVED;
    assert_int_equal(token_decrypt_pkcs1(token, &ciphertext, soon(), block, &problem),
                     TOKEN_UNAVAILABLE);
    token_close(token);
}

static void a_key_that_may_not_decrypt_says_what_to_do(void **state)
{
    struct token *token = open_logged_in(1);
    struct token_session session = take(token);
    struct pair pair = generate(&session, &kinds[3], "signs", "signs");
    CK_ATTRIBUTE attribute = {CKA_DECRYPT, &no, 1};
    uint8_t bytes[2048 / 8] = {0}, block[RSA_BLOCK_SIZE_MAX];
    struct token_ciphertext ciphertext = {pair.private, bytes, sizeof(bytes)};
    (void)state;
    assert_int_equal(
        session.functions->C_SetAttributeValue(session.handle, pair.private, &attribute, 1),
        CKR_OK);
    token_session_return(token, &session, false);
    assert_int_equal(token_decrypt_raw(token, &ciphertext, soon(), block, &problem), TOKEN_FAILED);
    assert_problem("immure key generate --decrypt");
    destroy_pair(token, pair);
    token_close(token);
}

static void a_taken_session_is_waited_for_until_the_deadline_and_no_longer(void **state)
{
    struct token *token = open_logged_in(1);
    struct token_session session = take(token), other;
    unsigned open, in_use;
    (void)state;
    token_session_counts(token, &open, &in_use);
    assert_int_equal(open, 1);
    assert_int_equal(in_use, 1);
    uint64_t start = clock_now_ms();
    assert_int_equal(token_session_take(token, start + 50, &other, &problem), TOKEN_NO_SESSION);
    assert_problem("max-sessions = 1");
    assert_uint_in_range(clock_now_ms() - start, 49, 2000);
    token_session_return(token, &session, false);
    session = take(token);
    token_session_return(token, &session, true);
    session = take(token); /* the login outlived the last session */
    CK_SESSION_INFO info;
    assert_int_equal(session.functions->C_GetSessionInfo(session.handle, &info), CKR_OK);
    assert_int_equal(info.state, CKS_RW_USER_FUNCTIONS);
    token_session_return(token, &session, false);
    token_close(token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_module_is_a_clear_error),
        cmocka_unit_test(a_uri_that_names_not_one_token_is_an_error_that_lists_what_is_there),
        cmocka_unit_test(a_slot_is_found_by_its_number),
        cmocka_unit_test(one_module_cannot_have_two_sets_of_parameters),
        cmocka_unit_test(the_token_says_what_it_is),
        cmocka_unit_test(error_names_are_the_standards),
        cmocka_unit_test(a_wrong_pin_is_refused_and_the_right_one_still_works),
        cmocka_unit_test(the_last_try_of_a_pin_is_never_spent),
        cmocka_unit_test(every_key_is_found_with_its_public_key),
        cmocka_unit_test(a_key_is_found_by_label_by_uri_and_by_public_key),
        cmocka_unit_test(what_does_not_fit_is_not_found),
        cmocka_unit_test(the_callback_can_stop_the_search),
        cmocka_unit_test(a_uri_that_does_not_fit_its_buffer_is_left_out),
        cmocka_unit_test(a_wrong_public_key_is_never_taken_for_a_private_key),
        cmocka_unit_test(an_overlong_label_is_left_out),
        cmocka_unit_test(keys_with_long_ids_are_found_by_them),
        cmocka_unit_test(what_is_longer_than_any_id_or_label_never_reaches_the_token),
        cmocka_unit_test(what_the_token_has_not_answered_is_taken_for_nothing),
        cmocka_unit_test(a_token_that_finds_too_much_does_not_mislead),
        cmocka_unit_test(a_small_token_that_cannot_search_by_public_keys_has_its_keys_compared),
        cmocka_unit_test(of_a_token_that_can_search_keys_are_compared_once),
        cmocka_unit_test(keys_without_an_id_pair_by_label_and_control_characters_are_replaced),
        cmocka_unit_test(every_scheme_signs_with_every_key_of_its_type),
        cmocka_unit_test(pss_works_without_the_tokens_own_pss),
        cmocka_unit_test(input_of_a_wrong_size_or_for_another_key_never_reaches_the_token),
        cmocka_unit_test(a_destroyed_key_is_reported_as_gone_and_others_go_on),
        cmocka_unit_test(a_digest_longer_than_the_group_is_cut_before_the_token_sees_it),
        cmocka_unit_test(a_lost_session_is_replaced_while_the_login_lives),
        cmocka_unit_test(a_lost_login_is_unavailable_and_not_a_lost_key),
        cmocka_unit_test(errors_are_told_apart_and_leave_a_session_and_the_login),
        cmocka_unit_test(a_signature_of_a_wrong_size_is_refused),
        cmocka_unit_test(an_ecdsa_signature_is_minimal_der_of_numbers_above_zero),
        cmocka_unit_test(eight_threads_share_three_sessions),
        cmocka_unit_test(a_device_with_fewer_sessions_than_configured_is_shared),
        cmocka_unit_test(a_decrypted_block_is_whole_whatever_the_token_leaves_out),
        cmocka_unit_test(wrong_padding_is_a_block_of_zeros_and_no_error_of_the_token),
        cmocka_unit_test(a_key_that_may_not_decrypt_says_what_to_do),
        cmocka_unit_test(a_taken_session_is_waited_for_until_the_deadline_and_no_longer),
    };
    if (access(SOFTHSM, R_OK) != 0) {
        fprintf(stderr, "skipped: %s is missing (package softhsm2)\n", SOFTHSM);
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, make_tokens_and_keys, remove_tokens);
}
