#include "profiles.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    const char *commands;
} profiles[] = {
    /*
     * AWS CloudHSM User Guide: "Authenticate to the PKCS #11 library" (pkcs11-pin.html): the PIN
     * is <CU_user_name>:<password>; "HSM throttling" (troubleshoot-hsm-throttling.html): busy
     * errors map to CKR_FUNCTION_FAILED (0x06) with Client SDK 5, and applications repeat the call.
     */
    {"cloudhsm", "pin-of-user\nfail 0x06 10%\n"},
    /*
     * Thales Luna SDK Reference: "Recovering From the Loss of All HA Members"
     * (sdk/java/ha_recover_all_members.htm): the login is lost, and finalizing and initializing
     * the library is the only way to recover. The CK_RV is CKR_DEVICE_ERROR (0x30) here; the page
     * names none.
     */
    {"luna-lost", "stuck 0x30\n"},
    /*
     * YubiHSM 2 User Guide, "Concept: Session" (hsm2-concept-session.html): up to 16 sessions, and
     * commands in one block those in the others. The page has no times; these are of the size of
     * a small device's. yubihsm-shell, pkcs11/yubihsm_pkcs11.c, C_FindObjectsInit(): an attribute
     * that it does not search by makes the set empty.
     */
    {"yubihsm2", "sessions 16\nserial\ndelay 20 10\nblind\n"},
    /*
     * Linux, "tpm: add retry logic" (commit e2fb992d82c6): a TPM can return TPM2_RC_RETRY to any
     * command. A TPM does one command at a time. That it is CKR_GENERAL_ERROR (0x05) in PKCS#11 is
     * an assumption.
     */
    {"tpm", "serial\ndelay 8 4\nfail 0x05 1%\n"},
    /*
     * Entrust nShield, "PKCS#11 with load sharing mode" (api-pkcs11/load-sharing-mode.html): the
     * token is there until the last card of its set is taken out, which closes its sessions.
     */
    {"nshield-card", "vanish\n"},
};

const char *profile_commands(const char *name)
{
    for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
        if (strcmp(profiles[i].name, name) == 0)
            return profiles[i].commands;
    }
    return "";
}
