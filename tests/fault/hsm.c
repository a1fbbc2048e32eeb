/*
 * A PKCS#11 module that stands for a network HSM: it forwards to a real module, sleeps before each
 * signature, and fails in the ways that faults.h lists.
 *
 *     IMMURE_HSM_MODULE    the real module; if not set, this module's path and ".real", and if
 *                          there is no such file, SoftHSM
 *     IMMURE_HSM_DELAY_MS  milliseconds; 2 if not set
 *     IMMURE_HSM_KEY       a P-256 key's file: each signature is then by this key and costs this
 * host nothing but the pause, as with an HSM that is elsewhere (quick_key.h). With one key only,
 * and without faults IMMURE_HSM_FAULTS    commands of faults.h that hold always, with ";" between
 * them
 *
 * The file beside it, this module's path and ".fault", has commands of faults.h, which may change
 * while the module is in use.
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"
#include "objects.h"
#include "quick_key.h"
#include "sessions.h"

#define REAL_MODULE_DEFAULT "/usr/lib/softhsm/libsofthsm2.so"
#define DELAY_MS_DEFAULT    "2"
#define PATH_SIZE_MAX       4096
#define COMMANDS_SIZE_MAX   1024

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST ours;
static struct timespec pause_before; /* signatures with IMMURE_HSM_KEY */

static CK_RV init_quickly(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    (void)session;
    (void)key;
    return mechanism->mechanism == CKM_ECDSA ? CKR_OK : CKR_MECHANISM_INVALID;
}

static CK_RV sign_quickly(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG data_size,
                          CK_BYTE *signature, CK_ULONG *signature_size)
{
    (void)session;
    if (pause_before.tv_sec != 0 || pause_before.tv_nsec != 0) /* even none takes some 50 us */
        nanosleep(&pause_before, NULL);
    return quick_key_sign(data, data_size, signature, signature_size);
}

static void read_environment(void)
{
    const char *milliseconds = getenv("IMMURE_HSM_DELAY_MS"), *faults = getenv("IMMURE_HSM_FAULTS");
    char commands[COMMANDS_SIZE_MAX];
    long pause = atol(milliseconds != NULL ? milliseconds : DELAY_MS_DEFAULT);
    pause_before = (struct timespec){.tv_sec = pause / 1000, .tv_nsec = pause % 1000 * 1000000};
    snprintf(commands, sizeof(commands), "delay %ld\n%s", pause, faults != NULL ? faults : "");
    for (char *end = commands; (end = strchr(end, ';')) != NULL;)
        *end = '\n';
    faults_set_always(commands);
}

static bool find_files(char real_path[PATH_SIZE_MAX])
{
    const char *configured = getenv("IMMURE_HSM_MODULE");
    char fault_path[PATH_SIZE_MAX];
    Dl_info self;
    if (dladdr(&ours, &self) == 0)
        return false;
    snprintf(fault_path, sizeof(fault_path), "%s.fault", self.dli_fname);
    faults_set_file(fault_path);
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
    fprintf(stderr, "hsm: %s: %s\n", path, library == NULL ? dlerror() : "no PKCS#11 module");
    return false;
}

static bool replace_functions(void)
{
    const char *key = getenv("IMMURE_HSM_KEY");
    ours = *real;
    ours.C_GetFunctionList = C_GetFunctionList;
    sessions_replace(&ours, real);
    objects_replace(&ours, real);
    if (key == NULL)
        return true;
    ours.C_SignInit = init_quickly;
    ours.C_Sign = sign_quickly;
    if (quick_key_load(key))
        return true;
    fprintf(stderr, "hsm: %s is no P-256 key that can be read\n", key);
    return false;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    char path[PATH_SIZE_MAX];
    if (!find_files(path) || !load(path) || !replace_functions())
        return CKR_GENERAL_ERROR;
    read_environment();
    *list = &ours;
    return CKR_OK;
}
