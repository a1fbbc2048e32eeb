#include "daemon/backlog.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/request.h"

struct backlog_request *backlog_request_new(const struct request *request)
{
    size_t size = request->datagram_size;
    if (size > BACKLOG_REQUEST_SIZE_MAX)
        return NULL;
    struct backlog_request *copy = malloc(sizeof(*copy) + size);
    if (copy == NULL)
        return NULL;
    *copy = (struct backlog_request){.connection = request->connection,
                                     .deadline = request->deadline,
                                     .passed_over = request->passed_over,
                                     .race = race_hold(request_race(request)),
                                     .counted = request->counted,
                                     .size = size};
    memcpy(copy->datagram, request->datagram, size);
    connection_hold(request->connection);
    return copy;
}

void backlog_request_free(struct backlog_request *request)
{
    if (request == NULL)
        return;
    connection_release(request->connection);
    race_leave(request->race);
    free(request);
}

bool backlog_add(struct backlog *backlog, struct backlog_request *request, bool again)
{
    if (backlog->count >= BACKLOG_MAX + (again ? BACKLOG_AGAIN_MAX : 0))
        return false;
    struct backlog_request **place = &backlog->first;
    if (!again && backlog->last != NULL)
        place = &backlog->last->next;
    request->next = *place;
    *place = request;
    if (request->next == NULL)
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
