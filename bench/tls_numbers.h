/*
 * Numbers of TLS: RFC 8446 appendix B, and the registries that it names.
 */
#ifndef IMMURE_BENCH_TLS_NUMBERS_H
#define IMMURE_BENCH_TLS_NUMBERS_H

enum { CHANGE_CIPHER_SPEC = 20, ALERT = 21, HANDSHAKE = 22, APPLICATION_DATA = 23 };
enum { ALERT_WARNING = 1, ALERT_CLOSE_NOTIFY = 0 };
enum {
    CLIENT_HELLO = 1,
    SERVER_HELLO = 2,
    NEW_SESSION_TICKET = 4,
    ENCRYPTED_EXTENSIONS = 8,
    CERTIFICATE = 11,
    CERTIFICATE_VERIFY = 15,
    FINISHED = 20
};
enum {
    SERVER_NAME = 0,
    SUPPORTED_GROUPS = 10,
    SIGNATURE_ALGORITHMS = 13,
    ALPN = 16,
    SUPPORTED_VERSIONS = 43,
    KEY_SHARE = 51
};
#define TLS_1_2             0x0303
#define TLS_1_3             0x0304
#define AES_128_GCM_SHA256  0x1301
#define SECP256R1           0x0017
#define MESSAGE_HEADER_SIZE 4
#define POINT_SIZE          65 /* uncompressed: 4, X, Y */

#endif
