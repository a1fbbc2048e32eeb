/*
 * A PKCS#11 module that stands for a network HSM: it forwards to a real module and sleeps before
 * each signature.
 *
 *     IMMURE_DELAY_MODULE  the real module; if not set, the file beside this one with ".real" at
 *                          its end, and if there is none, SoftHSM
 *     IMMURE_DELAY_MS      milliseconds; 2 if not set
 *     IMMURE_DELAY_REPEAT  if set, it signs once, and from then on each C_Sign returns that
 *                          signature, after the pause: what asking costs, without what signing
 *                          costs this host. With one key only
 *
 * What the file beside it says, this module's path and ".fault", happens to each C_Sign while the
 * file says so:
 *
 *     hang        it does not return
 *     fail RV     it returns this CK_RV, a number such as 0x30
 *     wrong       it returns a signature with one bit changed
 *     crash       the process dies of SIGABRT; the file is removed first
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
#include <unistd.h>

#define REAL_MODULE_DEFAULT "/usr/lib/softhsm/libsofthsm2.so"
#define DELAY_MS_DEFAULT    2
#define SIGNATURE_SIZE_MAX  1024
#define PATH_SIZE_MAX       4096
#define FAULT_SIZE_MAX      32

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST ours;
static struct timespec delay = {.tv_nsec = DELAY_MS_DEFAULT * 1000000L};

/* The signature that is repeated: written once, under the lock, before `known`. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool known;
static CK_BYTE first[SIGNATURE_SIZE_MAX];
static CK_ULONG first_size;

static char fault_path[PATH_SIZE_MAX];

/* What the file says, or an empty string. */
static const char *read_fault(char text[FAULT_SIZE_MAX])
{
    FILE *file = fopen(fault_path, "re");
    if (file == NULL || fgets(text, FAULT_SIZE_MAX, file) == NULL)
        text[0] = '\0';
    if (file != NULL)
        fclose(file);
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static void hang(void)
{
    static const struct timespec pause = {.tv_nsec = 5000000};
    char text[FAULT_SIZE_MAX];
    while (strcmp(read_fault(text), "hang") == 0)
        nanosleep(&pause, NULL);
}

/* Even a sleep of no time at all takes some 50 us. */
static void pause_before_signing(void)
{
    if (delay.tv_sec != 0 || delay.tv_nsec != 0)
        nanosleep(&delay, NULL);
}

static CK_RV sign_later(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG data_size,
                        CK_BYTE *signature, CK_ULONG *signature_size)
{
    char fault[FAULT_SIZE_MAX];
    pause_before_signing();
    if (strcmp(read_fault(fault), "hang") == 0)
        hang();
    if (strcmp(fault, "crash") == 0) {
        unlink(fault_path);
        abort();
    }
    CK_RV rv = real->C_Sign(session, data, data_size, signature, signature_size);
    if (strncmp(fault, "fail ", strlen("fail ")) == 0)
        rv = strtoul(fault + strlen("fail "), NULL, 0);
    if (rv == CKR_OK && strcmp(fault, "wrong") == 0)
        signature[*signature_size - 1] ^= 1;
    return rv;
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
    pause_before_signing();
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

static bool find_files(char real_path[PATH_SIZE_MAX])
{
    const char *configured = getenv("IMMURE_DELAY_MODULE");
    Dl_info self;
    if (dladdr(&ours, &self) == 0)
        return false;
    snprintf(fault_path, sizeof(fault_path), "%s.fault", self.dli_fname);
    snprintf(real_path, PATH_SIZE_MAX, "%s.real", self.dli_fname);
    if (configured != NULL)
        snprintf(real_path, PATH_SIZE_MAX, "%s", configured);
    else if (access(real_path, R_OK) != 0)
        snprintf(real_path, PATH_SIZE_MAX, "%s", REAL_MODULE_DEFAULT);
    return true;
}

static bool load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = NULL;
    if (library != NULL)
        *(void **)&get = dlsym(library, "C_GetFunctionList");
    if (get != NULL && get(&real) == CKR_OK)
        return true;
    fprintf(stderr, "delay: %s: %s\n", path, library == NULL ? dlerror() : "no PKCS#11 module");
    return false;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    const char *milliseconds = getenv("IMMURE_DELAY_MS");
    char path[PATH_SIZE_MAX];
    if (!find_files(path) || !load(path))
        return CKR_GENERAL_ERROR;
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
