
/*
 * Asynchronous handshakes through OpenSSL's and nginx's public interfaces.
 *
 * nginx calls SSL_do_handshake() and knows no SSL_ERROR_WANT_ASYNC.  So at
 * the start of a handshake, which OpenSSL tells by the info callback, the
 * read BIO is exchanged for an empty one: nginx sees SSL_ERROR_WANT_READ,
 * installs its handlers and returns.  An event posted then puts the BIO back
 * and drives the handshake from here.  When it has ended, nginx gets its
 * handlers back and calls SSL_do_handshake() once more, which returns 1 at
 * once.
 *
 * The part that signs runs as an ASYNC job, and no more than that: a job has
 * a stack of 32k with no guard, which PCRE's JIT alone, for a server name,
 * takes whole.  The certificate callback stands between: it comes after the
 * callback for the server name and after what loads keys by variables, and
 * may suspend the handshake, which then goes on in a job.
 *
 * The provider tells through a descriptor that replies have come, one and the
 * same for all connections of a worker: resuming any of the jobs takes all
 * replies, and the provider calls back for each of the other jobs.
 *
 * A paused job cannot be taken down: a connection whose client has left, or
 * that nginx wants to close, is closed when the reply, or the provider's
 * deadline, is there.
 */


#include "ngx_immure.h"

#include <openssl/async.h>


/* how often a job is resumed that nothing else would resume, in ms */
#define NGX_IMMURE_POLL  10


typedef struct {
    ngx_immure_certificate_pt   callback;
    void                       *data;
} ngx_immure_certificate_t;


typedef struct {
    ngx_connection_t           *connection;
    ngx_event_t                 event;      /* start, or go on */
    ngx_event_handler_pt        read_handler;
    ngx_event_handler_pt        write_handler;
    ngx_queue_t                 queue;      /* among those that wait */
    ngx_msec_t                  since;      /* waits since then */
    ngx_msec_t                  wait;       /* has waited, in all */
    unsigned                    active:1;   /* driven from here */
    unsigned                    signing:1;  /* the certificate is chosen */
    unsigned                    waiting:1;
    unsigned                    waited:1;
} ngx_immure_handshake_t;


typedef void (*ngx_immure_info_callback_pt)(const ngx_ssl_conn_t *ssl_conn,
    int where, int ret);


static ngx_int_t ngx_immure_init_indices(ngx_cycle_t *cycle);
static void ngx_immure_info_callback(const ngx_ssl_conn_t *ssl_conn, int where,
    int ret);
static ngx_immure_handshake_t *ngx_immure_get(ngx_ssl_conn_t *ssl_conn);
static void ngx_immure_take(ngx_connection_t *c);
static void ngx_immure_cleanup(void *data);
static void ngx_immure_start(ngx_event_t *ev);
static void ngx_immure_resume(ngx_event_t *ev);
static void ngx_immure_io_handler(ngx_event_t *ev);
static void ngx_immure_do_handshake(ngx_immure_handshake_t *hs);
static int ngx_immure_ssl_do_handshake(ngx_connection_t *c, ngx_err_t *err);
static int ngx_immure_certificate(ngx_ssl_conn_t *ssl_conn, void *data);
static ngx_uint_t ngx_immure_retry_requested(ngx_ssl_conn_t *ssl_conn);
static void ngx_immure_set_async(ngx_immure_handshake_t *hs);
static ngx_int_t ngx_immure_wait_io(ngx_connection_t *c, int sslerr);
static void ngx_immure_end_async(ngx_ssl_conn_t *ssl_conn);
static void ngx_immure_wait_reply(ngx_immure_handshake_t *hs);
static void ngx_immure_replied(ngx_immure_handshake_t *hs);
static void ngx_immure_release(ngx_immure_handshake_t *hs);
static void ngx_immure_return(ngx_immure_handshake_t *hs);
static void ngx_immure_fail(ngx_immure_handshake_t *hs, int sslerr,
    ngx_err_t err);
static ngx_uint_t ngx_immure_client_error(void);
static int ngx_immure_wake(ngx_ssl_conn_t *ssl_conn, void *data);
static ngx_int_t ngx_immure_watch(ngx_connection_t *c);
static ngx_int_t ngx_immure_open_notify(ngx_connection_t *c);
static void ngx_immure_notify_handler(ngx_event_t *ev);


static int                ngx_immure_ctx_index = -1;   /* SSL_CTX: nginx's */
static int                ngx_immure_ssl_index = -1;   /* SSL: ours */
static ngx_queue_t        ngx_immure_waiting;
static ngx_connection_t  *ngx_immure_notify;


ngx_int_t
ngx_immure_init_server(ngx_cycle_t *cycle, ngx_immure_srv_conf_t *conf,
    SSL_CTX *ctx, ngx_immure_certificate_pt callback, void *data)
{
    ngx_immure_certificate_t  *cert;

    static ngx_uint_t  jobs;

    if (ctx == NULL || !conf->async
        || (callback == NULL && !ngx_immure_ctx_has_key(ctx)))
    {
        return NGX_OK;
    }

    if (!ASYNC_is_capable()) {
        ngx_immure_not_async(cycle, &jobs,
                             "with an OpenSSL that has no ASYNC jobs");
        return NGX_OK;
    }

    cert = ngx_palloc(cycle->pool, sizeof(ngx_immure_certificate_t));
    if (cert == NULL) {
        return NGX_ERROR;
    }

    cert->callback = callback;
    cert->data = data;

    SSL_CTX_set_cert_cb(ctx, ngx_immure_certificate, cert);

    conf->used = 1;

    return NGX_OK;
}


ngx_int_t
ngx_immure_init_address(ngx_cycle_t *cycle, SSL_CTX *ctx)
{
    ngx_immure_info_callback_pt  callback;

    if (ngx_immure_init_indices(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    callback = SSL_CTX_get_info_callback(ctx);

    if (callback == ngx_immure_info_callback) {
        return NGX_OK;
    }

    if (SSL_CTX_set_ex_data(ctx, ngx_immure_ctx_index, (void *) callback)
        == 0)
    {
        ngx_ssl_error(NGX_LOG_EMERG, cycle->log, 0,
                      "SSL_CTX_set_ex_data() failed");
        return NGX_ERROR;
    }

    SSL_CTX_set_info_callback(ctx, ngx_immure_info_callback);

    return NGX_OK;
}


static ngx_int_t
ngx_immure_init_indices(ngx_cycle_t *cycle)
{
    if (ngx_immure_ssl_index != -1) {
        return NGX_OK;
    }

    ngx_queue_init(&ngx_immure_waiting);

    ngx_immure_ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    ngx_immure_ssl_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);

    if (ngx_immure_ctx_index == -1 || ngx_immure_ssl_index == -1) {
        ngx_ssl_error(NGX_LOG_EMERG, cycle->log, 0,
                      "SSL_get_ex_new_index() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_immure_info_callback(const ngx_ssl_conn_t *ssl_conn, int where, int ret)
{
    SSL_CTX                      *ctx;
    ngx_connection_t             *c;
    ngx_immure_info_callback_pt   callback;

    ctx = SSL_get_SSL_CTX(ssl_conn);
    callback = (ngx_immure_info_callback_pt)
                   SSL_CTX_get_ex_data(ctx, ngx_immure_ctx_index);
    if (callback) {
        callback(ssl_conn, where, ret);
    }

    if (!(where & SSL_CB_HANDSHAKE_START)) {
        return;
    }

    c = ngx_ssl_get_connection((ngx_ssl_conn_t *) ssl_conn);

    /* QUIC's datagrams do not come through the BIO */

    if (c == NULL
        || c->type != SOCK_STREAM
        || c->ssl == NULL
        || c->ssl->handshaked
        || !SSL_is_server(ssl_conn)
        || ngx_immure_get((ngx_ssl_conn_t *) ssl_conn) != NULL
        || BIO_method_type(SSL_get_rbio(ssl_conn)) != BIO_TYPE_SOCKET)
    {
        return;
    }

    ngx_immure_take(c);
}


static ngx_immure_handshake_t *
ngx_immure_get(ngx_ssl_conn_t *ssl_conn)
{
    if (ngx_immure_ssl_index == -1) {
        return NULL;
    }

    return SSL_get_ex_data(ssl_conn, ngx_immure_ssl_index);
}


static void
ngx_immure_take(ngx_connection_t *c)
{
    BIO                     *empty;
    ngx_pool_cleanup_t      *cln;
    ngx_immure_handshake_t  *hs;

    cln = ngx_pool_cleanup_add(c->pool, sizeof(ngx_immure_handshake_t));
    if (cln == NULL) {
        return;
    }

    hs = cln->data;
    ngx_memzero(hs, sizeof(ngx_immure_handshake_t));

    /* a handshake that cannot be taken over blocks, as without the module */

    empty = BIO_new(BIO_s_mem());
    if (empty == NULL) {
        return;
    }

    if (SSL_set_ex_data(c->ssl->connection, ngx_immure_ssl_index, hs) == 0) {
        BIO_free(empty);
        return;
    }

    BIO_set_mem_eof_return(empty, -1);
    SSL_set0_rbio(c->ssl->connection, empty);

    cln->handler = ngx_immure_cleanup;

    hs->connection = c;
    hs->event.data = c;
    hs->event.handler = ngx_immure_start;
    hs->event.log = c->log;

    ngx_post_event(&hs->event, &ngx_posted_events);
}


static void
ngx_immure_cleanup(void *data)
{
    ngx_immure_handshake_t  *hs = data;

    if (hs->event.posted) {
        ngx_delete_posted_event(&hs->event);
    }

    if (hs->event.timer_set) {
        ngx_del_timer(&hs->event);
    }

    if (hs->waiting) {
        ngx_queue_remove(&hs->queue);
        hs->waiting = 0;
    }
}


static void
ngx_immure_start(ngx_event_t *ev)
{
    BIO                     *bio;
    ngx_connection_t        *c;
    ngx_ssl_conn_t          *ssl_conn;
    ngx_immure_handshake_t  *hs;

    c = ev->data;
    ssl_conn = c->ssl->connection;
    hs = ngx_immure_get(ssl_conn);

    ngx_log_debug0(NGX_LOG_DEBUG_EVENT, c->log, 0, "immure: handshake start");

    /* the socket's BIO is still there: it is the one to write to */

    bio = SSL_get_wbio(ssl_conn);
    BIO_up_ref(bio);
    SSL_set0_rbio(ssl_conn, bio);

    hs->active = 1;
    hs->event.handler = ngx_immure_resume;
    hs->read_handler = c->read->handler;
    hs->write_handler = c->write->handler;

    c->read->handler = ngx_immure_io_handler;
    c->write->handler = ngx_immure_io_handler;

    ngx_immure_do_handshake(hs);
}


/* the reply is there, or may be */

static void
ngx_immure_resume(ngx_event_t *ev)
{
    ngx_connection_t  *c;

    c = ev->data;

    ngx_immure_do_handshake(ngx_immure_get(c->ssl->connection));
}


static void
ngx_immure_io_handler(ngx_event_t *ev)
{
    ngx_connection_t        *c;
    ngx_immure_handshake_t  *hs;

    c = ev->data;
    hs = ngx_immure_get(c->ssl->connection);

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "immure: handshake event, write:%ui waiting:%ui timer:%ui",
                   (ngx_uint_t) ev->write, (ngx_uint_t) hs->waiting,
                   (ngx_uint_t) ev->timedout);

    if (!hs->waiting || ev->timedout || c->close) {
        ngx_immure_do_handshake(hs);
        return;
    }

    /* new data stays in the socket, level-triggered events are switched off */

    if (ngx_handle_read_event(c->read, 0) != NGX_OK
        || ngx_handle_write_event(c->write, 0) != NGX_OK)
    {
        c->close = 1;
    }
}


static void
ngx_immure_do_handshake(ngx_immure_handshake_t *hs)
{
    int                sslerr;
    ngx_err_t          err;
    ngx_connection_t  *c;

    c = hs->connection;

    sslerr = ngx_immure_ssl_do_handshake(c, &err);

    if (sslerr == SSL_ERROR_WANT_X509_LOOKUP && hs->signing) {
        ngx_immure_set_async(hs);
        sslerr = ngx_immure_ssl_do_handshake(c, &err);
    }

    if (sslerr == SSL_ERROR_WANT_ASYNC) {
        ngx_immure_wait_reply(hs);
        return;
    }

    ngx_immure_replied(hs);

    if (c->read->timedout || c->close) {
        ERR_clear_error();    /* the time-out is what nginx is to tell */
        ngx_immure_release(hs);
        c->ssl->handler(c);
        return;
    }

    switch (sslerr) {

    case SSL_ERROR_NONE:
    case SSL_ERROR_WANT_X509_LOOKUP:        /* of another module, */
    case SSL_ERROR_WANT_CLIENT_HELLO_CB:    /* such as Lua's */
        ngx_immure_return(hs);
        return;

    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        if (ngx_immure_wait_io(c, sslerr) == NGX_OK) {
            return;
        }

        break;
    }

    ngx_immure_fail(hs, sslerr, sslerr == SSL_ERROR_SYSCALL ? err : 0);
}


static int
ngx_immure_ssl_do_handshake(ngx_connection_t *c, ngx_err_t *err)
{
    int              n, sslerr;
    ngx_ssl_conn_t  *ssl_conn;

    ssl_conn = c->ssl->connection;

    if (ERR_peek_error()) {
        ngx_ssl_error(NGX_LOG_ALERT, c->log, 0,
                      "ignoring stale global SSL error");
    }

    n = SSL_do_handshake(ssl_conn);

    if (n != 1 && SSL_want_async_job(ssl_conn)) {
        /* there is no memory for a job: the worker waits for the signature */
        ERR_clear_error();
        SSL_clear_mode(ssl_conn, SSL_MODE_ASYNC);
        n = SSL_do_handshake(ssl_conn);
    }

    *err = ngx_errno;
    sslerr = n == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_conn, n);

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "immure: SSL_do_handshake: %d, SSL_get_error: %d",
                   n, sslerr);

    return sslerr;
}


/* the server is known, and its keys: what comes next may sign */

static int
ngx_immure_certificate(ngx_ssl_conn_t *ssl_conn, void *data)
{
    ngx_immure_certificate_t  *cert = data;

    int                      rc;
    ngx_immure_handshake_t  *hs;

    hs = ngx_immure_get(ssl_conn);

    if (hs && hs->signing) {
        /* called once more, from the job */
        return 1;
    }

    rc = cert->callback ? cert->callback(ssl_conn, cert->data) : 1;

    if (rc != 1 || hs == NULL || !hs->active
        || ngx_immure_retry_requested(ssl_conn)
        || !ngx_immure_has_key(ssl_conn))
    {
        return rc;
    }

    hs->signing = 1;

    return -1;
}


/*
 * A TLS 1.3 client without a fitting key share is asked for one.  Its second
 * hello, which may be there already, does not belong into the job either.
 */

static ngx_uint_t
ngx_immure_retry_requested(ngx_ssl_conn_t *ssl_conn)
{
    EVP_PKEY  *share;

    if (SSL_version(ssl_conn) < TLS1_3_VERSION) {
        return 0;
    }

    if (SSL_get_peer_tmp_key(ssl_conn, &share) == 0) {
        return 1;
    }

    EVP_PKEY_free(share);

    return 0;
}


static void
ngx_immure_set_async(ngx_immure_handshake_t *hs)
{
    ngx_ssl_conn_t  *ssl_conn;

    ssl_conn = hs->connection->ssl->connection;

    /* without it the worker waits for the signature */

    if (SSL_set_async_callback(ssl_conn, ngx_immure_wake)
        && SSL_set_async_callback_arg(ssl_conn, hs))
    {
        SSL_set_mode(ssl_conn, SSL_MODE_ASYNC);
    }
}


static ngx_int_t
ngx_immure_wait_io(ngx_connection_t *c, int sslerr)
{
    if (sslerr == SSL_ERROR_WANT_READ) {
        c->read->ready = 0;
        ngx_immure_end_async(c->ssl->connection);

    } else {
        c->write->ready = 0;
    }

    if (ngx_handle_read_event(c->read, 0) != NGX_OK
        || ngx_handle_write_event(c->write, 0) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * The server signs before it waits for the client, and needs no job after
 * that, be the key Immure's or not.  In the RSA key exchange it has nothing to
 * sign, but the client's answer to decrypt.
 */

static void
ngx_immure_end_async(ngx_ssl_conn_t *ssl_conn)
{
    const SSL_CIPHER  *cipher;

    cipher = SSL_get_pending_cipher(ssl_conn);

    if (cipher == NULL || SSL_CIPHER_get_kx_nid(cipher) != NID_kx_rsa) {
        SSL_clear_mode(ssl_conn, SSL_MODE_ASYNC);
    }
}


static void
ngx_immure_wait_reply(ngx_immure_handshake_t *hs)
{
    ngx_connection_t  *c;

    c = hs->connection;

    if (!hs->waiting) {
        hs->waiting = 1;
        hs->waited = 1;
        hs->since = ngx_current_msec;
        ngx_queue_insert_tail(&ngx_immure_waiting, &hs->queue);
    }

    /*
     * The timer also keeps a worker that shuts down from leaving a connection
     * behind that has no timer of nginx's any more.
     */

    if (ngx_immure_watch(c) != NGX_OK || c->read->timedout || c->close) {
        ngx_add_timer(&hs->event, NGX_IMMURE_POLL);
    }
}


/* a handshake has one signature: what is left of it needs no job */

static void
ngx_immure_replied(ngx_immure_handshake_t *hs)
{
    if (!hs->waiting) {
        return;
    }

    hs->waiting = 0;
    hs->wait += ngx_current_msec - hs->since;
    ngx_queue_remove(&hs->queue);

    SSL_clear_mode(hs->connection->ssl->connection, SSL_MODE_ASYNC);

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, hs->connection->log, 0,
                   "immure: waited for the signature: %M", hs->wait);
}


static void
ngx_immure_release(ngx_immure_handshake_t *hs)
{
    hs->active = 0;

    if (hs->event.posted) {
        ngx_delete_posted_event(&hs->event);
    }

    if (hs->event.timer_set) {
        ngx_del_timer(&hs->event);
    }

    SSL_clear_mode(hs->connection->ssl->connection, SSL_MODE_ASYNC);
}


/* gives the connection back to nginx, which goes on with it */

static void
ngx_immure_return(ngx_immure_handshake_t *hs)
{
    ngx_connection_t  *c;

    c = hs->connection;

    ngx_immure_release(hs);

    c->read->handler = hs->read_handler;
    c->write->handler = hs->write_handler;

    c->read->handler(c->read);
}


/* as ngx_ssl_handshake() does */

static void
ngx_immure_fail(ngx_immure_handshake_t *hs, int sslerr, ngx_err_t err)
{
    ngx_uint_t         level;
    ngx_connection_t  *c;

    c = hs->connection;

    ngx_immure_release(hs);

    c->ssl->no_wait_shutdown = 1;
    c->ssl->no_send_shutdown = 1;
    c->read->eof = 1;

    if (sslerr == SSL_ERROR_ZERO_RETURN || ERR_peek_error() == 0) {
        ngx_connection_error(c, err,
                             "peer closed connection in SSL handshake");

    } else if (c->ssl->handshake_rejected) {
        ngx_connection_error(c, err, "handshake rejected");
        ERR_clear_error();

    } else {
        c->read->error = 1;

        level = ngx_immure_client_error() ? NGX_LOG_INFO : NGX_LOG_CRIT;
        ngx_ssl_error(level, c->log, err, "SSL_do_handshake() failed");
    }

    c->ssl->handler(c);
}


/*
 * Of what libcrypto found wrong with the client's bytes libssl has a reason of
 * its own, the last error, as it has of all that it finds itself.  Immure's
 * errors have a library number that OpenSSL gave the provider.
 */

static ngx_uint_t
ngx_immure_client_error(void)
{
    unsigned long  first, last;

    first = ERR_peek_error();
    last = ERR_peek_last_error();

    if (ERR_GET_LIB(first) == ERR_LIB_SSL) {
        return 1;
    }

    return ERR_GET_LIB(first) < ERR_LIB_USER
           && ERR_GET_LIB(last) == ERR_LIB_SSL
           && !ERR_COMMON_ERROR(last);
}


/* called by the provider, in the job of another connection */

static int
ngx_immure_wake(ngx_ssl_conn_t *ssl_conn, void *data)
{
    ngx_immure_handshake_t  *hs = data;

    if (hs->active && !hs->event.posted) {
        ngx_post_event(&hs->event, &ngx_posted_events);
    }

    return 1;
}


static ngx_int_t
ngx_immure_watch(ngx_connection_t *c)
{
    if (ngx_immure_notify == NULL && ngx_immure_open_notify(c) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_immure_notify->read->ready = 0;

    return ngx_handle_read_event(ngx_immure_notify->read, 0);
}


/*
 * The provider's descriptor: each worker has its own, made after the fork, and
 * the same for all connections.
 */

static ngx_int_t
ngx_immure_open_notify(ngx_connection_t *c)
{
    size_t             n;
    OSSL_ASYNC_FD      fd;
    ngx_connection_t  *nc;

    n = 0;

    if (SSL_get_all_async_fds(c->ssl->connection, NULL, &n) == 0 || n != 1
        || SSL_get_all_async_fds(c->ssl->connection, &fd, &n) == 0)
    {
        return NGX_ERROR;
    }

    nc = ngx_get_connection(fd, ngx_cycle->log);
    if (nc == NULL) {
        return NGX_ERROR;
    }

    nc->log = ngx_cycle->log;
    nc->read->log = ngx_cycle->log;
    nc->read->handler = ngx_immure_notify_handler;
    nc->read->channel = 1;    /* not a socket that is left open at the exit */

    ngx_immure_notify = nc;

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "immure: watches fd:%d for replies", fd);

    return NGX_OK;
}


static void
ngx_immure_notify_handler(ngx_event_t *ev)
{
    ngx_queue_t             *q;
    ngx_immure_handshake_t  *hs;

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, ev->log, 0,
                   "immure: replies, waiting:%d",
                   !ngx_queue_empty(&ngx_immure_waiting));

    if (ngx_queue_empty(&ngx_immure_waiting)) {
        /* a reply that is too late: nobody takes it, so stop level events */
        (void) ngx_handle_read_event(ev, 0);
        return;
    }

    q = ngx_queue_head(&ngx_immure_waiting);
    hs = ngx_queue_data(q, ngx_immure_handshake_t, queue);

    ngx_immure_do_handshake(hs);
}


ngx_int_t
ngx_immure_waited(ngx_connection_t *c, ngx_msec_t *wait)
{
    ngx_immure_handshake_t  *hs;

    hs = c->ssl ? ngx_immure_get(c->ssl->connection) : NULL;

    if (hs == NULL || !hs->waited) {
        return NGX_ERROR;
    }

    *wait = hs->wait;

    return NGX_OK;
}
