#include "tls_client.h"

#include <openssl/crypto.h>
#include <string.h>

#include "tls_numbers.h"
#include "wire/cursor.h"

#define UNCOMPRESSED 4 /* the first byte of such a point */

static void fail(struct tls_client *client, const char *why)
{
    client->state = TLS_FAILED;
    client->failure = why;
}

/* --- Output ---------------------------------------------------------------------------------- */

static void send_protected(struct tls_client *client, uint8_t type, const uint8_t *content,
                           size_t size)
{
    uint8_t *record = client->output + client->output_size;
    if (size + TLS_RECORD_OVERHEAD > sizeof(client->output) - client->output_size)
        fail(client, "no room for output");
    else if (!tls_seal(client->crypto, &client->writing, type, content, size, record))
        fail(client, "OpenSSL: encryption failed");
    else
        client->output_size += size + TLS_RECORD_OVERHEAD;
}

void tls_client_write(struct tls_client *client, const char *text)
{
    send_protected(client, APPLICATION_DATA, (const uint8_t *)text, strlen(text));
}

void tls_client_close(struct tls_client *client)
{
    send_protected(client, ALERT, (const uint8_t[]){ALERT_WARNING, ALERT_CLOSE_NOTIFY}, 2);
}

const uint8_t *tls_client_output(const struct tls_client *client, size_t *size)
{
    *size = client->output_size - client->output_sent;
    return client->output + client->output_sent;
}

void tls_client_sent(struct tls_client *client, size_t size)
{
    client->output_sent += size;
    if (client->output_sent == client->output_size)
        client->output_sent = client->output_size = 0;
}

/* --- The server's handshake messages --------------------------------------------------------- */

static bool add_to_transcript(struct tls_client *client, const uint8_t *bytes, size_t size)
{
    return EVP_DigestUpdate(client->transcript, bytes, size) == 1;
}

struct server_hello {
    uint16_t version;
    const uint8_t *x; /* coordinate of the server's share, or NULL */
};

static void read_share(struct reader *extension, struct server_hello *hello)
{
    uint16_t group = reader_u16(extension), size = reader_u16(extension);
    const uint8_t *point = reader_bytes(extension, POINT_SIZE);
    if (reader_done(extension) && group == SECP256R1 && size == POINT_SIZE &&
        point[0] == UNCOMPRESSED)
        hello->x = point + 1;
}

static void read_extensions(struct reader *reader, struct server_hello *hello)
{
    while (!reader->failed && reader->left > 0) {
        uint16_t type = reader_u16(reader), size = reader_u16(reader);
        const uint8_t *bytes = reader_bytes(reader, size);
        struct reader extension = reader_of(bytes, bytes != NULL ? size : 0);
        if (type == SUPPORTED_VERSIONS)
            hello->version = reader_u16(&extension);
        else if (type == KEY_SHARE)
            read_share(&extension, hello);
    }
}

/* False: not as RFC 8446 4.1.3 has it, or not the cipher suite that was offered. */
static bool read_server_hello(struct reader *reader, struct server_hello *hello)
{
    *hello = (struct server_hello){.version = reader_u16(reader)};
    reader_bytes(reader, TLS_RANDOM_SIZE);
    bool echoes = reader_u8(reader) == 0; /* the empty legacy_session_id */
    bool suits = reader_u16(reader) == AES_128_GCM_SHA256 && reader_u8(reader) == 0;
    if (!echoes || !suits || reader_u16(reader) != reader->left)
        return false;
    read_extensions(reader, hello);
    return reader_done(reader);
}

static bool start_protection(struct tls_client *client, const uint8_t *x)
{
    uint8_t hash[TLS_HASH_SIZE];
    client->is_protected = true;
    return tls_transcript_hash(client->crypto, client->transcript, hash) &&
           tls_handshake_keys(client->crypto, x, hash, &client->writing, &client->reading,
                              client->master);
}

static void take_server_hello(struct tls_client *client, const uint8_t *message, size_t size)
{
    struct reader reader = reader_of(message + MESSAGE_HEADER_SIZE, size - MESSAGE_HEADER_SIZE);
    struct server_hello hello;
    if (!read_server_hello(&reader, &hello))
        fail(client, "bad ServerHello");
    else if (hello.version != TLS_1_3)
        fail(client, "not TLS 1.3");
    else if (hello.x == NULL)
        fail(client, "HelloRetryRequest, or no usable key share");
    else if (!add_to_transcript(client, message, size) || !start_protection(client, hello.x))
        fail(client, "OpenSSL: handshake keys failed");
}

static void take_unread(struct tls_client *client, const uint8_t *message, size_t size)
{
    if (!add_to_transcript(client, message, size))
        fail(client, "OpenSSL: transcript failed");
}

static void send_finished(struct tls_client *client, const uint8_t hash[TLS_HASH_SIZE])
{
    uint8_t message[MESSAGE_HEADER_SIZE + TLS_HASH_SIZE];
    memcpy(message, (uint8_t[]){FINISHED, 0, 0, TLS_HASH_SIZE}, MESSAGE_HEADER_SIZE);
    if (!tls_finished(client->crypto, &client->writing, hash, message + MESSAGE_HEADER_SIZE))
        fail(client, "OpenSSL: Finished failed");
    else
        send_protected(client, HANDSHAKE, message, sizeof(message));
}

static void take_finished(struct tls_client *client, const uint8_t *message, size_t size)
{
    uint8_t hash[TLS_HASH_SIZE], expected[TLS_HASH_SIZE];
    if (!tls_transcript_hash(client->crypto, client->transcript, hash) ||
        !tls_finished(client->crypto, &client->reading, hash, expected))
        fail(client, "OpenSSL: Finished failed");
    else if (size != MESSAGE_HEADER_SIZE + TLS_HASH_SIZE ||
             CRYPTO_memcmp(message + MESSAGE_HEADER_SIZE, expected, TLS_HASH_SIZE) != 0)
        fail(client, "wrong Finished");
    else if (!add_to_transcript(client, message, size) ||
             !tls_transcript_hash(client->crypto, client->transcript, hash))
        fail(client, "OpenSSL: transcript failed");
    else
        send_finished(client, hash);
    if (client->state != TLS_FAILED && !tls_application_keys(client->crypto, client->master, hash,
                                                             &client->writing, &client->reading))
        fail(client, "OpenSSL: application keys failed");
}

static const struct {
    uint8_t type;
    void (*take)(struct tls_client *client, const uint8_t *message, size_t size);
} AWAITED[TLS_CONNECTED] = {
    [TLS_SERVER_HELLO] = {SERVER_HELLO, take_server_hello},
    [TLS_ENCRYPTED_EXTENSIONS] = {ENCRYPTED_EXTENSIONS, take_unread},
    [TLS_CERTIFICATE] = {CERTIFICATE, take_unread},
    [TLS_CERTIFICATE_VERIFY] = {CERTIFICATE_VERIFY, take_unread},
    [TLS_FINISHED] = {FINISHED, take_finished},
};

/* `last`: nothing follows this message in what was received, as must be where keys change. */
static void take_message(struct tls_client *client, const uint8_t *message, size_t size, bool last)
{
    enum tls_state state = client->state;
    if (state >= TLS_CONNECTED) {
        if (message[0] != NEW_SESSION_TICKET)
            fail(client, "unexpected message after the handshake");
        return;
    }
    if (message[0] != AWAITED[state].type) {
        fail(client, "unexpected handshake message");
        return;
    }
    if (!last && (state == TLS_SERVER_HELLO || state == TLS_FINISHED)) {
        fail(client, "message across a change of keys");
        return;
    }
    AWAITED[state].take(client, message, size);
    if (client->state == state)
        client->state++;
}

/* The size of the message at its beginning, header included; 0: it is not whole yet. */
static size_t whole_message(const uint8_t *bytes, size_t left)
{
    struct reader reader = reader_of(bytes, left);
    reader_u8(&reader);
    size_t size = (size_t)reader_u8(&reader) << 16;
    size |= reader_u16(&reader);
    reader_bytes(&reader, size);
    return reader.failed ? 0 : MESSAGE_HEADER_SIZE + size;
}

static void take_handshake(struct tls_client *client, const uint8_t *content, size_t size)
{
    size_t at = 0, message;
    if (size == 0 || size > sizeof(client->flight) - client->flight_size) {
        fail(client, "handshake record of a wrong size");
        return;
    }
    memcpy(client->flight + client->flight_size, content, size);
    client->flight_size += size;
    while (client->state != TLS_FAILED &&
           (message = whole_message(client->flight + at, client->flight_size - at)) != 0) {
        take_message(client, client->flight + at, message, at + message == client->flight_size);
        at += message;
    }
    client->flight_size -= at;
    memmove(client->flight, client->flight + at, client->flight_size);
}

/* --- Records --------------------------------------------------------------------------------- */

static const char *alert_text(uint8_t description)
{
    static const struct {
        uint8_t description;
        const char *text;
    } ALERTS[] = {
        {ALERT_CLOSE_NOTIFY, "close_notify before the handshake was done"},
        {10, "alert unexpected_message"},
        {20, "alert bad_record_mac"},
        {40, "alert handshake_failure"},
        {47, "alert illegal_parameter"},
        {50, "alert decode_error"},
        {51, "alert decrypt_error"},
        {70, "alert protocol_version"},
        {80, "alert internal_error"},
        {90, "alert user_canceled"},
        {112, "alert unrecognized_name"},
        {116, "alert certificate_required"},
        {120, "alert no_application_protocol"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(ALERTS); i++)
        if (ALERTS[i].description == description)
            return ALERTS[i].text;
    return "another alert";
}

static void take_alert(struct tls_client *client, const uint8_t *content, size_t size)
{
    if (size != 2)
        fail(client, "alert of a wrong size");
    else if (content[1] == ALERT_CLOSE_NOTIFY && client->state == TLS_CONNECTED)
        client->state = TLS_CLOSED;
    else
        fail(client, alert_text(content[1]));
}

static void take_application_data(struct tls_client *client, const uint8_t *content, size_t size)
{
    size_t room = sizeof(client->start) - client->start_size;
    if (client->state != TLS_CONNECTED) {
        fail(client, "application data before the handshake was done");
        return;
    }
    memcpy(client->start + client->start_size, content, size < room ? size : room);
    client->start_size += size < room ? size : room;
}

static void take_content(struct tls_client *client, uint8_t type, const uint8_t *content,
                         size_t size)
{
    if (type == HANDSHAKE)
        take_handshake(client, content, size);
    else if (client->flight_size > 0)
        fail(client, "record inside a handshake message");
    else if (type == ALERT)
        take_alert(client, content, size);
    else if (type == APPLICATION_DATA && client->is_protected)
        take_application_data(client, content, size);
    else
        fail(client, "unexpected record");
}

/* `size` includes the header. */
static void take_record(struct tls_client *client, uint8_t *record, size_t size)
{
    uint8_t type = record[0], *content = record + TLS_HEADER_SIZE;
    size_t content_size = size - TLS_HEADER_SIZE;
    if (type == CHANGE_CIPHER_SPEC && content_size == 1 && content[0] == 1 &&
        client->state < TLS_CONNECTED)
        return; /* RFC 8446 D.4 */
    if (client->is_protected && type != APPLICATION_DATA)
        fail(client, "record without protection");
    else if (client->is_protected &&
             !tls_open(client->crypto, &client->reading, record, size, &type, &content_size))
        fail(client, "record cannot be decrypted");
    else
        take_content(client, type, content, content_size);
}

/* The size of the record at its beginning, header included; 0: it is not whole yet, or too long. */
static size_t whole_record(struct tls_client *client, const uint8_t *bytes, size_t left)
{
    struct reader reader = reader_of(bytes, left);
    reader_u8(&reader);
    reader_u16(&reader);
    size_t size = TLS_HEADER_SIZE + (size_t)reader_u16(&reader);
    if (reader.failed)
        return 0;
    if (size > TLS_RECORD_MAX) {
        fail(client, "record too long, or no TLS");
        return 0;
    }
    return size <= left ? size : 0;
}

uint8_t *tls_client_room(struct tls_client *client, size_t *size)
{
    *size = sizeof(client->input) - client->input_size;
    return client->input + client->input_size;
}

void tls_client_received(struct tls_client *client, size_t size)
{
    size_t at = 0, record;
    client->input_size += size;
    while (client->state < TLS_CLOSED &&
           (record = whole_record(client, client->input + at, client->input_size - at)) != 0) {
        take_record(client, client->input + at, record);
        at += record;
    }
    if (client->state >= TLS_CLOSED) /* what follows is of no interest */
        at = client->input_size;
    client->input_size -= at;
    memmove(client->input, client->input + at, client->input_size);
}

/* --- A connection ---------------------------------------------------------------------------- */

bool tls_client_init(struct tls_client *client, struct tls_crypto *crypto)
{
    client->crypto = crypto;
    client->transcript = EVP_MD_CTX_new();
    return client->transcript != NULL;
}

void tls_client_free(struct tls_client *client)
{
    EVP_MD_CTX_free(client->transcript);
}

void tls_client_start(struct tls_client *client, const struct tls_hello *hello,
                      const uint8_t random[TLS_RANDOM_SIZE])
{
    client->state = TLS_SERVER_HELLO;
    client->failure = NULL;
    client->is_protected = false;
    client->input_size = client->flight_size = client->start_size = client->output_sent = 0;
    memcpy(client->output, hello->bytes, hello->size);
    memcpy(client->output + TLS_HELLO_RANDOM, random, TLS_RANDOM_SIZE);
    client->output_size = hello->size;
    if (EVP_DigestInit_ex2(client->transcript, client->crypto->sha256, NULL) != 1 ||
        !add_to_transcript(client, client->output + TLS_HEADER_SIZE, hello->size - TLS_HEADER_SIZE))
        fail(client, "OpenSSL: transcript failed");
}
