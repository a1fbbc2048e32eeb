#include "token/object.h"

#include <stdlib.h>
#include <string.h>

/* Handles taken in one C_FindObjects. */
#define FIND_BATCH 512
/* More keys than any device holds: a search that goes on is one that does not end. */
#define OBJECTS_MAX 200000

struct handles {
    CK_OBJECT_HANDLE *handles;
    size_t count;
    size_t capacity;
};

static bool make_room(struct handles *found)
{
    if (found->capacity - found->count >= FIND_BATCH)
        return true;
    size_t capacity = 2 * found->capacity + FIND_BATCH;
    CK_OBJECT_HANDLE *larger = realloc(found->handles, capacity * sizeof(*larger));
    if (larger == NULL)
        return false;
    found->handles = larger;
    found->capacity = capacity;
    return true;
}

/* All of them, or some more than `max`. */
static CK_RV collect(const struct token_session *session, size_t max, struct handles *found)
{
    CK_ULONG batch = FIND_BATCH;
    while (batch > 0 && found->count <= max) {
        if (!make_room(found))
            return CKR_HOST_MEMORY;
        CK_RV rv = session->functions->C_FindObjects(session->handle, found->handles + found->count,
                                                     FIND_BATCH, &batch);
        if (rv != CKR_OK)
            return rv;
        if (batch > FIND_BATCH)
            return CKR_GENERAL_ERROR;
        found->count += batch;
    }
    return CKR_OK;
}

static CK_RV find_handles(const struct token_session *session, CK_ATTRIBUTE *template,
                          CK_ULONG template_size, size_t max, struct handles *found)
{
    CK_FUNCTION_LIST *functions = session->functions;
    CK_RV rv = functions->C_FindObjectsInit(session->handle, template, template_size);
    if (rv != CKR_OK)
        return rv;
    rv = collect(session, max, found);
    CK_RV final = functions->C_FindObjectsFinal(session->handle);
    return rv == CKR_OK ? final : rv;
}

/* In each byte of a buffer: no value of an attribute that fills it is that. */
#define NOT_WRITTEN 0xff

/* Of what it did not look at, because another was missing, a module leaves the length as it was. */
static bool is_written(const CK_ATTRIBUTE *attribute, CK_ULONG capacity)
{
    const uint8_t *bytes = attribute->pValue;
    if (attribute->ulValueLen < capacity)
        return true;
    for (CK_ULONG i = 0; i < capacity; i++) {
        if (bytes[i] != NOT_WRITTEN)
            return true;
    }
    return false;
}

CK_RV object_read(const struct token_session *session, CK_OBJECT_HANDLE handle,
                  CK_ATTRIBUTE *attributes, CK_ULONG count)
{
    CK_ULONG capacity[16];
    if (count > ARRAY_SIZE(capacity))
        return CKR_ARGUMENTS_BAD;
    for (CK_ULONG i = 0; i < count; i++) {
        capacity[i] = attributes[i].ulValueLen;
        memset(attributes[i].pValue, NOT_WRITTEN, capacity[i]);
    }

    CK_RV rv = session->functions->C_GetAttributeValue(session->handle, handle, attributes, count);
    for (CK_ULONG i = 0; i < count; i++) {
        if (attributes[i].ulValueLen > capacity[i] || !is_written(&attributes[i], capacity[i]))
            attributes[i].ulValueLen = 0;
    }
    bool partly = rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE ||
                  rv == CKR_BUFFER_TOO_SMALL;
    return partly ? CKR_OK : rv;
}

static CK_RV read_object(const struct token_session *session, CK_OBJECT_HANDLE handle,
                         struct object *object)
{
    *object = (struct object){.handle = handle};
    CK_ATTRIBUTE attributes[] = {
        {CKA_CLASS, &object->class, sizeof(object->class)},
        {CKA_KEY_TYPE, &object->key_type, sizeof(object->key_type)},
        {CKA_ID, object->id, sizeof(object->id)},
        {CKA_LABEL, object->label, sizeof(object->label)},
    };
    CK_RV rv = object_read(session, handle, attributes, ARRAY_SIZE(attributes));
    if (attributes[1].ulValueLen != sizeof(object->key_type))
        object->key_type = CK_UNAVAILABLE_INFORMATION;
    object->id_size = attributes[2].ulValueLen;
    object->label_size = attributes[3].ulValueLen;
    return rv;
}

/* An object that was destroyed meanwhile is passed over. */
static CK_RV read_objects(const struct token_session *session, const struct handles *found,
                          struct object_list *list)
{
    size_t capacity = list->count + found->count;
    struct object *larger = realloc(list->objects, (capacity + 1) * sizeof(*larger));
    if (larger == NULL)
        return CKR_HOST_MEMORY;
    list->objects = larger;
    for (size_t i = 0; i < found->count; i++) {
        CK_RV rv = read_object(session, found->handles[i], &list->objects[list->count]);
        if (rv == CKR_OK)
            list->count++;
        else if (rv != CKR_OBJECT_HANDLE_INVALID)
            return rv;
    }
    return CKR_OK;
}

CK_RV object_list_find(const struct token_session *session, CK_ATTRIBUTE *template,
                       CK_ULONG template_size, struct object_list *list)
{
    struct handles found = {0};
    CK_RV rv = find_handles(session, template, template_size, OBJECTS_MAX, &found);
    if (rv == CKR_OK && found.count > OBJECTS_MAX)
        rv = CKR_HOST_MEMORY;
    if (rv == CKR_OK)
        rv = read_objects(session, &found, list);
    free(found.handles);
    return rv;
}

CK_RV object_count(const struct token_session *session, CK_ATTRIBUTE *template,
                   CK_ULONG template_size, size_t max, size_t *count)
{
    struct handles found = {0};
    CK_RV rv = find_handles(session, template, template_size, max, &found);
    *count = found.count;
    free(found.handles);
    return rv;
}
