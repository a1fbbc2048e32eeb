#include "token/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "token/internal.h"
#include "token/quirks.h"

/* More slots or mechanisms than any device has: a module that says more is broken. */
#define SLOTS_MAX      4096
#define MECHANISMS_MAX 4096

void copy_printable(char *text, const void *bytes, size_t size)
{
    memcpy(text, bytes, size);
    text[size] = '\0';
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f)
            text[i] = '?';
    }
}

/* PKCS#11 pads its strings with spaces; some devices do it with zeros. */
static void copy_padded(char *text, const unsigned char *padded, size_t size)
{
    while (size > 0 && (padded[size - 1] == ' ' || padded[size - 1] == '\0'))
        size--;
    copy_printable(text, padded, size);
}

/* --- The slot -------------------------------------------------------------------------------- */

P11KitUri *uri_parse(const char *text, struct problem *problem)
{
    P11KitUri *uri = p11_kit_uri_new();
    int result =
        uri == NULL ? P11_KIT_URI_NO_MEMORY : p11_kit_uri_parse(text, P11_KIT_URI_FOR_ANY, uri);
    if (result == P11_KIT_URI_OK)
        return uri;
    /* Without the text: there may be a PIN in it. */
    problem_set(problem, TOKEN_BAD_URI, "its URI is not a PKCS#11 URI (RFC 7512): %s",
                p11_kit_uri_message(result));
    p11_kit_uri_free(uri);
    return NULL;
}

bool uri_fits_slot(P11KitUri *uri, const struct slot *slot)
{
    CK_SLOT_ID id = p11_kit_uri_get_slot_id(uri);
    return (id == (CK_SLOT_ID)-1 || id == slot->id) && !p11_kit_uri_any_unrecognized(uri) &&
           p11_kit_uri_match_module_info(uri, &slot->module) == 1 &&
           p11_kit_uri_match_slot_info(uri, &slot->info) == 1 &&
           p11_kit_uri_match_token_info(uri, &slot->token) == 1;
}

static bool read_slot(struct token *token, CK_SLOT_ID id, struct slot *slot)
{
    memset(slot, 0, sizeof(*slot));
    slot->id = id;
    return token->functions->C_GetInfo(&slot->module) == CKR_OK &&
           token->functions->C_GetSlotInfo(id, &slot->info) == CKR_OK &&
           token->functions->C_GetTokenInfo(id, &slot->token) == CKR_OK;
}

static CK_RV list_slots(struct token *token, CK_SLOT_ID **slots, CK_ULONG *count)
{
    CK_RV rv = token->functions->C_GetSlotList(CK_TRUE, NULL, count);
    if (rv == CKR_OK && *count > SLOTS_MAX)
        rv = CKR_GENERAL_ERROR;
    if (rv == CKR_OK && (*slots = calloc(*count + 1, sizeof(**slots))) == NULL)
        rv = CKR_HOST_MEMORY;
    if (rv == CKR_OK)
        rv = token->functions->C_GetSlotList(CK_TRUE, *slots, count);
    return rv;
}

/* The labels of the tokens that are there, for the message that says that none fits. */
struct label_list {
    char text[PROBLEM_TEXT_SIZE / 2];
    size_t used;
};

static void add_label(struct label_list *list, const struct slot *slot, bool ready)
{
    char label[sizeof(slot->token.label) + 1];
    copy_padded(label, slot->token.label, sizeof(slot->token.label));
    if (label[0] == '\0' && !ready)
        return;
    int length = snprintf(list->text + list->used, sizeof(list->text) - list->used, "%s\"%s\"%s",
                          list->used == 0 ? "" : ", ", label, ready ? "" : " (not initialised)");
    if (length > 0 && (size_t)length < sizeof(list->text) - list->used)
        list->used += (size_t)length;
    else
        list->text[list->used] = '\0';
}

static enum token_error match_slots(struct token *token, P11KitUri *uri, const char *text,
                                    const CK_SLOT_ID *slots, CK_ULONG count,
                                    struct problem *problem)
{
    struct label_list labels = {.text = "none"};
    unsigned matches = 0;
    for (CK_ULONG i = 0; i < count; i++) {
        struct slot slot;
        if (!read_slot(token, slots[i], &slot))
            continue;
        bool ready = (slot.token.flags & CKF_TOKEN_INITIALIZED) != 0;
        add_label(&labels, &slot, ready);
        if (ready && uri_fits_slot(uri, &slot) && matches++ == 0)
            token->slot = slot;
    }
    if (matches == 1)
        return TOKEN_OK;
    return problem_set(problem, TOKEN_BAD_URI,
                       "its URI %s fits %s token of the module; correct it, for example with "
                       "token= or serial=; tokens there: %s",
                       text, matches == 0 ? "no" : "more than one", labels.text);
}

static enum token_error find_slot(struct token *token, const char *text, struct problem *problem)
{
    P11KitUri *uri = uri_parse(text, problem);
    if (uri == NULL)
        return TOKEN_BAD_URI;

    CK_SLOT_ID *slots = NULL;
    CK_ULONG count = 0;
    enum token_error error;
    CK_RV rv;
    if (p11_kit_uri_get_pin_value(uri) != NULL || p11_kit_uri_get_pin_source(uri) != NULL)
        error = problem_set(problem, TOKEN_BAD_URI,
                            "its URI must not hold a PIN: use pin-file or pin-credential");
    else if ((rv = list_slots(token, &slots, &count)) != CKR_OK)
        error = rv_problem(rv, "C_GetSlotList", problem);
    else
        error = match_slots(token, uri, text, slots, count, problem);
    free(slots);
    p11_kit_uri_free(uri);
    return error;
}

/* --- Mechanisms ------------------------------------------------------------------------------ */

static int compare_mechanisms(const void *a, const void *b)
{
    const struct mechanism *left = a, *right = b;
    return (left->type > right->type) - (left->type < right->type);
}

static struct mechanism *find_mechanism(struct token *token, CK_MECHANISM_TYPE type)
{
    struct mechanism wanted = {.type = type};
    if (token->mechanism_count == 0)
        return NULL;
    return bsearch(&wanted, token->mechanisms, token->mechanism_count, sizeof(wanted),
                   compare_mechanisms);
}

static CK_RV list_mechanisms(struct token *token, CK_MECHANISM_TYPE **types, CK_ULONG *count)
{
    CK_RV rv = token->functions->C_GetMechanismList(token->slot.id, NULL, count);
    if (rv == CKR_OK && *count > MECHANISMS_MAX)
        rv = CKR_GENERAL_ERROR;
    if (rv == CKR_OK && (*types = calloc(*count + 1, sizeof(**types))) == NULL)
        rv = CKR_HOST_MEMORY;
    if (rv == CKR_OK)
        rv = token->functions->C_GetMechanismList(token->slot.id, *types, count);
    return rv;
}

static enum token_error read_mechanisms(struct token *token, struct problem *problem)
{
    CK_MECHANISM_TYPE *types = NULL;
    CK_ULONG count = 0;
    CK_RV rv = list_mechanisms(token, &types, &count);
    if (rv == CKR_OK) {
        token->mechanisms = calloc(count + 1, sizeof(*token->mechanisms));
        rv = token->mechanisms == NULL ? CKR_HOST_MEMORY : CKR_OK;
    }
    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++) {
        CK_MECHANISM_INFO info = {0};
        /* A listed mechanism of which nothing can be told is one that is not there. */
        if (token->functions->C_GetMechanismInfo(token->slot.id, types[i], &info) == CKR_OK)
            token->mechanisms[token->mechanism_count++] =
                (struct mechanism){.type = types[i], .flags = quirk_flags(types[i], info.flags)};
    }
    if (rv == CKR_OK)
        qsort(token->mechanisms, token->mechanism_count, sizeof(*token->mechanisms),
              compare_mechanisms);
    free(types);
    return rv_problem(rv, "C_GetMechanismList", problem);
}

bool token_has_mechanism(struct token *token, CK_MECHANISM_TYPE mechanism, CK_FLAGS flags)
{
    const struct mechanism *found = find_mechanism(token, mechanism);
    return found != NULL && (found->flags & flags) == flags;
}

/* --- Opening and closing --------------------------------------------------------------------- */

static enum token_error open_token(struct token *token, const struct token_settings *settings,
                                   struct problem *problem)
{
    token->session_flags = CKF_SERIAL_SESSION | (settings->read_write ? CKF_RW_SESSION : 0);
    token->name = strdup(settings->name);
    if (token->name == NULL || !session_pool_init(&token->pool, settings->max_sessions))
        return problem_set(problem, TOKEN_FAILED, "out of memory");

    enum token_error error =
        module_acquire(settings->module, settings->library_parameters, &token->module, problem);
    if (error != TOKEN_OK)
        return error;
    token->functions = module_functions(token->module);
    error = find_slot(token, settings->uri, problem);
    return error == TOKEN_OK ? read_mechanisms(token, problem) : error;
}

enum token_error token_open(const struct token_settings *settings, struct token **token,
                            struct problem *problem)
{
    *token = NULL;
    if (settings->max_sessions == 0 || settings->max_sessions > TOKEN_MAX_SESSIONS_LIMIT)
        return problem_set(problem, TOKEN_FAILED, "token %s: max-sessions must be 1 to %d",
                           settings->name, TOKEN_MAX_SESSIONS_LIMIT);
    struct token *opened = calloc(1, sizeof(*opened));
    if (opened == NULL)
        return problem_set(problem, TOKEN_FAILED, "token %s: out of memory", settings->name);

    enum token_error error = open_token(opened, settings, problem);
    if (error != TOKEN_OK) {
        token_close(opened);
        return problem_prefix(problem, error, "token %s", settings->name);
    }
    *token = opened;
    return TOKEN_OK;
}

void token_close(struct token *token)
{
    if (token == NULL)
        return;
    session_pool_clear(token);
    module_release(token->module);
    free(token->mechanisms);
    free(token->name);
    free(token);
}

const char *token_name(const struct token *token)
{
    return token->name;
}

static enum token_error read_token_info(struct token *token, CK_TOKEN_INFO *info,
                                        struct problem *problem)
{
    memset(info, 0, sizeof(*info));
    CK_RV rv = token->functions->C_GetTokenInfo(token->slot.id, info);
    return token_error_of(token, rv, "C_GetTokenInfo", problem);
}

enum token_error token_describe(struct token *token, struct token_description *description,
                                struct problem *problem)
{
    CK_TOKEN_INFO info;
    enum token_error error = read_token_info(token, &info, problem);
    if (error != TOKEN_OK)
        return error;

    *description = (struct token_description){
        .login_required = (info.flags & CKF_LOGIN_REQUIRED) != 0,
        .pin_count_low = (info.flags & CKF_USER_PIN_COUNT_LOW) != 0,
        .pin_final_try = (info.flags & CKF_USER_PIN_FINAL_TRY) != 0,
        .pin_locked = (info.flags & CKF_USER_PIN_LOCKED) != 0,
    };
    copy_padded(description->label, info.label, sizeof(info.label));
    copy_padded(description->manufacturer, info.manufacturerID, sizeof(info.manufacturerID));
    copy_padded(description->model, info.model, sizeof(info.model));
    copy_padded(description->serial, info.serialNumber, sizeof(info.serialNumber));
    snprintf(description->firmware, sizeof(description->firmware), "%u.%u",
             (unsigned)info.firmwareVersion.major, (unsigned)info.firmwareVersion.minor);
    return TOKEN_OK;
}

/* --- Login ----------------------------------------------------------------------------------- */

/* Refuses what would lock the token or prompt at its reader for nothing. */
static enum token_error check_login(struct token *token, const CK_TOKEN_INFO *info,
                                    const struct pin *pin, struct problem *problem)
{
    if ((info->flags & CKF_USER_PIN_LOCKED) != 0)
        return problem_set(problem, TOKEN_PIN_LOCKED,
                           "token %s: its user PIN is locked: unlock it with the security "
                           "officer's PIN and the vendor's tool",
                           token->name);
    if ((info->flags & CKF_USER_PIN_FINAL_TRY) != 0)
        return problem_set(problem, TOKEN_PIN_LOCKED,
                           "token %s: one wrong PIN more would lock it, so none is tried: log in "
                           "once with the vendor's tool, which resets the count",
                           token->name);
    if (pin == NULL && (info->flags & CKF_PROTECTED_AUTHENTICATION_PATH) == 0)
        return problem_set(problem, TOKEN_PIN_INCORRECT,
                           "token %s: it needs a PIN and none is given: set pin-file or "
                           "pin-credential",
                           token->name);
    return TOKEN_OK;
}

static enum token_error log_in(struct token *token, const struct token_session *session,
                               const struct pin *pin, struct problem *problem)
{
    CK_UTF8CHAR *text = pin == NULL ? NULL : unconst(pin->text);
    CK_RV rv =
        session->functions->C_Login(session->handle, CKU_USER, text, pin == NULL ? 0 : pin->size);
    if (rv == CKR_USER_ALREADY_LOGGED_IN)
        rv = CKR_OK;
    token->logged_in = rv == CKR_OK;
    enum token_error error = token_error_of(token, rv, "login", problem);
    /* Of any cause: also of a PIN that the device has counted as wrong. */
    return rv == CKR_GENERAL_ERROR ? TOKEN_FAILED : error;
}

enum token_error token_login(struct token *token, const struct pin *pin, struct problem *problem)
{
    CK_TOKEN_INFO info;
    enum token_error error = read_token_info(token, &info, problem);
    bool required = error == TOKEN_OK && (info.flags & CKF_LOGIN_REQUIRED) != 0;
    if (required)
        error = check_login(token, &info, pin, problem);
    if (error != TOKEN_OK)
        return error;

    struct token_session session;
    error = token_session_take(token, clock_now_ms(), &session, problem);
    if (error != TOKEN_OK)
        return error;
    if (required)
        error = log_in(token, &session, pin, problem);
    token_session_return(token, &session, error == TOKEN_UNAVAILABLE);
    return error;
}
