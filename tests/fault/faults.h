/*
 * The faults of the module: what a file says, and what has happened to the token so far.
 *
 * The file has one command a line; those that hold do so for as long as the file says so, the
 * others are done once each time that the file is replaced by one that has them. It is read anew
 * when it is another one (inode, time, size). It must be replaced at once (rename(2)).
 *
 *     delay MS [JITTER]    MS to MS + JITTER milliseconds more before the call
 *     hang                 the call does not return
 *     fail RV              the call returns this CK_RV, a number such as 0x30
 *     crash                the process dies of SIGABRT, after the delay; the file is removed first
 *     linger MS            forks a process that lives on for so long, after the delay
 *     wrong                a signature, or what was decrypted, has one bit changed
 *     serial               the device signs one at a time
 *     sessions N           C_OpenSession: CKR_SESSION_COUNT when N are open
 *     blind                a search by CKA_MODULUS or CKA_EC_POINT finds nothing
 *     padded-only          C_GetMechanismInfo: CKM_RSA_X_509 is not for decryption
 *     pin-of-user          C_Login takes "user:password" alone; the real module gets the password
 *     vanish               the token is not there; when it is back, sessions and login are gone
 *                          and all handles renumbered
 *     drop                 once: all sessions become invalid; the login stays
 *     renumber             once: as drop, and an old object handle now names another object
 *     logout               once: the login is forgotten
 *     stuck RV             once: from now on calls in sessions return RV, until C_Finalize
 *     trespass             once: what a library has no business with (trespass.h)
 *     profile NAME         the commands of a profile (profiles.c)
 *
 * After delay, hang, fail, crash and linger may follow: the name of a function if it is not for
 * C_Sign; how often it happens, as 5% of the calls at random; xN for the first N calls only.
 *
 * A call that fails leaves behind what is not to be used, as some modules do: one that makes an
 * object the handle of another key, C_Decrypt CK_UNAVAILABLE_INFORMATION for a size.
 *
 * A child of fork(2) is told CKR_CRYPTOKI_NOT_INITIALIZED until it calls C_Initialize (PKCS#11
 * v2.40 5.4). From any thread.
 */
#ifndef IMMURE_FAULT_FAULTS_H
#define IMMURE_FAULT_FAULTS_H

#include <p11-kit/pkcs11.h>
#include <stdbool.h>

/* The functions that can be named in a command. */
enum call {
    CALL_SIGN,
    CALL_SIGN_INIT,
    CALL_DECRYPT,
    CALL_DECRYPT_INIT,
    CALL_INITIALIZE,
    CALL_FINALIZE,
    CALL_GET_SLOT_LIST,
    CALL_GET_TOKEN_INFO,
    CALL_OPEN_SESSION,
    CALL_CLOSE_SESSION,
    CALL_GET_SESSION_INFO,
    CALL_LOGIN,
    CALL_FIND_OBJECTS_INIT,
    CALL_GET_ATTRIBUTE_VALUE,
    CALL_CREATE_OBJECT,
    CALL_GENERATE_KEY_PAIR,
    CALL_UNWRAP_KEY,
    CALLS
};

/* `file`: the path of the file of commands, which need not be there. Once. */
void faults_set_file(const char *file);

/* `commands` hold besides what the file says; lines as in the file. Before any call. */
void faults_set_always(const char *commands);

/*
 * Before a call of the real module: waits, dies, or returns what the call is to return; CKR_OK:
 * it is to be made. `session`: CK_INVALID_HANDLE if the call has none.
 */
CK_RV faults_before(enum call call, CK_SESSION_HANDLE session);

/* Whether a command of this name ("wrong", "vanish" ...) holds. */
bool faults_hold(const char *name);

/* Around C_Sign and what comes before it: where the device does one at a time, the others wait. */
bool faults_enter(void);
void faults_leave(bool entered);

/* What the real module did. */
void faults_session_opened(CK_SESSION_HANDLE session);
void faults_session_closed(CK_SESSION_HANDLE session);
void faults_logged_in(void);
void faults_initialized(void);
void faults_finalized(void);

bool faults_is_logged_out(void);

/* Between the real module's object handles and those that the application sees. */
CK_OBJECT_HANDLE faults_handle(CK_OBJECT_HANDLE handle);

#endif
