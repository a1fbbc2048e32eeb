
/*
 * Immure's module in stream blocks.
 *
 * nginx's stream module may be a shared object that is not loaded, so its
 * symbols are not used: its modules are found by name.
 */


#include "ngx_immure.h"

#include <ngx_stream.h>


#if (nginx_version >= 1025005)
typedef ngx_stream_ssl_srv_conf_t  ngx_stream_ssl_conf_t;
#endif


static ngx_int_t ngx_stream_immure_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_stream_immure_init(ngx_conf_t *cf);
static ngx_int_t ngx_stream_immure_init_server(ngx_conf_t *cf,
    ngx_module_t *ssl, ngx_stream_core_srv_conf_t *cscf);
static ngx_int_t ngx_stream_immure_init_addrs(ngx_conf_t *cf,
    ngx_module_t *ssl, ngx_stream_core_main_conf_t *cmcf);
#if (nginx_version >= 1025005)
static ngx_int_t ngx_stream_immure_init_addr(ngx_conf_t *cf,
    ngx_module_t *ssl, ngx_stream_conf_addr_t *addr);
#endif


static ngx_command_t  ngx_stream_immure_commands[] = {

    { ngx_string("immure_async"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_immure_srv_conf_t, async),
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_stream_immure_module_ctx = {
    ngx_stream_immure_preconfiguration,    /* preconfiguration */
    ngx_stream_immure_init,                /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_immure_create_srv_conf,            /* create server configuration */
    ngx_immure_merge_srv_conf              /* merge server configuration */
};


ngx_module_t  ngx_stream_immure_module = {
    NGX_MODULE_V1,
    &ngx_stream_immure_module_ctx,         /* module context */
    ngx_stream_immure_commands,            /* module directives */
    NGX_STREAM_MODULE,                     /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_stream_immure_preconfiguration(ngx_conf_t *cf)
{
    return ngx_immure_load_provider(cf);
}


static ngx_int_t
ngx_stream_immure_init(ngx_conf_t *cf)
{
    ngx_uint_t                     s;
    ngx_module_t                  *core, *ssl;
    ngx_stream_conf_ctx_t         *ctx;
    ngx_stream_core_srv_conf_t   **cscfp;
    ngx_stream_core_main_conf_t   *cmcf;

    core = ngx_immure_find_module(cf->cycle, "ngx_stream_core_module");
    ssl = ngx_immure_find_module(cf->cycle, "ngx_stream_ssl_module");

    if (core == NULL || ssl == NULL) {
        return NGX_OK;
    }

    ctx = cf->ctx;
    cmcf = ctx->main_conf[core->ctx_index];
    cscfp = cmcf->servers.elts;

    for (s = 0; s < cmcf->servers.nelts; s++) {
        if (ngx_stream_immure_init_server(cf, ssl, cscfp[s]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return ngx_stream_immure_init_addrs(cf, ssl, cmcf);
}


static ngx_int_t
ngx_stream_immure_init_server(ngx_conf_t *cf, ngx_module_t *ssl,
    ngx_stream_core_srv_conf_t *cscf)
{
    ngx_immure_srv_conf_t  *iscf;
    ngx_stream_ssl_conf_t  *sslcf;

    static ngx_uint_t  variables;

    sslcf = cscf->ctx->srv_conf[ssl->ctx_index];
    iscf = cscf->ctx->srv_conf[ngx_stream_immure_module.ctx_index];

    if (sslcf->certificate_values && iscf->async) {
        /* the certificate callback of nginx's stream module is its own */
        ngx_immure_not_async(cf->cycle, &variables,
                             "of stream servers with variables in "
                             "\"ssl_certificate\"");
        return NGX_OK;
    }

    return ngx_immure_init_server(cf->cycle, iscf, sslcf->ssl.ctx, NULL, NULL);
}


#if (nginx_version >= 1025005)

/* as in http: a handshake begins with the address's default server */

static ngx_int_t
ngx_stream_immure_init_addrs(ngx_conf_t *cf, ngx_module_t *ssl,
    ngx_stream_core_main_conf_t *cmcf)
{
    ngx_uint_t               a, p;
    ngx_stream_conf_addr_t  *addr;
    ngx_stream_conf_port_t  *port;

    if (cmcf->ports == NULL) {
        return NGX_OK;
    }

    port = cmcf->ports->elts;

    for (p = 0; p < cmcf->ports->nelts; p++) {
        addr = port[p].addrs.elts;

        for (a = 0; a < port[p].addrs.nelts; a++) {
            if (ngx_stream_immure_init_addr(cf, ssl, &addr[a]) != NGX_OK) {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_stream_immure_init_addr(ngx_conf_t *cf, ngx_module_t *ssl,
    ngx_stream_conf_addr_t *addr)
{
    ngx_uint_t                     s, used;
    ngx_immure_srv_conf_t         *iscf;
    ngx_stream_ssl_conf_t         *sslcf;
    ngx_stream_core_srv_conf_t   **cscfp;

    used = 0;
    cscfp = addr->servers.elts;

    for (s = 0; s < addr->servers.nelts; s++) {
        iscf = cscfp[s]->ctx->srv_conf[ngx_stream_immure_module.ctx_index];
        used |= iscf->used;
    }

    sslcf = addr->default_server->ctx->srv_conf[ssl->ctx_index];

    if (!used || !addr->opt.ssl || sslcf->ssl.ctx == NULL) {
        return NGX_OK;
    }

    return ngx_immure_init_address(cf->cycle, sslcf->ssl.ctx);
}

#else

/* a server is the only one of its addresses */

static ngx_int_t
ngx_stream_immure_init_addrs(ngx_conf_t *cf, ngx_module_t *ssl,
    ngx_stream_core_main_conf_t *cmcf)
{
    ngx_uint_t                     s;
    ngx_immure_srv_conf_t         *iscf;
    ngx_stream_ssl_conf_t         *sslcf;
    ngx_stream_core_srv_conf_t   **cscfp;

    cscfp = cmcf->servers.elts;

    for (s = 0; s < cmcf->servers.nelts; s++) {
        sslcf = cscfp[s]->ctx->srv_conf[ssl->ctx_index];
        iscf = cscfp[s]->ctx->srv_conf[ngx_stream_immure_module.ctx_index];

        if (iscf->used
            && ngx_immure_init_address(cf->cycle, sslcf->ssl.ctx) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}

#endif
