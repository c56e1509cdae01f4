/* A template's tokens to nodes: the statements, and compiling as a whole. Jinja's grammar, as far as models use it;
 * what is outside it is refused by name, since a prompt that is nearly right makes a model quietly worse. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_impl.h"
#include "text/utf8.h"

static uint32_t parse_body(kf_parser *p, const char *const *ends);

/* ---- what both halves of the parser use ---- */

uint32_t kf_parse_fail(kf_parser *p, kf_status s, const char *fmt, ...) {
    char text[512];
    va_list args;
    if (p->status != KF_OK) return 0;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    p->status = KF_FAIL(s, "%s line %u: %s", p->t->name, p->now->line, text);
    p->now = p->end; /* every loop over tokens ends there */
    return 0;
}

uint32_t kf_node_new(kf_parser *p, kf_node_kind kind) {
    kf_template *t = p->t;
    if (t->n_nodes == t->nodes_cap) {
        uint32_t cap = t->nodes_cap ? 2 * t->nodes_cap : 256;
        kf_node *grown = realloc(t->nodes, cap * sizeof *grown);
        if (!grown) return kf_parse_fail(p, KF_ERR_NO_MEMORY, "no memory for %u nodes", cap);
        t->nodes = grown;
        t->nodes_cap = cap;
    }
    t->nodes[t->n_nodes] = (kf_node){.kind = (uint8_t)kind, .line = p->now->line};
    return t->n_nodes++;
}

bool kf_accept(kf_parser *p, kf_token_kind kind, uint32_t id) {
    if (p->now->kind != kind || (kind == KF_T_OP && p->now->id != id) || p->now == p->end) return false;
    p->now++;
    return true;
}

bool kf_at_name(const kf_parser *p, const char *name) {
    return p->now->kind == KF_T_NAME && kf_text_is(p->t, p->now->text, name);
}

bool kf_accept_name(kf_parser *p, const char *name) {
    if (!kf_at_name(p, name)) return false;
    p->now++;
    return true;
}

const char *kf_token_text(const kf_parser *p, char out[48]) {
    const kf_token *k = p->now;
    switch (k->kind) {
    case KF_T_END: return "the end";
    case KF_T_DATA: return "text";
    case KF_T_PRINT: return "{{";
    case KF_T_PRINT_END: return "}}";
    case KF_T_BLOCK: return "{%";
    case KF_T_BLOCK_END: return "%}";
    case KF_T_INT: return "a number";
    case KF_T_STRING: return "a string";
    case KF_T_NAME: snprintf(out, 48, "`%.*s`", k->text.n < 40 ? (int)k->text.n : 40, p->t->bytes + k->text.at); break;
    case KF_T_OP: snprintf(out, 48, "`%c%c", (char)(k->id >> 8), k->id & 0xFF ? (char)k->id : '`'); break;
    }
    return out;
}

bool kf_expect(kf_parser *p, kf_token_kind kind, uint32_t id) {
    char found[48];
    static const char *const names[] = {[KF_T_PRINT_END] = "}}", [KF_T_BLOCK_END] = "%}", [KF_T_NAME] = "a name"};
    if (kf_accept(p, kind, id)) return true;
    if (kind == KF_T_OP)
        kf_parse_fail(p, KF_ERR_CORRUPT, "`%c` wanted, %s found", (char)(id >> 8), kf_token_text(p, found));
    else
        kf_parse_fail(p, KF_ERR_CORRUPT, "%s wanted, %s found", names[kind], kf_token_text(p, found));
    return false;
}

/* ---- statements ---- */

static const char *const if_ends[] = {"elif", "else", "endif", NULL}, *const else_ends[] = {"endif", NULL},
                         *const for_ends[] = {"else", "endfor", NULL}, *const for_else_ends[] = {"endfor", NULL},
                         *const set_ends[] = {"endset", NULL}, *const macro_ends[] = {"endmacro", NULL},
                         *const generation_ends[] = {"endgeneration", NULL};

static uint32_t parse_if(kf_parser *p) {
    uint32_t node = kf_node_new(p, KF_NODE_IF), condition = kf_parse_or(p);
    if (++p->depth > KF_DEPTH_MAX)
        return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "more than %d statements in one another", KF_DEPTH_MAX);
    kf_expect(p, KF_T_BLOCK_END, 0);
    uint32_t body = parse_body(p, if_ends), otherwise = 0;
    if (kf_accept_name(p, "elif")) {
        otherwise = parse_if(p);
    } else {
        if (kf_accept_name(p, "else")) {
            kf_expect(p, KF_T_BLOCK_END, 0);
            otherwise = parse_body(p, else_ends);
        }
        kf_accept_name(p, "endif");
    }
    p->depth--;
    if (p->status != KF_OK) return 0;
    p->t->nodes[node].a = condition;
    p->t->nodes[node].b = body;
    p->t->nodes[node].c = otherwise;
    return node;
}

/* name, or name.attribute, or several names with commas between. */
static uint32_t parse_targets(kf_parser *p, bool attributes) {
    uint32_t first = 0, last = 0;
    do {
        uint32_t node = kf_node_new(p, KF_NODE_TARGET), id = p->now->id;
        if (!kf_expect(p, KF_T_NAME, 0)) return 0;
        p->t->nodes[node].id = id;
        if (attributes && kf_accept(p, KF_T_OP, KF_OP('.', 0))) {
            p->t->nodes[node].op = 1;
            p->t->nodes[node].value = kf_int(p->now->id);
            if (!kf_expect(p, KF_T_NAME, 0)) return 0;
        }
        if (last)
            p->t->nodes[last].next = node;
        else
            first = node;
        last = node;
    } while (kf_accept(p, KF_T_OP, KF_OP(',', 0)));
    return first;
}

static uint32_t parse_for(kf_parser *p) {
    uint32_t node = kf_node_new(p, KF_NODE_FOR), targets = parse_targets(p, false), otherwise = 0, filter = 0;
    if (!kf_accept_name(p, "in")) return kf_parse_fail(p, KF_ERR_CORRUPT, "`in` wanted after a for's names");
    uint32_t list = kf_parse_tuple(p, false);
    if (kf_accept_name(p, "if")) filter = kf_parse_expression(p);
    if (kf_at_name(p, "recursive")) return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "a recursive for is not supported");
    kf_expect(p, KF_T_BLOCK_END, 0);
    p->n_loops++;
    uint32_t body = parse_body(p, for_ends);
    p->n_loops--;
    if (kf_accept_name(p, "else")) {
        kf_expect(p, KF_T_BLOCK_END, 0);
        otherwise = parse_body(p, for_else_ends);
    }
    kf_accept_name(p, "endfor");
    if (p->status != KF_OK) return 0;
    kf_node *n = &p->t->nodes[node];
    n->a = targets, n->b = list, n->c = filter, n->d = body, n->value = kf_int(otherwise);
    return node;
}

static uint32_t parse_set(kf_parser *p) {
    uint32_t node = kf_node_new(p, KF_NODE_SET), targets = parse_targets(p, true), expression = 0, body = 0;
    if (kf_accept(p, KF_T_OP, KF_OP('=', 0))) {
        expression = kf_parse_tuple(p, true);
    } else {
        if (p->now->kind == KF_T_OP && p->now->id == KF_OP('|', 0))
            return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "a set block with a filter is not supported");
        kf_expect(p, KF_T_BLOCK_END, 0);
        body = parse_body(p, set_ends);
        kf_accept_name(p, "endset");
    }
    if (p->status != KF_OK) return 0;
    kf_node *n = &p->t->nodes[node];
    n->a = targets, n->b = expression, n->c = body;
    return node;
}

static uint32_t parse_macro(kf_parser *p) {
    uint32_t node = kf_node_new(p, KF_NODE_MACRO), id = p->now->id;
    kf_expect(p, KF_T_NAME, 0);
    kf_expect(p, KF_T_OP, KF_OP('(', 0));
    uint32_t parameters = kf_parse_parameters(p);
    kf_expect(p, KF_T_BLOCK_END, 0);
    unsigned n_loops = p->n_loops;
    p->n_loops = 0; /* a break in a macro ends no loop around it */
    uint32_t body = parse_body(p, macro_ends);
    p->n_loops = n_loops;
    kf_accept_name(p, "endmacro");
    if (p->status != KF_OK) return 0;
    kf_node *n = &p->t->nodes[node];
    n->id = id, n->a = parameters, n->b = body;
    return node;
}

/* {% generation %} tells a trainer which tokens to learn; its text is as any other. */
static uint32_t parse_generation(kf_parser *p) {
    uint32_t node = kf_node_new(p, KF_NODE_SCOPE);
    kf_expect(p, KF_T_BLOCK_END, 0);
    unsigned n_loops = p->n_loops;
    p->n_loops = 0;
    uint32_t body = parse_body(p, generation_ends);
    p->n_loops = n_loops;
    kf_accept_name(p, "endgeneration");
    if (p->status == KF_OK) p->t->nodes[node].a = body;
    return p->status == KF_OK ? node : 0;
}

static uint32_t parse_jump(kf_parser *p, kf_node_kind kind) {
    if (!p->n_loops) return kf_parse_fail(p, KF_ERR_CORRUPT, "break or continue outside a for");
    return kf_node_new(p, kind);
}

/* Behind {%. */
static uint32_t parse_statement(kf_parser *p) {
    char found[48];
    if (kf_accept_name(p, "if")) return parse_if(p);
    if (kf_accept_name(p, "for")) return parse_for(p);
    if (kf_accept_name(p, "set")) return parse_set(p);
    if (kf_accept_name(p, "macro")) return parse_macro(p);
    if (kf_accept_name(p, "generation")) return parse_generation(p);
    if (kf_accept_name(p, "break")) return parse_jump(p, KF_NODE_BREAK);
    if (kf_accept_name(p, "continue")) return parse_jump(p, KF_NODE_CONTINUE);
    return kf_parse_fail(p, KF_ERR_UNSUPPORTED,
                         "statement %s is not supported here; kefu knows if, for, set, macro, generation, break and "
                         "continue",
                         kf_token_text(p, found));
}

/* Whether {% and one of `ends` stand here; the {% is taken then. */
static bool at_body_end(kf_parser *p, const char *const *ends) {
    if (p->now->kind != KF_T_BLOCK || p->now + 1 >= p->end) return false;
    kf_parser ahead = *p;
    ahead.now++;
    for (; *ends; ends++) {
        if (!kf_at_name(&ahead, *ends)) continue;
        p->now++;
        return true;
    }
    return false;
}

static uint32_t parse_one(kf_parser *p) {
    const kf_token *k = p->now;
    uint32_t node = 0;
    if (kf_accept(p, KF_T_DATA, 0)) {
        node = kf_node_new(p, KF_NODE_DATA);
        if (node) p->t->nodes[node].value = kf_text(k->text.at, k->text.n);
    } else if (kf_accept(p, KF_T_PRINT, 0)) {
        node = kf_node_new(p, KF_NODE_PRINT);
        uint32_t shown = kf_parse_tuple(p, true);
        kf_expect(p, KF_T_PRINT_END, 0);
        if (p->status == KF_OK) p->t->nodes[node].a = shown;
    } else if (kf_accept(p, KF_T_BLOCK, 0)) {
        node = parse_statement(p);
        kf_expect(p, KF_T_BLOCK_END, 0);
    }
    return node;
}

/* Statements up to one of the words in `ends`, which is left to the caller; NULL: to the end of the source. */
static uint32_t parse_body(kf_parser *p, const char *const *ends) {
    uint32_t first = 0, last = 0;
    if (++p->depth > KF_DEPTH_MAX)
        return kf_parse_fail(p, KF_ERR_UNSUPPORTED, "more than %d statements in one another", KF_DEPTH_MAX);
    while (p->status == KF_OK && !(ends && at_body_end(p, ends))) {
        if (p->now == p->end) {
            if (ends) kf_parse_fail(p, KF_ERR_CORRUPT, "{%% %s %%} is missing", ends[0]);
            break;
        }
        uint32_t node = parse_one(p);
        if (p->status != KF_OK) return 0;
        if (last)
            p->t->nodes[last].next = node;
        else
            first = node;
        last = node;
    }
    p->depth--;
    return first;
}

/* Every macro that is called is one of the template's. */
static kf_status check_calls(const kf_template *t) {
    for (uint32_t i = 1; i < t->n_nodes; i++) {
        if (t->nodes[i].kind != KF_NODE_MACRO_CALL) continue;
        uint32_t k = 1;
        while (k < t->n_nodes && (t->nodes[k].kind != KF_NODE_MACRO || t->nodes[k].id != t->nodes[i].id))
            k++;
        kf_stretch name = t->names[t->nodes[i].id];
        if (k == t->n_nodes)
            return KF_TEMPLATE_FAIL(t, KF_ERR_UNSUPPORTED, i,
                                    "function `%.*s` is not supported; kefu knows namespace, raise_exception, range, "
                                    "strftime_now, and the template's own macros",
                                    name.n < 40 ? (int)name.n : 40, t->bytes + name.at);
    }
    return KF_OK;
}

kf_status kf_template_parse(kf_template *t, const kf_tokens *tokens) {
    kf_parser p = {.t = t, .now = tokens->tokens, .end = tokens->tokens + tokens->n - 1};
    kf_node_new(&p, KF_NODE_NONE); /* number 0 */
    t->body = parse_body(&p, NULL);
    KF_TRY(p.status);
    return check_calls(t);
}

/* ---- compiling ---- */

static const char *const known_names[KF_N_NAMES] = {
    [KF_NAME_MESSAGES] = "messages",
    [KF_NAME_ROLE] = "role",
    [KF_NAME_CONTENT] = "content",
    [KF_NAME_TOOLS] = "tools",
    [KF_NAME_DOCUMENTS] = "documents",
    [KF_NAME_ADD_GENERATION_PROMPT] = "add_generation_prompt",
    [KF_NAME_ENABLE_THINKING] = "enable_thinking",
    [KF_NAME_LOOP] = "loop",
};

enum { OWN_BYTES_MIN = 1 << 10 }; /* the known names */

static kf_status allocate(kf_template *t, size_t n_source) {
    t->bytes_cap = (uint32_t)(n_source + OWN_BYTES_MIN + KF_TEMPLATE_TEXT_BYTES);
    t->bytes = malloc(t->bytes_cap);
    t->marks = calloc(t->bytes_cap, 1);
    t->values = malloc(KF_TEMPLATE_VALUES * sizeof *t->values);
    t->out = malloc(KF_TEMPLATE_TEXT_BYTES);
    t->out_marks = malloc(KF_TEMPLATE_TEXT_BYTES);
    bool made = t->bytes && t->marks && t->values && t->out && t->out_marks;
    for (size_t i = 0; made && i < KF_N_NAMES; i++)
        made = kf_name_id(t, known_names[i], strlen(known_names[i])) == i;
    return made ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %u bytes", t->name, 4 * t->bytes_cap);
}

static kf_status compile(kf_template *t, const char *source, size_t n) {
    kf_tokens tokens = {0};
    size_t bad_at;
    if (n > KF_TEMPLATE_SOURCE_BYTES)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%s has %zu bytes, at most %d are taken", t->name, n,
                       KF_TEMPLATE_SOURCE_BYTES);
    if (!kf_utf8_valid(source, n, &bad_at))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: byte %zu is not valid UTF-8", t->name, bad_at);
    KF_TRY(allocate(t, n));
    kf_status s = kf_template_lex(t, source, n, &tokens);
    KF_STEP(s, kf_template_parse(t, &tokens));
    free(tokens.tokens);
    t->n_own_bytes = t->n_bytes;
    return s;
}

kf_status kf_template_compile(const char *name, const char *source, size_t n, kf_template **out) {
    kf_template *t = calloc(1, sizeof *t);
    if (!t) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory", name);
    snprintf(t->name, sizeof t->name, "%s", name);
    kf_status s = compile(t, source, n);
    if (s == KF_OK)
        *out = t;
    else
        kf_template_free(t);
    return s;
}

void kf_template_free(kf_template *t) {
    if (!t) return;
    free(t->nodes);
    free(t->bytes);
    free(t->marks);
    free(t->values);
    free(t->out);
    free(t->out_marks);
    free(t);
}
