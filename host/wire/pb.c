/* Protobuf's wire format, walked and checked, then unpacked by protobuf-c: see pb.h.
 * The encoding: https://protobuf.dev/programming-guides/encoding/ */
#include "wire/pb.h"

#include <string.h>

#include "text/utf8.h"

typedef struct cursor {
    const uint8_t *p, *end;
} cursor;

typedef struct field {
    uint32_t id;
    unsigned wire_type;  /* ProtobufCWireType */
    const uint8_t *data; /* of a length-prefixed field */
    size_t n;
} field;

static bool next_varint(cursor *c, unsigned max_bytes, uint64_t *out) {
    uint64_t v = 0;
    for (unsigned i = 0; i < max_bytes && c->p < c->end; i++) {
        uint8_t byte = *c->p++;
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* Reads one field and steps over its value. False where the bytes are no field. */
static bool next_field(cursor *c, field *f) {
    uint64_t tag, n;
    if (!next_varint(c, 5, &tag) || tag > UINT32_MAX || tag >> 3 == 0) return false;
    f->id = (uint32_t)(tag >> 3);
    f->wire_type = (unsigned)(tag & 7);
    switch (f->wire_type) {
    case PROTOBUF_C_WIRE_TYPE_VARINT: return next_varint(c, 10, &n);
    case PROTOBUF_C_WIRE_TYPE_64BIT: n = 8; break;
    case PROTOBUF_C_WIRE_TYPE_32BIT: n = 4; break;
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
        if (!next_varint(c, 5, &n)) return false;
        break;
    default: return false; /* groups: not in proto3 */
    }
    if (n > (size_t)(c->end - c->p)) return false;
    f->data = c->p;
    f->n = (size_t)n;
    c->p += n;
    return true;
}

/* Walks the fields of one message of `type` at bytes[from .. to). Recursion is as deep as the types are: none of
 * kefu.proto contains itself (tests/unit/test_wire_json.c), and what a type does not know is not entered. */
static kf_status check(const uint8_t *bytes, size_t from, size_t to, const ProtobufCMessageDescriptor *type) {
    cursor c = {bytes + from, bytes + to};
    while (c.p < c.end) {
        size_t at = (size_t)(c.p - bytes);
        field f;
        if (!next_field(&c, &f))
            return KF_FAIL(KF_ERR_INVALID,
                           "byte %zu is no field of a protobuf message (%s): send %s as protobuf, or JSON that starts "
                           "with '{'",
                           at, type->short_name, type->name);
        const ProtobufCFieldDescriptor *d = protobuf_c_message_descriptor_get_field(type, f.id);
        if (!d || f.wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) continue;
        size_t start = (size_t)(f.data - bytes), bad_at;
        if (d->type == PROTOBUF_C_TYPE_MESSAGE) {
            KF_TRY(check(bytes, start, start + f.n, d->descriptor));
        } else if (d->type == PROTOBUF_C_TYPE_STRING) {
            const void *nul = f.n ? memchr(f.data, 0, f.n) : NULL;
            if (nul)
                return KF_FAIL(KF_ERR_INVALID, "%s.%s: byte %zu is NUL: send text without it", type->short_name,
                               d->name, (size_t)((const uint8_t *)nul - f.data));
            if (!kf_utf8_valid((const char *)f.data, f.n, &bad_at))
                return KF_FAIL(KF_ERR_INVALID, "%s.%s: byte %zu is not UTF-8: send text as UTF-8", type->short_name,
                               d->name, bad_at);
        }
    }
    return KF_OK;
}

typedef struct unpacking {
    kf_arena *arena;
    bool full;
} unpacking;

static void *unpack_alloc(void *data, size_t n) {
    unpacking *u = data;
    void *p = kf_arena_alloc(u->arena, n);
    if (!p) u->full = true;
    return p;
}

static void unpack_free(void *data, void *p) {
    (void)data; /* goes with the arena */
    (void)p;
}

kf_status kf_wire_pb_read(const void *bytes, size_t n_bytes, const ProtobufCMessageDescriptor *type, kf_arena *arena,
                          ProtobufCMessage **out) {
    if (!n_bytes) bytes = ""; /* it may be NULL then */
    KF_TRY(check(bytes, 0, n_bytes, type));
    unpacking u = {.arena = arena};
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, &u};
    ProtobufCMessage *m = protobuf_c_message_unpack(type, &allocator, n_bytes, bytes);
    if (u.full)
        return KF_FAIL(
            KF_ERR_TOO_LARGE,
            "%s: its fields need more than the %zu bytes that a message may take: send fewer or shorter ones",
            type->short_name, arena->bytes_cap);
    if (!m)
        return KF_FAIL(KF_ERR_INVALID, "a field has another wire type than %s gives it: send the fields of kefu.proto",
                       type->name);
    *out = m;
    return KF_OK;
}

bool kf_wire_pb_find(const void *bytes, size_t n_bytes, uint32_t id, const char **value, size_t *n_value) {
    if (!n_bytes) return false;
    cursor c = {bytes, (const uint8_t *)bytes + n_bytes};
    field f;
    while (c.p < c.end && next_field(&c, &f)) {
        if (f.id != id || f.wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) continue;
        *value = (const char *)f.data;
        *n_value = f.n;
        return true;
    }
    return false;
}
