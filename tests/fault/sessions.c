#include "sessions.h"

#include <stdbool.h>
#include <string.h>

#include "faults.h"

static CK_FUNCTION_LIST *real;

static CK_RV initialize(void *args)
{
    CK_RV rv = faults_before(CALL_INITIALIZE, CK_INVALID_HANDLE);
    if (rv == CKR_OK)
        rv = real->C_Initialize(args);
    if (rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED) /* SoftHSM, in a child */
        faults_initialized();
    return rv;
}

static CK_RV finalize(void *reserved)
{
    CK_RV rv = faults_before(CALL_FINALIZE, CK_INVALID_HANDLE);
    if (rv == CKR_OK)
        rv = real->C_Finalize(reserved);
    if (rv == CKR_OK)
        faults_finalized();
    return rv;
}

static CK_RV get_slot_list(CK_BBOOL token_present, CK_SLOT_ID *slots, CK_ULONG *count)
{
    CK_RV rv = faults_before(CALL_GET_SLOT_LIST, CK_INVALID_HANDLE);
    if (rv == CKR_OK)
        rv = real->C_GetSlotList(token_present, slots, count);
    if (rv == CKR_OK && token_present && faults_hold("vanish"))
        *count = 0;
    return rv;
}

static CK_RV get_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    CK_RV rv = real->C_GetSlotInfo(slot, info);
    if (rv == CKR_OK && faults_hold("vanish"))
        info->flags &= ~CKF_TOKEN_PRESENT;
    return rv;
}

static CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = faults_before(CALL_GET_TOKEN_INFO, CK_INVALID_HANDLE);
    return rv != CKR_OK ? rv : real->C_GetTokenInfo(slot, info);
}

static CK_RV get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    CK_RV rv = real->C_GetMechanismInfo(slot, type, info);
    if (rv == CKR_OK && type == CKM_RSA_X_509 && faults_hold("padded-only"))
        info->flags &= ~CKF_DECRYPT;
    return rv;
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                          CK_SESSION_HANDLE *session)
{
    CK_RV rv = faults_before(CALL_OPEN_SESSION, CK_INVALID_HANDLE);
    if (rv == CKR_OK)
        rv = real->C_OpenSession(slot, flags, application, notify, session);
    if (rv == CKR_OK)
        faults_session_opened(*session);
    return rv;
}

/* One that is gone for the application is closed all the same: the real module still has it. */
static CK_RV close_session(CK_SESSION_HANDLE session)
{
    CK_RV rv = faults_before(CALL_CLOSE_SESSION, session);
    CK_RV closed = real->C_CloseSession(session);
    if (closed == CKR_OK)
        faults_session_closed(session);
    return rv != CKR_OK ? rv : closed;
}

static CK_RV get_session_info(CK_SESSION_HANDLE session, CK_SESSION_INFO *info)
{
    CK_RV rv = faults_before(CALL_GET_SESSION_INFO, session);
    if (rv == CKR_OK)
        rv = real->C_GetSessionInfo(session, info);
    if (rv == CKR_OK && faults_is_logged_out())
        info->state = CKS_RO_PUBLIC_SESSION;
    return rv;
}

/* The password of "user:password"; false: it is none. */
static bool take_password(CK_UTF8CHAR **pin, CK_ULONG *size)
{
    CK_UTF8CHAR *colon = *pin == NULL ? NULL : memchr(*pin, ':', *size);
    if (colon == NULL)
        return false;
    *size -= (CK_ULONG)(colon + 1 - *pin);
    *pin = colon + 1;
    return true;
}

static CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG size)
{
    CK_RV rv = faults_before(CALL_LOGIN, session);
    if (rv != CKR_OK)
        return rv;
    if (faults_hold("pin-of-user") && !take_password(&pin, &size))
        return CKR_PIN_INCORRECT;
    rv = real->C_Login(session, user, pin, size);
    if (rv == CKR_USER_ALREADY_LOGGED_IN && faults_is_logged_out())
        rv = CKR_OK;
    if (rv == CKR_OK)
        faults_logged_in();
    return rv;
}

static bool has_public_value(const CK_ATTRIBUTE *template, CK_ULONG count)
{
    for (CK_ULONG i = 0; i < count; i++) {
        if (template[i].type == CKA_MODULUS || template[i].type == CKA_EC_POINT)
            return true;
    }
    return false;
}

static CK_RV find_objects_init(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_OBJECT_CLASS no_class = CKO_VENDOR_DEFINED;
    CK_ATTRIBUTE nothing = {CKA_CLASS, &no_class, sizeof(no_class)};
    CK_RV rv = faults_before(CALL_FIND_OBJECTS_INIT, session);
    if (rv == CKR_OK && has_public_value(template, count) && faults_hold("blind"))
        return real->C_FindObjectsInit(session, &nothing, 1);
    return rv != CKR_OK ? rv : real->C_FindObjectsInit(session, template, count);
}

/* Whatever becomes of it, the real module has to end the operation. */
static CK_RV sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG data_size, CK_BYTE *signature,
                  CK_ULONG *signature_size)
{
    bool entered = faults_enter();
    CK_RV rv = faults_before(CALL_SIGN, session);
    CK_RV made = real->C_Sign(session, data, data_size, signature, signature_size);
    faults_leave(entered);
    if (rv == CKR_OK && made == CKR_OK && signature != NULL && faults_hold("wrong"))
        signature[*signature_size - 1] ^= 1;
    return rv != CKR_OK ? rv : made;
}

static CK_RV decrypt(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG data_size, CK_BYTE *output,
                     CK_ULONG *output_size)
{
    bool entered = faults_enter();
    CK_RV rv = faults_before(CALL_DECRYPT, session);
    CK_RV made = real->C_Decrypt(session, data, data_size, output, output_size);
    faults_leave(entered);
    if (rv == CKR_OK && made == CKR_OK && output != NULL && faults_hold("wrong"))
        output[*output_size - 1] ^= 1;
    rv = rv != CKR_OK ? rv : made;
    if (rv != CKR_OK)
        *output_size = CK_UNAVAILABLE_INFORMATION;
    return rv;
}

void sessions_replace(CK_FUNCTION_LIST *ours, CK_FUNCTION_LIST *functions)
{
    real = functions;
    ours->C_Initialize = initialize;
    ours->C_Finalize = finalize;
    ours->C_GetSlotList = get_slot_list;
    ours->C_GetSlotInfo = get_slot_info;
    ours->C_GetTokenInfo = get_token_info;
    ours->C_GetMechanismInfo = get_mechanism_info;
    ours->C_OpenSession = open_session;
    ours->C_CloseSession = close_session;
    ours->C_GetSessionInfo = get_session_info;
    ours->C_Login = login;
    ours->C_FindObjectsInit = find_objects_init;
    ours->C_Sign = sign;
    ours->C_Decrypt = decrypt;
}
