/*
 * immure: the operator's command line; immure(1).
 */
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "cli/commands.h"
#include "cli/openssl_memory.h"
#include "cli/report.h"

static const struct command *const commands[] = {
    &command_token_list, &command_key_generate,  &command_key_list,    &command_key_show,
    &command_key_import, &command_key_reference, &command_key_destroy, &command_csr,
    &command_status,     &command_audit_verify,  &command_audit_show,  NULL,
};

/* PINs, and keys on their way into a token, pass through this process: no dump, no debugger. */
static bool protect_memory(void)
{
    const struct rlimit none = {0, 0};
    return setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_DUMPABLE, 0) == 0 &&
           openssl_memory_wipe() == 0;
}

int main(int argc, char **argv)
{
    if (!protect_memory())
        return (int)report_failure("cannot keep debuggers and core dumps from PINs and keys");
    /* openssl.cnf may load Immure's own provider, which has no part in making keys. */
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);

    enum exit_status status = command_main(commands, argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == STATUS_OK)
        status = report_failure("cannot write to standard output");
    return (int)status;
}
