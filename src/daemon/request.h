/*
 * Requests: from a datagram to a reply's status and payload. One file an operation:
 * sign.c, decrypt.c, find_key.c, status.c; key_operation.c has how a token is chosen, request.c the
 * rest that they share.
 */
#ifndef IMMURE_DAEMON_REQUEST_H
#define IMMURE_DAEMON_REQUEST_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/problem.h"
#include "daemon/connection.h"
#include "daemon/worker.h"
#include "token/token.h"
#include "wire/message.h"

#define REPLY_PAYLOAD_SIZE_MAX (WIRE_DATAGRAM_SIZE_MAX - WIRE_REPLY_HEADER_SIZE)

/* "3fa2b1c0d4e5f607": enough of a key id to tell keys apart in a message. */
#define KEY_ID_TEXT_SIZE 17

struct request {
    struct worker *worker;
    struct connection *connection;
    const uint8_t *datagram; /* what `wire` was decoded from */
    size_t datagram_size;
    struct wire_request wire;
    uint64_t deadline;    /* base/clock.h */
    bool waited;          /* in a backlog */
    uint32_t passed_over; /* bit i: token i has the request already, and is slow: see overtake.h */
    struct race *race;    /* that this was made to win, its holder's; or NULL: see overtake.h */
    struct call *call;    /* of this thread, or NULL with one token only */
    struct token_keeper *full; /* the token to wait for, if any had no room */
    uint8_t *payload;          /* the reply's: REPLY_PAYLOAD_SIZE_MAX bytes */
    size_t payload_size;
    struct problem problem;   /* the reply's when it is not WIRE_OK */
    struct grant_use counted; /* when the request was first allowed */
    unsigned use;             /* what a key is asked for, a bit of enum use; 0: not known */
    enum rule rule;           /* by which it was refused */
};

/* A handler: WIRE_OK with the payload filled in, or another status with a problem. */
typedef enum wire_status request_handler(struct request *request);
request_handler request_sign, request_sign_digest, request_find_key, request_status,
    request_tls12_rsa_premaster, request_rsa_decrypt;

/*
 * Handles one datagram of `size` bytes (cut short if `truncated`) and sends the reply, whose
 * payload is built in `payload` (REPLY_PAYLOAD_SIZE_MAX bytes). Breaks the connection when the
 * datagram is malformed or the client does not take the reply. A request that no token has room
 * for waits in a token's backlog; before it returns, this serves those that there is room for now.
 */
void request_serve(struct worker *worker, struct connection *connection, const uint8_t *datagram,
                   size_t size, bool truncated, struct call *call, uint8_t *payload);

/*
 * token_keeper_wait(), counted in the worker. False, and the caller's still: too many wait, or
 * `waiting` is NULL.
 */
bool request_wait(struct worker *worker, struct token_keeper *keeper,
                  struct backlog_request *waiting, bool again) MUST_USE;

/*
 * True: the request has found a token without room, whose backlog will be served sooner than a
 * call that hangs on the `other` ends.
 */
bool request_had_better_wait(const struct request *request,
                             const struct token_keeper_glance *other) MUST_USE;

/* Serves what waits in a backlog and has room now. */
void request_serve_backlogs(struct worker *worker, struct call *call, uint8_t *payload);

/*
 * For handlers: token_keeper_take() of the token with this index, which waits until `until`. When
 * it has no room, the request remembers which of the tokens to wait for.
 */
enum token_error request_take_token(struct request *request, size_t index, uint64_t until,
                                    struct token **token, uint64_t *epoch,
                                    struct problem *problem) MUST_USE;

/* Room for the words below. */
#define CLIENT_WORDS_SIZE (LOGIN_NAME_MAX + UNIT_NAME_SIZE + 64)

/* "user www-data (uid 33, pid 4711, unit nginx.service)", for messages. */
void request_client_words(const struct request *request, char words[CLIENT_WORDS_SIZE]);

/* The problem's text and WIRE_NOT_GRANTED; `key` is in words, as "'www'"; NULL: any. */
enum wire_status request_not_granted(struct request *request, const char *key) MUST_USE;

/* What a token's error is for the client. */
enum wire_status request_status_of(enum token_error error) MUST_USE;

/* Room for the words below. */
#define KEY_WORDS_SIZE (TOKEN_LABEL_SIZE_MAX + KEY_ID_TEXT_SIZE + 16)

/* "'www' (3fa2b1c0d4e5f607...)", or the id alone when the name is not known, for messages. */
void request_key_words(const struct request *request, const uint8_t id[KEY_ID_SIZE],
                       char words[KEY_WORDS_SIZE]);

void key_id_text(const uint8_t id[KEY_ID_SIZE], char text[KEY_ID_TEXT_SIZE]);

#endif
