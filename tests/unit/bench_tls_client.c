/* The client of the measurements against OpenSSL's server, in memory. */
#include "test.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "tls_client.h"

#define LONG_CHAIN 40 /* certificates: more than a record holds */

static struct tls_crypto crypto;
static struct tls_hello hello;
static struct tls_client client;

static X509 *certificate(EVP_PKEY *key)
{
    X509 *made = X509_new();
    assert_int_equal(X509_set_pubkey(made, key), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(made), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(made), 3600));
    assert_true(X509_sign(made, key, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256()) > 0);
    return made;
}

static SSL_CTX *server_context(EVP_PKEY *key, int extra_certificates)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    X509 *own = certificate(key);
    assert_int_equal(SSL_CTX_use_certificate(context, own), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
    for (int i = 0; i < extra_certificates; i++)
        assert_int_equal(SSL_CTX_add1_chain_cert(context, own), 1);
    X509_free(own);
    EVP_PKEY_free(key);
    return context;
}

static SSL *server_new(SSL_CTX *context)
{
    SSL *server = SSL_new(context);
    SSL_set_bio(server, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(server);
    return server;
}

static void client_start(void)
{
    static const uint8_t random[TLS_RANDOM_SIZE] = {1, 2, 3};
    tls_client_start(&client, &hello, random);
}

static void client_to_server(SSL *server)
{
    size_t size;
    const uint8_t *bytes = tls_client_output(&client, &size);
    if (size > 0)
        assert_int_equal(BIO_write(SSL_get_rbio(server), bytes, (int)size), (int)size);
    tls_client_sent(&client, size);
}

/* One piece of at most `most` bytes; flips a bit of the byte at `flipped`, if it is in there. */
static long pass_on(SSL *server, size_t most, long flipped)
{
    size_t room;
    uint8_t *at = tls_client_room(&client, &room);
    assert_true(room > 0);
    int size = BIO_read(SSL_get_wbio(server), at, (int)(most < room ? most : room));
    assert_true(size > 0);
    if (flipped >= 0 && flipped < size)
        at[flipped] ^= 1;
    tls_client_received(&client, (size_t)size);
    return size;
}

/* All that the server has to say; `flipped` is -1 for no change. */
static long server_to_client(SSL *server, size_t most, long flipped)
{
    long total = 0;
    while (BIO_ctrl_pending(SSL_get_wbio(server)) > 0)
        total += pass_on(server, most, flipped < 0 ? -1 : flipped - total);
    return total;
}

/* Returns how many bytes the server has sent. */
static long handshake(SSL *server, size_t most, long flipped)
{
    client_start();
    client_to_server(server);
    SSL_do_handshake(server);
    long size = server_to_client(server, most, flipped);
    if (client.state == TLS_CONNECTED)
        client_to_server(server);
    return size;
}

static void check_connection(SSL_CTX *context, size_t most)
{
    SSL *server = server_new(context);
    char request[8] = "";
    handshake(server, most, -1);
    assert_null(client.failure);
    assert_int_equal(client.state, TLS_CONNECTED);
    assert_int_equal(SSL_do_handshake(server), 1); /* it has verified our Finished */
    tls_client_write(&client, "hello");
    tls_client_close(&client);
    client_to_server(server);
    assert_int_equal(SSL_read(server, request, sizeof(request)), 5);
    assert_string_equal(request, "hello");
    assert_int_equal(SSL_read(server, request, sizeof(request)), 0);
    assert_int_equal(SSL_get_shutdown(server), SSL_RECEIVED_SHUTDOWN);
    assert_int_equal(SSL_write(server, "answer", 6), 6);
    SSL_shutdown(server);
    server_to_client(server, most, -1);
    assert_int_equal(client.state, TLS_CLOSED);
    assert_int_equal(client.start_size, 6);
    assert_memory_equal(client.start, "answer", 6);
    SSL_free(server);
}

static void handshakes_end_well_however_bytes_arrive(void **state)
{
    (void)state;
    SSL_CTX *contexts[] = {
        server_context(EVP_EC_gen("P-256"), 0), server_context(EVP_EC_gen("P-384"), 0),
        server_context(EVP_RSA_gen(2048), 0), server_context(EVP_RSA_gen(2048), LONG_CHAIN),
        server_context(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), 0)};
    static const size_t PIECES[] = {1, 2, 5, 100, 100000};
    for (size_t i = 0; i < ARRAY_SIZE(contexts); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(PIECES); j++)
            check_connection(contexts[i], PIECES[j]);
        SSL_CTX_free(contexts[i]);
    }
}

/* legacy_record_version of ServerHello and of ChangeCipherSpec "MUST be ignored" (RFC 8446 5.1). */
static bool is_ignored(long at)
{
    const long second = 128;
    return at == 1 || at == 2 || at == second + 1 || at == second + 2;
}

static void a_changed_byte_is_noticed_wherever_it_is(void **state)
{
    (void)state;
    SSL_CTX *context = server_context(EVP_EC_gen("P-256"), 0);
    long size = 1;
    for (long at = 0; at < size; at++) {
        SSL *server = server_new(context);
        size = handshake(server, 100000, at);
        /* The last signature may have been shorter than the one before: nothing was flipped. */
        if (at < size && !is_ignored(at))
            assert_int_not_equal(client.state, TLS_CONNECTED);
        SSL_free(server);
    }
    assert_true(size > 500);
    SSL_CTX_free(context);
}

static void a_wrong_finished_is_noticed(void **state)
{
    (void)state;
    SSL_CTX *context = server_context(EVP_EC_gen("P-256"), 0);
    SSL *server = server_new(context);
    client_start();
    client_to_server(server);
    SSL_do_handshake(server);
    while (client.state < TLS_FINISHED)
        pass_on(server, 1, -1);
    client.reading.secret[0] ^= 1; /* the key of Finished comes from it; the record's is made */
    server_to_client(server, 100000, -1);
    assert_int_equal(client.state, TLS_FAILED);
    assert_string_equal(client.failure, "wrong Finished");
    SSL_free(server);
    SSL_CTX_free(context);
}

static void check_refused(SSL_CTX *context, const char *why)
{
    SSL *server = server_new(context);
    handshake(server, 100000, -1);
    assert_int_equal(client.state, TLS_FAILED);
    assert_string_equal(client.failure, why);
    SSL_free(server);
    SSL_CTX_free(context);
}

static void what_it_cannot_do_fails_with_a_reason(void **state)
{
    (void)state;
    SSL_CTX *context = server_context(EVP_EC_gen("P-256"), 0);
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    check_refused(context, "alert protocol_version");
    context = server_context(EVP_EC_gen("P-256"), 0);
    SSL_CTX_set1_groups_list(context, "P-384");
    check_refused(context, "alert handshake_failure");
    context = server_context(EVP_EC_gen("P-256"), 0);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
    check_refused(context, "alert handshake_failure");
    context = server_context(EVP_EC_gen("P-256"), 0);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    check_refused(context, "unexpected handshake message"); /* a CertificateRequest */
}

static void what_is_no_tls_fails(void **state)
{
    (void)state;
    static const char TEXT[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    size_t room;
    client_start();
    memcpy(tls_client_room(&client, &room), TEXT, sizeof(TEXT));
    tls_client_received(&client, sizeof(TEXT));
    assert_int_equal(client.state, TLS_FAILED);
    assert_string_equal(client.failure, "record too long, or no TLS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes_end_well_however_bytes_arrive),
        cmocka_unit_test(a_changed_byte_is_noticed_wherever_it_is),
        cmocka_unit_test(a_wrong_finished_is_noticed),
        cmocka_unit_test(what_it_cannot_do_fails_with_a_reason),
        cmocka_unit_test(what_is_no_tls_fails),
    };
    if (!tls_crypto_init(&crypto) || !tls_client_init(&client, &crypto) ||
        !tls_hello_make(&hello, "immure.test", NULL))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tls_client_free(&client);
    tls_crypto_free(&crypto);
    return failed;
}
