/* JSON → messages of protobuf-c: see json.h. jansson parses; the tree is then read along the descriptors. */
#include "wire/json_impl.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 64 }; /* of objects and lists; a request needs three */

/* ---- parsing ---- */

/* jansson has one pair of allocation functions for the process. Ours take from the arena of the parse that this thread
 * is in, and are malloc and free everywhere else. A full arena leaves the parse by longjmp: jansson 2.14 goes on with a
 * string that it had no memory for and writes past its end. All that it leaves behind is in the arena, or on its stack.
 */
static _Thread_local struct {
    kf_arena *arena;
    jmp_buf full;
} parsing;

static void *parse_alloc(size_t n) {
    if (!parsing.arena) return malloc(n);
    void *p = kf_arena_alloc(parsing.arena, n);
    if (!p) longjmp(parsing.full, 1);
    return p;
}

static void parse_free(void *p) {
    if (!parsing.arena) free(p);
}

static void set_alloc_funcs(void) {
    json_set_alloc_funcs(parse_alloc, parse_free);
}

/* jansson's own text quotes what was sent; ours must not. */
static const char *parse_fault(const json_error_t *e) {
    switch (json_error_code(e)) {
    case json_error_stack_overflow: return "it is nested too deeply";
    case json_error_premature_end_of_input: return "it ends too early";
    case json_error_end_of_input_expected: return "something follows the object";
    case json_error_invalid_utf8: return "it is not UTF-8 there";
    case json_error_null_character:
    case json_error_null_byte_in_key: return "\\u0000 is not taken";
    case json_error_duplicate_key: return "a key stands twice in one object";
    case json_error_numeric_overflow: return "a number is too large; write 64-bit integers as strings";
    default: return "it is no JSON there";
    }
}

/* The deepest nesting of objects and lists, strings left out. */
static size_t nesting(const char *text, size_t n) {
    size_t depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            deepest = ++depth > deepest ? depth : deepest;
        else if (!in_string && (c == '}' || c == ']') && depth)
            depth--;
    }
    return deepest;
}

kf_status kf_wire_json_parse(const char *text, size_t n_bytes, kf_arena *arena, json_t **out) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_alloc_funcs);
    json_error_t e;
    size_t depth = nesting(text, n_bytes);
    if (depth > MAX_NESTING)
        return KF_FAIL(KF_ERR_INVALID, "JSON: nested %zu deep, at most %d is taken", depth, MAX_NESTING);
    parsing.arena = arena;
    if (setjmp(parsing.full)) {
        parsing.arena = NULL;
        return KF_FAIL(KF_ERR_TOO_LARGE,
                       "JSON: its %zu bytes do not fit into the %zu bytes that a job has: shorten text or history",
                       n_bytes, arena->bytes_cap);
    }
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &e);
    parsing.arena = NULL;
    if (!root) return KF_FAIL(KF_ERR_INVALID, "JSON: line %d, column %d: %s", e.line, e.column, parse_fault(&e));
    *out = root;
    return KF_OK;
}

/* ---- where we are, for texts: history[3].text ---- */

typedef struct place {
    const struct place *up; /* NULL at the root */
    const char *name;       /* of a field; NULL for an element of up */
    size_t element;
} place;

typedef struct reader {
    kf_arena *arena;
    bool lenient;
} reader;

static void put_place(const place *p, char *out, size_t cap, size_t *n) {
    if (!p->up) return;
    put_place(p->up, out, cap, n);
    int wrote = p->name ? snprintf(out + *n, cap - *n, "%s%s", p->up->up ? "." : "", p->name)
                        : snprintf(out + *n, cap - *n, "[%zu]", p->element);
    if (wrote > 0) *n += (size_t)wrote < cap - *n ? (size_t)wrote : cap - *n - 1;
}

static kf_status fail(const place *p, kf_status s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static kf_status fail(const place *p, kf_status s, const char *fmt, ...) {
    char where[128] = "the message", what[320];
    size_t n = 0;
    put_place(p, where, sizeof where, &n);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return KF_FAIL(s, "%s: %s", where, what);
}

static kf_status no_room(const reader *r, const place *p) {
    return fail(p, KF_ERR_TOO_LARGE, "does not fit into the %zu bytes that a message may take: send less",
                r->arena->bytes_cap);
}

static kf_status wrong_type(const place *p, const char *wanted, const json_t *found) {
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a number",  [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null"};
    return fail(p, KF_ERR_INVALID, "wanted %s, found %s", wanted, names[json_typeof(found)]);
}

/* ---- numbers ---- */

/* A whole number between INT64_MIN and UINT64_MAX. */
typedef struct whole {
    bool negative;
    uint64_t magnitude;
} whole;

static bool whole_from_real(double v, whole *out) {
    if (!(v >= -0x1p63 && v < 0x1p64) || v != trunc(v)) return false;
    *out = (whole){v < 0, v < 0 ? (uint64_t)-v : (uint64_t)v};
    return true;
}

static bool whole_from_string(const char *s, whole *out) {
    const char *digits = s + (*s == '-');
    if (!*digits || digits[strspn(digits, "0123456789")]) return false;
    errno = 0;
    *out = (whole){*s == '-', strtoull(digits, NULL, 10)};
    return errno == 0;
}

static kf_status read_whole(const place *p, const json_t *j, int64_t min, uint64_t max, whole *out) {
    whole v;
    bool ok;
    switch (json_typeof(j)) {
    case JSON_INTEGER: {
        json_int_t i = json_integer_value(j);
        v = (whole){i < 0, i < 0 ? -(uint64_t)i : (uint64_t)i};
        ok = true;
        break;
    }
    case JSON_REAL: ok = whole_from_real(json_real_value(j), &v); break;
    case JSON_STRING: ok = whole_from_string(json_string_value(j), &v); break;
    default: return wrong_type(p, "an integer", j);
    }
    ok = ok && (v.negative ? v.magnitude <= -(uint64_t)min : v.magnitude <= max);
    if (!ok) return fail(p, KF_ERR_INVALID, "wanted a whole number from %" PRId64 " to %" PRIu64, min, max);
    *out = v;
    return KF_OK;
}

static int64_t signed_value(whole v) {
    return (int64_t)(v.negative ? -v.magnitude : v.magnitude);
}

/* "NaN", "Infinity", "-Infinity" and numbers in quotes. */
static bool real_from_string(const char *s, double *out) {
    if (strcmp(s, "NaN") == 0) {
        *out = NAN;
    } else if (strcmp(s, "Infinity") == 0 || strcmp(s, "-Infinity") == 0) {
        *out = *s == '-' ? -INFINITY : INFINITY;
    } else {
        char *end;
        if (!*s || s[strspn(s, "+-0123456789.eE")]) return false; /* no hexadecimal, no blanks, no other names */
        *out = strtod(s, &end);
        return !*end && isfinite(*out);
    }
    return true;
}

/* is_float: what rounds to infinity as a float is out of range. */
static kf_status read_real(const place *p, const json_t *j, bool is_float, double *out) {
    double v;
    if (json_is_number(j)) {
        v = json_number_value(j);
    } else if (!json_is_string(j)) {
        return wrong_type(p, "a number", j);
    } else if (!real_from_string(json_string_value(j), &v)) {
        return fail(p, KF_ERR_INVALID, "wanted a number, \"NaN\", \"Infinity\" or \"-Infinity\"");
    }
    if (is_float && isfinite(v) && !isfinite((float)v))
        return fail(p, KF_ERR_INVALID, "wanted a number within ±%.8g", (double)FLT_MAX);
    *out = v;
    return KF_OK;
}

/* ---- the other scalars ---- */

static kf_status read_enum(const place *p, const json_t *j, const ProtobufCEnumDescriptor *type, int *out) {
    if (json_is_string(j)) {
        const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value_by_name(type, json_string_value(j));
        if (!v)
            return fail(p, KF_ERR_INVALID, "is no name of %s: wanted %s … %s or its number", type->short_name,
                        type->values[0].name, type->values[type->n_values - 1].name);
        *out = v->value;
        return KF_OK;
    }
    whole v;
    KF_TRY(read_whole(p, j, INT32_MIN, INT32_MAX, &v));
    *out = (int)signed_value(v);
    return KF_OK;
}

static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+' || c == '-') return 62; /* '-' and '_': the URL-safe alphabet */
    if (c == '/' || c == '_') return 63;
    return -1;
}

/* Base64 of RFC 4648 in either alphabet, with or without padding. */
static kf_status read_bytes(const reader *r, const place *p, const json_t *j, ProtobufCBinaryData *out) {
    if (!json_is_string(j)) return wrong_type(p, "base64", j);
    const char *s = json_string_value(j);
    size_t n = json_string_length(j), n_padding = 0;
    while (n_padding < 2 && n && s[n - 1] == '=')
        n--, n_padding++;
    if (n % 4 == 1 || (n_padding && (n + n_padding) % 4))
        return fail(p, KF_ERR_INVALID, "wanted base64, found %zu digits and %zu of padding", n, n_padding);
    uint8_t *data = kf_arena_alloc(r->arena, n / 4 * 3 + 3);
    if (!data) return no_room(r, p);
    size_t n_data = 0;
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) {
        int digit = base64_digit(s[i]);
        if (digit < 0) return fail(p, KF_ERR_INVALID, "wanted base64, byte %zu is no digit of it", i);
        v = v << 6 | (uint32_t)digit;
        if (i % 4) data[n_data++] = (uint8_t)(v >> (6 - 2 * (i % 4))); /* 8 bits after 12, 18 and 24 */
    }
    *out = (ProtobufCBinaryData){n_data, data};
    return KF_OK;
}

static kf_status read_message(const reader *r, const place *p, const json_t *j, const ProtobufCMessageDescriptor *type,
                              ProtobufCMessage **out);

/* Reads one value into `at`, whose C type is that of f's element. */
static kf_status read_value(const reader *r, const place *p, const json_t *j, const ProtobufCFieldDescriptor *f,
                            void *at) {
    whole v = {0};
    double real = 0;
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        KF_TRY(read_whole(p, j, INT32_MIN, INT32_MAX, &v));
        *(int32_t *)at = (int32_t)signed_value(v);
        return KF_OK;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        KF_TRY(read_whole(p, j, 0, UINT32_MAX, &v));
        *(uint32_t *)at = (uint32_t)v.magnitude;
        return KF_OK;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        KF_TRY(read_whole(p, j, INT64_MIN, INT64_MAX, &v));
        *(int64_t *)at = signed_value(v);
        return KF_OK;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        KF_TRY(read_whole(p, j, 0, UINT64_MAX, &v));
        *(uint64_t *)at = v.magnitude;
        return KF_OK;
    case PROTOBUF_C_TYPE_FLOAT:
        KF_TRY(read_real(p, j, true, &real));
        *(float *)at = (float)real;
        return KF_OK;
    case PROTOBUF_C_TYPE_DOUBLE: return read_real(p, j, false, at);
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_is_boolean(j)) return wrong_type(p, "true or false", j);
        *(protobuf_c_boolean *)at = json_is_true(j);
        return KF_OK;
    case PROTOBUF_C_TYPE_ENUM: return read_enum(p, j, f->descriptor, at);
    case PROTOBUF_C_TYPE_STRING:
        if (!json_is_string(j)) return wrong_type(p, "a string", j);
        *(const char **)at = json_string_value(j);
        return KF_OK;
    case PROTOBUF_C_TYPE_BYTES: return read_bytes(r, p, j, at);
    case PROTOBUF_C_TYPE_MESSAGE: return read_message(r, p, j, f->descriptor, at);
    }
    return fail(p, KF_ERR_BUG, "is of a type that protobuf does not have");
}

/* ---- messages ---- */

static kf_status read_array(const reader *r, const place *p, const json_t *j, const ProtobufCFieldDescriptor *f,
                            void **elements, size_t *n) {
    if (!json_is_array(j)) return wrong_type(p, "an array", j);
    size_t n_elements = json_array_size(j), bytes = kf_wire_json_element_bytes(f->type);
    unsigned char *at = kf_arena_calloc(r->arena, n_elements, bytes);
    if (!at) return no_room(r, p);
    for (size_t i = 0; i < n_elements; i++) {
        place here = {.up = p, .element = i};
        const json_t *element = json_array_get(j, i);
        KF_TRY(read_value(r, &here, element, f, at + i * bytes));
    }
    *elements = at;
    *n = n_elements;
    return KF_OK;
}

static kf_status read_map(const reader *r, const place *p, const json_t *j, const ProtobufCMessageDescriptor *type,
                          void **elements, size_t *n) {
    if (!json_is_object(j)) return wrong_type(p, "an object", j);
    const ProtobufCFieldDescriptor *key = &type->fields[0], *value = &type->fields[1];
    if (key->type != PROTOBUF_C_TYPE_STRING) return fail(p, KF_ERR_UNSUPPORTED, "is a map whose keys are no strings");
    ProtobufCMessage **entries = kf_arena_calloc(r->arena, json_object_size(j), sizeof *entries);
    if (!entries) return no_room(r, p);
    size_t i = 0;
    const char *name;
    json_t *element;
    json_object_foreach((json_t *)j, name, element) {
        place here = {.up = p, .element = i};
        unsigned char *entry = kf_arena_alloc(r->arena, type->sizeof_message);
        if (!entry) return no_room(r, &here);
        type->message_init((ProtobufCMessage *)entry);
        *(const char **)(entry + key->offset) = name;
        KF_TRY(read_value(r, &here, element, value, entry + value->offset));
        entries[i++] = (ProtobufCMessage *)entry;
    }
    *elements = entries;
    *n = i;
    return KF_OK;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type, const char *name) {
    size_t n = strlen(name);
    for (unsigned i = 0; i < type->n_fields; i++) {
        if (name[0] != type->fields[i].name[0]) continue; /* both spellings start alike */
        char camel[KF_WIRE_JSON_NAME_BYTES];
        size_t n_camel = kf_wire_json_name(type->fields[i].name, camel, sizeof camel);
        if (n == n_camel && memcmp(name, camel, n) == 0) return &type->fields[i];
        if (strcmp(name, type->fields[i].name) == 0) return &type->fields[i];
    }
    return NULL;
}

/* Names the unknown field, shortened and made printable, and the known ones. */
static kf_status unknown_field(const place *p, const ProtobufCMessageDescriptor *type, const char *name) {
    char shown[41], known[200] = "";
    size_t n = 0, n_known = 0;
    for (; name[n] && n < sizeof shown - 1; n++)
        shown[n] = (unsigned char)name[n] < 0x20 || name[n] == 0x7f ? '?' : name[n];
    while (name[n] && n && ((unsigned char)name[n] & 0xc0) == 0x80)
        n--; /* not within a code point */
    shown[n] = 0;
    for (unsigned i = 0; i < type->n_fields; i++) {
        char camel[KF_WIRE_JSON_NAME_BYTES + 2];
        size_t n_camel = kf_wire_json_name(type->fields[i].name, camel, KF_WIRE_JSON_NAME_BYTES);
        if (n_known + n_camel + 3 > sizeof known) break;
        n_known +=
            (size_t)snprintf(known + n_known, sizeof known - n_known, "%s%.*s", i ? " " : "", (int)n_camel, camel);
    }
    return fail(p, KF_ERR_INVALID, "no field \"%s\": %s has %s; Kefu-Lenient: 1 ignores others", shown,
                type->short_name, known);
}

static kf_status read_field(const reader *r, const place *p, const json_t *j, const ProtobufCMessageDescriptor *type,
                            const ProtobufCFieldDescriptor *f, unsigned char *base) {
    place here = {.up = p, .name = f->name};
    void *at = base + f->offset;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t *n = (size_t *)(base + f->quantifier_offset);
        return kf_wire_json_is_map(type, f) ? read_map(r, &here, j, f->descriptor, at, n)
                                            : read_array(r, &here, j, f, at, n);
    }
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        uint32_t *which = (uint32_t *)(base + f->quantifier_offset);
        if (*which)
            return fail(&here, KF_ERR_INVALID, "stands beside %s, of which only one may be set",
                        protobuf_c_message_descriptor_get_field(type, *which)->name);
        *which = f->id;
    }
    return read_value(r, &here, j, f, at);
}

static kf_status read_message(const reader *r, const place *p, const json_t *j, const ProtobufCMessageDescriptor *type,
                              ProtobufCMessage **out) {
    if (!json_is_object(j)) return wrong_type(p, "an object", j);
    unsigned char *m = kf_arena_alloc(r->arena, type->sizeof_message);
    if (!m) return no_room(r, p);
    type->message_init((ProtobufCMessage *)m);
    uint64_t seen = 0; /* a bit a field: one may stand twice, once under each of its names */
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)j, name, value) {
        const ProtobufCFieldDescriptor *f = find_field(type, name);
        if (!f && r->lenient) continue;
        if (!f) return unknown_field(p, type, name);
        uint64_t bit = UINT64_C(1) << ((f - type->fields) % 64);
        if (seen & bit) return fail(p, KF_ERR_INVALID, "%s stands twice, once under each of its names", f->name);
        seen |= bit;
        if (!json_is_null(value)) KF_TRY(read_field(r, p, value, type, f, m));
    }
    *out = (ProtobufCMessage *)m;
    return KF_OK;
}

kf_status kf_wire_json_read(const json_t *root, const ProtobufCMessageDescriptor *type, bool lenient, kf_arena *arena,
                            ProtobufCMessage **out) {
    KF_REQUIRE(type->n_fields <= 64);
    reader r = {arena, lenient};
    place top = {0};
    return read_message(&r, &top, root, type, out);
}
