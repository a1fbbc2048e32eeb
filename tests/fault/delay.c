/*
 * A PKCS#11 module that stands for a network HSM: it forwards to a real module and sleeps before
 * each signature.
 *
 *     IMMURE_DELAY_MODULE  the real module; SoftHSM if not set
 *     IMMURE_DELAY_MS      milliseconds; 2 if not set
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define REAL_MODULE_DEFAULT "/usr/lib/softhsm/libsofthsm2.so"
#define DELAY_MS_DEFAULT    2

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST ours;
static struct timespec delay = {.tv_nsec = DELAY_MS_DEFAULT * 1000000L};

static CK_RV sign_later(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG data_size,
                        CK_BYTE *signature, CK_ULONG *signature_size)
{
    nanosleep(&delay, NULL);
    return real->C_Sign(session, data, data_size, signature, signature_size);
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    const char *path = getenv("IMMURE_DELAY_MODULE"), *milliseconds = getenv("IMMURE_DELAY_MS");
    void *library = dlopen(path != NULL ? path : REAL_MODULE_DEFAULT, RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = NULL;
    if (library != NULL)
        *(void **)&get = dlsym(library, "C_GetFunctionList");
    if (get == NULL || get(&real) != CKR_OK) {
        fprintf(stderr, "delay: %s\n", dlerror());
        return CKR_GENERAL_ERROR;
    }
    if (milliseconds != NULL) {
        long value = atol(milliseconds);
        delay = (struct timespec){.tv_sec = value / 1000, .tv_nsec = value % 1000 * 1000000};
    }
    ours = *real;
    ours.C_GetFunctionList = C_GetFunctionList;
    ours.C_Sign = sign_later;
    *list = &ours;
    return CKR_OK;
}
