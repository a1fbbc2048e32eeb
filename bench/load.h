/*
 * A load of TLS handshakes: `clients` connections under way together, from one thread with one
 * epoll instance. Each connects, makes the handshake, says that it closes (or makes a request),
 * and reads until the server has closed too; only then is it a success.
 */
#ifndef IMMURE_BENCH_LOAD_H
#define IMMURE_BENCH_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "tally.h"
#include "tls_client.h"

/* Clients that send something and leave without an answer. */
enum load_abort {
    LOAD_ABORT_NEVER,
    LOAD_ABORT_AFTER_HELLO, /* a whole ClientHello */
    LOAD_ABORT_HALF_HELLO,
    LOAD_ABORT_GARBAGE, /* a whole ClientHello, and then what is no TLS */
    LOAD_ABORT_PLAIN,   /* HTTP without TLS */
    LOAD_ABORT_MIXED,   /* each of these in turn */
};

struct load_settings {
    struct sockaddr_in address;
    struct tls_hello hello;
    const char *request; /* sent when the handshake is done; the answer must begin with
                            "HTTP/1.1 200". NULL: none */
    unsigned clients;
    double seconds; /* how long handshakes are started, or 0 */
    double warm_up; /* of these, how many seconds are not measured */
    uint64_t count; /* how many handshakes are started, or 0 */
    double rate;    /* at most so many a second are started, or 0: as many as there can be */
    unsigned timeout_ms;
    enum load_abort abort;
};

/*
 * Runs it and fills in the tally. With a rate, latencies count from when the handshake was due,
 * else from when it connects. False, with errno: the system refused something.
 */
bool load_run(const struct load_settings *settings, struct tally *tally) MUST_USE;

#endif
