
/*
 * Immure's module in mail blocks.
 *
 * As in stream: nginx's mail module may be a shared object that is not loaded,
 * so its symbols are not used.  Its modules have no postconfiguration, and the
 * certificates are loaded when servers are merged, in whichever order; so this
 * looks at them when all of the configuration has been read.
 */


#include "ngx_immure.h"

#include <ngx_mail.h>


static void *ngx_mail_immure_create_main_conf(ngx_conf_t *cf);
static ngx_int_t ngx_mail_immure_init(ngx_cycle_t *cycle);


static ngx_command_t  ngx_mail_immure_commands[] = {

    { ngx_string("immure_async"),
      NGX_MAIL_MAIN_CONF|NGX_MAIL_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_MAIL_SRV_CONF_OFFSET,
      offsetof(ngx_immure_srv_conf_t, async),
      NULL },

      ngx_null_command
};


static ngx_mail_module_t  ngx_mail_immure_module_ctx = {
    NULL,                                  /* protocol */

    ngx_mail_immure_create_main_conf,      /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_immure_create_srv_conf,            /* create server configuration */
    ngx_immure_merge_srv_conf              /* merge server configuration */
};


ngx_module_t  ngx_mail_immure_module = {
    NGX_MODULE_V1,
    &ngx_mail_immure_module_ctx,           /* module context */
    ngx_mail_immure_commands,              /* module directives */
    NGX_MAIL_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_mail_immure_init,                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* the block has begun: no certificate has been read yet */

static void *
ngx_mail_immure_create_main_conf(ngx_conf_t *cf)
{
    if (ngx_immure_load_provider(cf) != NGX_OK) {
        return NULL;
    }

    /* there are no directives in it, only NULL would be an error */

    return ngx_get_conf(cf->cycle->conf_ctx, ngx_immure_module);
}


static ngx_int_t
ngx_mail_immure_init(ngx_cycle_t *cycle)
{
    SSL_CTX                    *ssl_ctx;
    ngx_uint_t                  s;
    ngx_module_t               *mail, *core, *ssl;
    ngx_mail_conf_ctx_t        *ctx;
    ngx_mail_ssl_conf_t        *sslcf;
    ngx_immure_srv_conf_t      *iscf;
    ngx_mail_core_srv_conf_t  **cscfp;
    ngx_mail_core_main_conf_t  *cmcf;

    mail = ngx_immure_find_module(cycle, "ngx_mail_module");
    core = ngx_immure_find_module(cycle, "ngx_mail_core_module");
    ssl = ngx_immure_find_module(cycle, "ngx_mail_ssl_module");

    if (mail == NULL || core == NULL || ssl == NULL) {
        return NGX_OK;
    }

    ctx = (ngx_mail_conf_ctx_t *) cycle->conf_ctx[mail->index];

    if (ctx == NULL) {
        return NGX_OK;
    }

    cmcf = ctx->main_conf[core->ctx_index];
    cscfp = cmcf->servers.elts;

    for (s = 0; s < cmcf->servers.nelts; s++) {
        sslcf = cscfp[s]->ctx->srv_conf[ssl->ctx_index];
        iscf = cscfp[s]->ctx->srv_conf[ngx_mail_immure_module.ctx_index];

        ssl_ctx = sslcf->ssl.ctx;

        if (ngx_immure_init_server(cycle, iscf, ssl_ctx, NULL, NULL)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (iscf->used && ngx_immure_init_address(cycle, ssl_ctx) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
