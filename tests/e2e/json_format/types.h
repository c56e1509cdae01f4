/* A type of kefu.proto by its name, found along the descriptors from Request and Response. */
#ifndef KF_TESTS_JSON_FORMAT_TYPES_H
#define KF_TESTS_JSON_FORMAT_TYPES_H

#include <string.h>

#include "kefu.pb-c.h"

static const ProtobufCMessageDescriptor *find_type_in(const ProtobufCMessageDescriptor *root, const char *name) {
    const ProtobufCMessageDescriptor *found = strcmp(root->short_name, name) == 0 ? root : NULL;
    for (unsigned i = 0; i < root->n_fields && !found; i++)
        if (root->fields[i].type == PROTOBUF_C_TYPE_MESSAGE) found = find_type_in(root->fields[i].descriptor, name);
    return found;
}

static inline const ProtobufCMessageDescriptor *find_type(const char *name) {
    const ProtobufCMessageDescriptor *found = find_type_in(&kefu__v1__request__descriptor, name);
    return found ? found : find_type_in(&kefu__v1__response__descriptor, name);
}

#endif
