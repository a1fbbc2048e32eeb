#include "daemon/keyring.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <search.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* As many references to destroyed keys as one host may have at a time; older ones are forgotten. */
#define MISSING_MAX 64

struct keyring_entry {
    uint8_t id[KEY_ID_SIZE]; /* first: what entries are compared by */
    enum key_type type;
    unsigned bits;
    size_t named_by; /* the token whose label is the name */
    char *name;
    uint8_t *spki;
    size_t spki_size;
    _Atomic(EVP_PKEY *) public_key; /* of the above, when it was first wanted */
    const uint8_t *rejection_key;   /* among the keyring's secrets, or NULL */
    grant_set grants;
    struct key_place places[]; /* one a token of the configuration */
};

/* As many secrets as a locked page holds. */
#define SECRETS_MAX 127

struct secrets {
    struct secrets *next;
    size_t count;
    uint8_t keys[SECRETS_MAX][REJECTION_KEY_SIZE];
};

struct missing {
    uint8_t id[KEY_ID_SIZE];
    uint64_t until; /* base/clock.h; 0: unused */
};

struct keyring {
    const struct config *config;
    pthread_rwlock_t lock;
    void *root; /* tsearch(3) of struct keyring_entry */
    struct secrets *secrets;
    struct missing missing[MISSING_MAX];
    size_t missing_next;
};

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, KEY_ID_SIZE);
}

struct keyring *keyring_new(const struct config *config)
{
    struct keyring *keyring = calloc(1, sizeof(*keyring));
    if (keyring == NULL)
        return NULL;
    keyring->config = config;
    if (pthread_rwlock_init(&keyring->lock, NULL) == 0)
        return keyring;
    free(keyring);
    return NULL;
}

static void entry_free(void *node)
{
    struct keyring_entry *entry = node;
    if (entry == NULL)
        return;
    EVP_PKEY_free(atomic_load(&entry->public_key));
    free(entry->spki);
    free(entry->name);
    free(entry);
}

void keyring_free(struct keyring *keyring)
{
    if (keyring == NULL)
        return;
    tdestroy(keyring->root, entry_free);
    while (keyring->secrets != NULL) {
        struct secrets *next = keyring->secrets->next;
        secret_free(keyring->secrets, sizeof(*keyring->secrets));
        keyring->secrets = next;
    }
    pthread_rwlock_destroy(&keyring->lock);
    free(keyring);
}

static struct keyring_entry *find(const struct keyring *keyring, const uint8_t *id)
{
    void *node = tfind(id, &keyring->root, compare_ids);
    return node != NULL ? *(struct keyring_entry **)node : NULL;
}

static bool rename_entry(struct keyring_entry *entry, const struct config *config, const char *name,
                         size_t token)
{
    if (entry->name == NULL || strcmp(entry->name, name) != 0) {
        char *copy = strdup(name);
        if (copy == NULL)
            return false;
        free(entry->name);
        entry->name = copy;
        entry->grants = grants_of_key(config, name);
    }
    entry->named_by = token;
    return true;
}

static struct keyring_entry *add(struct keyring *keyring, const struct token_key *key, size_t token)
{
    size_t places_size = keyring->config->token_count * sizeof(struct key_place);
    struct keyring_entry *entry = calloc(1, sizeof(*entry) + places_size);
    if (entry == NULL)
        return NULL;
    memcpy(entry->id, key->id, KEY_ID_SIZE);
    entry->type = key->type;
    entry->bits = key->bits;
    entry->spki = malloc(key->spki_size);
    if (entry->spki != NULL) {
        memcpy(entry->spki, key->spki, key->spki_size);
        entry->spki_size = key->spki_size;
    }
    if (entry->spki != NULL && rename_entry(entry, keyring->config, key->label, token) &&
        tsearch(entry, &keyring->root, compare_ids) != NULL)
        return entry;
    entry_free(entry);
    return NULL;
}

static void unset_missing(struct keyring *keyring, const uint8_t *id)
{
    for (size_t i = 0; i < MISSING_MAX; i++) {
        if (compare_ids(keyring->missing[i].id, id) == 0)
            keyring->missing[i].until = 0;
    }
}

bool keyring_put(struct keyring *keyring, const struct token_key *key, size_t token, uint64_t epoch)
{
    pthread_rwlock_wrlock(&keyring->lock);
    struct keyring_entry *entry = find(keyring, key->id);
    bool good = true;
    if (entry == NULL)
        entry = add(keyring, key, token);
    else if (token <= entry->named_by)
        good = rename_entry(entry, keyring->config, key->label, token);
    if (entry != NULL && good)
        entry->places[token] =
            (struct key_place){.handle = key->handle, .epoch = epoch, .sessions = key->sessions};
    unset_missing(keyring, key->id);
    pthread_rwlock_unlock(&keyring->lock);
    return entry != NULL && good;
}

bool keyring_get(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE], struct keyring_key *key)
{
    pthread_rwlock_rdlock(&keyring->lock);
    const struct keyring_entry *entry = find(keyring, id);
    if (entry != NULL) {
        *key =
            (struct keyring_key){.type = entry->type, .bits = entry->bits, .grants = entry->grants};
        memcpy(key->places, entry->places, keyring->config->token_count * sizeof(struct key_place));
    }
    pthread_rwlock_unlock(&keyring->lock);
    return entry != NULL;
}

bool keyring_name(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE],
                  char name[TOKEN_LABEL_SIZE_MAX + 1])
{
    name[0] = '\0';
    pthread_rwlock_rdlock(&keyring->lock);
    const struct keyring_entry *entry = find(keyring, id);
    if (entry != NULL)
        memcpy(name, entry->name, strlen(entry->name) + 1);
    pthread_rwlock_unlock(&keyring->lock);
    return entry != NULL;
}

static bool is_at(const struct keyring_entry *entry, size_t token, const struct key_place *place)
{
    return entry->places[token].epoch == place->epoch &&
           entry->places[token].handle == place->handle;
}

void keyring_forget(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE], size_t token,
                    const struct key_place *place)
{
    pthread_rwlock_wrlock(&keyring->lock);
    struct keyring_entry *entry = find(keyring, id);
    if (entry != NULL && is_at(entry, token, place))
        entry->places[token].epoch = 0;
    pthread_rwlock_unlock(&keyring->lock);
}

void keyring_set_verified(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE], size_t token,
                          const struct key_place *place, uint64_t sessions)
{
    pthread_rwlock_wrlock(&keyring->lock);
    struct keyring_entry *entry = find(keyring, id);
    if (entry != NULL && is_at(entry, token, place)) {
        entry->places[token].verified = true;
        entry->places[token].sessions = sessions;
    }
    pthread_rwlock_unlock(&keyring->lock);
}

/* Made when it is first wanted: most of many keys are never used, and it takes some kilobytes. */
static EVP_PKEY *public_key_of(struct keyring_entry *entry)
{
    EVP_PKEY *known = atomic_load(&entry->public_key);
    const unsigned char *at = entry->spki;
    if (known != NULL)
        return known;
    ERR_set_mark();
    EVP_PKEY *made = d2i_PUBKEY(NULL, &at, (long)entry->spki_size);
    ERR_pop_to_mark();
    if (atomic_compare_exchange_strong(&entry->public_key, &known, made))
        return made;
    EVP_PKEY_free(made); /* another thread was first */
    return known;
}

EVP_PKEY *keyring_public_key(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE])
{
    pthread_rwlock_rdlock(&keyring->lock);
    struct keyring_entry *entry = find(keyring, id);
    EVP_PKEY *public_key = entry != NULL ? public_key_of(entry) : NULL;
    if (public_key != NULL && EVP_PKEY_up_ref(public_key) != 1)
        public_key = NULL;
    pthread_rwlock_unlock(&keyring->lock);
    return public_key;
}

const uint8_t *keyring_rejection_key(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE])
{
    pthread_rwlock_rdlock(&keyring->lock);
    const struct keyring_entry *entry = find(keyring, id);
    const uint8_t *rejection_key = entry != NULL ? entry->rejection_key : NULL;
    pthread_rwlock_unlock(&keyring->lock);
    return rejection_key;
}

static const uint8_t *keep_secret(struct keyring *keyring, const uint8_t key[REJECTION_KEY_SIZE])
{
    if (keyring->secrets == NULL || keyring->secrets->count == SECRETS_MAX) {
        struct secrets *secrets = secret_alloc(sizeof(*secrets));
        if (secrets == NULL)
            return NULL;
        secrets->next = keyring->secrets;
        keyring->secrets = secrets;
    }
    return memcpy(keyring->secrets->keys[keyring->secrets->count++], key, REJECTION_KEY_SIZE);
}

const uint8_t *keyring_set_rejection_key(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE],
                                         const uint8_t rejection_key[REJECTION_KEY_SIZE])
{
    pthread_rwlock_wrlock(&keyring->lock);
    struct keyring_entry *entry = find(keyring, id);
    if (entry != NULL && entry->rejection_key == NULL)
        entry->rejection_key = keep_secret(keyring, rejection_key);
    const uint8_t *kept = entry != NULL ? entry->rejection_key : NULL;
    pthread_rwlock_unlock(&keyring->lock);
    return kept;
}

struct count {
    size_t token;
    uint64_t epoch;
    size_t keys;
};

static void count_entry(const void *node, VISIT visit, void *context)
{
    const struct keyring_entry *entry = *(const struct keyring_entry *const *)node;
    struct count *count = context;
    bool once = visit == postorder || visit == leaf;
    if (once && entry->places[count->token].epoch == count->epoch)
        count->keys++;
}

size_t keyring_count(struct keyring *keyring, size_t token, uint64_t epoch)
{
    struct count count = {.token = token, .epoch = epoch};
    pthread_rwlock_rdlock(&keyring->lock);
    twalk_r(keyring->root, count_entry, &count);
    pthread_rwlock_unlock(&keyring->lock);
    return count.keys;
}

void keyring_set_missing(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE])
{
    pthread_rwlock_wrlock(&keyring->lock);
    unset_missing(keyring, id);
    struct missing *missing = &keyring->missing[keyring->missing_next++ % MISSING_MAX];
    memcpy(missing->id, id, KEY_ID_SIZE);
    missing->until = clock_now_ms() + KEYRING_MISSING_MS;
    pthread_rwlock_unlock(&keyring->lock);
}

bool keyring_is_missing(struct keyring *keyring, const uint8_t id[KEY_ID_SIZE])
{
    uint64_t now = clock_now_ms();
    bool missing = false;
    pthread_rwlock_rdlock(&keyring->lock);
    for (size_t i = 0; i < MISSING_MAX && !missing; i++)
        missing = keyring->missing[i].until > now && compare_ids(keyring->missing[i].id, id) == 0;
    pthread_rwlock_unlock(&keyring->lock);
    return missing;
}
