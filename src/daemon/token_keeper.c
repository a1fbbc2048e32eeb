#include "daemon/token_keeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/crash.h"
#include "daemon/latency.h"

/*
 * Pauses between attempts. Looking for a device that is away costs it nothing, and a login that
 * succeeds costs no try of the PIN, so a token is back within a second. A login that fails, for
 * whatever reason a device gives, may have been counted by it: such attempts are few.
 */
#define RETRY_FIRST_MS       100
#define RETRY_MAX_MS         500
#define LOGIN_RETRY_FIRST_MS 1000
#define LOGIN_RETRY_MAX_MS   30000

/* A request waits for a token to come back, but not for one that has been away for so long. */
#define OUTAGE_WAIT_MS 10000

/* A token that was up for less than this is treated as one that did not come up. */
#define STABLE_MS 10000

/* So many of these in a row are logged one by one. */
#define SHORT_LIVES_TOLD 2

/*
 * How often one that is kept out after a crash looks whether others can still serve; they can if
 * they are up again within a second; and how long it waits for one that is just being opened,
 * whose login it had better not interrupt.
 */
#define KEPT_OUT_LOOK_MS 50
#define KEPT_OUT_SOON_MS 1000
#define KEPT_OUT_MORE_MS 10000

/* A scan may wait this long for a session while requests take them all. */
#define SCAN_SESSION_WAIT_MS 60000

/*
 * Between scans: keys that are not where they were found, one after the other, cause one. After
 * one that has failed the pause is so many times what it took, which may be much for a device.
 */
#define SCAN_PAUSE_MS     500
#define SCAN_PAUSE_MAX_MS 60000
#define SCAN_PAUSE_TIMES  20

/*
 * A call hangs when it takes more than twice as long as all but one in a hundred, but no less than
 * what a busy host may delay any call by. Before there were enough calls to tell, any device that
 * works is faster than this. Calls that hung count as well when they have ended, so there is a
 * most: another token must have time to answer.
 */
#define PATIENCE_PERCENT    99
#define PATIENCE_MIN_MS     50
#define PATIENCE_MAX_MS     500
#define PATIENCE_CALLS_MIN  50
#define PATIENCE_UNKNOWN_MS 300

/*
 * A token that is slow is given a request now and then, which another one makes as well when it
 * hangs: of calls that never return there may be few.
 */
#define PROBE_FIRST_MS 1000
#define PROBE_MAX_MS   30000

/*
 * yubihsm-shell's issue 541: CKR_FUNCTION_FAILED from every call, in new sessions as well, until
 * C_Finalize. What throttles does some of what it is asked.
 */
#define FRUITLESS_CALLS    3
#define FRUITLESS_FIRST_MS 5000
#define FRUITLESS_MAX_MS   300000

struct token_keeper {
    struct token_keeper_settings settings;
    const char *name;
    pthread_t thread;
    struct token_keeper *next; /* in `keepers` */

    pthread_mutex_t lock; /* covers all that follows */
    pthread_cond_t changed;
    enum token_keeper_state state;
    bool settled; /* its keys are known, or it has failed */
    bool lost, condemned, stopping, rescan;
    bool doubted;            /* another token of its module cannot be opened */
    atomic_bool flapping;    /* it was lost soon after it had come up, more than once in a row */
    struct token *token;     /* while READY, and until its users have returned it */
    uint64_t epoch;          /* counts openings */
    uint64_t next_try;       /* while DOWN: when it is opened again; 0: never */
    uint64_t kept_out;       /* until then, after a crash (base/clock.h); 0: it is not */
    uint64_t away_since;     /* while not READY (base/clock.h); 0: it has not been away yet */
    unsigned users, waiting; /* threads that use it, or wait for it to come up */
    uint64_t last_return;
    struct backlog backlog;
    uint64_t signatures, failures;
    struct latency latency; /* of the signatures */
    bool slow;              /* a call hangs; others are under way, and none has ended well */
    uint64_t probe_at, probe_pause; /* while slow: when it is given a request */
    unsigned fruitless;             /* calls in a row */
    uint64_t fruitless_since, fruitless_pause;
    struct problem problem;
    struct token_description description;

    /* Of the keeper's own thread. */
    struct problem scan_problem; /* logged last */
    uint64_t scan_pause;         /* before the next one, in ms */
};

/* All of this process: none is ever taken out. */
static pthread_mutex_t keepers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct token_keeper *keepers;

static uint64_t within(uint64_t pause, uint64_t first, uint64_t max)
{
    return pause < first ? first : pause > max ? max : pause;
}

/* False: the deadline has passed. The lock is held. */
static bool wait_for_change(struct token_keeper *keeper, uint64_t deadline)
{
    struct timespec until = clock_timespec(deadline);
    return pthread_cond_clockwait(&keeper->changed, &keeper->lock, CLOCK_MONOTONIC, &until) !=
           ETIMEDOUT;
}

static void set_state(struct token_keeper *keeper, enum token_keeper_state state,
                      const struct problem *problem)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->state = state;
    keeper->settled |= state == TOKEN_DOWN;
    if (problem != NULL)
        keeper->problem = *problem;
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
}

/* --- Bringing up --- */

/* A library that dies of this has not seen the PIN: the login finds the session open. */
static enum token_error open_first_session(struct token *token, struct problem *problem)
{
    struct token_session session;
    enum token_error error = token_session_take(token, clock_now_ms(), &session, problem);
    if (error == TOKEN_OK)
        token_session_return(token, &session, false);
    return error;
}

static enum token_error login(struct token_keeper *keeper, struct token *token,
                              const struct pin *pin, struct problem *problem)
{
    if (pin == NULL)
        return token_login(token, NULL, problem);
    struct pin_attempt *attempt = NULL;
    enum token_error error = open_first_session(token, problem);
    if (error == TOKEN_OK)
        error = pin_budget_begin(keeper->settings.budget, &keeper->settings.config->settings, pin,
                                 &attempt, problem);
    if (error != TOKEN_OK)
        return error;
    error = token_login(token, pin, problem);
    pin_budget_end(attempt, error == TOKEN_PIN_INCORRECT);
    return error;
}

static enum token_error login_with_configured_pin(struct token_keeper *keeper, struct token *token,
                                                  struct problem *problem)
{
    struct pin *pin = NULL;
    int found = config_read_pin(keeper->settings.config, &pin, problem);
    if (found < 0)
        return problem_prefix(problem, TOKEN_UNAVAILABLE, "token %s", keeper->name);
    enum token_error error = login(keeper, token, found > 0 ? pin : keeper->settings.pin, problem);
    pin_free(pin);
    return error;
}

static enum token_error open_token(struct token_keeper *keeper, struct token **token,
                                   struct token_description *description, bool *login_failed,
                                   struct problem *problem)
{
    enum token_error error = token_open(&keeper->settings.config->settings, token, problem);
    if (error != TOKEN_OK)
        return error;
    error = login_with_configured_pin(keeper, *token, problem);
    *login_failed = error != TOKEN_OK && error != TOKEN_UNAVAILABLE;
    if (error == TOKEN_OK)
        error = token_describe(*token, description, problem);
    if (error != TOKEN_OK) {
        token_close(*token);
        *token = NULL;
    }
    return error;
}

static bool bring_up(struct token_keeper *keeper, enum token_error *error, bool *login_failed,
                     struct problem *problem)
{
    uint64_t start = clock_now_ms();
    struct token *token = NULL;
    struct token_description description;
    *error = open_token(keeper, &token, &description, login_failed, problem);
    if (*error != TOKEN_OK)
        return false;

    pthread_mutex_lock(&keeper->lock);
    keeper->token = token;
    keeper->description = description;
    keeper->epoch++;
    keeper->away_since = 0;
    keeper->lost = false;
    keeper->rescan = false;
    keeper->doubted = false;
    keeper->slow = false;
    pthread_mutex_unlock(&keeper->lock);
    set_state(keeper, TOKEN_READY, &(struct problem){.text = ""});
    log_line(keeper->flapping ? LOG_LEVEL_DEBUG : LOG_LEVEL_NOTICE,
             "token %s: up: label \"%s\", serial %s, %s %s, in %llu ms", keeper->name,
             description.label, description.serial, description.manufacturer, description.model,
             (unsigned long long)(clock_now_ms() - start));
    return true;
}

/* --- While it is up --- */

struct scan {
    struct token_keeper *keeper;
    uint64_t epoch;
    size_t keys;
};

static bool is_wanted(struct token_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    bool wanted = !keeper->stopping;
    pthread_mutex_unlock(&keeper->lock);
    return wanted;
}

static bool is_up(struct token_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    bool up = !keeper->lost && !keeper->stopping;
    pthread_mutex_unlock(&keeper->lock);
    return up;
}

static bool scan_key(const struct token_key *key, void *context)
{
    struct scan *scan = context;
    struct token_keeper *keeper = scan->keeper;
    if (!keyring_put(keeper->settings.keyring, key, keeper->settings.index, scan->epoch))
        return false;
    scan->keys++;
    return is_up(keeper);
}

/* A scan takes a session. With other tokens, one whose keys are not known would not be used. */
static bool is_scanned(const struct token_keeper *keeper)
{
    return keeper->settings.config->settings.max_sessions > 1 || keeper->settings.count > 1;
}

/* What the device does not do now it may do later: the same reason is logged once. */
static void scan_failed(struct token_keeper *keeper, uint64_t taken, const struct problem *problem)
{
    if (strcmp(keeper->scan_problem.text, problem->text) != 0)
        log_warning("token %s: the scan for keys has failed and is repeated, meanwhile they are "
                    "looked up when they are asked for: %s",
                    keeper->name, problem->text);
    keeper->scan_problem = *problem;
    keeper->scan_pause = within(SCAN_PAUSE_TIMES * taken, SCAN_PAUSE_MS, SCAN_PAUSE_MAX_MS);
    token_keeper_rescan(keeper, keeper->epoch);
}

static void scan_keys(struct token_keeper *keeper)
{
    if (!is_scanned(keeper)) {
        log_info("token %s: keys are looked up when they are asked for, because a scan would take "
                 "the only session",
                 keeper->name);
        return;
    }
    uint64_t start = clock_now_ms();
    struct scan scan = {.keeper = keeper, .epoch = keeper->epoch};
    const struct token_key_query every_key = {.label = NULL};
    unsigned unusable = 0;
    struct problem problem;
    enum token_error error =
        token_find_keys(keeper->token, &every_key, start + SCAN_SESSION_WAIT_MS, scan_key, &scan,
                        &unusable, &problem);
    if (error == TOKEN_UNAVAILABLE)
        token_keeper_lost(keeper, scan.epoch, &problem);
    else if (error != TOKEN_OK)
        scan_failed(keeper, clock_now_ms() - start, &problem);
    if (error != TOKEN_OK)
        return;
    keeper->scan_problem.text[0] = '\0';
    keeper->scan_pause = SCAN_PAUSE_MS;
    log_line(keeper->flapping ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
             "token %s: %zu keys found in %llu ms", keeper->name, scan.keys,
             (unsigned long long)(clock_now_ms() - start));
    if (unusable > 0 && !keeper->flapping)
        log_warning("token %s: %u private keys cannot be used, because their type is unknown or "
                    "their public key is not on the token: see immure-key(1)",
                    keeper->name, unusable);
}

static void set_settled(struct token_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->settled = true;
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
}

/* The lock is held. */
static void settle_down(struct token_keeper *keeper)
{
    keeper->flapping = false;
    log_notice("token %s: has been up for %d s and is taken to be well again", keeper->name,
               STABLE_MS / 1000);
}

/* The lock is held, but not during the call. */
static void check_doubted(struct token_keeper *keeper)
{
    struct problem problem;
    keeper->doubted = false;
    pthread_mutex_unlock(&keeper->lock);
    if (token_check(keeper->token, &problem) == TOKEN_UNAVAILABLE)
        token_keeper_lost(keeper, keeper->epoch, &problem);
    pthread_mutex_lock(&keeper->lock);
}

/* The lock is held, but not during the scan. */
static void scan_again(struct token_keeper *keeper)
{
    uint64_t due = clock_now_ms() + keeper->scan_pause;
    while (!keeper->lost && !keeper->stopping && wait_for_change(keeper, due))
        continue;
    keeper->rescan = false;
    if (keeper->lost || keeper->stopping)
        return;
    pthread_mutex_unlock(&keeper->lock);
    scan_keys(keeper);
    pthread_mutex_lock(&keeper->lock);
}

/* Waits until the token is lost or no longer wanted and nobody uses it, and closes it. */
static void guard(struct token_keeper *keeper, struct problem *problem)
{
    uint64_t stable = clock_now_ms() + STABLE_MS;
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->lost && !keeper->stopping) {
        if (keeper->doubted)
            check_doubted(keeper);
        else if (keeper->rescan)
            scan_again(keeper);
        else if (!keeper->flapping)
            pthread_cond_wait(&keeper->changed, &keeper->lock);
        else if (!wait_for_change(keeper, stable))
            settle_down(keeper);
    }
    keeper->state = keeper->condemned ? TOKEN_DOWN : TOKEN_STARTING;
    while (keeper->users > 0)
        pthread_cond_wait(&keeper->changed, &keeper->lock);
    struct token *token = keeper->token;
    keeper->token = NULL;
    *problem = keeper->problem;
    pthread_mutex_unlock(&keeper->lock);
    token_close(token);
}

/* --- After a crash --- */

static void wait_until(struct token_keeper *keeper, uint64_t due)
{
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->stopping && wait_for_change(keeper, due))
        continue;
    pthread_mutex_unlock(&keeper->lock);
}

/* What is asked of another keeper, whose lock is held. */
typedef bool look_at_other(const struct token_keeper *other, const struct token_keeper *keeper);

/* Requests can use it, or soon; or it is kept out as well, and is to be opened first. */
static bool can_serve(const struct token_keeper *other, const struct token_keeper *keeper)
{
    if (other->kept_out != 0)
        return other->kept_out != keeper->kept_out ? other->kept_out < keeper->kept_out
                                                   : other->settings.index < keeper->settings.index;
    if (other->state != TOKEN_DOWN)
        return !other->slow;
    return other->next_try != 0 && other->next_try < clock_now_ms() + KEPT_OUT_SOON_MS &&
           clock_now_ms() - other->away_since < OUTAGE_WAIT_MS;
}

static bool is_opened(const struct token_keeper *other, const struct token_keeper *keeper)
{
    (void)keeper;
    return other->kept_out == 0 && other->state == TOKEN_STARTING;
}

/* True as well while there are keepers that have not been made yet. */
static bool any_other(const struct token_keeper *keeper, look_at_other *look)
{
    size_t count = 0;
    bool any = false;
    pthread_mutex_lock(&keepers_lock);
    for (struct token_keeper *other = keepers; other != NULL; other = other->next, count++) {
        if (other == keeper)
            continue;
        pthread_mutex_lock(&other->lock);
        any |= look(other, keeper);
        pthread_mutex_unlock(&other->lock);
    }
    pthread_mutex_unlock(&keepers_lock);
    return any || count < keeper->settings.count;
}

static bool is_kept_out(const struct token_keeper *keeper, uint64_t until)
{
    uint64_t now = clock_now_ms();
    return now < until ? any_other(keeper, can_serve)
                       : now < until + KEPT_OUT_MORE_MS && any_other(keeper, is_opened);
}

static void tell_crash(struct token_keeper *keeper, const struct crash *crash,
                       struct problem *problem)
{
    time_t end = time(NULL) + (time_t)(clock_left_ms(crash->until) + 999) / 1000;
    const char *name = sigabbrev_np(crash->signal);
    struct tm local;
    char words[32];
    strftime(words, sizeof(words), "%H:%M:%S", localtime_r(&end, &local));
    problem_set(problem, 0,
                "token %s: its module %s crashed immured's worker (SIG%s), %u times so far: it "
                "is tried again at %s, or when no other token can serve",
                keeper->name, keeper->settings.config->settings.module, name != NULL ? name : "?",
                crash->count, words);
    log_warning("%s", problem->text);
}

/* `until` 0: no longer, it is opened now. */
static void set_kept_out(struct token_keeper *keeper, uint64_t until)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->kept_out = until;
    keeper->away_since = clock_now_ms();
    keeper->next_try = until != 0 ? until : keeper->away_since;
    pthread_mutex_unlock(&keeper->lock);
}

/* Of a token in which a worker has died. Requests that only it can serve wait, if not for long. */
static void keep_out(struct token_keeper *keeper)
{
    struct crash crash;
    struct problem problem;
    if (!crash_of_token(keeper->settings.index, &crash))
        return;
    set_kept_out(keeper, crash.until);
    if (is_kept_out(keeper, crash.until)) {
        tell_crash(keeper, &crash, &problem);
        set_state(keeper, TOKEN_DOWN, &problem);
    }
    while (is_wanted(keeper) && is_kept_out(keeper, crash.until))
        wait_until(keeper, clock_now_ms() + KEPT_OUT_LOOK_MS);
    set_kept_out(keeper, 0);
}

/* --- The thread --- */

struct retry {
    uint64_t pause;       /* in ms, before the next attempt but one */
    uint64_t due;         /* when the next attempt is made (base/clock.h); 0: never */
    uint64_t login_pause; /* in ms, after the last login that failed; 0: it did not */
    uint64_t login_due;   /* no login before then */
    unsigned short_lives; /* in a row, of less than STABLE_MS */
    struct problem told;  /* logged last */
};

static void schedule(struct retry *retry)
{
    uint64_t due = clock_now_ms() + retry->pause;
    retry->due = due > retry->login_due ? due : retry->login_due;
    retry->pause = within(retry->pause * 2, RETRY_FIRST_MS, RETRY_MAX_MS);
}

static void put_off_login(struct retry *retry)
{
    retry->login_pause = within(retry->login_pause * 2, LOGIN_RETRY_FIRST_MS, LOGIN_RETRY_MAX_MS);
    retry->login_due = clock_now_ms() + retry->login_pause;
}

static void go_down(struct token_keeper *keeper, struct retry *retry, const struct problem *problem)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->next_try = retry->due;
    if (keeper->away_since == 0)
        keeper->away_since = clock_now_ms();
    pthread_mutex_unlock(&keeper->lock);
    set_state(keeper, TOKEN_DOWN, problem);
    if (strcmp(retry->told.text, problem->text) == 0)
        return;
    retry->told = *problem;
    log_error("%s%s", problem->text, retry->due == 0 ? "" : " (tried again by and by)");
}

/*
 * The module may have to be initialised anew, as p11-kit's client when its server has died, and is
 * not while another token of it is open: one that nobody uses does not show that it is lost.
 */
static void doubt_others_of_module(const struct token_keeper *keeper)
{
    const char *module = keeper->settings.config->settings.module;
    pthread_mutex_lock(&keepers_lock);
    for (struct token_keeper *other = keepers; other != NULL; other = other->next) {
        if (other == keeper || strcmp(other->settings.config->settings.module, module) != 0)
            continue;
        pthread_mutex_lock(&other->lock);
        other->doubted = true;
        pthread_cond_broadcast(&other->changed);
        pthread_mutex_unlock(&other->lock);
    }
    pthread_mutex_unlock(&keepers_lock);
}

static void opening_failed(struct token_keeper *keeper, struct retry *retry, bool login_failed,
                           bool final, const struct problem *problem)
{
    if (login_failed)
        put_off_login(retry);
    retry->pause = within(retry->pause, RETRY_FIRST_MS, RETRY_MAX_MS);
    schedule(retry);
    if (final)
        retry->due = 0;
    go_down(keeper, retry, problem);
}

/* Lost again so soon: what is the same each time is logged once. */
static void note_flapping(struct token_keeper *keeper, const struct retry *retry)
{
    pthread_mutex_lock(&keeper->lock);
    bool first = !keeper->flapping && retry->short_lives > SHORT_LIVES_TOLD && !keeper->condemned &&
                 !keeper->stopping;
    if (first)
        keeper->flapping = true;
    pthread_mutex_unlock(&keeper->lock);
    if (first)
        log_warning("token %s: comes up and is lost again; it is opened anew every %d ms at most, "
                    "and no more is said of it until it stays up for %d s",
                    keeper->name, RETRY_MAX_MS, STABLE_MS / 1000);
}

/* One life of the token: opened, used, lost. */
static void live(struct token_keeper *keeper, struct retry *retry)
{
    enum token_error error;
    struct problem problem;
    bool login_failed = false;
    if (!bring_up(keeper, &error, &login_failed, &problem)) {
        bool final = error == TOKEN_PIN_INCORRECT || error == TOKEN_PIN_LOCKED;
        if (error == TOKEN_UNAVAILABLE)
            doubt_others_of_module(keeper);
        opening_failed(keeper, retry, login_failed, final, &problem);
        return;
    }
    uint64_t start = clock_now_ms();
    retry->login_pause = 0;
    if (!keeper->flapping)
        retry->told.text[0] = '\0';
    scan_keys(keeper);
    set_settled(keeper);
    guard(keeper, &problem);
    retry->short_lives++;
    if (clock_now_ms() - start >= STABLE_MS)
        retry->pause = retry->short_lives = 0;
    bool at_once = retry->pause == 0 && !keeper->condemned;
    note_flapping(keeper, retry);
    schedule(retry);
    if (keeper->condemned) /* written once, before guard() returned */
        retry->due = 0;
    if (!at_once && is_wanted(keeper))
        go_down(keeper, retry, &problem);
}

static void *run(void *context)
{
    struct token_keeper *keeper = context;
    struct retry retry = {.pause = 0};
    crash_enter(keeper->settings.index); /* all that it does is to do with the library */
    do {
        keep_out(keeper);
        live(keeper, &retry);
        wait_until(keeper, retry.due);
    } while (retry.due != 0 && is_wanted(keeper));
    return NULL;
}

struct token_keeper *token_keeper_new(const struct token_keeper_settings *settings)
{
    struct token_keeper *keeper = calloc(1, sizeof(*keeper));
    if (keeper == NULL)
        return NULL;
    keeper->settings = *settings;
    keeper->name = settings->config->settings.name;
    keeper->fruitless_pause = FRUITLESS_FIRST_MS;
    problem_set(&keeper->problem, 0, "token %s: is still being opened", keeper->name);
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_cond_init(&keeper->changed, NULL);
    int error = pthread_create(&keeper->thread, NULL, run, keeper);
    if (error != 0) {
        free(keeper);
        errno = error;
        return NULL;
    }
    pthread_mutex_lock(&keepers_lock);
    keeper->next = keepers;
    keepers = keeper;
    pthread_mutex_unlock(&keepers_lock);
    return keeper;
}

bool token_keeper_stop(struct token_keeper *keeper, uint64_t deadline)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->stopping = true;
    problem_set(&keeper->problem, 0, "token %s: this worker of immured is ending", keeper->name);
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
    struct timespec until = clock_timespec(deadline);
    return pthread_clockjoin_np(keeper->thread, NULL, CLOCK_MONOTONIC, &until) == 0;
}

/* --- For requests --- */

/* Whether it may be up before the deadline. The lock is held. */
static bool may_come_up(const struct token_keeper *keeper, uint64_t deadline)
{
    bool tried_again = keeper->next_try != 0 && keeper->next_try < deadline &&
                       clock_now_ms() - keeper->away_since < OUTAGE_WAIT_MS;
    return !keeper->stopping &&
           (keeper->state == TOKEN_STARTING || (keeper->state == TOKEN_DOWN && tried_again));
}

/* The lock is held. */
static bool has_room(const struct token_keeper *keeper)
{
    return keeper->users + keeper->waiting < keeper->settings.config->settings.max_sessions;
}

/* The lock is held. */
static bool is_due(const struct token_keeper *keeper)
{
    return keeper->slow && has_room(keeper) && clock_now_ms() >= keeper->probe_at;
}

/* The lock is held. */
static void set_probe(struct token_keeper *keeper, uint64_t pause)
{
    keeper->probe_pause = within(pause, PROBE_FIRST_MS, PROBE_MAX_MS);
    keeper->probe_at = clock_now_ms() + keeper->probe_pause;
}

/* The lock is held. */
static enum token_error take(struct token_keeper *keeper, uint64_t until, uint64_t deadline,
                             bool waited)
{
    if (!has_room(keeper) || (keeper->backlog.count > 0 && !waited))
        return TOKEN_NO_SESSION;
    keeper->waiting++;
    while (may_come_up(keeper, deadline) && wait_for_change(keeper, until))
        continue;
    keeper->waiting--;
    if (keeper->state != TOKEN_READY || keeper->stopping)
        return TOKEN_UNAVAILABLE;
    keeper->users++;
    if (is_due(keeper))
        set_probe(keeper, 2 * keeper->probe_pause);
    return TOKEN_OK;
}

bool token_keeper_may_come_up(struct token_keeper *keeper, uint64_t deadline)
{
    pthread_mutex_lock(&keeper->lock);
    bool may = may_come_up(keeper, deadline);
    pthread_mutex_unlock(&keeper->lock);
    return may;
}

enum token_error token_keeper_take(struct token_keeper *keeper, uint64_t until, uint64_t deadline,
                                   bool waited, struct token **token, uint64_t *epoch,
                                   struct problem *problem)
{
    pthread_mutex_lock(&keeper->lock);
    enum token_error error = take(keeper, until, deadline, waited);
    if (error == TOKEN_OK) {
        *token = keeper->token;
        *epoch = keeper->epoch;
    } else if (error == TOKEN_UNAVAILABLE) {
        *problem = keeper->problem;
    } else {
        problem_set(problem, 0, "token %s: %u requests are under way on it and %zu wait",
                    keeper->name, keeper->users + keeper->waiting, keeper->backlog.count);
    }
    pthread_mutex_unlock(&keeper->lock);
    return error;
}

/* The lock is held. */
static void count(struct token_keeper *keeper, const struct token_use *use)
{
    if (use->error == TOKEN_OK) {
        keeper->fruitless = 0;
        keeper->fruitless_pause = FRUITLESS_FIRST_MS;
    } else if (use->error == TOKEN_BUSY || use->error == TOKEN_FAILED) {
        if (keeper->fruitless++ == 0)
            keeper->fruitless_since = clock_now_ms();
    }
    if (use->is_search)
        return;
    if (use->error != TOKEN_OK) {
        keeper->failures++;
        return;
    }
    keeper->signatures++;
    latency_add(&keeper->latency, use->milliseconds);
}

/* True, once. The lock is held. */
static bool is_fruitless(struct token_keeper *keeper)
{
    if (keeper->fruitless < FRUITLESS_CALLS ||
        clock_now_ms() - keeper->fruitless_since < keeper->fruitless_pause)
        return false;
    keeper->fruitless = 0;
    keeper->fruitless_pause =
        within(2 * keeper->fruitless_pause, FRUITLESS_FIRST_MS, FRUITLESS_MAX_MS);
    return true;
}

static bool is_good_signature(const struct token_use *use)
{
    return use != NULL && use->error == TOKEN_OK && !use->is_search;
}

bool token_keeper_return(struct token_keeper *keeper, const struct token_use *use)
{
    pthread_mutex_lock(&keeper->lock);
    if (use != NULL)
        count(keeper, use);
    bool is_gone = use != NULL && use->error != TOKEN_OK &&
                   (use->error == TOKEN_UNAVAILABLE || is_fruitless(keeper));
    keeper->last_return = clock_now_ms();
    keeper->users--;
    /* The last of the calls that hung may have ended with an error: then the next one shows. */
    bool recovered = keeper->slow && (is_good_signature(use) || keeper->users == 0);
    keeper->slow &= !recovered;
    if (keeper->users == 0 && (keeper->lost || keeper->stopping))
        pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
    if (recovered)
        log_notice("token %s: answers again", keeper->name);
    return is_gone;
}

bool token_keeper_wait(struct token_keeper *keeper, struct backlog_request *request, bool again)
{
    pthread_mutex_lock(&keeper->lock);
    bool added = backlog_add(&keeper->backlog, request, again);
    pthread_mutex_unlock(&keeper->lock);
    return added;
}

struct backlog_request *token_keeper_next(struct token_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    struct backlog_request *next = has_room(keeper) ? backlog_take(&keeper->backlog) : NULL;
    pthread_mutex_unlock(&keeper->lock);
    return next;
}

/* True: this is the first to say so. */
static bool lose(struct token_keeper *keeper, uint64_t epoch, bool condemned,
                 const struct problem *problem)
{
    pthread_mutex_lock(&keeper->lock);
    bool first = keeper->epoch == epoch && !keeper->lost;
    if (first) {
        keeper->lost = true;
        keeper->failures += condemned; /* it had been counted as a signature */
        keeper->signatures -= condemned;
        keeper->condemned = condemned;
        keeper->state = condemned ? TOKEN_DOWN : TOKEN_STARTING;
        keeper->next_try = 0;
        keeper->problem = *problem;
        pthread_cond_broadcast(&keeper->changed);
    }
    pthread_mutex_unlock(&keeper->lock);
    return first;
}

void token_keeper_lost(struct token_keeper *keeper, uint64_t epoch, const struct problem *problem)
{
    if (lose(keeper, epoch, false, problem))
        log_line(keeper->flapping ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
                 "token %s: lost, and opened anew: %s", keeper->name, problem->text);
}

void token_keeper_rescan(struct token_keeper *keeper, uint64_t epoch)
{
    pthread_mutex_lock(&keeper->lock);
    if (keeper->epoch == epoch && !keeper->lost && is_scanned(keeper)) {
        keeper->rescan = true;
        pthread_cond_broadcast(&keeper->changed);
    }
    pthread_mutex_unlock(&keeper->lock);
}

void token_keeper_condemn(struct token_keeper *keeper, uint64_t epoch,
                          const struct problem *problem)
{
    (void)lose(keeper, epoch, true, problem); /* the keeper's thread logs it */
}

uint64_t token_keeper_patience(struct token_keeper *keeper, bool searches)
{
    if (searches) /* several calls, and on many devices slow ones */
        return PATIENCE_MAX_MS;
    pthread_mutex_lock(&keeper->lock);
    uint64_t patience = PATIENCE_UNKNOWN_MS;
    if (keeper->latency.total >= PATIENCE_CALLS_MIN)
        patience = 2 * latency_quantile(&keeper->latency, PATIENCE_PERCENT);
    pthread_mutex_unlock(&keeper->lock);
    return within(patience, PATIENCE_MIN_MS, PATIENCE_MAX_MS);
}

void token_keeper_set_slow(struct token_keeper *keeper, uint64_t milliseconds)
{
    pthread_mutex_lock(&keeper->lock);
    bool first = !keeper->slow;
    keeper->slow = true;
    if (first)
        set_probe(keeper, PROBE_FIRST_MS);
    pthread_mutex_unlock(&keeper->lock);
    if (first)
        log_warning("token %s: a call has taken %llu ms so far: other tokens are asked instead, "
                    "where they have the key, until it answers",
                    keeper->name, (unsigned long long)milliseconds);
}

struct backlog_request *token_keeper_evict(struct token_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    struct backlog_request *oldest = keeper->slow ? backlog_take(&keeper->backlog) : NULL;
    pthread_mutex_unlock(&keeper->lock);
    return oldest;
}

void token_keeper_settle(struct token_keeper *keeper, uint64_t deadline)
{
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->settled && wait_for_change(keeper, deadline))
        continue;
    pthread_mutex_unlock(&keeper->lock);
}

struct token_keeper_glance token_keeper_glance(struct token_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    const struct token_keeper_glance glance = {
        .state = keeper->state,
        .in_flight = keeper->users + keeper->waiting,
        .has_room = has_room(keeper),
        .slow = keeper->slow,
        .is_due = is_due(keeper),
        .last_return = keeper->last_return,
    };
    pthread_mutex_unlock(&keeper->lock);
    return glance;
}

bool token_keeper_has_epoch(struct token_keeper *keeper, uint64_t epoch)
{
    pthread_mutex_lock(&keeper->lock);
    bool same = keeper->state == TOKEN_READY && keeper->epoch == epoch;
    pthread_mutex_unlock(&keeper->lock);
    return same;
}

void token_keeper_report(struct token_keeper *keeper, struct token_keeper_report *report)
{
    pthread_mutex_lock(&keeper->lock);
    *report = (struct token_keeper_report){
        .state = keeper->state,
        .problem = keeper->problem,
        .description = keeper->description,
        .epoch = keeper->epoch,
        .in_flight = keeper->users + keeper->waiting,
        .waiting = (unsigned)keeper->backlog.count,
        .signatures = keeper->signatures,
        .failures = keeper->failures,
        .slow = keeper->slow,
    };
    if (keeper->state == TOKEN_READY)
        token_session_counts(keeper->token, &report->sessions_open, &report->sessions_in_use);
    pthread_mutex_unlock(&keeper->lock);
}
