#include "objects.h"

#include "faults.h"

static CK_FUNCTION_LIST *real;

/* The handle of a private key that stays on the token, if there is one. */
static void leave_another(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *handle)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof(class)}, {CKA_TOKEN, &yes, sizeof(yes)}};
    CK_ULONG count = 0;
    if (real->C_FindObjectsInit(session, template, 2) != CKR_OK)
        return;
    (void)real->C_FindObjects(session, handle, 1, &count);
    (void)real->C_FindObjectsFinal(session);
    if (count == 1)
        *handle = faults_handle(*handle);
}

/* What the real module gave; a call that failed leaves a number that is not to be used. */
static CK_RV give(CK_SESSION_HANDLE session, CK_RV rv, CK_OBJECT_HANDLE *handle)
{
    if (rv == CKR_OK)
        *handle = faults_handle(*handle);
    else
        leave_another(session, handle);
    return rv;
}

static CK_RV create_object(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count,
                           CK_OBJECT_HANDLE *object)
{
    CK_RV rv = faults_before(CALL_CREATE_OBJECT, session);
    if (rv == CKR_OK)
        rv = real->C_CreateObject(session, template, count, object);
    return give(session, rv, object);
}

static CK_RV copy_object(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *template,
                         CK_ULONG count, CK_OBJECT_HANDLE *copy)
{
    CK_RV rv = real->C_CopyObject(session, faults_handle(object), template, count, copy);
    return give(session, rv, copy);
}

static CK_RV destroy_object(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    return real->C_DestroyObject(session, faults_handle(object));
}

static CK_RV get_object_size(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ULONG *size)
{
    return real->C_GetObjectSize(session, faults_handle(object), size);
}

static CK_RV get_attribute_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_RV rv = faults_before(CALL_GET_ATTRIBUTE_VALUE, session);
    if (rv != CKR_OK)
        return rv;
    return real->C_GetAttributeValue(session, faults_handle(object), template, count);
}

static CK_RV set_attribute_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *template, CK_ULONG count)
{
    return real->C_SetAttributeValue(session, faults_handle(object), template, count);
}

static CK_RV find_objects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *objects, CK_ULONG max,
                          CK_ULONG *count)
{
    CK_RV rv = real->C_FindObjects(session, objects, max, count);
    for (CK_ULONG i = 0; rv == CKR_OK && i < *count; i++)
        objects[i] = faults_handle(objects[i]);
    return rv;
}

static CK_RV encrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    return real->C_EncryptInit(session, mechanism, faults_handle(key));
}

static CK_RV decrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_RV rv = faults_before(CALL_DECRYPT_INIT, session);
    return rv != CKR_OK ? rv : real->C_DecryptInit(session, mechanism, faults_handle(key));
}

static CK_RV digest_key(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    return real->C_DigestKey(session, faults_handle(key));
}

static CK_RV sign_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_RV rv = faults_before(CALL_SIGN_INIT, session);
    return rv != CKR_OK ? rv : real->C_SignInit(session, mechanism, faults_handle(key));
}

static CK_RV sign_recover_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                               CK_OBJECT_HANDLE key)
{
    return real->C_SignRecoverInit(session, mechanism, faults_handle(key));
}

static CK_RV verify_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    return real->C_VerifyInit(session, mechanism, faults_handle(key));
}

static CK_RV verify_recover_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                 CK_OBJECT_HANDLE key)
{
    return real->C_VerifyRecoverInit(session, mechanism, faults_handle(key));
}

static CK_RV generate_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                          CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *key)
{
    return give(session, real->C_GenerateKey(session, mechanism, template, count, key), key);
}

static CK_RV generate_key_pair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                               CK_ATTRIBUTE *public_template, CK_ULONG public_count,
                               CK_ATTRIBUTE *private_template, CK_ULONG private_count,
                               CK_OBJECT_HANDLE *public_key, CK_OBJECT_HANDLE *private_key)
{
    CK_RV rv = faults_before(CALL_GENERATE_KEY_PAIR, session);
    if (rv == CKR_OK)
        rv = real->C_GenerateKeyPair(session, mechanism, public_template, public_count,
                                     private_template, private_count, public_key, private_key);
    return give(session, give(session, rv, public_key), private_key);
}

static CK_RV wrap_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE wrapping,
                      CK_OBJECT_HANDLE key, CK_BYTE *wrapped, CK_ULONG *size)
{
    return real->C_WrapKey(session, mechanism, faults_handle(wrapping), faults_handle(key), wrapped,
                           size);
}

static CK_RV unwrap_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                        CK_OBJECT_HANDLE unwrapping, CK_BYTE *wrapped, CK_ULONG size,
                        CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *key)
{
    CK_RV rv = faults_before(CALL_UNWRAP_KEY, session);
    if (rv == CKR_OK)
        rv = real->C_UnwrapKey(session, mechanism, faults_handle(unwrapping), wrapped, size,
                               template, count, key);
    return give(session, rv, key);
}

static CK_RV derive_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE base,
                        CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *key)
{
    CK_RV rv = real->C_DeriveKey(session, mechanism, faults_handle(base), template, count, key);
    return give(session, rv, key);
}

void objects_replace(CK_FUNCTION_LIST *ours, CK_FUNCTION_LIST *functions)
{
    real = functions;
    ours->C_CreateObject = create_object;
    ours->C_CopyObject = copy_object;
    ours->C_DestroyObject = destroy_object;
    ours->C_GetObjectSize = get_object_size;
    ours->C_GetAttributeValue = get_attribute_value;
    ours->C_SetAttributeValue = set_attribute_value;
    ours->C_FindObjects = find_objects;
    ours->C_EncryptInit = encrypt_init;
    ours->C_DecryptInit = decrypt_init;
    ours->C_DigestKey = digest_key;
    ours->C_SignInit = sign_init;
    ours->C_SignRecoverInit = sign_recover_init;
    ours->C_VerifyInit = verify_init;
    ours->C_VerifyRecoverInit = verify_recover_init;
    ours->C_GenerateKey = generate_key;
    ours->C_GenerateKeyPair = generate_key_pair;
    ours->C_WrapKey = wrap_key;
    ours->C_UnwrapKey = unwrap_key;
    ours->C_DeriveKey = derive_key;
}
