
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
static ngx_module_t *ngx_stream_immure_find(ngx_conf_t *cf, char *name);


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


static ngx_module_t *
ngx_stream_immure_find(ngx_conf_t *cf, char *name)
{
    ngx_uint_t  i;

    for (i = 0; cf->cycle->modules[i]; i++) {
        if (ngx_strcmp(cf->cycle->modules[i]->name, name) == 0) {
            return cf->cycle->modules[i];
        }
    }

    return NULL;
}


/* as in http: all servers are handled when one has a key of Immure's */

static ngx_int_t
ngx_stream_immure_init(ngx_conf_t *cf)
{
    ngx_uint_t                      i, needed;
    ngx_module_t                   *core, *ssl;
    ngx_stream_conf_ctx_t          *ctx;
    ngx_stream_ssl_conf_t          *sslcf;
    ngx_stream_core_srv_conf_t    **cscfp;
    ngx_stream_core_main_conf_t    *cmcf;
    ngx_immure_srv_conf_t   *iscf;

    core = ngx_stream_immure_find(cf, "ngx_stream_core_module");
    ssl = ngx_stream_immure_find(cf, "ngx_stream_ssl_module");

    if (core == NULL || ssl == NULL) {
        return NGX_OK;
    }

    ctx = cf->ctx;
    cmcf = ctx->main_conf[core->ctx_index];
    cscfp = cmcf->servers.elts;

    needed = 0;

    for (i = 0; i < cmcf->servers.nelts; i++) {
        sslcf = cscfp[i]->ctx->srv_conf[ssl->ctx_index];
        needed |= sslcf->ssl.ctx && ngx_immure_has_key(sslcf->ssl.ctx);
    }

    for (i = 0; needed && i < cmcf->servers.nelts; i++) {
        sslcf = cscfp[i]->ctx->srv_conf[ssl->ctx_index];
        iscf = cscfp[i]->ctx->srv_conf[ngx_stream_immure_module.ctx_index];

        if (sslcf->ssl.ctx && iscf->async
            && ngx_immure_handle(cf, sslcf->ssl.ctx) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
