/*
 * A PKCS#11 module that stands for a network HSM: it forwards to a real module and sleeps before
 * each signature.
 *
 *     IMMURE_DELAY_MODULE  the real module; SoftHSM if not set
 *     IMMURE_DELAY_MS      milliseconds; 2 if not set
 *     IMMURE_DELAY_REPEAT  if set, it signs once, and from then on each C_Sign returns that
 *                          signature at once, to measure what asking costs (with one key only)
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REAL_MODULE_DEFAULT "/usr/lib/softhsm/libsofthsm2.so"
#define DELAY_MS_DEFAULT    2
#define SIGNATURE_SIZE_MAX  1024

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST ours;
static struct timespec delay = {.tv_nsec = DELAY_MS_DEFAULT * 1000000L};

/* The signature that is repeated: written once, under the lock, before `known`. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool known;
static CK_BYTE first[SIGNATURE_SIZE_MAX];
static CK_ULONG first_size;

static CK_RV sign_later(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG data_size,
                        CK_BYTE *signature, CK_ULONG *signature_size)
{
    nanosleep(&delay, NULL);
    return real->C_Sign(session, data, data_size, signature, signature_size);
}

static void keep_first(const CK_BYTE *signature, CK_ULONG size)
{
    pthread_mutex_lock(&lock);
    if (!atomic_load(&known) && size <= sizeof(first)) {
        memcpy(first, signature, size);
        first_size = size;
        atomic_store(&known, true);
    }
    pthread_mutex_unlock(&lock);
}

static CK_RV init_once(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    return atomic_load(&known) ? CKR_OK : real->C_SignInit(session, mechanism, key);
}

static CK_RV sign_once(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG data_size,
                       CK_BYTE *signature, CK_ULONG *signature_size)
{
    if (atomic_load(&known) && *signature_size >= first_size) {
        memcpy(signature, first, first_size);
        *signature_size = first_size;
        return CKR_OK;
    }
    CK_RV rv = real->C_Sign(session, data, data_size, signature, signature_size);
    if (rv == CKR_OK)
        keep_first(signature, *signature_size);
    return rv;
}

static void read_delay(const char *text)
{
    long milliseconds = atol(text);
    delay =
        (struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
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
    if (milliseconds != NULL)
        read_delay(milliseconds);
    ours = *real;
    ours.C_GetFunctionList = C_GetFunctionList;
    ours.C_Sign = sign_later;
    if (getenv("IMMURE_DELAY_REPEAT") != NULL) {
        ours.C_SignInit = init_once;
        ours.C_Sign = sign_once;
    }
    *list = &ours;
    return CKR_OK;
}
