
/*
 * Immure's module in http blocks.
 */


#include "ngx_immure.h"

#include <ngx_http.h>


static ngx_int_t ngx_http_immure_add_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_immure_init(ngx_conf_t *cf);
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
 * A handshake begins with the context of the address's default server, and
 * may go on with another's.  So when one server has a key of Immure's, all
 * are handled.
 */

static ngx_int_t
ngx_http_immure_init(ngx_conf_t *cf)
{
    ngx_uint_t                    i, needed, early;
    ngx_http_ssl_srv_conf_t      *sscf;
    ngx_http_core_srv_conf_t    **cscfp;
    ngx_http_core_main_conf_t    *cmcf;
    ngx_immure_srv_conf_t   *iscf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    cscfp = cmcf->servers.elts;

    needed = 0;
    early = 0;

    for (i = 0; i < cmcf->servers.nelts; i++) {
        sscf = cscfp[i]->ctx->srv_conf[ngx_http_ssl_module.ctx_index];
        needed |= sscf->ssl.ctx && ngx_immure_has_key(sscf->ssl.ctx);
    }

    for (i = 0; needed && i < cmcf->servers.nelts; i++) {
        sscf = cscfp[i]->ctx->srv_conf[ngx_http_ssl_module.ctx_index];
        iscf = cscfp[i]->ctx->srv_conf[ngx_http_immure_module.ctx_index];

        if (sscf->ssl.ctx == NULL || !iscf->async) {
            continue;
        }

        if (sscf->early_data) {
            early = 1;
            continue;
        }

        if (ngx_immure_handle(cf, sscf->ssl.ctx) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (early) {
        ngx_log_error(NGX_LOG_NOTICE, cf->log, 0,
                      "immure: handshakes of servers with \"ssl_early_data\" "
                      "are not asynchronous");
    }

    return NGX_OK;
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

    rc = ngx_immure_key_name(r->connection, &name);

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
