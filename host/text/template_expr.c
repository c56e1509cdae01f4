/* A template's tokens to nodes: the expressions, in the order in which Jinja's operators bind. */
#include <stdio.h>
#include <string.h>

#include "text/template_impl.h"

static uint32_t parse_unary(kf_parser *p, bool with_filters);

static kf_node *node_at(const kf_parser *p, uint32_t node) {
    return &p->t->nodes[node];
}

/* Appends to a list of nodes. A node just parsed stands in none yet. */
static void append(kf_parser *p, uint32_t *first, uint32_t *last, uint32_t node) {
    if (*last)
        node_at(p, *last)->next = node;
    else
        *first = node;
    *last = node;
}

/* ---- names of ours ---- */

static uint32_t unknown(kf_parser *p, const char *what, kf_stretch name, const char *const *names, size_t n) {
    char known[400];
    size_t used = 0;
    known[0] = 0;
    for (size_t i = 0; i < n && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", names[i]);
    return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "%s `%.*s` is not supported; kefu knows %s", what,
                         name.n < 40 ? (int)name.n : 40, p->t->bytes + name.at, known);
}

/* ---- arguments ---- */

/* What stands between brackets, the closing one taken: expressions, and name=expression at the end. */
static uint32_t parse_arguments(kf_parser *p) {
    uint32_t first = 0, last = 0, n = 0, n_keywords = 0;
    while (p->status == KF_OK && !kf_accept(p, KF_T_OP, KF_OP(')', 0))) {
        if (n + n_keywords) kf_expect(p, KF_T_OP, KF_OP(',', 0));
        if (kf_accept(p, KF_T_OP, KF_OP(')', 0))) break;
        const kf_token *name = p->now;
        bool keyword =
            name->kind == KF_T_NAME && name + 1 < p->end && name[1].kind == KF_T_OP && name[1].id == KF_OP('=', 0);
        uint32_t node = 0;
        if (keyword) {
            node = kf_node_new(p, KF_NODE_KEYWORD);
            p->now += 2;
        }
        uint32_t value = kf_parse_expression(p);
        if (p->status != KF_OK) return 0;
        if (keyword) {
            node_at(p, node)->id = name->id;
            node_at(p, node)->a = value;
        }
        if (!keyword && n_keywords) return kf_parse_fail(p, KF_ERR_CORRUPT, "an argument after name=value");
        append(p, &first, &last, keyword ? node : value);
        if (++*(keyword ? &n_keywords : &n) > KF_ARGS_MAX)
            return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "more than %d arguments", KF_ARGS_MAX);
    }
    return first;
}

uint32_t kf_parse_parameters(kf_parser *p) {
    uint32_t first = 0, last = 0, n = 0;
    while (p->status == KF_OK && !kf_accept(p, KF_T_OP, KF_OP(')', 0))) {
        if (n++) kf_expect(p, KF_T_OP, KF_OP(',', 0));
        uint32_t node = kf_node_new(p, KF_NODE_KEYWORD), id = p->now->id, value = 0;
        kf_expect(p, KF_T_NAME, 0);
        if (kf_accept(p, KF_T_OP, KF_OP('=', 0))) value = kf_parse_expression(p);
        if (p->status != KF_OK) return 0;
        if (n > KF_ARGS_MAX) return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "more than %d parameters", KF_ARGS_MAX);
        node_at(p, node)->id = id;
        node_at(p, node)->a = value;
        append(p, &first, &last, node);
    }
    return first;
}

/* ---- primaries ---- */

static uint32_t constant(kf_parser *p, kf_value value) {
    uint32_t node = kf_node_new(p, KF_NODE_CONST);
    if (node) node_at(p, node)->value = value;
    return node;
}

/* Members up to the closing bracket; pairs: key: value. */
static uint32_t parse_members(kf_parser *p, kf_node_kind kind, uint32_t close) {
    uint32_t node = kf_node_new(p, kind), first = 0, last = 0;
    while (p->status == KF_OK && !kf_accept(p, KF_T_OP, close)) {
        if (first) kf_expect(p, KF_T_OP, KF_OP(',', 0));
        if (kf_accept(p, KF_T_OP, close)) break;
        uint32_t member = kf_parse_expression(p);
        if (p->status != KF_OK) return 0;
        append(p, &first, &last, member);
        if (kind != KF_NODE_DICT) continue;
        kf_expect(p, KF_T_OP, KF_OP(':', 0));
        uint32_t value = kf_parse_expression(p);
        if (p->status != KF_OK) return 0;
        append(p, &first, &last, value);
    }
    if (p->status == KF_OK) node_at(p, node)->a = first;
    return node;
}

static uint32_t parse_string(kf_parser *p) {
    kf_stretch text = p->now++->text;
    while (p->now->kind == KF_T_STRING) { /* 'a' 'b' is 'ab': they were lexed one after the other */
        if (p->now->text.at != text.at + text.n)
            return kf_parse_fail(p, KF_ERR_CORRUPT, "strings beside each other that do not touch");
        text.n += p->now++->text.n;
    }
    return constant(p, kf_text(text.at, text.n));
}

static uint32_t parse_name(kf_parser *p) {
    static const char *const words[] = {"true", "True", "false", "False", "none", "None"};
    const kf_token *k = p->now++;
    size_t word = kf_text_among(p->t, k->text, words, 6);
    if (word < 4) return constant(p, kf_bool(word < 2));
    if (word < 6) return constant(p, kf_none());
    uint32_t node = kf_node_new(p, KF_NODE_NAME);
    if (node) node_at(p, node)->id = k->id;
    return node;
}

static uint32_t parse_primary(kf_parser *p) {
    char found[48];
    const kf_token *k = p->now;
    if (k->kind == KF_T_NAME) return parse_name(p);
    if (k->kind == KF_T_STRING) return parse_string(p);
    if (kf_accept(p, KF_T_INT, 0)) return constant(p, kf_int(k->integer));
    if (kf_accept(p, KF_T_OP, KF_OP('[', 0))) return parse_members(p, KF_NODE_LIST, KF_OP(']', 0));
    if (kf_accept(p, KF_T_OP, KF_OP('{', 0))) return parse_members(p, KF_NODE_DICT, KF_OP('}', 0));
    if (kf_accept(p, KF_T_OP, KF_OP('(', 0))) {
        if (kf_accept(p, KF_T_OP, KF_OP(')', 0))) return kf_node_new(p, KF_NODE_LIST);
        uint32_t inner = kf_parse_tuple(p, true);
        kf_expect(p, KF_T_OP, KF_OP(')', 0));
        return inner;
    }
    return kf_parse_fail(p, KF_ERR_CORRUPT, "a value wanted, %s found", kf_token_text(p, found));
}

static uint32_t binary(kf_parser *p, kf_node_kind kind, uint32_t op, uint32_t a, uint32_t b) {
    if (p->status != KF_OK) return 0;
    uint32_t node = kf_node_new(p, kind);
    if (node) node_at(p, node)->op = op, node_at(p, node)->a = a, node_at(p, node)->b = b;
    return node;
}

/* ---- what follows a primary ---- */

static uint32_t parse_attribute(kf_parser *p, uint32_t of) {
    const kf_token *k = p->now;
    if (kf_accept(p, KF_T_INT, 0)) return binary(p, KF_NODE_INDEX, 0, of, constant(p, kf_int(k->integer))); /* x.0 */
    if (!kf_expect(p, KF_T_NAME, 0)) return 0;
    if (!kf_accept(p, KF_T_OP, KF_OP('(', 0))) {
        uint32_t node = kf_node_new(p, KF_NODE_ATTR);
        if (node) node_at(p, node)->a = of, node_at(p, node)->id = k->id;
        return node;
    }
    size_t method = kf_text_among(p->t, k->text, kf_method_names, KF_N_METHODS);
    if (method == KF_N_METHODS) return unknown(p, "method", k->text, kf_method_names, KF_N_METHODS);
    uint32_t node = kf_node_new(p, KF_NODE_METHOD), arguments = parse_arguments(p);
    if (p->status != KF_OK) return 0;
    node_at(p, node)->a = of, node_at(p, node)->b = arguments, node_at(p, node)->op = (uint32_t)method;
    return node;
}

/* [key], or [start:stop:step] with parts left out. */
static uint32_t parse_subscript(kf_parser *p, uint32_t of) {
    uint32_t parts[3] = {0}, n = 0;
    uint32_t node = kf_node_new(p, KF_NODE_INDEX);
    for (;;) {
        bool empty = p->now->kind == KF_T_OP && (p->now->id == KF_OP(':', 0) || p->now->id == KF_OP(']', 0));
        if (!empty) parts[n] = kf_parse_expression(p);
        if (p->status != KF_OK || n == 2 || !kf_accept(p, KF_T_OP, KF_OP(':', 0))) break;
        n++;
    }
    kf_expect(p, KF_T_OP, KF_OP(']', 0));
    if (p->status != KF_OK) return 0;
    if (n == 0 && !parts[0]) return kf_parse_fail(p, KF_ERR_CORRUPT, "an empty subscript");
    kf_node *k = node_at(p, node);
    if (n) k->kind = KF_NODE_SLICE;
    k->a = of, k->b = parts[0], k->c = parts[1], k->d = parts[2];
    return node;
}

static uint32_t parse_call(kf_parser *p, uint32_t callee) {
    if (!callee || node_at(p, callee)->kind != KF_NODE_NAME)
        return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "a call of what is no name is not supported");
    uint32_t id = node_at(p, callee)->id, node = kf_node_new(p, KF_NODE_CALL), arguments = parse_arguments(p);
    if (p->status != KF_OK) return 0;
    size_t function = kf_text_among(p->t, p->t->names[id], kf_function_names, KF_N_FUNCTIONS);
    kf_node *k = node_at(p, node);
    if (function == KF_N_FUNCTIONS) k->kind = KF_NODE_MACRO_CALL;
    k->op = (uint32_t)function, k->id = id, k->b = arguments;
    return node;
}

static uint32_t parse_postfix(kf_parser *p, uint32_t node) {
    for (;;) {
        if (p->status != KF_OK) return 0;
        if (kf_accept(p, KF_T_OP, KF_OP('.', 0)))
            node = parse_attribute(p, node);
        else if (kf_accept(p, KF_T_OP, KF_OP('[', 0)))
            node = parse_subscript(p, node);
        else if (kf_accept(p, KF_T_OP, KF_OP('(', 0)))
            node = parse_call(p, node);
        else
            return node;
    }
}

static uint32_t parse_filter(kf_parser *p, uint32_t of) {
    const kf_token *k = p->now;
    if (!kf_expect(p, KF_T_NAME, 0)) return 0;
    size_t filter = kf_text_among(p->t, k->text, kf_filter_names, KF_N_FILTERS);
    if (filter == KF_N_FILTERS) return unknown(p, "filter", k->text, kf_filter_names, KF_N_FILTERS);
    uint32_t node = kf_node_new(p, KF_NODE_FILTER);
    uint32_t arguments = kf_accept(p, KF_T_OP, KF_OP('(', 0)) ? parse_arguments(p) : 0;
    if (p->status != KF_OK) return 0;
    node_at(p, node)->a = of, node_at(p, node)->b = arguments, node_at(p, node)->op = (uint32_t)filter;
    return node;
}

/* A test's argument may stand without brackets: x is divisibleby 3. */
static uint32_t parse_test_arguments(kf_parser *p) {
    const kf_token *k = p->now;
    if (kf_accept(p, KF_T_OP, KF_OP('(', 0))) return parse_arguments(p);
    bool bracket = k->kind == KF_T_OP && (k->id == KF_OP('[', 0) || k->id == KF_OP('{', 0));
    bool begins = k->kind == KF_T_NAME || k->kind == KF_T_STRING || k->kind == KF_T_INT || bracket;
    if (!begins || kf_at_name(p, "else") || kf_at_name(p, "or") || kf_at_name(p, "and")) return 0;
    if (kf_at_name(p, "is")) return kf_parse_fail(p, KF_ERR_CORRUPT, "a test of a test");
    return parse_postfix(p, parse_primary(p));
}

static uint32_t parse_test(kf_parser *p, uint32_t of) {
    bool negated = kf_accept_name(p, "not");
    const kf_token *k = p->now;
    if (!kf_expect(p, KF_T_NAME, 0)) return 0;
    size_t test = kf_text_among(p->t, k->text, kf_test_names, KF_N_TESTS);
    if (kf_text_is(p->t, k->text, "None")) test = KF_IS_NONE;
    if (test == KF_N_TESTS) return unknown(p, "test", k->text, kf_test_names, KF_N_TESTS);
    uint32_t node = kf_node_new(p, KF_NODE_TEST), arguments = parse_test_arguments(p);
    if (p->status != KF_OK) return 0;
    kf_node *made = node_at(p, node);
    made->a = of, made->b = arguments, made->op = (uint32_t)test, made->id = negated;
    return node;
}

static uint32_t parse_filters(kf_parser *p, uint32_t node) {
    for (;;) {
        if (p->status != KF_OK) return 0;
        if (kf_accept(p, KF_T_OP, KF_OP('|', 0)))
            node = parse_filter(p, node);
        else if (kf_accept_name(p, "is"))
            node = parse_test(p, node);
        else if (kf_accept(p, KF_T_OP, KF_OP('(', 0)))
            node = parse_call(p, node);
        else
            return node;
    }
}

/* ---- operators ---- */

static uint32_t parse_unary(kf_parser *p, bool with_filters) {
    uint32_t node, op = p->now->id;
    if (++p->depth > KF_DEPTH_MAX)
        return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "more than %d expressions in one another", KF_DEPTH_MAX);
    if (kf_accept(p, KF_T_OP, KF_OP('-', 0)) || kf_accept(p, KF_T_OP, KF_OP('+', 0)))
        node = binary(p, KF_NODE_UNARY, op, parse_unary(p, false), 0);
    else
        node = parse_primary(p);
    node = parse_postfix(p, node);
    if (with_filters) node = parse_filters(p, node);
    p->depth--;
    return node;
}

/* Levels of operators with two sides, the loosest first. */
static const uint32_t levels[3][4] = {
    {KF_OP('+', 0), KF_OP('-', 0)},
    {KF_OP('~', 0)},
    {KF_OP('*', 0), KF_OP('%', 0), KF_OP('/', '/')},
};

static uint32_t parse_level(kf_parser *p, size_t level) {
    if (level == 3) {
        uint32_t node = parse_unary(p, true);
        if (p->now->kind == KF_T_OP && (p->now->id == KF_OP('*', '*') || p->now->id == KF_OP('/', 0)))
            return kf_parse_fail(p, KF_ERR_UNSUPPORTED,
                                 "operators `/` and `**` are not supported; kefu knows + - * // %% ~");
        return node;
    }
    uint32_t a = parse_level(p, level + 1);
    for (size_t i = 0; p->now->kind == KF_T_OP && i < 4 && levels[level][i];) {
        uint32_t op = levels[level][i];
        i = kf_accept(p, KF_T_OP, op) ? 0 : i + 1;
        if (i == 0) a = binary(p, KF_NODE_BINARY, op, a, parse_level(p, level + 1));
    }
    return a;
}

/* The comparison that stands here, its token taken; 0: none. `in` is 'i', `not in` is 'n'. */
static uint32_t accept_comparison(kf_parser *p) {
    static const uint32_t ops[] = {KF_OP('=', '='), KF_OP('!', '='), KF_OP('<', '='),
                                   KF_OP('>', '='), KF_OP('<', 0),   KF_OP('>', 0)};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (kf_accept(p, KF_T_OP, ops[i])) return ops[i];
    if (kf_accept_name(p, "in")) return KF_OP('i', 0);
    const kf_token *k = p->now;
    if (!kf_at_name(p, "not") || k + 1 >= p->end) return 0;
    kf_parser ahead = *p;
    ahead.now++;
    if (!kf_at_name(&ahead, "in")) return 0;
    p->now += 2;
    return KF_OP('n', 0);
}

static uint32_t parse_compare(kf_parser *p) {
    uint32_t a = parse_level(p, 0), first = 0, last = 0, op;
    while (p->status == KF_OK && (op = accept_comparison(p))) {
        uint32_t part = binary(p, KF_NODE_COMPARAND, op, parse_level(p, 0), 0);
        if (part) append(p, &first, &last, part);
    }
    return first ? binary(p, KF_NODE_COMPARE, 0, a, first) : a;
}

static uint32_t parse_not(kf_parser *p) {
    unsigned n = 0;
    while (kf_accept_name(p, "not"))
        n++;
    uint32_t a = parse_compare(p);
    for (; n > 0 && p->status == KF_OK; n--)
        a = binary(p, KF_NODE_NOT, 0, a, 0);
    return a;
}

static uint32_t parse_and(kf_parser *p) {
    uint32_t a = parse_not(p);
    while (kf_accept_name(p, "and"))
        a = binary(p, KF_NODE_AND, 0, a, parse_not(p));
    return a;
}

uint32_t kf_parse_or(kf_parser *p) {
    uint32_t a = parse_and(p);
    while (kf_accept_name(p, "or"))
        a = binary(p, KF_NODE_OR, 0, a, parse_and(p));
    return a;
}

uint32_t kf_parse_expression(kf_parser *p) {
    if (++p->depth > KF_DEPTH_MAX)
        return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "more than %d expressions in one another", KF_DEPTH_MAX);
    uint32_t then = kf_parse_or(p);
    while (kf_accept_name(p, "if")) {
        uint32_t condition = kf_parse_or(p), otherwise = kf_accept_name(p, "else") ? kf_parse_expression(p) : 0;
        uint32_t node = binary(p, KF_NODE_IF_ELSE, 0, condition, then);
        if (node) node_at(p, node)->c = otherwise;
        then = node;
    }
    p->depth--;
    return then;
}

uint32_t kf_parse_tuple(kf_parser *p, bool with_if) {
    uint32_t one = with_if ? kf_parse_expression(p) : kf_parse_or(p), first = 0, last = 0;
    if (p->status != KF_OK || p->now->kind != KF_T_OP || p->now->id != KF_OP(',', 0)) return one;
    append(p, &first, &last, one);
    while (kf_accept(p, KF_T_OP, KF_OP(',', 0))) {
        bool ends = p->now->kind == KF_T_PRINT_END || p->now->kind == KF_T_BLOCK_END ||
                    (p->now->kind == KF_T_OP && p->now->id == KF_OP(')', 0));
        if (ends) break;
        uint32_t member = with_if ? kf_parse_expression(p) : kf_parse_or(p);
        if (p->status != KF_OK) return 0;
        append(p, &first, &last, member);
    }
    return binary(p, KF_NODE_LIST, 0, first, 0);
}
