
/*
 * Immure's OpenSSL provider: loading it, and telling its keys from others.
 */


#include "ngx_immure.h"

#include <openssl/conf.h>
#include <openssl/provider.h>


#define NGX_IMMURE_PROVIDER  "immure"

/* a path of a socket, a path of a module, and the words around them */
#define NGX_IMMURE_CONF_SIZE  8192


static ngx_int_t ngx_immure_activate(ngx_conf_t *cf, ngx_immure_conf_t *icf);
static void ngx_immure_check_change(ngx_conf_t *cf, char *name,
    ngx_str_t *first, ngx_str_t *value);
static ngx_int_t ngx_immure_keep(ngx_conf_t *cf, ngx_str_t *first,
    ngx_str_t *value);
static ngx_uint_t ngx_immure_is_key(EVP_PKEY *key);


/* what the provider was loaded with: it stays loaded over reloads */

static ngx_str_t   ngx_immure_socket;
static ngx_str_t   ngx_immure_timeout;
static ngx_uint_t  ngx_immure_activated;


ngx_int_t
ngx_immure_load_provider(ngx_conf_t *cf)
{
    ngx_immure_conf_t  *icf;

    icf = (ngx_immure_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                             ngx_immure_module);
    if (icf->loaded) {
        return NGX_OK;
    }

    icf->loaded = 1;

    if (ngx_immure_activated) {
        ngx_immure_check_change(cf, "immure_socket", &ngx_immure_socket,
                                &icf->socket);
        ngx_immure_check_change(cf, "immure_timeout (ms)",
                                &ngx_immure_timeout, &icf->timeout);
        return NGX_OK;
    }

    if (OSSL_PROVIDER_available(NULL, NGX_IMMURE_PROVIDER)) {
        return NGX_OK;
    }

    if (ngx_immure_keep(cf, &ngx_immure_socket, &icf->socket) != NGX_OK
        || ngx_immure_keep(cf, &ngx_immure_timeout, &icf->timeout) != NGX_OK
        || ngx_immure_activate(cf, icf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_immure_activated = 1;

    return NGX_OK;
}


static void
ngx_immure_check_change(ngx_conf_t *cf, char *name, ngx_str_t *first,
    ngx_str_t *value)
{
    static ngx_str_t  unset = ngx_string("default");

    if (first->len == value->len
        && ngx_strncmp(first->data, value->data, value->len) == 0)
    {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                  "immure: %s stays \"%V\", not \"%V\", "
                  "until nginx is restarted", name,
                  first->len ? first : &unset, value->len ? value : &unset);
}


/* longer than a cycle */

static ngx_int_t
ngx_immure_keep(ngx_conf_t *cf, ngx_str_t *first, ngx_str_t *value)
{
    if (value->len == 0) {
        return NGX_OK;
    }

    first->data = ngx_alloc(value->len, cf->log);
    if (first->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(first->data, value->data, value->len);
    first->len = value->len;

    return NGX_OK;
}


/*
 * The provider takes its parameters from a configuration of OpenSSL's, so one
 * is made in memory.  With any provider activated, OpenSSL no longer activates
 * "default" by itself.
 */

static ngx_int_t
ngx_immure_activate(ngx_conf_t *cf, ngx_immure_conf_t *icf)
{
    long        line;
    BIO        *bio;
    CONF       *conf;
    u_char     *text, *p, *last;
    ngx_int_t   rc;

    text = ngx_pnalloc(cf->temp_pool, NGX_IMMURE_CONF_SIZE);
    if (text == NULL) {
        return NGX_ERROR;
    }

    last = text + NGX_IMMURE_CONF_SIZE;

    p = ngx_slprintf(text, last,
                     "openssl_conf = init\n"
                     "[init]\nproviders = providers\n"
                     "[providers]\ndefault = d\nimmure = i\n"
                     "[d]\nactivate = 1\n"
                     "[i]\nactivate = 1\n");

#ifdef NGX_IMMURE_PROVIDER_PATH
    p = ngx_slprintf(p, last, "module = %s\n", NGX_IMMURE_PROVIDER_PATH);
#endif

    if (icf->socket.len) {
        p = ngx_slprintf(p, last, "socket = %V\n", &icf->socket);
    }

    if (icf->timeout.len) {
        p = ngx_slprintf(p, last, "timeout = %V\n", &icf->timeout);
    }

    if (p == last) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the path in \"immure_socket\" is too long");
        return NGX_ERROR;
    }

    rc = NGX_ERROR;
    bio = BIO_new_mem_buf(text, p - text);
    conf = NCONF_new(NULL);

    if (bio != NULL && conf != NULL && NCONF_load_bio(conf, bio, &line) > 0
        && CONF_modules_load(conf, NULL, 0) > 0
        && OSSL_PROVIDER_available(NULL, NGX_IMMURE_PROVIDER))
    {
        rc = NGX_OK;

    } else {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "cannot load the OpenSSL provider \"immure\"; "
                      "is immure.so in OpenSSL's modules directory?");
    }

    NCONF_free(conf);
    BIO_free(bio);

    return rc;
}


ngx_uint_t
ngx_immure_ctx_has_key(SSL_CTX *ctx)
{
    long  next;

    for (next = SSL_CERT_SET_FIRST;
         SSL_CTX_set_current_cert(ctx, next);
         next = SSL_CERT_SET_NEXT)
    {
        if (ngx_immure_is_key(SSL_CTX_get0_privatekey(ctx))) {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_immure_has_key(ngx_ssl_conn_t *ssl_conn)
{
    long  next;

    for (next = SSL_CERT_SET_FIRST;
         SSL_set_current_cert(ssl_conn, next);
         next = SSL_CERT_SET_NEXT)
    {
        if (ngx_immure_is_key(SSL_get_privatekey(ssl_conn))) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_immure_is_key(EVP_PKEY *key)
{
    const OSSL_PROVIDER  *provider;

    provider = key ? EVP_PKEY_get0_provider(key) : NULL;

    return provider
           && ngx_strcmp(OSSL_PROVIDER_get0_name(provider),
                         NGX_IMMURE_PROVIDER) == 0;
}


ngx_int_t
ngx_immure_key_name(ngx_connection_t *c, ngx_pool_t *pool, ngx_str_t *name)
{
    size_t     len;
    EVP_PKEY  *key;

    key = c->ssl ? SSL_get_privatekey(c->ssl->connection) : NULL;

    if (key == NULL
        || EVP_PKEY_get_utf8_string_param(key, "immure-name", NULL, 0, &len)
           != 1)
    {
        return NGX_DECLINED;
    }

    name->data = ngx_pnalloc(pool, len + 1);
    if (name->data == NULL) {
        return NGX_ERROR;
    }

    if (EVP_PKEY_get_utf8_string_param(key, "immure-name",
                                       (char *) name->data, len + 1, &len)
        != 1)
    {
        return NGX_DECLINED;
    }

    name->len = len;

    return NGX_OK;
}
