/* Messages of protobuf-c as JSON: see json.h. One pass over the descriptors, straight into the caller's buffer. */
#include "wire/json_impl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct writer {
    char *out;
    size_t cap;
    size_t n; /* bytes wanted; those below cap are written */
} writer;

static void put(writer *w, const char *s, size_t n) {
    if (w->n < w->cap) memcpy(w->out + w->n, s, n < w->cap - w->n ? n : w->cap - w->n);
    w->n += n;
}

static void put_text(writer *w, const char *s) {
    put(w, s, strlen(s));
}

size_t kf_wire_json_name(const char *proto_name, char *out, size_t cap) {
    size_t n = 0;
    bool upper = false;
    for (const char *p = proto_name; *p; p++) {
        bool lower_case = *p >= 'a' && *p <= 'z';
        if (*p != '_' && n < cap) out[n++] = upper && lower_case ? (char)(*p - 'a' + 'A') : *p;
        upper = *p == '_';
    }
    return n;
}

bool kf_wire_json_is_map(const ProtobufCMessageDescriptor *parent, const ProtobufCFieldDescriptor *f) {
    if (f->label != PROTOBUF_C_LABEL_REPEATED || f->type != PROTOBUF_C_TYPE_MESSAGE) return false;
    /* protoc names the entries of `map<…> some_field` in Parent "Parent.SomeFieldEntry". */
    const ProtobufCMessageDescriptor *entry = f->descriptor;
    char name[KF_WIRE_JSON_NAME_BYTES];
    size_t n = kf_wire_json_name(f->name, name, sizeof name), n_parent = strlen(parent->name);
    if (n == 0 || strncmp(entry->name, parent->name, n_parent) != 0 || entry->name[n_parent] != '.') return false;
    if (name[0] >= 'a' && name[0] <= 'z') name[0] = (char)(name[0] - 'a' + 'A');
    const char *rest = entry->name + n_parent + 1;
    return strncmp(rest, name, n) == 0 && strcmp(rest + n, "Entry") == 0 && entry->n_fields == 2;
}

/* ---- scalars ---- */

static void put_string(writer *w, const char *s) {
    put(w, "\"", 1);
    const char *run = s; /* what needs no escape is copied in one piece */
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        put(w, run, (size_t)(s - run));
        run = s + 1;
        char escape[8];
        switch (c) {
        case '"': put_text(w, "\\\""); break;
        case '\\': put_text(w, "\\\\"); break;
        case '\n': put_text(w, "\\n"); break;
        case '\r': put_text(w, "\\r"); break;
        case '\t': put_text(w, "\\t"); break;
        default: snprintf(escape, sizeof escape, "\\u%04x", c); put_text(w, escape);
        }
    }
    put(w, run, (size_t)(s - run));
    put(w, "\"", 1);
}

/* Base64 of RFC 4648, with padding. */
static void put_bytes(writer *w, const ProtobufCBinaryData *b) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    put(w, "\"", 1);
    for (size_t i = 0; i < b->len; i += 3) {
        size_t n = b->len - i < 3 ? b->len - i : 3; /* bytes of this group */
        uint32_t v = (uint32_t)b->data[i] << 16;
        if (n > 1) v |= (uint32_t)b->data[i + 1] << 8;
        if (n > 2) v |= b->data[i + 2];
        char group[4] = {digits[v >> 18], digits[v >> 12 & 63], n > 1 ? digits[v >> 6 & 63] : '=',
                         n > 2 ? digits[v & 63] : '='};
        put(w, group, 4);
    }
    put(w, "\"", 1);
}

/* The fewest digits that read back as the same number; is_float: as the same float. */
static void put_real(writer *w, double v, bool is_float) {
    if (isnan(v) || isinf(v)) {
        put_text(w, isnan(v) ? "\"NaN\"" : v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    char s[40];
    for (int digits = is_float ? 6 : 15; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, v);
        if (is_float ? strtof(s, NULL) == (float)v : strtod(s, NULL) == v) break;
    }
    put_text(w, s);
    if (!strpbrk(s, ".e")) put_text(w, ".0"); /* keeps it a real number, and -0.0 its sign */
}

static void put_enum(writer *w, int v, const ProtobufCEnumDescriptor *type) {
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, v);
    char s[16];
    if (known) {
        put_string(w, known->name);
    } else {
        snprintf(s, sizeof s, "%d", v);
        put_text(w, s);
    }
}

static void put_message(writer *w, const ProtobufCMessage *m);

/* The value at `at`, whose C type is that of f's element. */
static void put_value(writer *w, const ProtobufCFieldDescriptor *f, const void *at) {
    char s[32];
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: snprintf(s, sizeof s, "%" PRId32, *(const int32_t *)at); break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: snprintf(s, sizeof s, "%" PRIu32, *(const uint32_t *)at); break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: snprintf(s, sizeof s, "\"%" PRId64 "\"", *(const int64_t *)at); break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: snprintf(s, sizeof s, "\"%" PRIu64 "\"", *(const uint64_t *)at); break;
    case PROTOBUF_C_TYPE_BOOL: snprintf(s, sizeof s, "%s", *(const protobuf_c_boolean *)at ? "true" : "false"); break;
    case PROTOBUF_C_TYPE_FLOAT: put_real(w, *(const float *)at, true); return;
    case PROTOBUF_C_TYPE_DOUBLE: put_real(w, *(const double *)at, false); return;
    case PROTOBUF_C_TYPE_ENUM: put_enum(w, *(const int *)at, f->descriptor); return;
    case PROTOBUF_C_TYPE_STRING: put_string(w, *(char *const *)at); return;
    case PROTOBUF_C_TYPE_BYTES: put_bytes(w, at); return;
    case PROTOBUF_C_TYPE_MESSAGE: put_message(w, *(ProtobufCMessage *const *)at); return;
    }
    put_text(w, s);
}

/* ---- messages ---- */

size_t kf_wire_json_element_bytes(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    default: return 4; /* 32-bit numbers, float, bool and enum */
    }
}

/* Whether a field without presence of its own differs from its default. */
static bool is_set(const ProtobufCFieldDescriptor *f, const void *at) {
    static const unsigned char zeros[8];
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING: return *(char *const *)at && **(char *const *)at;
    case PROTOBUF_C_TYPE_BYTES: return ((const ProtobufCBinaryData *)at)->len > 0;
    case PROTOBUF_C_TYPE_MESSAGE: return *(ProtobufCMessage *const *)at != NULL;
    default: return memcmp(at, zeros, kf_wire_json_element_bytes(f->type)) != 0; /* by bits: -0.0 is written */
    }
}

static void put_array(writer *w, const ProtobufCFieldDescriptor *f, const unsigned char *elements, size_t n) {
    put(w, "[", 1);
    for (size_t i = 0; i < n; i++) {
        if (i) put(w, ",", 1);
        put_value(w, f, elements + i * kf_wire_json_element_bytes(f->type));
    }
    put(w, "]", 1);
}

/* entries [n]: messages of one type with a key, which is a string, and a value. */
static void put_map(writer *w, ProtobufCMessage *const *entries, size_t n) {
    bool first = true;
    put(w, "{", 1);
    for (size_t i = 0; i < n; i++) {
        const ProtobufCFieldDescriptor *key = &entries[i]->descriptor->fields[0], *value = key + 1;
        const char *name = *(char *const *)((const unsigned char *)entries[i] + key->offset);
        bool again = false; /* the last of equal keys counts */
        for (size_t j = i + 1; j < n && !again; j++)
            again = strcmp(name, *(char *const *)((const unsigned char *)entries[j] + key->offset)) == 0;
        if (again) continue;
        if (!first) put(w, ",", 1);
        first = false;
        put_string(w, name);
        put(w, ":", 1);
        put_value(w, value, (const unsigned char *)entries[i] + value->offset);
    }
    put(w, "}", 1);
}

static void put_message(writer *w, const ProtobufCMessage *m) {
    const unsigned char *base = (const unsigned char *)m;
    bool first = true;
    put(w, "{", 1);
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const void *at = base + f->offset;
        size_t n = f->label == PROTOBUF_C_LABEL_REPEATED ? *(const size_t *)(base + f->quantifier_offset) : 0;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            if (n == 0) continue;
        } else if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            if (*(const uint32_t *)(base + f->quantifier_offset) != f->id) continue;
        } else if (!is_set(f, at)) {
            continue;
        }
        char name[KF_WIRE_JSON_NAME_BYTES];
        put_text(w, first ? "\"" : ",\"");
        put(w, name, kf_wire_json_name(f->name, name, sizeof name));
        put_text(w, "\":");
        first = false;
        if (kf_wire_json_is_map(m->descriptor, f)) {
            put_map(w, *(ProtobufCMessage * *const *)at, n);
        } else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            put_array(w, f, *(unsigned char *const *)at, n);
        } else {
            put_value(w, f, at);
        }
    }
    put(w, "}", 1);
}

size_t kf_wire_json_write(const ProtobufCMessage *m, char *out, size_t cap) {
    writer w = {out, cap, 0};
    put_message(&w, m);
    return w.n;
}
