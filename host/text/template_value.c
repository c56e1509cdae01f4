/* A template's values: making texts and lists in the template's blocks, and what Python says of them: truth, equality,
 * membership, subscripts, str() and JSON. */
#include <stdio.h>
#include <string.h>

#include "text/template_impl.h"
#include "text/utf8.h"

const char *kf_kind_name(kf_value v) {
    static const char *const names[] = {"undefined", "none",   "a bool",      "an integer", "a text",
                                        "a list",    "a dict", "a namespace", "loop",       "a function"};
    return names[v.kind];
}

bool kf_truth(kf_value v) {
    switch (v.kind) {
    case KF_V_UNDEFINED:
    case KF_V_NONE: return false;
    case KF_V_BOOL:
    case KF_V_INT: return v.integer != 0;
    case KF_V_TEXT: return v.text.n > 0;
    case KF_V_LIST:
    case KF_V_DICT: return v.seq.n > 0;
    default: return true;
    }
}

kf_status kf_template_steps(kf_template *t, size_t n) {
    if (n <= KF_TEMPLATE_STEPS - t->n_steps) {
        t->n_steps += (uint32_t)n;
        return KF_OK;
    }
    return KF_FAIL(KF_ERR_TOO_LARGE, "%s: a prompt takes more than %d steps", t->name, KF_TEMPLATE_STEPS);
}

/* ---- making ---- */

kf_status kf_put(kf_template *t, const char *bytes, const unsigned char *marks, size_t n) {
    if (n > t->bytes_cap - t->n_bytes)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%s: the texts of a prompt have more than %d bytes", t->name,
                       KF_TEMPLATE_TEXT_BYTES);
    if (n == 0) return KF_OK;
    KF_REQUIRE(t->bytes);
    memcpy(t->bytes + t->n_bytes, bytes, n);
    if (marks)
        memcpy(t->marks + t->n_bytes, marks, n);
    else
        memset(t->marks + t->n_bytes, 0, n);
    t->n_bytes += (uint32_t)n;
    return KF_OK;
}

kf_status kf_put_text(kf_template *t, kf_stretch text) {
    return kf_put(t, t->bytes + text.at, t->marks + text.at, text.n);
}

kf_status kf_concat(kf_template *t, kf_stretch a, kf_stretch b, kf_stretch *out) {
    kf_stretch made = a;
    if (a.at + a.n != t->n_bytes) {
        made.at = t->n_bytes;
        KF_TRY(kf_put_text(t, a));
    }
    KF_TRY(kf_put_text(t, b));
    made.n = a.n + b.n;
    *out = made;
    return KF_OK;
}

kf_status kf_values_new(kf_template *t, size_t n, uint32_t *at) {
    if (n > KF_TEMPLATE_VALUES - t->n_values)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%s: the lists of a prompt have more than %d members", t->name,
                       KF_TEMPLATE_VALUES);
    *at = t->n_values;
    t->n_values += (uint32_t)n;
    return KF_OK;
}

kf_status kf_to_text(kf_template *t, uint32_t node, kf_value v, kf_stretch *out) {
    char number[32];
    const char *word = number;
    switch (v.kind) {
    case KF_V_TEXT: *out = v.text; return KF_OK;
    case KF_V_UNDEFINED: word = ""; break;
    case KF_V_NONE: word = "None"; break;
    case KF_V_BOOL: word = v.integer ? "True" : "False"; break;
    case KF_V_INT: snprintf(number, sizeof number, "%lld", (long long)v.integer); break;
    default:
        return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "%s is shown as text, which kefu does not", kf_kind_name(v));
    }
    *out = (kf_stretch){t->n_bytes, (uint32_t)strlen(word)};
    return kf_put(t, word, NULL, out->n);
}

/* ---- comparing ---- */

bool kf_text_equal(const kf_template *t, kf_stretch a, kf_stretch b) {
    return a.n == b.n && (a.at == b.at || !memcmp(t->bytes + a.at, t->bytes + b.at, a.n));
}

bool kf_text_is(const kf_template *t, kf_stretch a, const char *b) {
    return strlen(b) == a.n && !memcmp(t->bytes + a.at, b, a.n);
}

size_t kf_text_among(const kf_template *t, kf_stretch a, const char *const *names, size_t n) {
    size_t i = 0;
    while (i < n && !kf_text_is(t, a, names[i]))
        i++;
    return i;
}

static kf_status equal_members(kf_template *t, kf_stretch a, kf_stretch b, bool *out) {
    *out = a.n == b.n;
    for (uint32_t i = 0; i < a.n && *out; i++)
        KF_TRY(kf_equal(t, t->values[a.at + i], t->values[b.at + i], out));
    return KF_OK;
}

/* Dicts are equal whatever the order of their keys. */
static kf_status equal_dicts(kf_template *t, kf_value a, kf_value b, bool *out) {
    *out = a.seq.n == b.seq.n;
    for (uint32_t i = 0; i < a.seq.n && *out; i++) {
        const kf_value *pair = t->values + a.seq.at + 2 * i;
        KF_TRY(kf_equal(t, pair[1], kf_dict_get(t, b, pair[0].text), out));
    }
    return KF_OK;
}

kf_status kf_equal(kf_template *t, kf_value a, kf_value b, bool *out) {
    KF_TRY(kf_template_steps(t, 1));
    if (kf_is_number(a) && kf_is_number(b)) {
        *out = a.integer == b.integer;
        return KF_OK;
    }
    *out = a.kind == b.kind;
    if (!*out) return KF_OK;
    kf_status s = KF_OK;
    if (++t->depth > KF_DEPTH_MAX)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%s: lists in one another, more than %d", t->name, KF_DEPTH_MAX);
    if (a.kind == KF_V_TEXT) {
        s = kf_template_steps(t, a.text.n / 64);
        *out = kf_text_equal(t, a.text, b.text);
    } else if (a.kind == KF_V_LIST) {
        s = equal_members(t, a.seq, b.seq, out);
    } else if (a.kind == KF_V_DICT) {
        s = equal_dicts(t, a, b, out);
    } else if (a.kind > KF_V_DICT) {
        *out = a.kind != KF_V_FUNCTION && a.seq.at == b.seq.at;
    }
    t->depth--;
    return s;
}

kf_status kf_contains(kf_template *t, uint32_t node, kf_value container, kf_value x, bool *out) {
    *out = false;
    if (container.kind == KF_V_TEXT) {
        if (x.kind != KF_V_TEXT)
            return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "`in`: %s is looked for in a text", kf_kind_name(x));
        KF_TRY(kf_template_steps(t, container.text.n / 64));
        *out = kf_find(t, container.text, x.text, 0) != UINT32_MAX;
        return KF_OK;
    }
    if (container.kind == KF_V_DICT) {
        for (uint32_t i = 0; i < container.seq.n && !*out && x.kind == KF_V_TEXT; i++)
            *out = kf_text_equal(t, t->values[container.seq.at + 2 * i].text, x.text);
        return kf_template_steps(t, container.seq.n);
    }
    if (container.kind == KF_V_UNDEFINED) return KF_OK;
    if (container.kind != KF_V_LIST)
        return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "`in` %s", kf_kind_name(container));
    for (uint32_t i = 0; i < container.seq.n && !*out; i++)
        KF_TRY(kf_equal(t, t->values[container.seq.at + i], x, out));
    return KF_OK;
}

/* ---- parts ---- */

kf_value kf_dict_get(const kf_template *t, kf_value dict, kf_stretch key) {
    int64_t n = dict.kind == KF_V_NAMESPACE ? t->values[dict.seq.at - 1].integer : dict.seq.n;
    for (int64_t i = 0; i < n; i++) {
        const kf_value *pair = t->values + dict.seq.at + 2 * i;
        if (kf_text_equal(t, pair[0].text, key)) return pair[1];
    }
    return kf_undefined();
}

uint32_t kf_chars(const kf_template *t, kf_stretch text) {
    return (uint32_t)kf_utf8_length(t->bytes + text.at, text.n);
}

static kf_stretch char_at(const kf_template *t, kf_stretch text, uint32_t byte) {
    size_t end = text.at + byte;
    kf_utf8_next(t->bytes, &end);
    return (kf_stretch){text.at + byte, (uint32_t)end - text.at - byte};
}

static kf_status characters(kf_template *t, kf_stretch text, kf_value *out) {
    uint32_t n = kf_chars(t, text), at = 0;
    KF_TRY(kf_values_new(t, n, &at));
    for (uint32_t i = 0, byte = 0; i < n; i++) {
        kf_stretch c = char_at(t, text, byte);
        t->values[at + i] = kf_text(c.at, c.n);
        byte += c.n;
    }
    *out = (kf_value){.kind = KF_V_LIST, .seq = {at, n}};
    return KF_OK;
}

kf_status kf_to_list(kf_template *t, uint32_t node, kf_value v, kf_value *out) {
    uint32_t at = 0;
    switch (v.kind) {
    case KF_V_LIST: *out = v; return KF_OK;
    case KF_V_TEXT: return characters(t, v.text, out);
    case KF_V_UNDEFINED: *out = (kf_value){.kind = KF_V_LIST}; return KF_OK;
    case KF_V_DICT:
        KF_TRY(kf_values_new(t, v.seq.n, &at));
        for (uint32_t i = 0; i < v.seq.n; i++)
            t->values[at + i] = t->values[v.seq.at + 2 * i];
        *out = (kf_value){.kind = KF_V_LIST, .seq = {at, v.seq.n}};
        return KF_OK;
    default: return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "%s has no members", kf_kind_name(v));
    }
}

static kf_value loop_attribute(const kf_template *t, kf_value loop, kf_stretch name) {
    int64_t i = t->values[loop.seq.at].integer;
    kf_stretch list = t->values[loop.seq.at + 1].seq;
    int64_t n = list.n;
    if (kf_text_is(t, name, "index0")) return kf_int(i);
    if (kf_text_is(t, name, "index")) return kf_int(i + 1);
    if (kf_text_is(t, name, "first")) return kf_bool(i == 0);
    if (kf_text_is(t, name, "last")) return kf_bool(i == n - 1);
    if (kf_text_is(t, name, "length")) return kf_int(n);
    if (kf_text_is(t, name, "revindex")) return kf_int(n - i);
    if (kf_text_is(t, name, "revindex0")) return kf_int(n - i - 1);
    if (kf_text_is(t, name, "previtem") && i > 0) return t->values[list.at + i - 1];
    if (kf_text_is(t, name, "nextitem") && i < n - 1) return t->values[list.at + i + 1];
    return kf_undefined();
}

kf_status kf_attribute(kf_template *t, uint32_t node, kf_value a, uint32_t name, kf_value *out) {
    kf_stretch text = t->names[name];
    *out = kf_undefined();
    if (a.kind == KF_V_UNDEFINED)
        return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "`%.*s` of what is undefined", text.n < 40 ? (int)text.n : 40,
                                t->bytes + text.at);
    if (a.kind == KF_V_DICT || a.kind == KF_V_NAMESPACE) *out = kf_dict_get(t, a, text);
    if (a.kind == KF_V_LOOP) *out = loop_attribute(t, a, text);
    return KF_OK;
}

kf_status kf_item(kf_template *t, uint32_t node, kf_value a, kf_value key, kf_value *out) {
    *out = kf_undefined();
    if (a.kind == KF_V_UNDEFINED) return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "a member of what is undefined");
    if (a.kind == KF_V_DICT && key.kind == KF_V_TEXT) *out = kf_dict_get(t, a, key.text);
    if (!kf_is_number(key)) return KF_OK;
    int64_t i = key.integer, n = a.kind == KF_V_LIST ? a.seq.n : a.kind == KF_V_TEXT ? kf_chars(t, a.text) : 0;
    if (i < 0) i += n;
    if (i < 0 || i >= n) return KF_OK;
    if (a.kind == KF_V_LIST) {
        *out = t->values[a.seq.at + i];
    } else {
        kf_stretch c = char_at(t, a.text, (uint32_t)kf_utf8_offset(t->bytes + a.text.at, a.text.n, (size_t)i));
        *out = kf_text(c.at, c.n);
        return kf_template_steps(t, a.text.n / 64);
    }
    return KF_OK;
}

/* Python's slice.indices for one bound. */
static int64_t bound(kf_value v, int64_t otherwise, int64_t n, int64_t low, int64_t high) {
    if (!kf_is_number(v)) return otherwise;
    int64_t i = v.integer < 0 ? v.integer + n : v.integer;
    return i < low ? low : i > high ? high : i;
}

static kf_status slice_text(kf_template *t, kf_stretch text, int64_t from, int64_t to, kf_value *out) {
    size_t a = kf_utf8_offset(t->bytes + text.at, text.n, (size_t)from);
    size_t b = to > from ? kf_utf8_offset(t->bytes + text.at, text.n, (size_t)to) : a;
    *out = kf_text(text.at + (uint32_t)a, (uint32_t)(b - a));
    return kf_template_steps(t, text.n / 64);
}

kf_status kf_slice(kf_template *t, uint32_t node, kf_value a, const kf_value bounds[3], kf_value *out) {
    int64_t step = kf_is_number(bounds[2]) ? bounds[2].integer : 1;
    if ((a.kind != KF_V_LIST && a.kind != KF_V_TEXT) || step == 0 || (a.kind == KF_V_TEXT && step != 1))
        return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "a slice of %s by steps of %lld", kf_kind_name(a),
                                (long long)step);
    int64_t n = a.kind == KF_V_LIST ? a.seq.n : kf_chars(t, a.text);
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    int64_t from = bound(bounds[0], step < 0 ? high : low, n, low, high);
    int64_t to = bound(bounds[1], step < 0 ? low : high, n, low, high);
    if (a.kind == KF_V_TEXT) return slice_text(t, a.text, from, to, out);
    uint32_t at = 0;
    int64_t n_out =
        step > 0 ? (to > from ? (to - from + step - 1) / step : 0) : (from > to ? (from - to - step - 1) / -step : 0);
    if (step == 1) {
        *out = (kf_value){.kind = KF_V_LIST, .seq = {a.seq.at + (uint32_t)from, (uint32_t)n_out}};
        return KF_OK;
    }
    KF_TRY(kf_values_new(t, (size_t)n_out, &at));
    for (int64_t i = 0; i < n_out; i++)
        t->values[at + i] = t->values[a.seq.at + from + i * step];
    *out = (kf_value){.kind = KF_V_LIST, .seq = {at, (uint32_t)n_out}};
    return KF_OK;
}

/* ---- JSON, as Python's json.dumps(x, ensure_ascii=False) writes it ---- */

static kf_status put_json(kf_template *t, uint32_t node, kf_value v, int indent, int level);

/* Stretches that need no escape go as they are; an escape has its character's mark. */
static kf_status put_json_text(kf_template *t, kf_stretch text) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    uint32_t plain = 0;
    KF_TRY(kf_put(t, "\"", NULL, 1));
    for (uint32_t i = 0; i <= text.n; i++) {
        unsigned char c = i < text.n ? (unsigned char)t->bytes[text.at + i] : 0;
        if (i < text.n && c >= 0x20 && c != '"' && c != '\\') continue;
        KF_TRY(kf_put_text(t, (kf_stretch){text.at + plain, i - plain}));
        plain = i + 1;
        if (i == text.n) break;
        char escape[8];
        const char *named = c ? strchr(from, c) : NULL;
        int n = named ? snprintf(escape, sizeof escape, "\\%c", to[named - from])
                      : snprintf(escape, sizeof escape, "\\u%04x", c);
        unsigned char marks[8];
        memset(marks, t->marks[text.at + i], sizeof marks);
        KF_TRY(kf_put(t, escape, marks, (size_t)n));
    }
    return kf_put(t, "\"", NULL, 1);
}

static kf_status put_line(kf_template *t, int indent, int level) {
    if (indent < 0) return KF_OK;
    KF_TRY(kf_put(t, "\n", NULL, 1));
    for (int i = 0; i < indent * level; i++)
        KF_TRY(kf_put(t, " ", NULL, 1));
    return KF_OK;
}

static kf_status put_json_members(kf_template *t, uint32_t node, kf_value v, int indent, int level) {
    bool dict = v.kind == KF_V_DICT;
    KF_TRY(kf_put(t, dict ? "{" : "[", NULL, 1));
    for (uint32_t i = 0; i < v.seq.n; i++) {
        const kf_value *member = t->values + v.seq.at + (dict ? 2 * i : i);
        if (i) KF_TRY(kf_put(t, ", ", NULL, indent < 0 ? 2 : 1));
        KF_TRY(put_line(t, indent, level + 1));
        if (dict) {
            KF_TRY(put_json_text(t, member->text));
            KF_TRY(kf_put(t, ": ", NULL, 2));
            member++;
        }
        KF_TRY(put_json(t, node, *member, indent, level + 1));
    }
    if (v.seq.n) KF_TRY(put_line(t, indent, level));
    return kf_put(t, dict ? "}" : "]", NULL, 1);
}

static kf_status put_json(kf_template *t, uint32_t node, kf_value v, int indent, int level) {
    kf_stretch text;
    if (level > 64) return KF_TEMPLATE_FAIL(t, KF_ERR_TOO_LARGE, node, "tojson: more than 64 levels");
    KF_TRY(kf_template_steps(t, 1));
    switch (v.kind) {
    case KF_V_NONE: return kf_put(t, "null", NULL, 4);
    case KF_V_BOOL: return v.integer ? kf_put(t, "true", NULL, 4) : kf_put(t, "false", NULL, 5);
    case KF_V_INT: return kf_to_text(t, node, v, &text);
    case KF_V_TEXT: return put_json_text(t, v.text);
    case KF_V_LIST:
    case KF_V_DICT: return put_json_members(t, node, v, indent, level);
    default: return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "tojson of %s", kf_kind_name(v));
    }
}

kf_status kf_to_json(kf_template *t, uint32_t node, kf_value v, int indent, kf_stretch *out) {
    uint32_t at = t->n_bytes;
    KF_TRY(put_json(t, node, v, indent, 0));
    *out = (kf_stretch){at, t->n_bytes - at};
    return KF_OK;
}
