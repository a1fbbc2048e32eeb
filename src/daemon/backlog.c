#include "daemon/backlog.h"

#include <stdlib.h>
#include <string.h>

struct backlog_request *backlog_request_new(struct connection *connection, const uint8_t *datagram,
                                            size_t size, uint64_t deadline)
{
    if (size > BACKLOG_REQUEST_SIZE_MAX)
        return NULL;
    struct backlog_request *request = malloc(sizeof(*request) + size);
    if (request == NULL)
        return NULL;
    *request =
        (struct backlog_request){.connection = connection, .deadline = deadline, .size = size};
    memcpy(request->datagram, datagram, size);
    connection_hold(connection);
    return request;
}

void backlog_request_free(struct backlog_request *request)
{
    if (request != NULL)
        connection_release(request->connection);
    free(request);
}

bool backlog_add(struct backlog *backlog, struct backlog_request *request)
{
    if (backlog->count == BACKLOG_MAX)
        return false;
    if (backlog->last != NULL)
        backlog->last->next = request;
    else
        backlog->first = request;
    backlog->last = request;
    backlog->count++;
    return true;
}

struct backlog_request *backlog_take(struct backlog *backlog)
{
    struct backlog_request *request = backlog->first;
    if (request == NULL)
        return NULL;
    backlog->first = request->next;
    if (backlog->first == NULL)
        backlog->last = NULL;
    backlog->count--;
    request->next = NULL;
    return request;
}
