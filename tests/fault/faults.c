#include "faults.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "profiles.h"
#include "trespass.h"

#define PATH_SIZE_MAX 4096
#define FILE_SIZE_MAX 2048
#define COMMANDS_MAX  32
#define HANG_LOOK_MS  5

/* Added to all object handles, so that none is ever 0, whatever the numbers of the real module. */
#define HANDLE_BASE 0x40000000UL

static const char *const call_names[CALLS] = {
    [CALL_SIGN] = "C_Sign",
    [CALL_SIGN_INIT] = "C_SignInit",
    [CALL_DECRYPT] = "C_Decrypt",
    [CALL_DECRYPT_INIT] = "C_DecryptInit",
    [CALL_INITIALIZE] = "C_Initialize",
    [CALL_FINALIZE] = "C_Finalize",
    [CALL_GET_SLOT_LIST] = "C_GetSlotList",
    [CALL_GET_TOKEN_INFO] = "C_GetTokenInfo",
    [CALL_OPEN_SESSION] = "C_OpenSession",
    [CALL_CLOSE_SESSION] = "C_CloseSession",
    [CALL_GET_SESSION_INFO] = "C_GetSessionInfo",
    [CALL_LOGIN] = "C_Login",
    [CALL_FIND_OBJECTS_INIT] = "C_FindObjectsInit",
    [CALL_GET_ATTRIBUTE_VALUE] = "C_GetAttributeValue",
    [CALL_CREATE_OBJECT] = "C_CreateObject",
    [CALL_GENERATE_KEY_PAIR] = "C_GenerateKeyPair",
    [CALL_UNWRAP_KEY] = "C_UnwrapKey",
};

static const bool needs_login[CALLS] = {
    [CALL_SIGN] = true,         [CALL_SIGN_INIT] = true,         [CALL_DECRYPT] = true,
    [CALL_DECRYPT_INIT] = true, [CALL_FIND_OBJECTS_INIT] = true, [CALL_GET_ATTRIBUTE_VALUE] = true,
};

struct command {
    char name[16];
    enum call call;
    unsigned long value, jitter;
    unsigned long percent;
    unsigned long left; /* so many times more */
};

struct commands {
    struct command list[COMMANDS_MAX];
    size_t count;
};

static char path[PATH_SIZE_MAX];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* covers all that follows */
static struct commands always, from_file;
static struct stat seen;
static bool vanished, logged_out;
static CK_RV stuck;
static unsigned long open_sessions;
static CK_SESSION_HANDLE newest, dropped; /* sessions up to `dropped` are gone */

static pthread_mutex_t device = PTHREAD_MUTEX_INITIALIZER;
static _Atomic CK_OBJECT_HANDLE mask = HANDLE_BASE;
static atomic_bool forked;

static void on_fork(void)
{
    atomic_store(&forked, true);
}

/* --- What happens once ----------------------------------------------------------------------- */

static void drop_sessions(void)
{
    dropped = newest;
    open_sessions = 0;
}

/* Neighbours change places: keys that are found together have numbers that follow each other. */
static void renumber(void)
{
    drop_sessions();
    atomic_fetch_add(&mask, 1);
}

static void do_once(const struct command *command)
{
    if (strcmp(command->name, "drop") == 0)
        drop_sessions();
    else if (strcmp(command->name, "renumber") == 0)
        renumber();
    else if (strcmp(command->name, "logout") == 0)
        logged_out = true;
    else if (strcmp(command->name, "stuck") == 0)
        stuck = command->value;
    else if (strcmp(command->name, "trespass") == 0)
        trespass();
}

/* --- The file -------------------------------------------------------------------------------- */

static void read_word(struct command *command, const char *word)
{
    char *end;
    unsigned long number = strtoul(word + (word[0] == 'x'), &end, 0);
    if (word[0] == 'x')
        command->left = number;
    else if (*end == '%')
        command->percent = number;
    else if (*end == '\0' && command->value == 0)
        command->value = number;
    else if (*end == '\0')
        command->jitter = number;
    for (enum call call = 0; call < CALLS; call++) {
        if (strcmp(word, call_names[call]) == 0)
            command->call = call;
    }
}

static void add_commands(struct commands *commands, const char *text);

static void add_command(struct commands *commands, char *line)
{
    struct command command = {.call = CALL_SIGN, .percent = 100, .left = UINT32_MAX};
    char *rest = NULL, *word = strtok_r(line, " ", &rest);
    if (word == NULL || commands->count == COMMANDS_MAX)
        return;
    snprintf(command.name, sizeof(command.name), "%s", word);
    while ((word = strtok_r(NULL, " ", &rest)) != NULL) {
        if (strcmp(command.name, "profile") == 0)
            add_commands(commands, profile_commands(word));
        else
            read_word(&command, word);
    }
    commands->list[commands->count++] = command;
}

static void add_commands(struct commands *commands, const char *text)
{
    char copy[FILE_SIZE_MAX], *rest = NULL;
    snprintf(copy, sizeof(copy), "%s", text);
    for (char *line = strtok_r(copy, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        add_command(commands, line);
}

static void read_file(void)
{
    char text[FILE_SIZE_MAX] = "";
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
        fclose(file);
    }
    from_file.count = 0;
    add_commands(&from_file, text);
}

static struct command *find_in(struct commands *commands, const char *name, enum call call)
{
    for (size_t i = 0; i < commands->count; i++) {
        struct command *command = &commands->list[i];
        if (strcmp(command->name, name) == 0 && command->call == call)
            return command;
    }
    return NULL;
}

static struct command *find(const char *name, enum call call)
{
    struct command *found = find_in(&from_file, name, call);
    return found != NULL ? found : find_in(&always, name, call);
}

static void apply_file(void)
{
    bool was_vanished = vanished;
    read_file();
    for (size_t i = 0; i < from_file.count; i++)
        do_once(&from_file.list[i]);
    vanished = find("vanish", CALL_SIGN) != NULL;
    if (vanished != was_vanished) {
        renumber();
        logged_out = true;
    }
}

/* Under the lock: reads the file if it is not the one seen last. */
static void look_at_file(void)
{
    struct stat now = {0};
    (void)stat(path, &now); /* where there is none, all stays 0 */
    if (now.st_ino == seen.st_ino && now.st_size == seen.st_size &&
        now.st_mtim.tv_sec == seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return;
    seen = now;
    apply_file();
}

void faults_set_file(const char *file)
{
    snprintf(path, sizeof(path), "%s", file);
    pthread_atfork(NULL, NULL, on_fork);
}

void faults_set_always(const char *commands)
{
    add_commands(&always, commands);
}

/* --- At each call ---------------------------------------------------------------------------- */

/* Under the lock: whether a command holds and it is this call's turn. */
static struct command *turn(const char *name, enum call call)
{
    struct command *command = find(name, call);
    if (command == NULL || command->left == 0 ||
        (command->percent < 100 && (unsigned long)random() % 100 >= command->percent))
        return NULL;
    command->left--;
    return command;
}

static void sleep_ms(unsigned long milliseconds)
{
    const struct timespec pause = {.tv_sec = (time_t)(milliseconds / 1000),
                                   .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

static unsigned long delay_of(const struct command *command)
{
    if (command == NULL)
        return 0;
    return command->value + (unsigned long)random() % (command->jitter + 1);
}

static bool still_hangs(enum call call)
{
    pthread_mutex_lock(&lock);
    look_at_file();
    bool hangs = find("hang", call) != NULL;
    pthread_mutex_unlock(&lock);
    return hangs;
}

/* It keeps what it has of this process open, as a vendor's helper does. */
static void linger(unsigned long milliseconds)
{
    if (fork() != 0)
        return;
    sleep_ms(milliseconds);
    _exit(0);
}

/* Under the lock. */
static CK_RV verdict(enum call call, CK_SESSION_HANDLE session)
{
    const struct command *limit = find("sessions", CALL_SIGN), *failing;
    if (session != CK_INVALID_HANDLE && stuck != CKR_OK)
        return stuck;
    if (vanished && (call == CALL_GET_TOKEN_INFO || call == CALL_OPEN_SESSION))
        return CKR_TOKEN_NOT_PRESENT;
    if (vanished && session != CK_INVALID_HANDLE)
        return CKR_DEVICE_REMOVED;
    if (session != CK_INVALID_HANDLE && session <= dropped)
        return CKR_SESSION_HANDLE_INVALID;
    if (call == CALL_OPEN_SESSION && limit != NULL && open_sessions >= limit->value)
        return CKR_SESSION_COUNT;
    if (needs_login[call] && logged_out)
        return CKR_USER_NOT_LOGGED_IN;
    failing = turn("fail", call);
    return failing != NULL ? failing->value : CKR_OK;
}

CK_RV faults_before(enum call call, CK_SESSION_HANDLE session)
{
    if (atomic_load(&forked) && call != CALL_INITIALIZE)
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    pthread_mutex_lock(&lock);
    look_at_file();
    bool dies = turn("crash", call) != NULL, hangs = turn("hang", call) != NULL;
    unsigned long delay = delay_of(turn("delay", call)), stays = delay_of(turn("linger", call));
    pthread_mutex_unlock(&lock);
    if (delay > 0)
        sleep_ms(delay);
    if (stays > 0)
        linger(stays);
    if (dies) {
        unlink(path);
        abort();
    }
    while (hangs && still_hangs(call))
        sleep_ms(HANG_LOOK_MS);
    pthread_mutex_lock(&lock);
    CK_RV rv = verdict(call, session);
    pthread_mutex_unlock(&lock);
    return rv;
}

bool faults_hold(const char *name)
{
    pthread_mutex_lock(&lock);
    bool holds = turn(name, CALL_SIGN) != NULL;
    pthread_mutex_unlock(&lock);
    return holds;
}

bool faults_enter(void)
{
    bool alone = faults_hold("serial");
    if (alone)
        pthread_mutex_lock(&device);
    return alone;
}

void faults_leave(bool entered)
{
    if (entered)
        pthread_mutex_unlock(&device);
}

/* --- What the real module did ---------------------------------------------------------------- */

void faults_session_opened(CK_SESSION_HANDLE session)
{
    pthread_mutex_lock(&lock);
    open_sessions++;
    if (session > newest)
        newest = session;
    pthread_mutex_unlock(&lock);
}

void faults_session_closed(CK_SESSION_HANDLE session)
{
    pthread_mutex_lock(&lock);
    if (session > dropped)
        open_sessions--;
    pthread_mutex_unlock(&lock);
}

void faults_logged_in(void)
{
    pthread_mutex_lock(&lock);
    logged_out = false;
    pthread_mutex_unlock(&lock);
}

bool faults_is_logged_out(void)
{
    pthread_mutex_lock(&lock);
    bool is = logged_out;
    pthread_mutex_unlock(&lock);
    return is;
}

void faults_initialized(void)
{
    atomic_store(&forked, false);
}

/* SoftHSM then numbers its sessions from 1 again. */
void faults_finalized(void)
{
    pthread_mutex_lock(&lock);
    newest = dropped = 0;
    open_sessions = 0;
    logged_out = false;
    stuck = CKR_OK;
    pthread_mutex_unlock(&lock);
}

CK_OBJECT_HANDLE faults_handle(CK_OBJECT_HANDLE handle)
{
    return handle == CK_INVALID_HANDLE ? handle : handle ^ atomic_load(&mask);
}
