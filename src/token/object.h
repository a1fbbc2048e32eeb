/*
 * Objects on a token: searches, and attributes in caps of their own.
 *
 * Functions return the CK_RV of the token, or CKR_HOST_MEMORY. One thread for each session.
 */
#ifndef IMMURE_TOKEN_OBJECT_H
#define IMMURE_TOKEN_OBJECT_H

#include "token/token.h"

/* What is read of every key object. */
struct object {
    CK_OBJECT_HANDLE handle;
    CK_OBJECT_CLASS class;
    CK_KEY_TYPE key_type;
    size_t id_size;
    size_t label_size;
    uint8_t id[TOKEN_CKA_ID_SIZE_MAX];
    char label[TOKEN_LABEL_SIZE_MAX]; /* as on the token, not NUL-terminated */
};

struct object_list {
    struct object *objects;
    size_t count;
};

/*
 * Appends the objects that fit the template: all handles are collected first, and the search is
 * over when the first attribute is read. The caller frees list->objects, also after an error.
 */
CK_RV object_list_find(const struct token_session *session, CK_ATTRIBUTE *template,
                       CK_ULONG template_size, struct object_list *list) MUST_USE;

/* How many objects fit the template, or some number above `max` when there are more than that. */
CK_RV object_count(const struct token_session *session, CK_ATTRIBUTE *template,
                   CK_ULONG template_size, size_t max, size_t *count) MUST_USE;

/*
 * C_GetAttributeValue. Attributes that the object does not have, does not show, that the module has
 * passed over, or that are longer than their buffer get ulValueLen 0, and are no error. All buffers
 * are overwritten.
 */
CK_RV object_read(const struct token_session *session, CK_OBJECT_HANDLE handle,
                  CK_ATTRIBUTE *attributes, CK_ULONG count) MUST_USE;

#endif
