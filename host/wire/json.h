/* Protobuf's JSON mapping (https://protobuf.dev/programming-guides/json/) for any message of kefu.proto, driven by
 * protobuf-c's descriptors and held against Python's json_format (tests/e2e/json_format).
 *
 *     json_t *root;
 *     ProtobufCMessage *m;
 *     KF_TRY(kf_wire_json_parse(text, n, arena, &root));                                       // text → jansson's tree
 *     KF_TRY(kf_wire_json_read(root, &kefu__v1__request__descriptor, false, arena, &m));       // tree → message
 *     size_t need = kf_wire_json_write(m, out, cap);                                           // message → text
 */
#ifndef KF_WIRE_JSON_H
#define KF_WIRE_JSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "base/arena.h"

/* The tree and its strings live in the arena: read it, never json_decref it. A key that stands twice in one object,
 * \u0000, a lone surrogate and bytes that are not UTF-8 are refused.
 * KF_ERR_INVALID: says line and column; KF_ERR_TOO_LARGE: the arena is full. Any thread. */
kf_status kf_wire_json_parse(const char *text, size_t n_bytes, kf_arena *arena, json_t **out);

/* Reads a tree as a message of `type`. Names are accepted in lowerCamelCase and as kefu.proto spells them; null is the
 * default; unknown fields are refused by name, or ignored where lenient. Integers may be written as strings and as 1.0
 * or 1e2; a uint64 above 2^63 - 1 must be a string (jansson reads numbers as int64). The message lives in the arena and
 * its strings are root's, so root must have been parsed into an arena that lives as long.
 * Stricter than json_format where that is lax: no padding of base64 that does not fit, no enum number in quotes, no
 * "inf", no true for 1, no array for an object.
 * KF_ERR_INVALID: names the field by its path, "history[3].text"; KF_ERR_TOO_LARGE: the arena is full. Any thread. */
kf_status kf_wire_json_read(const json_t *root, const ProtobufCMessageDescriptor *type, bool lenient, kf_arena *arena,
                            ProtobufCMessage **out);

/* Writes one line without blanks into out[cap], lowerCamelCase, fields at their default left out; returns the bytes
 * that the whole needs, of which the first cap were written (no NUL is added). Strings must be valid UTF-8. Of map
 * entries with equal keys the last is written. Allocates nothing. Any thread. */
size_t kf_wire_json_write(const ProtobufCMessage *m, char *out, size_t cap);

#endif
