
/*
 * Asynchronous handshakes through OpenSSL's and nginx's public interfaces.
 *
 * nginx calls SSL_do_handshake() and knows no SSL_ERROR_WANT_ASYNC.  So at
 * the start of a handshake, which OpenSSL tells by the info callback, the
 * read BIO is exchanged for an empty one: nginx sees SSL_ERROR_WANT_READ,
 * installs its handlers and returns.  An event posted then puts the BIO back
 * and drives the handshake from here, as an ASYNC job.  When it has ended,
 * nginx gets its handlers back and calls SSL_do_handshake() once more, which
 * returns 1 at once.
 *
 * The provider tells through a descriptor that replies have come, one and the
 * same for all connections of a worker: resuming any of the jobs takes all
 * replies, and the provider calls back for each of the other jobs.
 *
 * A paused job cannot be taken down: a connection whose client has left is
 * closed when the reply, or the provider's deadline, is there.
 */


#include "ngx_immure.h"


typedef struct {
    ngx_connection_t     *connection;
    ngx_event_t           event;       /* start, or go on */
    ngx_event_handler_pt  read_handler;
    ngx_event_handler_pt  write_handler;
    ngx_queue_t           queue;       /* among those that wait */
    ngx_msec_t            since;       /* waits since then */
    ngx_msec_t            wait;        /* has waited, in all */
    unsigned              active:1;    /* driven from here */
    unsigned              waiting:1;
    unsigned              waited:1;
} ngx_immure_handshake_t;


typedef void (*ngx_immure_info_callback_pt)(const ngx_ssl_conn_t *ssl_conn,
    int where, int ret);


static ngx_int_t ngx_immure_init_indices(ngx_conf_t *cf);
static void ngx_immure_info_callback(const ngx_ssl_conn_t *ssl_conn, int where,
    int ret);
static void ngx_immure_take(ngx_connection_t *c);
static void ngx_immure_cleanup(void *data);
static void ngx_immure_start(ngx_event_t *ev);
static void ngx_immure_resume(ngx_event_t *ev);
static void ngx_immure_io_handler(ngx_event_t *ev);
static void ngx_immure_do_handshake(ngx_immure_handshake_t *hs);
static ngx_int_t ngx_immure_wait_io(ngx_connection_t *c, int sslerr);
static ngx_int_t ngx_immure_wait_reply(ngx_immure_handshake_t *hs);
static void ngx_immure_waited_enough(ngx_immure_handshake_t *hs);
static void ngx_immure_release(ngx_immure_handshake_t *hs);
static void ngx_immure_return(ngx_immure_handshake_t *hs);
static void ngx_immure_fail(ngx_immure_handshake_t *hs, int sslerr,
    ngx_err_t err);
static int ngx_immure_wake(ngx_ssl_conn_t *ssl_conn, void *data);
static ngx_int_t ngx_immure_watch(ngx_connection_t *c);
static void ngx_immure_replies(ngx_event_t *ev);


static int                ngx_immure_ctx_index = -1;   /* SSL_CTX: nginx's */
static int                ngx_immure_ssl_index = -1;   /* SSL: ours */
static ngx_queue_t        ngx_immure_waiting;
static ngx_connection_t  *ngx_immure_notify;


ngx_int_t
ngx_immure_handle(ngx_conf_t *cf, SSL_CTX *ctx)
{
    ngx_immure_info_callback_pt  callback;

    if (ngx_immure_init_indices(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    callback = SSL_CTX_get_info_callback(ctx);

    if (callback == ngx_immure_info_callback) {
        return NGX_OK;
    }

    if (SSL_CTX_set_ex_data(ctx, ngx_immure_ctx_index, (void *) callback)
        == 0)
    {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_ex_data() failed");
        return NGX_ERROR;
    }

    SSL_CTX_set_info_callback(ctx, ngx_immure_info_callback);

    return NGX_OK;
}


static ngx_int_t
ngx_immure_init_indices(ngx_conf_t *cf)
{
    if (ngx_immure_ctx_index != -1) {
        return NGX_OK;
    }

    ngx_queue_init(&ngx_immure_waiting);

    ngx_immure_ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    ngx_immure_ssl_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);

    if (ngx_immure_ctx_index == -1 || ngx_immure_ssl_index == -1) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
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

    if (c == NULL
        || c->ssl == NULL
        || c->ssl->handshaked
        || !SSL_is_server(ssl_conn)
        || SSL_get_ex_data(ssl_conn, ngx_immure_ssl_index) != NULL
        || BIO_method_type(SSL_get_rbio(ssl_conn)) != BIO_TYPE_SOCKET)
    {
        return;
    }

    ngx_immure_take(c);
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
    hs->event.data = hs;
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
    ngx_immure_handshake_t  *hs = ev->data;

    c = hs->connection;
    ssl_conn = c->ssl->connection;

    ngx_log_debug0(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "immure: asynchronous handshake");

    /* the socket's BIO is still there: it is the one to write to */

    bio = SSL_get_wbio(ssl_conn);
    BIO_up_ref(bio);
    SSL_set0_rbio(ssl_conn, bio);

    SSL_set_mode(ssl_conn, SSL_MODE_ASYNC);

    if (SSL_set_async_callback(ssl_conn, ngx_immure_wake) == 0
        || SSL_set_async_callback_arg(ssl_conn, hs) == 0)
    {
        SSL_clear_mode(ssl_conn, SSL_MODE_ASYNC);
    }

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
    ngx_immure_handshake_t  *hs = ev->data;

    if (hs->active) {
        ngx_immure_do_handshake(hs);
    }
}


static void
ngx_immure_io_handler(ngx_event_t *ev)
{
    ngx_connection_t        *c;
    ngx_immure_handshake_t  *hs;

    c = ev->data;
    hs = SSL_get_ex_data(c->ssl->connection, ngx_immure_ssl_index);

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "immure: handshake event, write:%ui waiting:%ui",
                   (ngx_uint_t) ev->write, (ngx_uint_t) hs->waiting);

    if (hs->waiting) {
        /* new data stays in the socket, a time-out in c->read->timedout */
        return;
    }

    if (ev->timedout) {
        ngx_immure_return(hs);
        return;
    }

    ngx_immure_do_handshake(hs);
}


static void
ngx_immure_do_handshake(ngx_immure_handshake_t *hs)
{
    int                n, sslerr;
    ngx_err_t          err;
    ngx_connection_t  *c;

    c = hs->connection;

    if (ERR_peek_error()) {
        ngx_ssl_error(NGX_LOG_ALERT, c->log, 0,
                      "ignoring stale global SSL error");
    }

    n = SSL_do_handshake(c->ssl->connection);
    err = ngx_errno;
    sslerr = n == 1 ? SSL_ERROR_NONE : SSL_get_error(c->ssl->connection, n);

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "immure: SSL_do_handshake: %d, SSL_get_error: %d",
                   n, sslerr);

    if (sslerr == SSL_ERROR_WANT_ASYNC) {
        if (ngx_immure_wait_reply(hs) != NGX_OK) {
            /* nothing would resume it: the process cannot go on with it */
            ngx_log_error(NGX_LOG_ALERT, c->log, 0,
                          "immure: cannot watch for replies");
        }

        return;
    }

    ngx_immure_waited_enough(hs);

    if (sslerr == SSL_ERROR_NONE || c->read->timedout) {
        ngx_immure_return(hs);
        return;
    }

    if ((sslerr == SSL_ERROR_WANT_READ || sslerr == SSL_ERROR_WANT_WRITE)
        && ngx_immure_wait_io(c, sslerr) == NGX_OK)
    {
        return;
    }

    ngx_immure_fail(hs, sslerr, sslerr == SSL_ERROR_SYSCALL ? err : 0);
}


static ngx_int_t
ngx_immure_wait_io(ngx_connection_t *c, int sslerr)
{
    if (sslerr == SSL_ERROR_WANT_READ) {
        c->read->ready = 0;

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


static ngx_int_t
ngx_immure_wait_reply(ngx_immure_handshake_t *hs)
{
    if (!hs->waiting) {
        hs->waiting = 1;
        hs->waited = 1;
        hs->since = ngx_current_msec;
        ngx_queue_insert_tail(&ngx_immure_waiting, &hs->queue);
    }

    return ngx_immure_watch(hs->connection);
}


static void
ngx_immure_waited_enough(ngx_immure_handshake_t *hs)
{
    if (hs->waiting) {
        hs->waiting = 0;
        hs->wait += ngx_current_msec - hs->since;
        ngx_queue_remove(&hs->queue);
    }
}


static void
ngx_immure_release(ngx_immure_handshake_t *hs)
{
    hs->active = 0;

    if (hs->event.posted) {
        ngx_delete_posted_event(&hs->event);
    }

    SSL_clear_mode(hs->connection->ssl->connection, SSL_MODE_ASYNC);
}


/* gives the connection back to nginx, which goes on or sees the time-out */

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

        /* libssl's own errors are the client's doing, others are not */

        level = ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL ? NGX_LOG_INFO
                                                             : NGX_LOG_CRIT;
        ngx_ssl_error(level, c->log, err, "SSL_do_handshake() failed");
    }

    c->ssl->handler(c);
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


/*
 * Watches the provider's descriptor.  Each worker has its own, made after the
 * fork, and the same for all connections.
 */

static ngx_int_t
ngx_immure_watch(ngx_connection_t *c)
{
    size_t            n;
    ngx_event_t      *rev;
    OSSL_ASYNC_FD     fd;

    n = 0;

    if (SSL_get_all_async_fds(c->ssl->connection, NULL, &n) == 0 || n != 1
        || SSL_get_all_async_fds(c->ssl->connection, &fd, &n) == 0)
    {
        return NGX_ERROR;
    }

    if (ngx_immure_notify && ngx_immure_notify->fd == fd) {
        return NGX_OK;
    }

    ngx_immure_notify = ngx_get_connection(fd, ngx_cycle->log);
    if (ngx_immure_notify == NULL) {
        return NGX_ERROR;
    }

    rev = ngx_immure_notify->read;
    rev->handler = ngx_immure_replies;
    rev->log = ngx_cycle->log;
    rev->channel = 1;    /* not a socket that is left open at the exit */
    ngx_immure_notify->log = ngx_cycle->log;

    if (ngx_add_event(rev, NGX_READ_EVENT, NGX_CLEAR_EVENT) != NGX_OK) {
        ngx_free_connection(ngx_immure_notify);
        ngx_immure_notify = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_immure_replies(ngx_event_t *ev)
{
    ngx_queue_t             *q;
    ngx_immure_handshake_t  *hs;

    if (ngx_queue_empty(&ngx_immure_waiting)) {
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

    if (c->ssl == NULL || ngx_immure_ssl_index == -1) {
        return NGX_ERROR;
    }

    hs = SSL_get_ex_data(c->ssl->connection, ngx_immure_ssl_index);

    if (hs == NULL || !hs->waited) {
        return NGX_ERROR;
    }

    *wait = hs->wait;

    return NGX_OK;
}
