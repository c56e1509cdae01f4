/* What a template may call by name: filters, tests, methods of texts and dicts, functions. */
#include <stdio.h>
#include <string.h>

#include "text/template_impl.h"

const char *const kf_filter_names[KF_N_FILTERS] = {
    [KF_F_CAPITALIZE] = "capitalize",
    [KF_F_COUNT] = "count",
    [KF_F_D] = "d",
    [KF_F_DEFAULT] = "default",
    [KF_F_FIRST] = "first",
    [KF_F_INT] = "int",
    [KF_F_ITEMS] = "items",
    [KF_F_JOIN] = "join",
    [KF_F_LAST] = "last",
    [KF_F_LENGTH] = "length",
    [KF_F_LIST] = "list",
    [KF_F_LOWER] = "lower",
    [KF_F_MAP] = "map",
    [KF_F_REJECT] = "reject",
    [KF_F_REJECTATTR] = "rejectattr",
    [KF_F_REPLACE] = "replace",
    [KF_F_REVERSE] = "reverse",
    [KF_F_SAFE] = "safe",
    [KF_F_SELECT] = "select",
    [KF_F_SELECTATTR] = "selectattr",
    [KF_F_STRING] = "string",
    [KF_F_TITLE] = "title",
    [KF_F_TOJSON] = "tojson",
    [KF_F_TRIM] = "trim",
    [KF_F_UPPER] = "upper",
};

const char *const kf_test_names[KF_N_TESTS] = {
    [KF_IS_EQ_SIGN] = "==",
    [KF_IS_BOOLEAN] = "boolean",
    [KF_IS_DEFINED] = "defined",
    [KF_IS_DIVISIBLEBY] = "divisibleby",
    [KF_IS_EQ] = "eq",
    [KF_IS_EQUALTO] = "equalto",
    [KF_IS_EVEN] = "even",
    [KF_IS_FALSE] = "false",
    [KF_IS_IN] = "in",
    [KF_IS_INTEGER] = "integer",
    [KF_IS_ITERABLE] = "iterable",
    [KF_IS_MAPPING] = "mapping",
    [KF_IS_NE] = "ne",
    [KF_IS_NONE] = "none",
    [KF_IS_NUMBER] = "number",
    [KF_IS_ODD] = "odd",
    [KF_IS_SEQUENCE] = "sequence",
    [KF_IS_STRING] = "string",
    [KF_IS_TRUE] = "true",
    [KF_IS_UNDEFINED] = "undefined",
};

const char *const kf_method_names[KF_N_METHODS] = {
    [KF_METHOD_CAPITALIZE] = "capitalize",
    [KF_METHOD_COUNT] = "count",
    [KF_METHOD_ENDSWITH] = "endswith",
    [KF_METHOD_FIND] = "find",
    [KF_METHOD_GET] = "get",
    [KF_METHOD_ITEMS] = "items",
    [KF_METHOD_JOIN] = "join",
    [KF_METHOD_KEYS] = "keys",
    [KF_METHOD_LOWER] = "lower",
    [KF_METHOD_LSTRIP] = "lstrip",
    [KF_METHOD_REMOVEPREFIX] = "removeprefix",
    [KF_METHOD_REMOVESUFFIX] = "removesuffix",
    [KF_METHOD_REPLACE] = "replace",
    [KF_METHOD_RSPLIT] = "rsplit",
    [KF_METHOD_RSTRIP] = "rstrip",
    [KF_METHOD_SPLIT] = "split",
    [KF_METHOD_STARTSWITH] = "startswith",
    [KF_METHOD_STRIP] = "strip",
    [KF_METHOD_TITLE] = "title",
    [KF_METHOD_UPPER] = "upper",
    [KF_METHOD_VALUES] = "values",
};

const char *const kf_function_names[KF_N_FUNCTIONS] = {
    [KF_FN_NAMESPACE] = "namespace",
    [KF_FN_RAISE_EXCEPTION] = "raise_exception",
    [KF_FN_RANGE] = "range",
    [KF_FN_STRFTIME_NOW] = "strftime_now",
};

/* ---- arguments ---- */

/* The argument at place i, or by its name (NULL: it has none); undefined where it is not given. */
static kf_value argument(const kf_template *t, const kf_args *args, uint32_t i, const char *name) {
    if (i < args->n) return args->v[i];
    for (uint32_t k = 0; name && k < args->n_keywords; k++)
        if (kf_text_is(t, t->names[args->keyword_id[k]], name)) return args->keyword[k];
    return kf_undefined();
}

static const char *called(const kf_template *t, uint32_t node) {
    const kf_node *n = &t->nodes[node];
    switch (n->kind) {
    case KF_NODE_FILTER: return kf_filter_names[n->op];
    case KF_NODE_TEST: return kf_test_names[n->op];
    case KF_NODE_METHOD: return kf_method_names[n->op];
    default: return kf_function_names[n->op];
    }
}

static kf_status bad_argument(kf_template *t, uint32_t node, kf_value v) {
    return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "%s of or with %s", called(t, node), kf_kind_name(v));
}

static kf_status text_argument(kf_template *t, uint32_t node, kf_value v, kf_stretch *out) {
    if (v.kind != KF_V_TEXT) return bad_argument(t, node, v);
    *out = v.text;
    return KF_OK;
}

static kf_status give_text(kf_status s, kf_stretch text, kf_value *out) {
    if (s == KF_OK) *out = kf_text(text.at, text.n);
    return s;
}

/* ---- tests ---- */

static kf_status test_number(kf_template *t, uint32_t node, kf_test_id test, kf_value x, kf_value by, bool *out) {
    if (!kf_is_number(x)) return bad_argument(t, node, x);
    if (test == KF_IS_DIVISIBLEBY && (!kf_is_number(by) || by.integer == 0)) return bad_argument(t, node, by);
    *out = test == KF_IS_ODD ? x.integer % 2 != 0 : x.integer % (test == KF_IS_EVEN ? 2 : by.integer) == 0;
    return KF_OK;
}

kf_status kf_template_test(kf_template *t, uint32_t node, kf_test_id test, kf_value x, const kf_args *args, bool *out) {
    kf_value y = argument(t, args, 0, NULL);
    bool members = x.kind == KF_V_TEXT || x.kind == KF_V_LIST || x.kind == KF_V_DICT;
    switch (test) {
    case KF_IS_BOOLEAN: *out = x.kind == KF_V_BOOL; return KF_OK;
    case KF_IS_DEFINED: *out = x.kind != KF_V_UNDEFINED; return KF_OK;
    case KF_IS_UNDEFINED: *out = x.kind == KF_V_UNDEFINED; return KF_OK;
    case KF_IS_EQ_SIGN:
    case KF_IS_EQ:
    case KF_IS_EQUALTO: return kf_equal(t, x, y, out);
    case KF_IS_NE:
        KF_TRY(kf_equal(t, x, y, out));
        *out = !*out;
        return KF_OK;
    case KF_IS_EVEN:
    case KF_IS_ODD:
    case KF_IS_DIVISIBLEBY: return test_number(t, node, test, x, y, out);
    case KF_IS_FALSE: *out = x.kind == KF_V_BOOL && !x.integer; return KF_OK;
    case KF_IS_TRUE: *out = x.kind == KF_V_BOOL && x.integer; return KF_OK;
    case KF_IS_IN: return kf_contains(t, node, y, x, out);
    case KF_IS_INTEGER: *out = x.kind == KF_V_INT; return KF_OK;
    case KF_IS_ITERABLE: *out = members || x.kind == KF_V_UNDEFINED; return KF_OK;
    case KF_IS_MAPPING: *out = x.kind == KF_V_DICT; return KF_OK;
    case KF_IS_NONE: *out = x.kind == KF_V_NONE; return KF_OK;
    case KF_IS_NUMBER: *out = kf_is_number(x); return KF_OK;
    case KF_IS_SEQUENCE: *out = members || x.kind == KF_V_UNDEFINED; return KF_OK;
    case KF_IS_STRING: *out = x.kind == KF_V_TEXT; return KF_OK;
    case KF_N_TESTS: break;
    }
    return KF_FAIL(KF_ERR_BUG, "%s: test %d", t->name, (int)test);
}

/* ---- what filters and methods share ---- */

static kf_status strip(kf_template *t, uint32_t node, kf_value x, kf_value chars, kf_side side, kf_value *out) {
    kf_stretch text, set;
    KF_TRY(text_argument(t, node, x, &text));
    KF_TRY(kf_template_steps(t, text.n / 64));
    bool given = chars.kind != KF_V_UNDEFINED && chars.kind != KF_V_NONE;
    if (given) KF_TRY(text_argument(t, node, chars, &set));
    text = kf_strip(t, text, given ? &set : NULL, side);
    *out = kf_text(text.at, text.n);
    return KF_OK;
}

static kf_status change_case(kf_template *t, uint32_t node, kf_value x, kf_case how, kf_value *out) {
    kf_stretch text;
    KF_TRY(kf_to_text(t, node, x, &text));
    return give_text(kf_change_case(t, text, how, &text), text, out);
}

static kf_status replace(kf_template *t, uint32_t node, kf_value x, const kf_args *args, kf_value *out) {
    kf_stretch text, old, new;
    kf_value most = argument(t, args, 2, "count");
    KF_TRY(text_argument(t, node, x, &text));
    KF_TRY(text_argument(t, node, argument(t, args, 0, NULL), &old));
    KF_TRY(text_argument(t, node, argument(t, args, 1, NULL), &new));
    return give_text(kf_replace(t, node, text, old, new, kf_is_number(most) ? most.integer : -1, &text), text, out);
}

static kf_status length(kf_template *t, uint32_t node, kf_value x, kf_value *out) {
    switch (x.kind) {
    case KF_V_TEXT: *out = kf_int(kf_chars(t, x.text)); return kf_template_steps(t, x.text.n / 64);
    case KF_V_LIST:
    case KF_V_DICT: *out = kf_int(x.seq.n); return KF_OK;
    case KF_V_UNDEFINED: *out = kf_int(0); return KF_OK;
    default: return bad_argument(t, node, x);
    }
}

static kf_status pairs(kf_template *t, uint32_t node, kf_value x, kf_value *out) {
    uint32_t at;
    if (x.kind == KF_V_UNDEFINED && t->nodes[node].kind == KF_NODE_FILTER) x = (kf_value){.kind = KF_V_DICT};
    if (x.kind != KF_V_DICT) return bad_argument(t, node, x);
    KF_TRY(kf_values_new(t, x.seq.n, &at));
    for (uint32_t i = 0; i < x.seq.n; i++) /* a pair is a list of two as it lies there */
        t->values[at + i] = (kf_value){.kind = KF_V_LIST, .seq = {x.seq.at + 2 * i, 2}};
    *out = (kf_value){.kind = KF_V_LIST, .seq = {at, x.seq.n}};
    return kf_template_steps(t, x.seq.n);
}

static kf_status join(kf_template *t, uint32_t node, kf_value list, kf_value sep, kf_value *out) {
    kf_stretch between = {0, 0};
    if (sep.kind != KF_V_UNDEFINED) KF_TRY(text_argument(t, node, sep, &between));
    KF_TRY(kf_to_list(t, node, list, &list));
    return give_text(kf_join(t, node, between, list, &between), between, out);
}

/* ---- filters ---- */

static kf_status end_of(kf_template *t, uint32_t node, kf_value x, bool last, kf_value *out) {
    KF_TRY(kf_to_list(t, node, x, &x));
    *out = x.seq.n ? t->values[x.seq.at + (last ? x.seq.n - 1 : 0)] : kf_undefined();
    return KF_OK;
}

static kf_status reverse(kf_template *t, uint32_t node, kf_value x, kf_value *out) {
    const kf_value back[3] = {kf_none(), kf_none(), kf_int(-1)};
    bool text = x.kind == KF_V_TEXT;
    KF_TRY(kf_to_list(t, node, x, &x));
    KF_TRY(kf_slice(t, node, x, back, out));
    return text ? join(t, node, *out, kf_undefined(), out) : KF_OK;
}

static kf_status to_integer(kf_template *t, uint32_t node, kf_value x, kf_value *out) {
    if (kf_is_number(x)) {
        *out = kf_int(x.integer);
        return KF_OK;
    }
    if (x.kind != KF_V_TEXT) return bad_argument(t, node, x);
    kf_stretch text = kf_strip(t, x.text, NULL, KF_BOTH);
    bool minus = text.n && t->bytes[text.at] == '-';
    int64_t value = 0;
    for (uint32_t i = minus; i < text.n; i++) {
        char c = t->bytes[text.at + i];
        if (c < '0' || c > '9' || i > 15) { /* no number: the filter's default */
            *out = kf_int(0);
            return KF_OK;
        }
        value = value * 10 + (c - '0');
    }
    *out = kf_int(minus ? -value : value);
    return KF_OK;
}

static kf_status to_json(kf_template *t, uint32_t node, kf_value x, const kf_args *args, kf_value *out) {
    kf_stretch text;
    kf_value indent = kf_undefined();
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        kf_stretch name = t->names[args->keyword_id[i]];
        if (kf_text_is(t, name, "indent"))
            indent = args->keyword[i];
        else if ((!kf_text_is(t, name, "ensure_ascii") && !kf_text_is(t, name, "sort_keys")) ||
                 kf_truth(args->keyword[i]))
            return KF_TEMPLATE_FAIL(t, KF_ERR_UNSUPPORTED, node, "tojson with %.*s is not supported",
                                    name.n < 40 ? (int)name.n : 40, t->bytes + name.at);
    }
    if (args->n) return KF_TEMPLATE_FAIL(t, KF_ERR_UNSUPPORTED, node, "tojson takes indent=n only");
    if (kf_is_number(indent) && (indent.integer < 0 || indent.integer > 16)) return bad_argument(t, node, indent);
    int n = kf_is_number(indent) ? (int)indent.integer : -1;
    return give_text(kf_to_json(t, node, x, n, &text), text, out);
}

/* x|map('upper') and x|map(attribute='role'). */
static kf_status map(kf_template *t, uint32_t node, kf_value x, const kf_args *args, kf_value *out) {
    kf_value attribute = argument(t, args, KF_ARGS_MAX, "attribute"), filter = argument(t, args, 0, NULL);
    size_t id = KF_N_FILTERS;
    uint32_t at;
    if (filter.kind == KF_V_TEXT) id = kf_text_among(t, filter.text, kf_filter_names, KF_N_FILTERS);
    if (attribute.kind != KF_V_TEXT && (id == KF_N_FILTERS || id == KF_F_MAP))
        return KF_TEMPLATE_FAIL(t, KF_ERR_UNSUPPORTED, node, "map takes a filter's name, or attribute='name'");
    KF_TRY(kf_to_list(t, node, x, &x));
    KF_TRY(kf_values_new(t, x.seq.n, &at));
    for (uint32_t i = 0; i < x.seq.n; i++) {
        kf_value member = t->values[x.seq.at + i], made;
        KF_TRY(kf_template_steps(t, 1));
        if (attribute.kind == KF_V_TEXT)
            KF_TRY(kf_item(t, node, member, attribute, &made));
        else
            KF_TRY(kf_template_filter(t, node, (kf_filter_id)id, member, &(kf_args){.n = 0}, &made));
        t->values[at + i] = made;
    }
    *out = (kf_value){.kind = KF_V_LIST, .seq = {at, x.seq.n}};
    return KF_OK;
}

/* x|select('string'), x|selectattr('role', 'equalto', 'user') and their opposites. */
static kf_status choose(kf_template *t, uint32_t node, kf_filter_id filter, kf_value x, const kf_args *args,
                        kf_value *out) {
    bool attr = filter == KF_F_SELECTATTR || filter == KF_F_REJECTATTR;
    bool want = filter == KF_F_SELECT || filter == KF_F_SELECTATTR, holds;
    uint32_t at, n = 0, k = attr ? 1 : 0;
    kf_value name = argument(t, args, 0, NULL), test = argument(t, args, k, NULL);
    size_t id = test.kind == KF_V_TEXT ? kf_text_among(t, test.text, kf_test_names, KF_N_TESTS) : KF_N_TESTS;
    if (test.kind != KF_V_UNDEFINED && id == KF_N_TESTS)
        return KF_TEMPLATE_FAIL(t, KF_ERR_UNSUPPORTED, node, "%s with a test that kefu does not know", called(t, node));
    if (attr && name.kind != KF_V_TEXT) return bad_argument(t, node, name);
    kf_args rest = {.v = {argument(t, args, k + 1, NULL)}, .n = args->n > k + 1};
    KF_TRY(kf_to_list(t, node, x, &x));
    KF_TRY(kf_values_new(t, x.seq.n, &at));
    for (uint32_t i = 0; i < x.seq.n; i++) {
        kf_value member = t->values[x.seq.at + i], part = member;
        KF_TRY(kf_template_steps(t, 1));
        if (attr) KF_TRY(kf_item(t, node, member, name, &part));
        holds = kf_truth(part);
        if (id < KF_N_TESTS) KF_TRY(kf_template_test(t, node, (kf_test_id)id, part, &rest, &holds));
        if (holds == want) t->values[at + n++] = member;
    }
    *out = (kf_value){.kind = KF_V_LIST, .seq = {at, n}};
    return KF_OK;
}

kf_status kf_template_filter(kf_template *t, uint32_t node, kf_filter_id filter, kf_value x, const kf_args *args,
                             kf_value *out) {
    kf_value y = argument(t, args, 0, NULL);
    kf_stretch text;
    bool missing = x.kind == KF_V_UNDEFINED;
    switch (filter) {
    case KF_F_CAPITALIZE: return change_case(t, node, x, KF_CASE_CAPITALIZE, out);
    case KF_F_LOWER: return change_case(t, node, x, KF_CASE_LOWER, out);
    case KF_F_TITLE: return change_case(t, node, x, KF_CASE_TITLE_FILTER, out);
    case KF_F_UPPER: return change_case(t, node, x, KF_CASE_UPPER, out);
    case KF_F_COUNT:
    case KF_F_LENGTH: return length(t, node, x, out);
    case KF_F_D:
    case KF_F_DEFAULT:
        missing = missing || (kf_truth(argument(t, args, 1, "boolean")) && !kf_truth(x));
        *out = !missing ? x : y.kind == KF_V_UNDEFINED ? kf_text(0, 0) : y;
        return KF_OK;
    case KF_F_FIRST: return end_of(t, node, x, false, out);
    case KF_F_LAST: return end_of(t, node, x, true, out);
    case KF_F_INT: return to_integer(t, node, x, out);
    case KF_F_ITEMS: return pairs(t, node, x, out);
    case KF_F_JOIN: return join(t, node, x, argument(t, args, 0, "d"), out);
    case KF_F_LIST: return kf_to_list(t, node, x, out);
    case KF_F_MAP: return map(t, node, x, args, out);
    case KF_F_REJECT:
    case KF_F_REJECTATTR:
    case KF_F_SELECT:
    case KF_F_SELECTATTR: return choose(t, node, filter, x, args, out);
    case KF_F_REPLACE: return replace(t, node, x, args, out);
    case KF_F_REVERSE: return reverse(t, node, x, out);
    case KF_F_SAFE:
    case KF_F_STRING: return give_text(kf_to_text(t, node, x, &text), text, out);
    case KF_F_TOJSON: return to_json(t, node, x, args, out);
    case KF_F_TRIM:
        KF_TRY(kf_to_text(t, node, x, &text));
        return strip(t, node, kf_text(text.at, text.n), y, KF_BOTH, out);
    case KF_N_FILTERS: break;
    }
    return KF_FAIL(KF_ERR_BUG, "%s: filter %d", t->name, (int)filter);
}

/* ---- methods ---- */

static kf_status parts_of_dict(kf_template *t, kf_method_id method, kf_value x, const kf_args *args, kf_value *out) {
    uint32_t at;
    if (method == KF_METHOD_GET) {
        kf_value key = argument(t, args, 0, NULL), otherwise = argument(t, args, 1, NULL);
        kf_value found = key.kind == KF_V_TEXT ? kf_dict_get(t, x, key.text) : kf_undefined();
        if (otherwise.kind == KF_V_UNDEFINED) otherwise = kf_none();
        *out = found.kind == KF_V_UNDEFINED ? otherwise : found;
        return KF_OK;
    }
    KF_TRY(kf_values_new(t, x.seq.n, &at));
    for (uint32_t i = 0; i < x.seq.n; i++)
        t->values[at + i] = t->values[x.seq.at + 2 * i + (method == KF_METHOD_VALUES)];
    *out = (kf_value){.kind = KF_V_LIST, .seq = {at, x.seq.n}};
    return kf_template_steps(t, x.seq.n);
}

/* startswith and endswith, of one text or any of a list. */
static kf_status has_end(kf_template *t, uint32_t node, kf_stretch text, kf_value ends, bool at_start, kf_value *out) {
    kf_value one = ends;
    uint32_t n = ends.kind == KF_V_LIST ? ends.seq.n : 1;
    bool holds = false;
    for (uint32_t i = 0; i < n && !holds; i++) {
        kf_stretch end;
        if (ends.kind == KF_V_LIST) one = t->values[ends.seq.at + i];
        KF_TRY(text_argument(t, node, one, &end));
        holds = at_start ? kf_starts(t, text, end) : kf_ends(t, text, end);
    }
    *out = kf_bool(holds);
    return kf_template_steps(t, n + text.n / 64);
}

static kf_status split(kf_template *t, uint32_t node, kf_stretch text, const kf_args *args, bool from_right,
                       kf_value *out) {
    kf_value sep = argument(t, args, 0, "sep"), most = argument(t, args, 1, "maxsplit");
    kf_stretch at;
    bool given = sep.kind != KF_V_UNDEFINED && sep.kind != KF_V_NONE;
    if (given) KF_TRY(text_argument(t, node, sep, &at));
    return kf_split(t, node, text, given ? &at : NULL, kf_is_number(most) ? most.integer : -1, from_right, out);
}

static kf_status remove_end(kf_template *t, uint32_t node, kf_stretch text, kf_value end, bool at_start,
                            kf_value *out) {
    kf_stretch part;
    KF_TRY(text_argument(t, node, end, &part));
    bool there = at_start ? kf_starts(t, text, part) : kf_ends(t, text, part);
    uint32_t n = there ? part.n : 0;
    *out = kf_text(text.at + (at_start ? n : 0), text.n - n);
    return KF_OK;
}

/* find: the place in code points, -1 for none; count: how many there are. */
static kf_status search(kf_template *t, uint32_t node, kf_stretch text, kf_value what, bool count, kf_value *out) {
    kf_stretch part;
    KF_TRY(text_argument(t, node, what, &part));
    KF_TRY(kf_template_steps(t, text.n / 16));
    if (part.n == 0) return bad_argument(t, node, what);
    uint32_t at = kf_find(t, text, part, 0);
    if (!count) {
        *out = kf_int(at == UINT32_MAX ? -1 : (int64_t)kf_chars(t, (kf_stretch){text.at, at}));
        return KF_OK;
    }
    int64_t n = 0;
    for (; at != UINT32_MAX; at = kf_find(t, text, part, at + part.n))
        n++;
    *out = kf_int(n);
    return KF_OK;
}

static kf_status method_of_text(kf_template *t, uint32_t node, kf_method_id method, kf_value x, const kf_args *args,
                                kf_value *out) {
    kf_value y = argument(t, args, 0, NULL);
    switch (method) {
    case KF_METHOD_CAPITALIZE: return change_case(t, node, x, KF_CASE_CAPITALIZE, out);
    case KF_METHOD_LOWER: return change_case(t, node, x, KF_CASE_LOWER, out);
    case KF_METHOD_TITLE: return change_case(t, node, x, KF_CASE_TITLE, out);
    case KF_METHOD_UPPER: return change_case(t, node, x, KF_CASE_UPPER, out);
    case KF_METHOD_COUNT: return search(t, node, x.text, y, true, out);
    case KF_METHOD_FIND: return search(t, node, x.text, y, false, out);
    case KF_METHOD_ENDSWITH: return has_end(t, node, x.text, y, false, out);
    case KF_METHOD_STARTSWITH: return has_end(t, node, x.text, y, true, out);
    case KF_METHOD_JOIN: return join(t, node, y, x, out);
    case KF_METHOD_STRIP: return strip(t, node, x, y, KF_BOTH, out);
    case KF_METHOD_LSTRIP: return strip(t, node, x, y, KF_LEFT, out);
    case KF_METHOD_RSTRIP: return strip(t, node, x, y, KF_RIGHT, out);
    case KF_METHOD_REMOVEPREFIX: return remove_end(t, node, x.text, y, true, out);
    case KF_METHOD_REMOVESUFFIX: return remove_end(t, node, x.text, y, false, out);
    case KF_METHOD_REPLACE: return replace(t, node, x, args, out);
    case KF_METHOD_SPLIT: return split(t, node, x.text, args, false, out);
    case KF_METHOD_RSPLIT: return split(t, node, x.text, args, true, out);
    default: return bad_argument(t, node, x);
    }
}

kf_status kf_template_method(kf_template *t, uint32_t node, kf_method_id method, kf_value x, const kf_args *args,
                             kf_value *out) {
    if (x.kind == KF_V_TEXT) return method_of_text(t, node, method, x, args, out);
    if (x.kind != KF_V_DICT) return bad_argument(t, node, x);
    switch (method) {
    case KF_METHOD_ITEMS: return pairs(t, node, x, out);
    case KF_METHOD_GET:
    case KF_METHOD_KEYS:
    case KF_METHOD_VALUES: return parts_of_dict(t, method, x, args, out);
    default: return bad_argument(t, node, x);
    }
}

/* ---- functions ---- */

static kf_status make_namespace(kf_template *t, const kf_args *args, kf_value *out) {
    uint32_t at;
    KF_TRY(kf_values_new(t, 1 + 2 * KF_NAMESPACE_MAX, &at));
    t->values[at] = kf_int(args->n_keywords);
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        kf_stretch name = t->names[args->keyword_id[i]];
        t->values[at + 1 + 2 * i] = kf_text(name.at, name.n);
        t->values[at + 2 + 2 * i] = args->keyword[i];
    }
    *out = (kf_value){.kind = KF_V_NAMESPACE, .seq = {at + 1, KF_NAMESPACE_MAX}};
    return KF_OK;
}

/* The template's own words; those of a message are left out of what may be logged. */
static kf_status raise(kf_template *t, uint32_t node, kf_value v) {
    char words[200];
    size_t n = 0;
    kf_stretch text = {0, 0};
    KF_TRY(kf_to_text(t, node, v, &text));
    for (uint32_t i = 0; i < text.n && n < sizeof words - 1; i++)
        if (!t->marks[text.at + i]) words[n++] = t->bytes[text.at + i];
    words[n] = 0;
    return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "the template says: %s", words);
}

static kf_status range(kf_template *t, uint32_t node, const kf_args *args, kf_value *out) {
    int64_t v[3] = {0, 0, 1};
    uint32_t at;
    if (args->n < 1 || args->n > 3) return bad_argument(t, node, kf_undefined());
    for (uint32_t i = 0; i < args->n; i++) {
        if (!kf_is_number(args->v[i])) return bad_argument(t, node, args->v[i]);
        v[args->n == 1 ? 1 : i] = args->v[i].integer;
    }
    int64_t from = v[0], to = v[1], step = v[2];
    if (step == 0) return bad_argument(t, node, kf_int(0));
    int64_t n = step > 0 ? (to > from ? (to - from - 1) / step + 1 : 0) : (from > to ? (from - to - 1) / -step + 1 : 0);
    KF_TRY(kf_values_new(t, (size_t)n, &at));
    for (int64_t i = 0; i < n; i++)
        t->values[at + i] = kf_int(from + i * step);
    *out = (kf_value){.kind = KF_V_LIST, .seq = {at, (uint32_t)n}};
    return kf_template_steps(t, (size_t)n);
}

static kf_status tell_time(kf_template *t, uint32_t node, kf_value format, kf_value *out) {
    char wanted[64], told[256];
    struct tm now;
    if (format.kind != KF_V_TEXT || format.text.n >= sizeof wanted || !localtime_r(&t->in->now, &now))
        return bad_argument(t, node, format);
    memcpy(wanted, t->bytes + format.text.at, format.text.n);
    wanted[format.text.n] = 0;
    size_t n = strftime(told, sizeof told, wanted, &now);
    *out = kf_text(t->n_bytes, (uint32_t)n);
    return kf_put(t, told, NULL, n);
}

kf_status kf_template_function(kf_template *t, uint32_t node, kf_function_id function, const kf_args *args,
                               kf_value *out) {
    kf_value x = argument(t, args, 0, NULL);
    switch (function) {
    case KF_FN_NAMESPACE: return make_namespace(t, args, out);
    case KF_FN_RAISE_EXCEPTION: return raise(t, node, x);
    case KF_FN_RANGE: return range(t, node, args, out);
    case KF_FN_STRFTIME_NOW: return tell_time(t, node, x, out);
    case KF_N_FUNCTIONS: break;
    }
    return KF_FAIL(KF_ERR_BUG, "%s: function %d", t->name, (int)function);
}
