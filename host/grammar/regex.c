/* Parsing a regular expression into a tree, and the tree into an automaton; see regex.h. */
#include "grammar/regex.h"

#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

enum { GROUPS_MAX = 64, RANGES_MAX = 256, REPEAT_MAX = 10000, ANY_TIMES = -1, NO_NODE = -1 };

typedef struct node {
    enum { EMPTY, CHARS, THEN, OR, REPEAT } kind;
    int32_t a, b;     /* THEN, OR: nodes; REPEAT: a; CHARS: ranges [a, a + b) */
    int32_t min, max; /* REPEAT */
} node;

/* A set of characters while it is read. */
typedef struct chars {
    kf_char_range r[RANGES_MAX];
    size_t n;
} chars;

typedef struct parser {
    kf_nfa *n; /* for its status */
    const char *what, *text;
    size_t at, end;
    unsigned depth;
    node *nodes; /* [n_nodes] */
    size_t n_nodes, nodes_cap;
    kf_char_range *ranges; /* [n_ranges] */
    size_t n_ranges, ranges_cap;
} parser;

static int32_t fail(parser *p, kf_status s, const char *found) {
    if (p->n->status == KF_OK) kf_nfa_fail(p->n, KF_FAIL(s, "%s: at byte %zu: %s", p->what, p->at, found));
    return NO_NODE;
}

static int32_t no_memory(parser *p) {
    return fail(p, KF_ERR_NO_MEMORY, "no memory");
}

static int32_t put_node(parser *p, node made) {
    if (p->n->status != KF_OK) return NO_NODE;
    if (p->n_nodes == p->nodes_cap) {
        size_t cap = p->nodes_cap ? 2 * p->nodes_cap : 64;
        node *more = realloc(p->nodes, cap * sizeof *more);
        if (!more) return no_memory(p);
        p->nodes = more;
        p->nodes_cap = cap;
    }
    p->nodes[p->n_nodes] = made;
    return (int32_t)p->n_nodes++;
}

static bool more(const parser *p) {
    return p->at < p->end && p->n->status == KF_OK;
}

static bool next_is(const parser *p, const char *s) {
    size_t n = strlen(s);
    return p->end - p->at >= n && !memcmp(p->text + p->at, s, n);
}

static bool take(parser *p, const char *s) {
    if (!next_is(p, s)) return false;
    p->at += strlen(s);
    return true;
}

/* ---- sets of characters ---- */

static void add_range(parser *p, chars *c, uint32_t lo, uint32_t hi) {
    if (c->n == RANGES_MAX)
        fail(p, KF_ERR_TOO_LARGE, "a class of more than 256 ranges");
    else
        c->r[c->n++] = (kf_char_range){lo, hi};
}

static int by_lo(const void *a, const void *b) {
    uint32_t x = ((const kf_char_range *)a)->lo, y = ((const kf_char_range *)b)->lo;
    return x < y ? -1 : x > y;
}

/* Ascending, and joined where they touch. */
static void tidy(chars *c) {
    size_t n = 0;
    qsort(c->r, c->n, sizeof *c->r, by_lo);
    for (size_t i = 0; i < c->n; i++) {
        if (n && c->r[i].lo <= c->r[n - 1].hi + 1) {
            if (c->r[i].hi > c->r[n - 1].hi) c->r[n - 1].hi = c->r[i].hi;
        } else {
            c->r[n++] = c->r[i];
        }
    }
    c->n = n;
}

static void invert(parser *p, chars *c) {
    chars out = {.n = 0};
    uint32_t from = 0;
    tidy(c);
    for (size_t i = 0; i < c->n; i++) {
        if (c->r[i].lo > from) add_range(p, &out, from, c->r[i].lo - 1);
        from = c->r[i].hi + 1;
    }
    if (from <= 0x10FFFF) add_range(p, &out, from, 0x10FFFF);
    *c = out;
}

static int32_t put_chars(parser *p, chars *c) {
    tidy(c);
    if (p->n_ranges + c->n > p->ranges_cap) {
        size_t cap = 2 * p->ranges_cap + c->n;
        kf_char_range *grown = realloc(p->ranges, cap * sizeof *grown);
        if (!grown) return no_memory(p);
        p->ranges = grown;
        p->ranges_cap = cap;
    }
    if (c->n) memcpy(p->ranges + p->n_ranges, c->r, c->n * sizeof *c->r);
    p->n_ranges += c->n;
    return put_node(p, (node){.kind = CHARS, .a = (int32_t)(p->n_ranges - c->n), .b = (int32_t)c->n});
}

/* ---- escapes ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') return (c | 0x20) - 'a' + 10;
    return -1;
}

/* n digits, or any number of them in braces. */
static uint32_t hex_escape(parser *p, size_t n) {
    uint32_t cp = 0;
    bool braces = take(p, "{");
    size_t first = p->at;
    while (p->at < p->end && hex_digit(p->text[p->at]) >= 0 && (braces || p->at - first < n) && cp <= 0x10FFFF)
        cp = cp << 4 | (uint32_t)hex_digit(p->text[p->at++]);
    bool whole = braces ? p->at > first && take(p, "}") : p->at - first == n;
    if (!whole || cp > 0x10FFFF) fail(p, KF_ERR_INVALID, "no hexadecimal code point");
    return cp;
}

/* \d, \w or \s into c; false: it is none. */
static bool named_class(parser *p, char letter, chars *c) {
    static const struct {
        char letter;
        size_t n;
        kf_char_range r[4];
    } known[] = {
        {'d', 1, {{'0', '9'}}},
        {'w', 4, {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
        {'s', 2, {{'\t', '\r'}, {' ', ' '}}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if ((letter | 0x20) != known[i].letter) continue;
        chars own = {.n = known[i].n};
        memcpy(own.r, known[i].r, known[i].n * sizeof *own.r);
        if (letter < 'a') invert(p, &own);
        for (size_t r = 0; r < own.n; r++)
            add_range(p, c, own.r[r].lo, own.r[r].hi);
        return true;
    }
    return false;
}

/* The character after a backslash, which is none of a class. */
static uint32_t escaped(parser *p, bool in_class) {
    static const char letters[] = "tnrfv", values[] = "\t\n\r\f\v";
    char c = p->text[p->at];
    const char *at = memchr(letters, c, sizeof letters - 1);
    if (at) {
        p->at++;
        return (uint32_t)(unsigned char)values[at - letters];
    }
    if (in_class && take(p, "b")) return '\b';
    if (take(p, "x")) return hex_escape(p, 2);
    if (take(p, "u")) return hex_escape(p, 4);
    if ((unsigned char)c >= 0x80) return kf_utf8_next(p->text, &p->at);
    if (c == 'b' || c == 'B')
        fail(p, KF_ERR_UNSUPPORTED, "\\b (a word's border) is not supported");
    else if (c == 'p' || c == 'P')
        fail(p, KF_ERR_UNSUPPORTED, "\\p (a Unicode property) is not supported: list ranges");
    else if (c == 'k' || (c >= '0' && c <= '9'))
        fail(p, KF_ERR_UNSUPPORTED, "a back-reference is not supported");
    else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        fail(p, KF_ERR_UNSUPPORTED, "this escape is not known");
    p->at++;
    return (uint32_t)(unsigned char)c;
}

/* ---- [a class] ---- */

/* A character or an escape: a character into *cp and true, or a named class into c and false. */
static bool take_member(parser *p, bool in_class, chars *c, uint32_t *cp) {
    if (in_class && next_is(p, "[:")) fail(p, KF_ERR_UNSUPPORTED, "a POSIX class is not supported: list ranges");
    if (!take(p, "\\")) {
        *cp = kf_utf8_next(p->text, &p->at);
        return true;
    }
    if (!more(p)) {
        fail(p, KF_ERR_INVALID, "a backslash ends it");
        return true;
    }
    if (named_class(p, p->text[p->at], c)) {
        p->at++;
        return false;
    }
    *cp = escaped(p, in_class);
    return true;
}

static int32_t parse_class(parser *p) {
    chars c = {.n = 0};
    bool inverted = take(p, "^");
    for (bool first = true; more(p) && (first || !next_is(p, "]")); first = false) {
        uint32_t lo = 0, hi = 0;
        if (!take_member(p, true, &c, &lo)) continue;
        hi = lo;
        if (next_is(p, "-") && !next_is(p, "-]")) {
            p->at++;
            if (!more(p) || !take_member(p, true, &c, &hi) || hi < lo) fail(p, KF_ERR_INVALID, "a range that is none");
        }
        add_range(p, &c, lo, hi);
    }
    if (!take(p, "]")) return fail(p, KF_ERR_INVALID, "a class without its ]");
    if (inverted) invert(p, &c);
    return put_chars(p, &c);
}

/* ---- the expression ---- */

static int32_t parse_alternatives(parser *p);

static int32_t parse_group(parser *p) {
    if (take(p, "?") && !take(p, ":")) {
        bool named = take(p, "P<") || (next_is(p, "<") && !next_is(p, "<=") && !next_is(p, "<!") && take(p, "<"));
        if (!named) return fail(p, KF_ERR_UNSUPPORTED, "this (? ) is not supported, only (?: ) and (?<name> )");
        while (p->at < p->end && p->text[p->at] != '>')
            p->at++;
        if (!take(p, ">")) return fail(p, KF_ERR_INVALID, "a group's name without its >");
    }
    if (++p->depth > GROUPS_MAX) return fail(p, KF_ERR_TOO_LARGE, "more than 64 groups in one another");
    int32_t inner = parse_alternatives(p);
    p->depth--;
    return take(p, ")") ? inner : fail(p, KF_ERR_INVALID, "a group without its )");
}

static int32_t parse_atom(parser *p) {
    chars c = {.n = 0};
    if (take(p, "(")) return parse_group(p);
    if (take(p, "[")) return parse_class(p);
    if (take(p, ".")) {
        add_range(p, &c, '\n', '\n');
        invert(p, &c);
        return put_chars(p, &c);
    }
    if (next_is(p, "^") || next_is(p, "$"))
        return fail(p, KF_ERR_UNSUPPORTED, "^ and $ are supported at the ends of the whole and its alternatives only");
    if (next_is(p, "*") || next_is(p, "+") || next_is(p, "?")) return fail(p, KF_ERR_INVALID, "nothing to repeat");
    uint32_t cp;
    if (take_member(p, false, &c, &cp)) add_range(p, &c, cp, cp);
    return put_chars(p, &c);
}

static int32_t number(parser *p) {
    int32_t v = 0;
    size_t first = p->at;
    while (p->at < p->end && p->text[p->at] >= '0' && p->text[p->at] <= '9' && v <= REPEAT_MAX)
        v = v * 10 + (p->text[p->at++] - '0');
    if (p->at == first) return ANY_TIMES;
    if (v > REPEAT_MAX) fail(p, KF_ERR_TOO_LARGE, "a repetition of more than 10000 times");
    return v;
}

/* {n}, {n,} or {n,m}; anything else that begins with a brace is text, as in ECMA 262 and PCRE. */
static bool take_braces(parser *p, int32_t *min, int32_t *max) {
    size_t before = p->at;
    if (!take(p, "{")) return false;
    *min = *max = number(p);
    if (*min != ANY_TIMES && take(p, ",")) *max = number(p);
    if (*min != ANY_TIMES && take(p, "}")) return true;
    p->at = before;
    return false;
}

static bool take_repetition(parser *p, int32_t *min, int32_t *max) {
    *min = 0;
    *max = ANY_TIMES;
    if (take(p, "*")) return true;
    if (take(p, "+")) {
        *min = 1;
        return true;
    }
    if (take(p, "?")) {
        *max = 1;
        return true;
    }
    return take_braces(p, min, max);
}

static int32_t parse_repeated(parser *p) {
    int32_t atom = parse_atom(p), min, max;
    if (!take_repetition(p, &min, &max)) return atom;
    if (max != ANY_TIMES && max < min) return fail(p, KF_ERR_INVALID, "a repetition whose end is below its start");
    if (next_is(p, "+")) return fail(p, KF_ERR_UNSUPPORTED, "a possessive repetition is not supported");
    take(p, "?");
    int32_t all = put_node(p, (node){.kind = REPEAT, .a = atom, .min = min, .max = max});
    if (take_repetition(p, &min, &max)) return fail(p, KF_ERR_INVALID, "a repetition of a repetition: put it in ( )");
    return all;
}

static bool at_end_of_alternative(const parser *p) {
    return !more(p) || next_is(p, "|") || next_is(p, ")");
}

static int32_t parse_sequence(parser *p) {
    int32_t all = put_node(p, (node){.kind = EMPTY});
    while (!at_end_of_alternative(p)) {
        bool anchor = p->depth == 0 && next_is(p, "$") && (p->at + 1 == p->end || p->text[p->at + 1] == '|');
        if (anchor) break; /* the caller's */
        all = put_node(p, (node){.kind = THEN, .a = all, .b = parse_repeated(p)});
    }
    return all;
}

static int32_t parse_alternatives(parser *p) {
    int32_t all = parse_sequence(p);
    while (more(p) && take(p, "|"))
        all = put_node(p, (node){.kind = OR, .a = all, .b = parse_sequence(p)});
    return all;
}

/* ---- the automaton ---- */

typedef struct builder {
    const parser *p;
    kf_nfa *n;
    kf_spelling spelling;
} builder;

static int32_t build(const builder *b, int32_t i, int32_t to);

static int32_t build_repeat(const builder *b, const node *r, int32_t to) {
    int32_t min = r->min;
    if (r->max == ANY_TIMES) {
        int32_t loop = kf_nfa_open(b->n), body = build(b, r->a, loop);
        kf_nfa_close(b->n, loop, body, to);
        to = min ? body : loop;
        if (min) min--;
    } else {
        int32_t end = to;
        for (int32_t i = min; i < r->max && kf_nfa_step(b->n); i++)
            to = kf_nfa_either(b->n, build(b, r->a, to), end);
    }
    for (int32_t i = 0; i < min && kf_nfa_step(b->n); i++)
        to = build(b, r->a, to);
    return to;
}

/* From right to left, so that a long sequence needs no deep stack. */
static int32_t build(const builder *b, int32_t i, int32_t to) {
    for (;;) {
        if (i == NO_NODE || to == KF_NFA_NONE || !kf_nfa_step(b->n)) return KF_NFA_NONE;
        const node *x = &b->p->nodes[i];
        switch (x->kind) {
        case EMPTY: return to;
        case CHARS: return kf_nfa_chars(b->n, b->p->ranges + x->a, (size_t)x->b, b->spelling, to);
        case OR: return kf_nfa_either(b->n, build(b, x->a, to), build(b, x->b, to));
        case REPEAT: return build_repeat(b, x, to);
        case THEN: to = build(b, x->b, to); i = x->a;
        }
    }
}

/* One alternative of the whole, with its anchors. */
static int32_t outer_alternative(parser *p, kf_anchoring anchoring, kf_spelling spelling, int32_t to) {
    bool from_start = take(p, "^") || anchoring == KF_REGEX_WHOLE;
    int32_t root = parse_sequence(p);
    bool to_end = take(p, "$") || anchoring == KF_REGEX_WHOLE;
    if (p->n->status != KF_OK) return KF_NFA_NONE;
    builder b = {p, p->n, spelling};
    if (!to_end) to = kf_nfa_any_text(p->n, spelling, to);
    int32_t start = build(&b, root, to);
    return from_start ? start : kf_nfa_any_text(p->n, spelling, start);
}

int32_t kf_regex_build(kf_nfa *n, const char *what, const char *pattern, size_t n_bytes, kf_anchoring anchoring,
                       kf_spelling spelling, int32_t to) {
    parser p = {.n = n, .what = what, .text = pattern, .end = n_bytes};
    size_t bad_at;
    int32_t all = KF_NFA_NONE;
    if (n_bytes > KF_REGEX_BYTES_MAX) {
        fail(&p, KF_ERR_TOO_LARGE, "longer than 4096 bytes");
    } else if (!kf_utf8_valid(pattern, n_bytes, &bad_at)) {
        p.at = bad_at;
        fail(&p, KF_ERR_INVALID, "not valid UTF-8");
    } else {
        do
            all = kf_nfa_either(n, all, outer_alternative(&p, anchoring, spelling, to));
        while (more(&p) && take(&p, "|"));
        if (more(&p)) fail(&p, KF_ERR_INVALID, "a ) without its (");
    }
    free(p.nodes);
    free(p.ranges);
    return n->status == KF_OK ? all : KF_NFA_NONE;
}
