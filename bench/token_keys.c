/*
 * Many keys in a token, for measurements:
 *
 *     token_keys MODULE TOKEN PIN make COUNT   makes P-256 key pairs in one session
 *     token_keys MODULE TOKEN PIN hold         finds all keys, says how many, waits for end of file
 *
 * `hold` does with the module what immured does, and nothing else: its memory is the module's.
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attributes.h"

#define SLOTS_MAX      64
#define FOUND_MAX      64
#define ATTRIBUTE_MAX  256
#define COUNT_MAX      1000000
#define EC_PARAMS_P256 "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07" /* OID prime256v1 */

static CK_FUNCTION_LIST *module;

static bool succeeded(CK_RV rv, const char *what)
{
    if (rv != CKR_OK)
        fprintf(stderr, "token_keys: %s: CK_RV 0x%lx\n", what, rv);
    return rv == CKR_OK;
}

static bool load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = NULL;
    if (library != NULL)
        *(void **)&get = dlsym(library, "C_GetFunctionList");
    if (get == NULL) {
        fprintf(stderr, "token_keys: %s\n", dlerror());
        return false;
    }
    CK_C_INITIALIZE_ARGS arguments = {.flags = CKF_OS_LOCKING_OK};
    return succeeded(get(&module), "C_GetFunctionList") &&
           succeeded(module->C_Initialize(&arguments), "C_Initialize");
}

static bool has_label(CK_SLOT_ID slot, const char *label)
{
    CK_TOKEN_INFO token;
    size_t size = strlen(label);
    return size <= sizeof(token.label) && module->C_GetTokenInfo(slot, &token) == CKR_OK &&
           memcmp(token.label, label, size) == 0 &&
           (size == sizeof(token.label) || token.label[size] == ' ');
}

static bool find_slot(const char *label, CK_SLOT_ID *slot)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    if (!succeeded(module->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList"))
        return false;
    for (CK_ULONG i = 0; i < count; i++)
        if (has_label(slots[i], label)) {
            *slot = slots[i];
            return true;
        }
    fprintf(stderr, "token_keys: no token %s\n", label);
    return false;
}

static bool log_in(const char *label, char *pin, CK_SESSION_HANDLE *session)
{
    CK_SLOT_ID slot;
    return find_slot(label, &slot) &&
           succeeded(module->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                           session),
                     "C_OpenSession") &&
           succeeded(module->C_Login(*session, CKU_USER, (CK_UTF8CHAR *)pin, strlen(pin)),
                     "C_Login");
}

static bool make_one(CK_SESSION_HANDLE session, unsigned number)
{
    CK_MECHANISM generation = {.mechanism = CKM_EC_KEY_PAIR_GEN};
    CK_BBOOL yes = CK_TRUE;
    CK_OBJECT_HANDLE public_key, private_key;
    char label[32];
    CK_ULONG size = (CK_ULONG)snprintf(label, sizeof(label), "key-%06u", number);
    CK_ATTRIBUTE public_template[] = {
        {CKA_TOKEN, &yes, sizeof(yes)},
        {CKA_VERIFY, &yes, sizeof(yes)},
        {CKA_EC_PARAMS, (char[]){EC_PARAMS_P256}, sizeof(EC_PARAMS_P256) - 1},
        {CKA_LABEL, label, size},
        {CKA_ID, label, size},
    };
    CK_ATTRIBUTE private_template[] = {
        {CKA_TOKEN, &yes, sizeof(yes)}, {CKA_PRIVATE, &yes, sizeof(yes)},
        {CKA_SIGN, &yes, sizeof(yes)},  {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_LABEL, label, size},       {CKA_ID, label, size},
    };
    return succeeded(module->C_GenerateKeyPair(
                         session, &generation, public_template, ARRAY_SIZE(public_template),
                         private_template, ARRAY_SIZE(private_template), &public_key, &private_key),
                     "C_GenerateKeyPair");
}

static bool make(CK_SESSION_HANDLE session, const char *text)
{
    char *end;
    unsigned long count = strtoul(text, &end, 10);
    if (*end != '\0' || count < 1 || count > COUNT_MAX) {
        fprintf(stderr, "token_keys: %s: give 1 to %d\n", text, COUNT_MAX);
        return false;
    }
    for (unsigned number = 1; number <= count; number++)
        if (!make_one(session, number))
            return false;
    return true;
}

static bool read_object(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_OBJECT_CLASS class)
{
    CK_BYTE label[ATTRIBUTE_MAX], id[ATTRIBUTE_MAX], point[ATTRIBUTE_MAX];
    CK_ATTRIBUTE attributes[] = {
        {CKA_LABEL, label, sizeof(label)},
        {CKA_ID, id, sizeof(id)},
        {CKA_EC_POINT, point, sizeof(point)}, /* of public keys */
    };
    CK_ULONG count = ARRAY_SIZE(attributes) - (class == CKO_PRIVATE_KEY);
    return succeeded(module->C_GetAttributeValue(session, object, attributes, count),
                     "C_GetAttributeValue");
}

static bool find(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, unsigned *total)
{
    CK_ATTRIBUTE template = {CKA_CLASS, &class, sizeof(class)};
    CK_OBJECT_HANDLE found[FOUND_MAX];
    CK_ULONG count = 0;
    if (!succeeded(module->C_FindObjectsInit(session, &template, 1), "C_FindObjectsInit"))
        return false;
    do {
        if (!succeeded(module->C_FindObjects(session, found, FOUND_MAX, &count), "C_FindObjects"))
            return false;
        for (CK_ULONG i = 0; i < count; i++)
            if (!read_object(session, found[i], class))
                return false;
        *total += (unsigned)count;
    } while (count > 0);
    return succeeded(module->C_FindObjectsFinal(session), "C_FindObjectsFinal");
}

static bool hold(CK_SESSION_HANDLE session)
{
    unsigned private_keys = 0, public_keys = 0;
    if (!find(session, CKO_PRIVATE_KEY, &private_keys) ||
        !find(session, CKO_PUBLIC_KEY, &public_keys))
        return false;
    printf("%u private keys, %u public keys\n", private_keys, public_keys);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return true;
}

int main(int argc, char **argv)
{
    CK_SESSION_HANDLE session;
    bool makes = argc == 6 && strcmp(argv[4], "make") == 0;
    if (!makes && !(argc == 5 && strcmp(argv[4], "hold") == 0)) {
        fprintf(stderr, "usage: token_keys MODULE TOKEN PIN make COUNT | hold\n");
        return 2;
    }
    if (!load(argv[1]) || !log_in(argv[2], argv[3], &session))
        return 1;
    bool is_done = makes ? make(session, argv[5]) : hold(session);
    return succeeded(module->C_Finalize(NULL), "C_Finalize") && is_done ? 0 : 1;
}
