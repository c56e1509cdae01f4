/* What the reader and the writer of json.h share: facts of protobuf's JSON mapping and of protobuf-c's layout. */
#ifndef KF_WIRE_JSON_IMPL_H
#define KF_WIRE_JSON_IMPL_H

#include "wire/json.h"

/* The lowerCamelCase name of a field, as protoc derives it, into out[cap]; its bytes. */
size_t kf_wire_json_name(const char *proto_name, char *out, size_t cap);
enum { KF_WIRE_JSON_NAME_BYTES = 64 }; /* longer names are cut; kefu.proto's longest has 18 bytes */

/* True where a repeated field of `parent` is a map: protobuf-c has no mark for it, but protoc names the entries' type
 * after the field. An entry's fields[0] is the key, fields[1] the value. */
bool kf_wire_json_is_map(const ProtobufCMessageDescriptor *parent, const ProtobufCFieldDescriptor *f);

/* Bytes of one element of a field in its message. */
size_t kf_wire_json_element_bytes(ProtobufCType type);

#endif
