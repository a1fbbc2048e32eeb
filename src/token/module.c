#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "token/internal.h"

/* Never freed: a process uses few modules, and their libraries stay loaded anyway. */
struct module {
    struct module *next;
    char *path; /* canonical, so that one library has one entry */
    pthread_mutex_t lock;
    CK_FUNCTION_LIST *functions; /* set once, when the library is loaded */
    unsigned references;
    char *library_parameters; /* of the C_Initialize in force, or NULL */
    bool initialised;         /* by us, so C_Finalize is ours too */
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct module *registry;

static enum token_error canonical_path(const char *path, char canonical[PATH_MAX],
                                       struct problem *problem)
{
    struct stat status;
    if (path[0] != '/')
        return problem_set(problem, TOKEN_UNAVAILABLE,
                           "the module path %s is not absolute: begin it with /", path);
    if (realpath(path, canonical) == NULL || stat(canonical, &status) != 0)
        return problem_set(problem, TOKEN_UNAVAILABLE, "cannot find the module %s: %s", path,
                           strerror(errno));
    if (!S_ISREG(status.st_mode))
        return problem_set(problem, TOKEN_UNAVAILABLE,
                           "the module %s is no file: name the shared library itself", path);
    return TOKEN_OK;
}

static struct module *new_entry(const char *path)
{
    struct module *module = calloc(1, sizeof(*module));
    if (module == NULL)
        return NULL;
    module->path = strdup(path);
    if (module->path == NULL || pthread_mutex_init(&module->lock, NULL) != 0) {
        free(module->path);
        free(module);
        return NULL;
    }
    module->next = registry;
    registry = module;
    return module;
}

static struct module *registry_entry(const char *path)
{
    pthread_mutex_lock(&registry_lock);
    struct module *module = registry;
    while (module != NULL && strcmp(module->path, path) != 0)
        module = module->next;
    if (module == NULL)
        module = new_entry(path);
    pthread_mutex_unlock(&registry_lock);
    return module;
}

/*
 * A module, once found to be one, stays loaded for the life of the process: vendors' libraries
 * leave threads and exit handlers behind, which would run in unmapped memory.
 */
static enum token_error load(struct module *module, struct problem *problem)
{
    void *library = dlopen(module->path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        problem_set(problem, TOKEN_UNAVAILABLE, "cannot load the module: %s", dlerror());
        return TOKEN_UNAVAILABLE;
    }

    CK_C_GetFunctionList get = (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList");
    CK_FUNCTION_LIST *functions = NULL;
    if (get == NULL || get(&functions) != CKR_OK || functions == NULL) {
        problem_set(problem, TOKEN_UNAVAILABLE, "%s is not a PKCS#11 module: %s", module->path,
                    get == NULL ? "it has no C_GetFunctionList" : "its C_GetFunctionList fails");
        dlclose(library);
        return TOKEN_UNAVAILABLE;
    }
    module->functions = functions;
    return TOKEN_OK;
}

/*
 * NSS: its LibraryParameters stands where PKCS#11 has pReserved, and one more pointer follows
 * (nss, pkcs11t.h), which must be readable and NULL.
 */
struct initialize_args {
    CK_C_INITIALIZE_ARGS standard;
    /* cppcheck-suppress unusedStructMember */
    void *nss_reserved;
};

static enum token_error initialise(struct module *module, const char *parameters,
                                   struct problem *problem)
{
    char *copy = parameters == NULL ? NULL : strdup(parameters);
    if (parameters != NULL && copy == NULL)
        return problem_set(problem, TOKEN_FAILED, "out of memory");

    struct initialize_args args = {.standard = {.flags = CKF_OS_LOCKING_OK, .pReserved = copy}};
    CK_RV rv = module->functions->C_Initialize(&args);
    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED) {
        free(copy);
        enum token_error error = rv_problem(rv, "C_Initialize", problem);
        return problem_prefix(problem, error, "module %s", module->path);
    }
    module->initialised = rv == CKR_OK;
    module->library_parameters = copy;
    return TOKEN_OK;
}

static bool same_parameters(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Under the module's lock. */
static enum token_error add_reference(struct module *module, const char *parameters,
                                      struct problem *problem)
{
    enum token_error error = TOKEN_OK;
    if (module->functions == NULL)
        error = load(module, problem);
    if (error == TOKEN_OK && module->references == 0)
        error = initialise(module, parameters, problem);
    if (error == TOKEN_OK && !same_parameters(module->library_parameters, parameters))
        error = problem_set(problem, TOKEN_FAILED,
                            "the module %s is in use with other library-parameters: give all "
                            "its tokens the same",
                            module->path);
    if (error == TOKEN_OK)
        module->references++;
    return error;
}

enum token_error module_acquire(const char *path, const char *library_parameters,
                                struct module **module, struct problem *problem)
{
    char canonical[PATH_MAX];
    *module = NULL;
    enum token_error error = canonical_path(path, canonical, problem);
    if (error != TOKEN_OK)
        return error;

    struct module *entry = registry_entry(canonical);
    if (entry == NULL)
        return problem_set(problem, TOKEN_FAILED, "out of memory");
    pthread_mutex_lock(&entry->lock);
    error = add_reference(entry, library_parameters, problem);
    pthread_mutex_unlock(&entry->lock);
    if (error == TOKEN_OK)
        *module = entry;
    return error;
}

void module_release(struct module *module)
{
    if (module == NULL)
        return;

    pthread_mutex_lock(&module->lock);
    if (--module->references == 0) {
        if (module->initialised)
            module->functions->C_Finalize(NULL);
        module->initialised = false;
        free(module->library_parameters);
        module->library_parameters = NULL;
    }
    pthread_mutex_unlock(&module->lock);
}

CK_FUNCTION_LIST *module_functions(const struct module *module)
{
    return module->functions;
}
