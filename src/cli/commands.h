/*
 * The commands, one file each.
 */
#ifndef IMMURE_CLI_COMMANDS_H
#define IMMURE_CLI_COMMANDS_H

#include "cli/command.h"

extern const struct command command_token_list;
extern const struct command command_key_generate;
extern const struct command command_key_list;
extern const struct command command_key_show;
extern const struct command command_key_import;
extern const struct command command_key_reference;
extern const struct command command_key_destroy;
extern const struct command command_csr;
extern const struct command command_status;
extern const struct command command_audit_verify;
extern const struct command command_audit_show;

#endif
