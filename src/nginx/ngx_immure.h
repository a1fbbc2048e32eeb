
/*
 * Immure for nginx: asynchronous TLS handshakes with keys in an HSM.
 *
 * ngx_immure_module.c         main context: immure_socket, immure_timeout
 * ngx_immure_provider.c       loads the OpenSSL provider, tells its keys
 * ngx_immure_handshake.c      drives handshakes without blocking the worker
 * ngx_http_immure_module.c    http: immure_async, variables
 * ngx_stream_immure_module.c  stream: immure_async
 * ngx_mail_immure_module.c    mail: immure_async
 */


#ifndef _NGX_IMMURE_H_INCLUDED_
#define _NGX_IMMURE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


typedef struct {
    ngx_str_t    socket;
    ngx_str_t    timeout;   /* milliseconds */
    ngx_uint_t   loaded;    /* the provider has the values above */
} ngx_immure_conf_t;


/* of a server: http's, stream's or mail's */

typedef struct {
    ngx_flag_t   async;
    ngx_uint_t   used;      /* has keys of Immure's, and is asynchronous */
} ngx_immure_srv_conf_t;


/* as SSL_CTX_set_cert_cb() takes it */

typedef int (*ngx_immure_certificate_pt)(ngx_ssl_conn_t *ssl_conn, void *arg);


void *ngx_immure_create_srv_conf(ngx_conf_t *cf);
char *ngx_immure_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child);

/* NULL: it is not loaded */
ngx_module_t *ngx_immure_find_module(ngx_cycle_t *cycle, char *name);

/* says once in a process which handshakes keep blocking the worker */
void ngx_immure_not_async(ngx_cycle_t *cycle, ngx_uint_t *said, char *which);


/*
 * Loads "default" and "immure" into OpenSSL's default library context, unless
 * a configuration of OpenSSL has done so.  Called when an http, stream or mail
 * block begins, before the first certificate is read.
 */
ngx_int_t ngx_immure_load_provider(ngx_conf_t *cf);

/* whether a key that has been loaded is one of Immure's */
ngx_uint_t ngx_immure_ctx_has_key(SSL_CTX *ctx);
ngx_uint_t ngx_immure_has_key(ngx_ssl_conn_t *ssl_conn);


/*
 * Sets conf->used, if signatures with the server's keys are not to block, and
 * the context's certificate callback then.  "callback" is the one that nginx
 * has set, which loads keys in a handshake, or NULL.
 */
ngx_int_t ngx_immure_init_server(ngx_cycle_t *cycle,
    ngx_immure_srv_conf_t *conf, SSL_CTX *ctx,
    ngx_immure_certificate_pt callback, void *data);

/*
 * Handshakes that begin with this context are driven by this module, so that
 * those of servers with conf->used do not block.
 */
ngx_int_t ngx_immure_init_address(ngx_cycle_t *cycle, SSL_CTX *ctx);

/* how long the handshake waited for signatures; NGX_ERROR: it did not */
ngx_int_t ngx_immure_waited(ngx_connection_t *c, ngx_msec_t *wait);

/* the name of the key that the handshake used, if it is one of Immure's */
ngx_int_t ngx_immure_key_name(ngx_connection_t *c, ngx_pool_t *pool,
    ngx_str_t *name);


extern ngx_module_t  ngx_immure_module;


#endif /* _NGX_IMMURE_H_INCLUDED_ */
