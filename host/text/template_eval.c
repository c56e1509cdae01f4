/* A compiled template and a conversation to a prompt: expressions have values, statements write. */
#include <string.h>

#include "text/template_impl.h"

static kf_status run(kf_template *t, uint32_t first);

static const kf_node *node_at(const kf_template *t, uint32_t node) {
    return &t->nodes[node];
}

/* ---- variables ---- */

static kf_variable *find_from(kf_template *t, uint32_t from, uint32_t to, uint32_t name) {
    while (to > from)
        if (t->vars[--to].name == name) return &t->vars[to];
    return NULL;
}

static kf_variable *find(kf_template *t, uint32_t name) {
    kf_variable *v = find_from(t, t->floor, t->n_vars, name);
    return v || !t->floor ? v : find_from(t, 0, t->n_globals, name);
}

/* Sets a variable of the scope that is being run. */
static kf_status set(kf_template *t, uint32_t node, uint32_t name, kf_value value) {
    kf_variable *v = find_from(t, t->frame, t->n_vars, name);
    if (v) {
        v->value = value;
        return KF_OK;
    }
    if (t->n_vars == KF_VARS_MAX)
        return KF_TEMPLATE_FAIL(t, KF_ERR_TOO_LARGE, node, "more than %d variables", KF_VARS_MAX);
    t->vars[t->n_vars++] = (kf_variable){name, value};
    if (!t->frame) t->n_globals = t->n_vars;
    return KF_OK;
}

/* A scope's variables go when it ends. */
typedef struct scope {
    uint32_t frame, n_vars;
} scope;

static scope enter(kf_template *t) {
    scope s = {t->frame, t->n_vars};
    t->frame = t->n_vars;
    return s;
}

static void leave(kf_template *t, scope s) {
    t->frame = s.frame;
    t->n_vars = s.n_vars;
}

/* One name takes the value, several take its members. */
static kf_status set_targets(kf_template *t, uint32_t first, kf_value value) {
    kf_value list;
    uint32_t n = 0;
    if (!node_at(t, first)->next) return set(t, first, node_at(t, first)->id, value);
    KF_TRY(kf_to_list(t, first, value, &list));
    for (uint32_t i = first; i; i = node_at(t, i)->next)
        n++;
    if (n != list.seq.n) return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, first, "%u values for %u names", list.seq.n, n);
    n = 0;
    for (uint32_t i = first; i; i = node_at(t, i)->next)
        KF_TRY(set(t, i, node_at(t, i)->id, t->values[list.seq.at + n++]));
    return KF_OK;
}

/* ---- calls ---- */

static kf_status eval_args(kf_template *t, uint32_t first, kf_args *out) {
    out->n = out->n_keywords = 0;
    for (uint32_t i = first; i; i = node_at(t, i)->next) {
        bool keyword = node_at(t, i)->kind == KF_NODE_KEYWORD;
        kf_value value;
        KF_TRY(kf_template_eval(t, keyword ? node_at(t, i)->a : i, &value));
        if (keyword) {
            out->keyword_id[out->n_keywords] = node_at(t, i)->id;
            out->keyword[out->n_keywords++] = value;
        } else {
            out->v[out->n++] = value;
        }
    }
    return KF_OK;
}

/* The text that statements write, instead of writing it. */
static kf_status capture(kf_template *t, uint32_t body, kf_value *out) {
    uint32_t from = t->n_out, at;
    KF_TRY(run(t, body));
    at = t->n_bytes;
    KF_TRY(kf_put(t, t->out + from, t->out_marks + from, t->n_out - from));
    t->n_out = from;
    *out = kf_text(at, t->n_bytes - at);
    return KF_OK;
}

static kf_status keyword_of(const kf_args *args, uint32_t name, kf_value *out) {
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        if (args->keyword_id[i] != name) continue;
        *out = args->keyword[i];
        return KF_OK;
    }
    return KF_ERR_NOT_FOUND;
}

static kf_status set_parameters(kf_template *t, const kf_node *macro, const kf_args *args) {
    uint32_t i = 0;
    for (uint32_t p = macro->a; p; p = node_at(t, p)->next, i++) {
        kf_value value = kf_undefined();
        if (i < args->n)
            value = args->v[i];
        else if (keyword_of(args, node_at(t, p)->id, &value) != KF_OK && node_at(t, p)->a)
            KF_TRY(kf_template_eval(t, node_at(t, p)->a, &value));
        KF_TRY(set(t, p, node_at(t, p)->id, value));
    }
    return KF_OK;
}

/* The last macro of the name. It sees the globals and its own variables, not those of its caller. */
static kf_status call_macro(kf_template *t, uint32_t node, const kf_args *args, kf_value *out) {
    kf_variable *v = find(t, node_at(t, node)->id);
    if (!v || v->value.kind != KF_V_FUNCTION)
        return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "a call of what is no macro (yet)");
    const kf_node *macro = node_at(t, (uint32_t)v->value.integer);
    scope s = enter(t);
    uint32_t floor = t->floor;
    t->floor = t->n_vars;
    KF_TRY(set_parameters(t, macro, args));
    KF_TRY(capture(t, macro->b, out));
    t->floor = floor;
    leave(t, s);
    return KF_OK;
}

static kf_status eval_call(kf_template *t, uint32_t node, kf_value *out) {
    const kf_node *n = node_at(t, node);
    kf_args args;
    kf_value x = kf_undefined();
    if (n->a) KF_TRY(kf_template_eval(t, n->a, &x));
    KF_TRY(eval_args(t, n->b, &args));
    bool holds;
    switch (n->kind) {
    case KF_NODE_FILTER: return kf_template_filter(t, node, n->op, x, &args, out);
    case KF_NODE_METHOD: return kf_template_method(t, node, n->op, x, &args, out);
    case KF_NODE_CALL: return kf_template_function(t, node, n->op, &args, out);
    case KF_NODE_MACRO_CALL: return call_macro(t, node, &args, out);
    default:
        KF_TRY(kf_template_test(t, node, n->op, x, &args, &holds));
        *out = kf_bool(holds != (n->id == 1));
        return KF_OK;
    }
}

/* ---- operators ---- */

/* a // b and a % b round down, as in Python. */
static kf_status divide(kf_template *t, uint32_t node, int64_t a, int64_t b, bool rest, kf_value *out) {
    if (b == 0) return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "a division by 0");
    int64_t quotient = a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
    *out = kf_int(rest ? a - quotient * b : quotient);
    return KF_OK;
}

static kf_status repeat(kf_template *t, kf_stretch text, int64_t n, kf_value *out) {
    uint32_t at = t->n_bytes;
    KF_TRY(kf_template_steps(t, n > 0 ? (size_t)n : 0));
    for (int64_t i = 0; i < n; i++)
        KF_TRY(kf_put_text(t, text));
    *out = kf_text(at, t->n_bytes - at);
    return KF_OK;
}

static kf_status add_lists(kf_template *t, kf_stretch a, kf_stretch b, kf_value *out) {
    uint32_t at;
    KF_TRY(kf_values_new(t, (size_t)a.n + b.n, &at));
    memcpy(t->values + at, t->values + a.at, a.n * sizeof *t->values);
    memcpy(t->values + at + a.n, t->values + b.at, b.n * sizeof *t->values);
    *out = (kf_value){.kind = KF_V_LIST, .seq = {at, a.n + b.n}};
    return kf_template_steps(t, (size_t)a.n + b.n);
}

static kf_status arithmetic(kf_template *t, uint32_t node, int64_t a, int64_t b, kf_value *out) {
    int64_t result;
    uint32_t op = node_at(t, node)->op;
    if (op == KF_OP('/', '/') || op == KF_OP('%', 0)) return divide(t, node, a, b, op == KF_OP('%', 0), out);
    bool over = op == KF_OP('+', 0)   ? __builtin_add_overflow(a, b, &result)
                : op == KF_OP('-', 0) ? __builtin_sub_overflow(a, b, &result)
                                      : __builtin_mul_overflow(a, b, &result);
    if (over || result > INT64_C(1) << 53 || result < -(INT64_C(1) << 53))
        return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "a number of more than 53 bits");
    *out = kf_int(result);
    return KF_OK;
}

static kf_status eval_binary(kf_template *t, uint32_t node, kf_value *out) {
    const kf_node *n = node_at(t, node);
    kf_value a, b;
    kf_stretch x, y;
    KF_TRY(kf_template_eval(t, n->a, &a));
    if (n->op == KF_OP('~', 0)) KF_TRY(kf_to_text(t, node, a, &x));
    KF_TRY(kf_template_eval(t, n->b, &b));
    bool plus = n->op == KF_OP('+', 0), texts = a.kind == KF_V_TEXT && b.kind == KF_V_TEXT;
    if (n->op == KF_OP('~', 0) || (plus && texts)) {
        if (plus) x = a.text;
        KF_TRY(kf_to_text(t, node, b, &y));
        *out = kf_text(0, 0);
        return kf_concat(t, x, y, &out->text);
    }
    if (plus && a.kind == KF_V_LIST && b.kind == KF_V_LIST) return add_lists(t, a.seq, b.seq, out);
    if (n->op == KF_OP('*', 0) && a.kind == KF_V_TEXT && kf_is_number(b)) return repeat(t, a.text, b.integer, out);
    if (n->op == KF_OP('*', 0) && b.kind == KF_V_TEXT && kf_is_number(a)) return repeat(t, b.text, a.integer, out);
    if (kf_is_number(a) && kf_is_number(b)) return arithmetic(t, node, a.integer, b.integer, out);
    return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "`%c` of %s and %s", (char)(n->op >> 8), kf_kind_name(a),
                            kf_kind_name(b));
}

static kf_status less(kf_template *t, uint32_t node, kf_value a, kf_value b, int *out) {
    if (kf_is_number(a) && kf_is_number(b)) {
        *out = (a.integer > b.integer) - (a.integer < b.integer);
        return KF_OK;
    }
    if (a.kind != KF_V_TEXT || b.kind != KF_V_TEXT)
        return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "%s and %s have no order", kf_kind_name(a), kf_kind_name(b));
    uint32_t n = a.text.n < b.text.n ? a.text.n : b.text.n;
    int order = memcmp(t->bytes + a.text.at, t->bytes + b.text.at, n); /* UTF-8's order is that of code points */
    *out = order ? order : (a.text.n > b.text.n) - (a.text.n < b.text.n);
    return kf_template_steps(t, n / 64);
}

static kf_status compare(kf_template *t, uint32_t node, uint32_t op, kf_value a, kf_value b, bool *out) {
    int order = 0;
    switch (op) {
    case KF_OP('=', '='): return kf_equal(t, a, b, out);
    case KF_OP('!', '='): KF_TRY(kf_equal(t, a, b, out)); break;
    case KF_OP('i', 0): return kf_contains(t, node, b, a, out);
    case KF_OP('n', 0): KF_TRY(kf_contains(t, node, b, a, out)); break;
    default:
        KF_TRY(less(t, node, a, b, &order));
        *out = op == KF_OP('<', 0) ? order < 0 : op == KF_OP('>', 0) ? order > 0 : order == 0;
        if (op == KF_OP('<', '=')) *out = order <= 0;
        if (op == KF_OP('>', '=')) *out = order >= 0;
        return KF_OK;
    }
    *out = !*out;
    return KF_OK;
}

/* a < b < c is a < b and b < c. */
static kf_status eval_compare(kf_template *t, uint32_t node, kf_value *out) {
    kf_value a, b;
    bool holds = true;
    KF_TRY(kf_template_eval(t, node_at(t, node)->a, &a));
    for (uint32_t i = node_at(t, node)->b; i && holds; i = node_at(t, i)->next, a = b) {
        KF_TRY(kf_template_eval(t, node_at(t, i)->a, &b));
        KF_TRY(compare(t, node, node_at(t, i)->op, a, b, &holds));
    }
    *out = kf_bool(holds);
    return KF_OK;
}

/* ---- expressions ---- */

static kf_status eval_name(kf_template *t, uint32_t id, kf_value *out) {
    const kf_variable *v = find(t, id);
    *out = v ? v->value : kf_undefined();
    if (!v && kf_text_among(t, t->names[id], kf_function_names, KF_N_FUNCTIONS) < KF_N_FUNCTIONS)
        *out = (kf_value){.kind = KF_V_FUNCTION};
    return KF_OK;
}

static kf_status eval_members(kf_template *t, uint32_t node, kf_value *out) {
    bool dict = node_at(t, node)->kind == KF_NODE_DICT;
    uint32_t n = 0, at;
    for (uint32_t i = node_at(t, node)->a; i; i = node_at(t, i)->next)
        n++;
    KF_TRY(kf_values_new(t, n, &at));
    n = 0;
    for (uint32_t i = node_at(t, node)->a; i; i = node_at(t, i)->next, n++) {
        kf_value member;
        KF_TRY(kf_template_eval(t, i, &member));
        if (dict && n % 2 == 0 && member.kind != KF_V_TEXT)
            return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "a dict's key is %s", kf_kind_name(member));
        t->values[at + n] = member;
    }
    *out = (kf_value){.kind = dict ? KF_V_DICT : KF_V_LIST, .seq = {at, dict ? n / 2 : n}};
    return KF_OK;
}

static kf_status eval_slice(kf_template *t, uint32_t node, kf_value *out) {
    const kf_node *n = node_at(t, node);
    const uint32_t parts[3] = {n->b, n->c, n->d};
    kf_value a, bounds[3];
    KF_TRY(kf_template_eval(t, n->a, &a));
    for (int i = 0; i < 3; i++) {
        bounds[i] = kf_none();
        if (parts[i]) KF_TRY(kf_template_eval(t, parts[i], &bounds[i]));
    }
    return kf_slice(t, node, a, bounds, out);
}

static kf_status eval_one(kf_template *t, uint32_t node, kf_value *out) {
    const kf_node *n = node_at(t, node);
    kf_value a, b;
    switch ((kf_node_kind)n->kind) {
    case KF_NODE_CONST: *out = n->value; return KF_OK;
    case KF_NODE_NAME: return eval_name(t, n->id, out);
    case KF_NODE_LIST:
    case KF_NODE_DICT: return eval_members(t, node, out);
    case KF_NODE_BINARY: return eval_binary(t, node, out);
    case KF_NODE_COMPARE: return eval_compare(t, node, out);
    case KF_NODE_SLICE: return eval_slice(t, node, out);
    case KF_NODE_FILTER:
    case KF_NODE_TEST:
    case KF_NODE_METHOD:
    case KF_NODE_CALL:
    case KF_NODE_MACRO_CALL: return eval_call(t, node, out);
    default: break;
    }
    KF_TRY(kf_template_eval(t, n->a, &a));
    switch ((kf_node_kind)n->kind) {
    case KF_NODE_NOT: *out = kf_bool(!kf_truth(a)); return KF_OK;
    case KF_NODE_AND:
    case KF_NODE_OR: *out = a; return kf_truth(a) == (n->kind == KF_NODE_AND) ? kf_template_eval(t, n->b, out) : KF_OK;
    case KF_NODE_IF_ELSE:
        *out = kf_undefined();
        if (kf_truth(a)) return kf_template_eval(t, n->b, out);
        return n->c ? kf_template_eval(t, n->c, out) : KF_OK;
    case KF_NODE_ATTR: return kf_attribute(t, node, a, n->id, out);
    case KF_NODE_INDEX: KF_TRY(kf_template_eval(t, n->b, &b)); return kf_item(t, node, a, b, out);
    case KF_NODE_UNARY:
        if (!kf_is_number(a)) return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "the sign of %s", kf_kind_name(a));
        *out = kf_int(n->op == KF_OP('-', 0) ? -a.integer : a.integer);
        return KF_OK;
    default: return KF_FAIL(KF_ERR_BUG, "%s line %u: a node that is no expression", t->name, n->line);
    }
}

kf_status kf_template_eval(kf_template *t, uint32_t node, kf_value *out) {
    if (++t->depth > KF_DEPTH_MAX)
        return KF_TEMPLATE_FAIL(t, KF_ERR_TOO_LARGE, node, "more than %d expressions and macros in one another",
                                KF_DEPTH_MAX);
    KF_TRY(kf_template_steps(t, 1));
    KF_TRY(eval_one(t, node, out));
    t->depth--;
    return KF_OK;
}

/* ---- statements ---- */

static kf_status write(kf_template *t, kf_stretch text) {
    if (text.n > KF_TEMPLATE_TEXT_BYTES - t->n_out)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%s: a prompt of more than %d bytes", t->name, KF_TEMPLATE_TEXT_BYTES);
    memcpy(t->out + t->n_out, t->bytes + text.at, text.n);
    memcpy(t->out_marks + t->n_out, t->marks + text.at, text.n);
    t->n_out += text.n;
    return KF_OK;
}

static kf_status run_print(kf_template *t, uint32_t node) {
    kf_value v;
    kf_stretch text;
    KF_TRY(kf_template_eval(t, node_at(t, node)->a, &v));
    KF_TRY(kf_to_text(t, node, v, &text));
    return write(t, text);
}

static kf_status run_if(kf_template *t, uint32_t node) {
    kf_value v;
    KF_TRY(kf_template_eval(t, node_at(t, node)->a, &v));
    return run(t, kf_truth(v) ? node_at(t, node)->b : node_at(t, node)->c);
}

/* The members that a for's `if` lets through. */
static kf_status filter_list(kf_template *t, uint32_t node, kf_value *list) {
    uint32_t at, n = 0;
    kf_value holds;
    KF_TRY(kf_values_new(t, list->seq.n, &at));
    for (uint32_t i = 0; i < list->seq.n; i++) {
        scope s = enter(t);
        kf_value member = t->values[list->seq.at + i];
        KF_TRY(set_targets(t, node_at(t, node)->a, member));
        KF_TRY(kf_template_eval(t, node_at(t, node)->c, &holds));
        leave(t, s);
        if (kf_truth(holds)) t->values[at + n++] = member;
    }
    list->seq = (kf_stretch){at, n};
    return KF_OK;
}

static kf_status run_for(kf_template *t, uint32_t node) {
    const kf_node *n = node_at(t, node);
    kf_value iterable, list, loop = {.kind = KF_V_LOOP, .seq = {0, 1}};
    KF_TRY(kf_template_eval(t, n->b, &iterable));
    KF_TRY(kf_to_list(t, node, iterable, &list));
    if (n->c) KF_TRY(filter_list(t, node, &list));
    if (list.seq.n == 0) {
        scope s = enter(t);
        KF_TRY(run(t, (uint32_t)n->value.integer));
        leave(t, s);
        return KF_OK;
    }
    KF_TRY(kf_values_new(t, 2, &loop.seq.at));
    t->values[loop.seq.at + 1] = list;
    for (uint32_t i = 0; i < list.seq.n && t->jump != KF_RUN_BREAK; i++) {
        scope s = enter(t);
        t->values[loop.seq.at] = kf_int(i);
        KF_TRY(kf_template_steps(t, 1));
        KF_TRY(set(t, node, KF_NAME_LOOP, loop));
        KF_TRY(set_targets(t, n->a, t->values[list.seq.at + i]));
        t->jump = KF_RUN_ON;
        KF_TRY(run(t, n->d));
        leave(t, s);
    }
    t->jump = KF_RUN_ON;
    return KF_OK;
}

static kf_status set_attribute(kf_template *t, uint32_t target, kf_value value) {
    const kf_node *n = node_at(t, target);
    const kf_variable *v = find(t, n->id);
    if (!v || v->value.kind != KF_V_NAMESPACE)
        return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, target, "set of an attribute of what is no namespace");
    uint32_t at = v->value.seq.at;
    kf_value *count = &t->values[at - 1];
    kf_stretch name = t->names[n->value.integer];
    int64_t i = 0;
    while (i < count->integer && !kf_text_equal(t, t->values[at + 2 * i].text, name))
        i++;
    if (i == KF_NAMESPACE_MAX)
        return KF_TEMPLATE_FAIL(t, KF_ERR_TOO_LARGE, target, "a namespace of more than %d names", KF_NAMESPACE_MAX);
    if (i == count->integer) count->integer++;
    t->values[at + 2 * i] = kf_text(name.at, name.n);
    t->values[at + 2 * i + 1] = value;
    return KF_OK;
}

static kf_status run_set(kf_template *t, uint32_t node) {
    const kf_node *n = node_at(t, node);
    kf_value value;
    if (n->b) {
        KF_TRY(kf_template_eval(t, n->b, &value));
    } else {
        scope s = enter(t);
        KF_TRY(capture(t, n->c, &value));
        leave(t, s);
    }
    return node_at(t, n->a)->op ? set_attribute(t, n->a, value) : set_targets(t, n->a, value);
}

static kf_status run_scope(kf_template *t, uint32_t node) {
    scope s = enter(t);
    KF_TRY(run(t, node_at(t, node)->a));
    leave(t, s);
    return KF_OK;
}

static kf_status run_one(kf_template *t, uint32_t node) {
    const kf_node *n = node_at(t, node);
    switch ((kf_node_kind)n->kind) {
    case KF_NODE_DATA: return write(t, n->value.text);
    case KF_NODE_PRINT: return run_print(t, node);
    case KF_NODE_IF: return run_if(t, node);
    case KF_NODE_FOR: return run_for(t, node);
    case KF_NODE_SET: return run_set(t, node);
    case KF_NODE_MACRO: return set(t, node, n->id, (kf_value){.kind = KF_V_FUNCTION, .integer = node});
    case KF_NODE_SCOPE: return run_scope(t, node);
    case KF_NODE_BREAK: t->jump = KF_RUN_BREAK; return KF_OK;
    case KF_NODE_CONTINUE: t->jump = KF_RUN_CONTINUE; return KF_OK;
    default: return KF_FAIL(KF_ERR_BUG, "%s line %u: a node that is no statement", t->name, n->line);
    }
}

static kf_status run(kf_template *t, uint32_t first) {
    if (++t->depth > KF_DEPTH_MAX)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%s: more than %d statements in one another", t->name, KF_DEPTH_MAX);
    for (uint32_t i = first; i && t->jump == KF_RUN_ON; i = node_at(t, i)->next) {
        KF_TRY(kf_template_steps(t, 1));
        KF_TRY(run_one(t, i));
    }
    t->depth--;
    return KF_OK;
}

/* ---- a render ---- */

static kf_status own_text(kf_template *t, const char *text, kf_value *out) {
    *out = kf_text(t->n_bytes, (uint32_t)strlen(text));
    return kf_put(t, text, NULL, strlen(text));
}

static kf_status set_messages(kf_template *t, const kf_template_in *in) {
    uint32_t list, pairs;
    KF_TRY(kf_values_new(t, in->n_messages, &list));
    for (size_t i = 0; i < in->n_messages; i++) {
        const kf_message *m = &in->messages[i];
        KF_TRY(kf_values_new(t, 4, &pairs));
        kf_value *v = t->values + pairs;
        v[0] = (kf_value){.kind = KF_V_TEXT, .text = t->names[KF_NAME_ROLE]};
        KF_TRY(own_text(t, m->role, &v[1]));
        v[2] = (kf_value){.kind = KF_V_TEXT, .text = t->names[KF_NAME_CONTENT]};
        uint32_t at = t->n_bytes;
        KF_TRY(kf_put(t, m->content, NULL, m->n));
        memset(t->marks + at, 1, m->n);
        v[3] = kf_text(at, (uint32_t)m->n);
        t->values[list + i] = (kf_value){.kind = KF_V_DICT, .seq = {pairs, 2}};
    }
    return set(t, 0, KF_NAME_MESSAGES, (kf_value){.kind = KF_V_LIST, .seq = {list, (uint32_t)in->n_messages}});
}

/* As transformers passes them: tools and documents are there, and none. */
static kf_status set_globals(kf_template *t, const kf_template_in *in) {
    KF_TRY(set_messages(t, in));
    KF_TRY(set(t, 0, KF_NAME_TOOLS, kf_none()));
    KF_TRY(set(t, 0, KF_NAME_DOCUMENTS, kf_none()));
    KF_TRY(set(t, 0, KF_NAME_ADD_GENERATION_PROMPT, kf_bool(in->add_generation_prompt)));
    if (in->has_thinking) KF_TRY(set(t, 0, KF_NAME_ENABLE_THINKING, kf_bool(in->enable_thinking)));
    for (size_t i = 0; i < in->n_texts; i++) {
        kf_value text;
        uint32_t id = 0;
        while (id < t->n_names && !kf_text_is(t, t->names[id], in->texts[i].name))
            id++;
        if (id == t->n_names) continue; /* the template does not ask for it */
        KF_TRY(own_text(t, in->texts[i].text, &text));
        KF_TRY(set(t, 0, id, text));
    }
    return KF_OK;
}

kf_status kf_template_render(kf_template *t, const kf_template_in *in, kf_rendered *out) {
    t->in = in;
    t->n_bytes = t->n_own_bytes;
    t->n_values = t->n_out = t->n_vars = t->n_globals = t->frame = t->floor = t->n_steps = t->depth = 0;
    t->jump = KF_RUN_ON;
    KF_TRY(set_globals(t, in));
    KF_TRY(run(t, t->body));
    *out = (kf_rendered){.text = t->out, .marks = t->out_marks, .n = t->n_out};
    return KF_OK;
}
