#include "provider/provider.h"

#include "base/clock.h"

/*
 * A thread takes a connection at its first request and keeps it until it ends. Connections stay
 * in a list that only grows, so that threads meet in no lock, not even one that a fork() could
 * leave taken; one that an ended thread gave back is taken again by the next.
 */
struct connection {
    struct connection *next;
    atomic_bool taken;
    struct client *client;
};

bool connections_init(struct provider *provider)
{
    return CRYPTO_THREAD_init_local(&provider->connection_key, NULL) == 1;
}

void connections_free(struct provider *provider)
{
    struct connection *connection = atomic_load(&provider->connections);
    while (connection != NULL) {
        struct connection *next = connection->next;
        client_free(connection->client);
        OPENSSL_free(connection);
        connection = next;
    }
    CRYPTO_THREAD_cleanup_local(&provider->connection_key);
}

static void give_back(void *provctx)
{
    struct provider *provider = provctx;
    struct connection *connection = CRYPTO_THREAD_get_local(&provider->connection_key);
    if (connection == NULL)
        return;
    CRYPTO_THREAD_set_local(&provider->connection_key, NULL);
    client_free(connection->client);
    connection->client = NULL;
    atomic_store_explicit(&connection->taken, false, memory_order_release);
}

static struct connection *take_idle(struct provider *provider)
{
    struct connection *connection = atomic_load(&provider->connections);
    for (; connection != NULL; connection = connection->next) {
        bool expected = false;
        if (atomic_compare_exchange_strong(&connection->taken, &expected, true))
            return connection;
    }
    return NULL;
}

static struct connection *add(struct provider *provider)
{
    struct connection *connection = OPENSSL_zalloc(sizeof(*connection));
    if (connection == NULL)
        return NULL;
    atomic_init(&connection->taken, true);
    connection->next = atomic_load(&provider->connections);
    while (!atomic_compare_exchange_weak(&provider->connections, &connection->next, connection))
        ;
    return connection;
}

/* This thread's client, made at its first use. */
static struct client *thread_client(struct provider *provider)
{
    struct connection *connection = CRYPTO_THREAD_get_local(&provider->connection_key);
    if (connection != NULL)
        return connection->client;

    connection = take_idle(provider);
    if (connection == NULL)
        connection = add(provider);
    if (connection == NULL)
        return NULL;
    connection->client = client_new(provider->socket);
    if (connection->client != NULL &&
        CRYPTO_THREAD_set_local(&provider->connection_key, connection) == 1 &&
        provider->thread_start(provider->handle, give_back, provider) == 1)
        return connection->client;

    CRYPTO_THREAD_set_local(&provider->connection_key, NULL);
    client_free(connection->client);
    connection->client = NULL;
    atomic_store(&connection->taken, false);
    return NULL;
}

bool connection_call(struct provider *provider, struct wire_request *request, uint64_t deadline,
                     uint8_t *payload, size_t *size, bool *unknown, const char *what)
{
    static const enum reason reasons[] = {
        [-CLIENT_UNREACHABLE] = REASON_IMMURED_UNREACHABLE,
        [-CLIENT_TIMEOUT] = REASON_IMMURED_TIMEOUT,
        [-CLIENT_PROTOCOL] = REASON_IMMURED_PROTOCOL,
        [-CLIENT_REFUSED] = REASON_IMMURED_REFUSED,
    };
    struct problem problem = {""};
    uint16_t status = WIRE_OK;

    struct client *client = thread_client(provider);
    if (client == NULL) {
        PROVIDER_RAISE(provider, REASON_OUT_OF_MEMORY, "%s", what);
        return false;
    }
    enum client_error error =
        client_call(client, request, clock_left_ms(deadline), payload, size, &status, &problem);
    if (error == CLIENT_OK)
        return true;
    if (error == CLIENT_REFUSED && status == WIRE_UNKNOWN_KEY && unknown != NULL)
        *unknown = true;
    else
        PROVIDER_RAISE(provider, reasons[-error], "%s: %s", what, problem.text);
    return false;
}
