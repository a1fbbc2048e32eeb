#include "daemon/pin_budget.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/crash.h"

/* Four configurations' worth; only refused PINs stay in the table. */
#define ATTEMPTS_MAX 64

/* A worker that dies once in C_Login may have been killed; twice is no accident. */
#define DEATHS_MAX 1

/* As long as a network HSM may take to answer a login. */
#define OTHER_WORKER_WAIT_S 5
#define LOOK_AGAIN_MS       10

#define TAG_SIZE 32

struct pin_attempt {
    pthread_mutex_t lock; /* held during the login; robust: tells when its holder has died */
    bool used, refused;
    unsigned deaths;
    pid_t holder; /* whoever had the lock last, for the token with this name */
    char token[CRASH_TOKEN_SIZE];
    unsigned char tag[TAG_SIZE];
};

struct pin_budget {
    pthread_mutex_t lock; /* covers used and tag of all attempts */
    unsigned char key[TAG_SIZE];
    struct pin_attempt attempts[ATTEMPTS_MAX];
};

static bool init_locks(struct pin_budget *budget)
{
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0)
        return false;
    bool good = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
                pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
                pthread_mutex_init(&budget->lock, &attributes) == 0;
    for (size_t i = 0; good && i < ATTEMPTS_MAX; i++)
        good = pthread_mutex_init(&budget->attempts[i].lock, &attributes) == 0;
    pthread_mutexattr_destroy(&attributes);
    return good;
}

struct pin_budget *pin_budget_new(void)
{
    struct pin_budget *budget =
        mmap(NULL, sizeof(*budget), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (budget == MAP_FAILED)
        return NULL;
    if (madvise(budget, sizeof(*budget), MADV_DONTDUMP) == 0 &&
        mlock(budget, sizeof(*budget)) == 0 && init_locks(budget) &&
        RAND_priv_bytes(budget->key, sizeof(budget->key)) == 1)
        return budget;
    munmap(budget, sizeof(*budget));
    return NULL;
}

static bool update_tag(EVP_MAC_CTX *context, const struct token_settings *settings,
                       const struct pin *pin)
{
    /* Each with its NUL, so that no two triples run together to the same bytes. */
    const char *const parts[] = {settings->name, settings->module, settings->uri};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        if (EVP_MAC_update(context, (const unsigned char *)parts[i], strlen(parts[i]) + 1) != 1)
            return false;
    }
    return EVP_MAC_update(context, (const unsigned char *)pin->text, pin->size) == 1;
}

static bool make_tag(const struct pin_budget *budget, const struct token_settings *settings,
                     const struct pin *pin, unsigned char tag[TAG_SIZE])
{
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    size_t size = 0;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);
    bool good = context != NULL &&
                EVP_MAC_init(context, budget->key, sizeof(budget->key), parameters) == 1 &&
                update_tag(context, settings, pin) &&
                EVP_MAC_final(context, tag, &size, TAG_SIZE) == 1 && size == TAG_SIZE;
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
    return good;
}

static bool same_tag(const struct pin_attempt *attempt, const unsigned char tag[TAG_SIZE])
{
    return attempt->used && CRYPTO_memcmp(attempt->tag, tag, TAG_SIZE) == 0;
}

/*
 * True when the attempt is the caller's; a death of its last holder has then been counted, unless
 * it is known to have died in another token's library.
 */
static bool lock_result(struct pin_attempt *attempt, int error)
{
    if (error == EOWNERDEAD) {
        pthread_mutex_consistent(&attempt->lock);
        attempt->deaths += !crash_was_elsewhere(attempt->holder, attempt->token);
        error = 0;
    }
    return error == 0;
}

/* Takes an attempt that was never used, or one that nobody holds and that succeeded. */
static bool claim(struct pin_attempt *attempt, const unsigned char tag[TAG_SIZE])
{
    if (!lock_result(attempt, pthread_mutex_trylock(&attempt->lock)))
        return false;
    bool free_to_use = !attempt->used || (!attempt->refused && attempt->deaths == 0);
    if (free_to_use) {
        attempt->used = true;
        memcpy(attempt->tag, tag, TAG_SIZE);
    }
    pthread_mutex_unlock(&attempt->lock);
    return free_to_use;
}

static struct pin_attempt *find_or_claim(struct pin_budget *budget,
                                         const unsigned char tag[TAG_SIZE])
{
    for (size_t i = 0; i < ATTEMPTS_MAX; i++) {
        if (same_tag(&budget->attempts[i], tag))
            return &budget->attempts[i];
    }
    for (size_t i = 0; i < ATTEMPTS_MAX; i++) {
        if (claim(&budget->attempts[i], tag))
            return &budget->attempts[i];
    }
    return NULL;
}

static struct pin_attempt *attempt_of(struct pin_budget *budget, const unsigned char tag[TAG_SIZE])
{
    if (pthread_mutex_lock(&budget->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&budget->lock); /* an attempt is claimed or not, never halfway */
    struct pin_attempt *attempt = find_or_claim(budget, tag);
    pthread_mutex_unlock(&budget->lock);
    return attempt;
}

/* It is held for as long as a login takes, by another worker during a reload: looked at anew. */
static bool lock_attempt(struct pin_attempt *attempt)
{
    const struct timespec pause = clock_timespec(LOOK_AGAIN_MS);
    uint64_t deadline = clock_now_ms() + OTHER_WORKER_WAIT_S * UINT64_C(1000);
    int error;
    while ((error = pthread_mutex_trylock(&attempt->lock)) == EBUSY && clock_left_ms(deadline) > 0)
        nanosleep(&pause, NULL);
    return lock_result(attempt, error);
}

static enum token_error judge(const struct pin_attempt *attempt, const unsigned char tag[TAG_SIZE],
                              const char *name, struct problem *problem)
{
    if (!same_tag(attempt, tag))
        return problem_set(problem, TOKEN_UNAVAILABLE,
                           "token %s: its PIN is being tried by another worker", name);
    if (attempt->refused)
        return problem_set(problem, TOKEN_PIN_INCORRECT,
                           "token %s: the PIN was refused before and is not tried again: correct "
                           "the PIN, then reload immured",
                           name);
    if (attempt->deaths > DEATHS_MAX)
        return problem_set(problem, TOKEN_PIN_INCORRECT,
                           "token %s: immured died %u times while it logged in, and does not try "
                           "this PIN again: see to the module, then restart immured",
                           name, attempt->deaths);
    return TOKEN_OK;
}

enum token_error pin_budget_begin(struct pin_budget *budget, const struct token_settings *settings,
                                  const struct pin *pin, struct pin_attempt **attempt,
                                  struct problem *problem)
{
    unsigned char tag[TAG_SIZE];
    if (!make_tag(budget, settings, pin, tag))
        return problem_set(problem, TOKEN_UNAVAILABLE, "token %s: OpenSSL has no HMAC-SHA256",
                           settings->name);
    struct pin_attempt *found = attempt_of(budget, tag);
    if (found == NULL)
        return problem_set(problem, TOKEN_PIN_INCORRECT,
                           "token %s: %d different PINs were refused, no more is tried: correct "
                           "the PIN, then restart immured",
                           settings->name, ATTEMPTS_MAX);
    if (!lock_attempt(found))
        return problem_set(problem, TOKEN_UNAVAILABLE,
                           "token %s: another worker has been logging in for %d s", settings->name,
                           OTHER_WORKER_WAIT_S);
    enum token_error error = judge(found, tag, settings->name, problem);
    if (error != TOKEN_OK) {
        pthread_mutex_unlock(&found->lock);
        return error;
    }
    found->holder = getpid();
    snprintf(found->token, sizeof(found->token), "%s", settings->name);
    *attempt = found;
    return TOKEN_OK;
}

void pin_budget_end(struct pin_attempt *attempt, bool refused)
{
    attempt->refused = refused;
    attempt->deaths = 0;
    pthread_mutex_unlock(&attempt->lock);
}
