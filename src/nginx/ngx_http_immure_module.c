
/*
 * Immure's module in http blocks.
 */


#include "ngx_immure.h"

#include <ngx_http.h>


/* "ssl on" was there before nginx 1.25.1 */

#if (nginx_version >= 1025001)
#define ngx_http_immure_ssl(addr, sscf)  (addr)->opt.ssl
#else
#define ngx_http_immure_ssl(addr, sscf)  ((addr)->opt.ssl || (sscf)->enable)
#endif


static ngx_int_t ngx_http_immure_add_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_immure_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_immure_init_server(ngx_conf_t *cf,
    ngx_http_core_srv_conf_t *cscf);
static ngx_int_t ngx_http_immure_init_addr(ngx_conf_t *cf,
    ngx_http_conf_addr_t *addr);
static ngx_int_t ngx_http_immure_wait_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_immure_key_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


static ngx_command_t  ngx_http_immure_commands[] = {

    { ngx_string("immure_async"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_SRV_CONF_OFFSET,
      offsetof(ngx_immure_srv_conf_t, async),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_immure_module_ctx = {
    ngx_http_immure_add_variables,         /* preconfiguration */
    ngx_http_immure_init,                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_immure_create_srv_conf,            /* create server configuration */
    ngx_immure_merge_srv_conf,             /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_immure_module = {
    NGX_MODULE_V1,
    &ngx_http_immure_module_ctx,           /* module context */
    ngx_http_immure_commands,              /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_variable_t  ngx_http_immure_variables[] = {

    { ngx_string("immure_wait"), NULL, ngx_http_immure_wait_variable,
      0, 0, 0 },

    { ngx_string("immure_key"), NULL, ngx_http_immure_key_variable,
      0, 0, 0 },

      ngx_http_null_variable
};


/* the block has begun: no certificate has been read yet */

static ngx_int_t
ngx_http_immure_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_immure_variables; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return ngx_immure_load_provider(cf);
}


/*
 * The handshake goes on with the server that the client has named, so each
 * server's keys and "immure_async" are looked at.
 */

static ngx_int_t
ngx_http_immure_init(ngx_conf_t *cf)
{
    ngx_uint_t                    a, p, s;
    ngx_http_conf_addr_t         *addr;
    ngx_http_conf_port_t         *port;
    ngx_http_core_srv_conf_t    **cscfp;
    ngx_http_core_main_conf_t    *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    cscfp = cmcf->servers.elts;

    for (s = 0; s < cmcf->servers.nelts; s++) {
        if (ngx_http_immure_init_server(cf, cscfp[s]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (cmcf->ports == NULL) {
        return NGX_OK;
    }

    port = cmcf->ports->elts;

    for (p = 0; p < cmcf->ports->nelts; p++) {
        addr = port[p].addrs.elts;

        for (a = 0; a < port[p].addrs.nelts; a++) {
            if (ngx_http_immure_init_addr(cf, &addr[a]) != NGX_OK) {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_immure_init_server(ngx_conf_t *cf, ngx_http_core_srv_conf_t *cscf)
{
    ngx_http_ssl_srv_conf_t  *sscf;
    ngx_immure_srv_conf_t    *iscf;

    sscf = cscf->ctx->srv_conf[ngx_http_ssl_module.ctx_index];
    iscf = cscf->ctx->srv_conf[ngx_http_immure_module.ctx_index];

    return ngx_immure_init_server(cf->cycle, iscf, sscf->ssl.ctx,
                                  sscf->certificate_values
                                      ? ngx_http_ssl_certificate : NULL,
                                  sscf);
}


/* a handshake begins with the context of the address's default server */

static ngx_int_t
ngx_http_immure_init_addr(ngx_conf_t *cf, ngx_http_conf_addr_t *addr)
{
    ngx_uint_t                    s, used;
    ngx_immure_srv_conf_t        *iscf;
    ngx_http_ssl_srv_conf_t      *sscf;
    ngx_http_core_srv_conf_t    **cscfp;

    static ngx_uint_t  early_data;
#if (nginx_version >= 1025000)
    static ngx_uint_t  quic;
#endif

    used = 0;
    cscfp = addr->servers.elts;

    for (s = 0; s < addr->servers.nelts; s++) {
        iscf = cscfp[s]->ctx->srv_conf[ngx_http_immure_module.ctx_index];
        used |= iscf->used;
    }

    if (!used) {
        return NGX_OK;
    }

#if (nginx_version >= 1025000)
    if (addr->opt.quic) {
        ngx_immure_not_async(cf->cycle, &quic, "over QUIC");
        return NGX_OK;
    }
#endif

    sscf = addr->default_server->ctx->srv_conf[ngx_http_ssl_module.ctx_index];

    if (sscf->ssl.ctx == NULL || !ngx_http_immure_ssl(addr, sscf)) {
        return NGX_OK;
    }

    if (sscf->early_data) {
        ngx_immure_not_async(cf->cycle, &early_data,
                             "of servers with \"ssl_early_data\"");
        return NGX_OK;
    }

    return ngx_immure_init_address(cf->cycle, sscf->ssl.ctx);
}


static ngx_int_t
ngx_http_immure_wait_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char      *p;
    ngx_msec_t   wait;

    if (ngx_immure_waited(r->connection, &wait) != NGX_OK) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%M", wait) - p;
    v->data = p;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_immure_key_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_int_t  rc;
    ngx_str_t  name;

    rc = ngx_immure_key_name(r->connection, r->pool, &name);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc != NGX_OK) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->len = name.len;
    v->data = name.data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}
