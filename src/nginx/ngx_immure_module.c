
/*
 * The main context of Immure's module: where immured is, and how long a
 * signature may take.
 */


#include "ngx_immure.h"


static void *ngx_immure_create_conf(ngx_cycle_t *cycle);
static char *ngx_immure_set_socket(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_immure_set_timeout(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/* as the provider takes it, see immure-provider(7) */
#define NGX_IMMURE_TIMEOUT_MAX  60000


static char  ngx_immure_too_late[] =
    "must stand before the \"http\", \"stream\" and \"mail\" blocks";


static ngx_command_t  ngx_immure_commands[] = {

    { ngx_string("immure_socket"),
      NGX_MAIN_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE1,
      ngx_immure_set_socket,
      0,
      0,
      NULL },

    { ngx_string("immure_timeout"),
      NGX_MAIN_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE1,
      ngx_immure_set_timeout,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_core_module_t  ngx_immure_module_ctx = {
    ngx_string("immure"),
    ngx_immure_create_conf,
    NULL
};


ngx_module_t  ngx_immure_module = {
    NGX_MODULE_V1,
    &ngx_immure_module_ctx,                /* module context */
    ngx_immure_commands,                   /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_immure_create_conf(ngx_cycle_t *cycle)
{
    return ngx_pcalloc(cycle->pool, sizeof(ngx_immure_conf_t));
}


static char *
ngx_immure_set_socket(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_immure_conf_t  *icf = conf;

    ngx_str_t  *value;

    if (icf->socket.data) {
        return "is duplicate";
    }

    if (icf->loaded) {
        return ngx_immure_too_late;
    }

    value = cf->args->elts;

    if (value[1].len == 0 || value[1].data[0] != '/') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid socket \"%V\" in \"%V\" directive, "
                           "give an absolute path", &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    icf->socket = value[1];

    return NGX_CONF_OK;
}


static char *
ngx_immure_set_timeout(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_immure_conf_t  *icf = conf;

    u_char     *p;
    ngx_str_t  *value;
    ngx_int_t   timeout;

    if (icf->timeout.data) {
        return "is duplicate";
    }

    if (icf->loaded) {
        return ngx_immure_too_late;
    }

    value = cf->args->elts;
    timeout = ngx_parse_time(&value[1], 0);

    if (timeout < 1 || timeout > NGX_IMMURE_TIMEOUT_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid time \"%V\" in \"%V\" directive, "
                           "give 1ms to %dms",
                           &value[1], &cmd->name, NGX_IMMURE_TIMEOUT_MAX);
        return NGX_CONF_ERROR;
    }

    p = ngx_pnalloc(cf->pool, NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    icf->timeout.data = p;
    icf->timeout.len = ngx_sprintf(p, "%i", timeout) - p;

    return NGX_CONF_OK;
}


void *
ngx_immure_create_srv_conf(ngx_conf_t *cf)
{
    ngx_immure_srv_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_immure_srv_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->async = NGX_CONF_UNSET;

    return conf;
}


char *
ngx_immure_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_immure_srv_conf_t  *prev = parent;
    ngx_immure_srv_conf_t  *conf = child;

    ngx_conf_merge_value(conf->async, prev->async, 1);

    return NGX_CONF_OK;
}


ngx_module_t *
ngx_immure_find_module(ngx_cycle_t *cycle, char *name)
{
    ngx_uint_t  i;

    for (i = 0; cycle->modules[i]; i++) {
        if (ngx_strcmp(cycle->modules[i]->name, name) == 0) {
            return cycle->modules[i];
        }
    }

    return NULL;
}


void
ngx_immure_not_async(ngx_cycle_t *cycle, ngx_uint_t *said, char *which)
{
    if (*said) {
        return;
    }

    *said = 1;

    ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                  "immure: handshakes %s are not asynchronous", which);
}
