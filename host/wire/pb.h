/* Protobuf bytes from outside → a protobuf-c message in an arena.
 *
 * protobuf-c alone is not enough for bytes that we did not write: it checks no UTF-8, it cuts a string at its first
 * NUL, and a megabyte of input can ask for seventy. So the bytes are walked once along the type's descriptors before
 * they are unpacked, and unpacking allocates in the caller's arena, which says no.
 */
#ifndef KF_WIRE_PB_H
#define KF_WIRE_PB_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "base/arena.h"

/* The message lives in the arena. Its strings are valid UTF-8 without NUL; fields that the type does not know are
 * skipped, unknown enum values pass. KF_ERR_INVALID: says at which byte and in which field; KF_ERR_TOO_LARGE: the
 * arena is full. Any thread. */
kf_status kf_wire_pb_read(const void *bytes, size_t n_bytes, const ProtobufCMessageDescriptor *type, kf_arena *arena,
                          ProtobufCMessage **out);

/* The length-prefixed field number `id` of the top level, as far as the bytes can be read: for addressing the refusal
 * of a message that is broken further on. *value points into bytes and is not checked. False: not found. */
bool kf_wire_pb_find(const void *bytes, size_t n_bytes, uint32_t id, const char **value, size_t *n_value);

#endif
