/* What a compiled template is, and the parts of the interpreter that know each other. Internal to host/text:
 *
 *     template_lex.c     source → tokens
 *     template_parse.c   tokens → nodes: statements;  template_expr.c: expressions
 *     template_eval.c    nodes → prompt;  template_call.c: filters, tests, methods and functions
 *     template_value.c   values and texts;  template_string.c: what is done to texts
 */
#ifndef KF_TEXT_TEMPLATE_IMPL_H
#define KF_TEXT_TEMPLATE_IMPL_H

#include <stdint.h>

#include "text/template.h"

/* ---- values ---- */

/* A text is a stretch of the template's one block of bytes; the bytes' marks stand in a block beside it, at the same
 * places. A list is a stretch of the block of values, a dict twice as many of them: key, value, key, value … */
typedef struct kf_stretch {
    uint32_t at, n;
} kf_stretch;

typedef enum kf_value_kind {
    KF_V_UNDEFINED,
    KF_V_NONE,
    KF_V_BOOL,
    KF_V_INT,
    KF_V_TEXT,
    KF_V_LIST,
    KF_V_DICT,      /* n: pairs */
    KF_V_NAMESPACE, /* as a dict with room for KF_NAMESPACE_MAX pairs; values[at - 1] counts those in use */
    KF_V_LOOP,      /* values[at]: index0; values[at + 1]: the list */
    KF_V_FUNCTION   /* integer: of a macro, its node */
} kf_value_kind;

typedef struct kf_value {
    kf_value_kind kind;
    union {
        int64_t integer; /* of a bool too */
        kf_stretch text; /* bytes */
        kf_stretch seq;  /* values, or pairs of them */
    };
} kf_value;

enum { KF_NAMESPACE_MAX = 32, KF_ARGS_MAX = 8, KF_VARS_MAX = 256, KF_NAMES_MAX = 1024, KF_DEPTH_MAX = 200 };

/* ---- tokens ---- */

typedef enum kf_token_kind {
    KF_T_END, /* of the source */
    KF_T_DATA,
    KF_T_PRINT, /* {{ */
    KF_T_PRINT_END,
    KF_T_BLOCK, /* {% */
    KF_T_BLOCK_END,
    KF_T_NAME,
    KF_T_STRING,
    KF_T_INT,
    KF_T_OP
} kf_token_kind;

typedef struct kf_token {
    kf_token_kind kind;
    uint32_t line;
    uint32_t id;     /* of a name; of an operator: its one or two characters, first << 8 | second */
    kf_stretch text; /* of data, a string, a name */
    int64_t integer;
} kf_token;

#define KF_OP(a, b) ((uint32_t)(a) << 8 | (uint32_t)(b))

/* ---- nodes ---- */

/* a, b, c, d are nodes (0: none) unless said otherwise; `next` links the members of a list. */
typedef enum kf_node_kind {
    KF_NODE_NONE,
    /* expressions */
    KF_NODE_CONST,  /* value */
    KF_NODE_NAME,   /* id */
    KF_NODE_LIST,   /* a: first member */
    KF_NODE_DICT,   /* a: first of key, value, key, value … */
    KF_NODE_UNARY,  /* op: KF_OP('-', 0) or '+'; a */
    KF_NODE_NOT,    /* a */
    KF_NODE_BINARY, /* op; a, b */
    KF_NODE_AND,
    KF_NODE_OR,
    KF_NODE_COMPARE,    /* a: the first operand; b: a chain of KF_NODE_COMPARAND */
    KF_NODE_COMPARAND,  /* op; a; next */
    KF_NODE_IF_ELSE,    /* a: condition; b: then; c: else */
    KF_NODE_ATTR,       /* a . id */
    KF_NODE_INDEX,      /* a [ b ] */
    KF_NODE_SLICE,      /* a [ b : c : d ] */
    KF_NODE_FILTER,     /* a | op(b …) */
    KF_NODE_TEST,       /* a is op(b …); id 1: is not */
    KF_NODE_METHOD,     /* a . op(b …) */
    KF_NODE_CALL,       /* a function of ours, op(b …) */
    KF_NODE_MACRO_CALL, /* id(b …) */
    KF_NODE_KEYWORD,    /* id = a, among arguments */
    /* statements */
    KF_NODE_DATA,   /* value */
    KF_NODE_PRINT,  /* a */
    KF_NODE_IF,     /* a: condition; b: body; c: else's body */
    KF_NODE_FOR,    /* a: targets; b: iterable; c: if; d: body; value.integer: else's body */
    KF_NODE_SET,    /* a: targets; b: expression, or 0 and c: body */
    KF_NODE_TARGET, /* id; op 1: attribute value.integer of the namespace id */
    KF_NODE_MACRO,  /* id; a: parameters (KF_NODE_KEYWORD, a 0 without a default); b: body */
    KF_NODE_SCOPE,  /* a: body, whose variables end with it */
    KF_NODE_BREAK,
    KF_NODE_CONTINUE
} kf_node_kind;

typedef struct kf_node {
    uint8_t kind;
    uint32_t op, id, line;
    uint32_t a, b, c, d, next;
    kf_value value;
} kf_node;

/* ---- what is known by name ---- */

typedef enum kf_filter_id {
    KF_F_CAPITALIZE,
    KF_F_COUNT,
    KF_F_D,
    KF_F_DEFAULT,
    KF_F_FIRST,
    KF_F_INT,
    KF_F_ITEMS,
    KF_F_JOIN,
    KF_F_LAST,
    KF_F_LENGTH,
    KF_F_LIST,
    KF_F_LOWER,
    KF_F_MAP,
    KF_F_REJECT,
    KF_F_REJECTATTR,
    KF_F_REPLACE,
    KF_F_REVERSE,
    KF_F_SAFE,
    KF_F_SELECT,
    KF_F_SELECTATTR,
    KF_F_STRING,
    KF_F_TITLE,
    KF_F_TOJSON,
    KF_F_TRIM,
    KF_F_UPPER,
    KF_N_FILTERS
} kf_filter_id;

typedef enum kf_test_id {
    KF_IS_EQ_SIGN,
    KF_IS_BOOLEAN,
    KF_IS_DEFINED,
    KF_IS_DIVISIBLEBY,
    KF_IS_EQ,
    KF_IS_EQUALTO,
    KF_IS_EVEN,
    KF_IS_FALSE,
    KF_IS_IN,
    KF_IS_INTEGER,
    KF_IS_ITERABLE,
    KF_IS_MAPPING,
    KF_IS_NE,
    KF_IS_NONE,
    KF_IS_NUMBER,
    KF_IS_ODD,
    KF_IS_SEQUENCE,
    KF_IS_STRING,
    KF_IS_TRUE,
    KF_IS_UNDEFINED,
    KF_N_TESTS
} kf_test_id;

typedef enum kf_method_id {
    KF_METHOD_CAPITALIZE,
    KF_METHOD_COUNT,
    KF_METHOD_ENDSWITH,
    KF_METHOD_FIND,
    KF_METHOD_GET,
    KF_METHOD_ITEMS,
    KF_METHOD_JOIN,
    KF_METHOD_KEYS,
    KF_METHOD_LOWER,
    KF_METHOD_LSTRIP,
    KF_METHOD_REMOVEPREFIX,
    KF_METHOD_REMOVESUFFIX,
    KF_METHOD_REPLACE,
    KF_METHOD_RSPLIT,
    KF_METHOD_RSTRIP,
    KF_METHOD_SPLIT,
    KF_METHOD_STARTSWITH,
    KF_METHOD_STRIP,
    KF_METHOD_TITLE,
    KF_METHOD_UPPER,
    KF_METHOD_VALUES,
    KF_N_METHODS
} kf_method_id;

typedef enum kf_function_id {
    KF_FN_NAMESPACE,
    KF_FN_RAISE_EXCEPTION,
    KF_FN_RANGE,
    KF_FN_STRFTIME_NOW,
    KF_N_FUNCTIONS
} kf_function_id;

extern const char *const kf_filter_names[KF_N_FILTERS];
extern const char *const kf_test_names[KF_N_TESTS];
extern const char *const kf_method_names[KF_N_METHODS];
extern const char *const kf_function_names[KF_N_FUNCTIONS];

/* Names that the interpreter itself looks for: their ids. */
typedef enum kf_known_name {
    KF_NAME_MESSAGES,
    KF_NAME_ROLE,
    KF_NAME_CONTENT,
    KF_NAME_TOOLS,
    KF_NAME_DOCUMENTS,
    KF_NAME_ADD_GENERATION_PROMPT,
    KF_NAME_ENABLE_THINKING,
    KF_NAME_LOOP,
    KF_N_NAMES
} kf_known_name;

/* ---- the template ---- */

typedef struct kf_variable {
    uint32_t name;
    kf_value value;
} kf_variable;

struct kf_template {
    char name[64];
    kf_node *nodes; /* [n_nodes] number 0 is none */
    uint32_t n_nodes, nodes_cap;
    kf_stretch names[KF_NAMES_MAX]; /* [n_names] texts, by id */
    uint32_t n_names;
    uint32_t body; /* the first statement */

    char *bytes;          /* [bytes_cap] the template's own texts, then those of a render */
    unsigned char *marks; /* [bytes_cap] */
    uint32_t n_own_bytes; /* of the template itself: literals, data, names */
    uint32_t n_bytes, bytes_cap;
    kf_value *values; /* [KF_TEMPLATE_VALUES] */
    uint32_t n_values;

    /* of a render */
    const kf_template_in *in;
    char *out; /* [KF_TEMPLATE_TEXT_BYTES] */
    unsigned char *out_marks;
    uint32_t n_out;
    kf_variable vars[KF_VARS_MAX]; /* globals, then those of what is being run, innermost last */
    uint32_t n_vars, n_globals;
    uint32_t frame; /* vars from here on are set where they are; before it, only read */
    uint32_t floor; /* of the macro being run: what lies between the globals and this is not seen */
    uint32_t n_steps, depth;
    enum { KF_RUN_ON, KF_RUN_BREAK, KF_RUN_CONTINUE } jump;
};

/* ---- lexing and parsing ---- */

typedef struct kf_tokens {
    kf_token *tokens; /* [n], the last one KF_T_END */
    size_t n, cap;
} kf_tokens;

/* Texts of tokens and names go into t. On failure the caller frees what is there. */
kf_status kf_template_lex(kf_template *t, const char *source, size_t n, kf_tokens *out);

typedef struct kf_parser {
    kf_template *t;
    const kf_token *now;
    kf_status status; /* of the first failure; `now` is then the end */
    const kf_token *end;
    unsigned depth, n_loops;
} kf_parser;

kf_status kf_template_parse(kf_template *t, const kf_tokens *tokens);

uint32_t kf_parse_expression(kf_parser *p);
uint32_t kf_parse_or(kf_parser *p);                  /* without "a if b else c" */
uint32_t kf_parse_tuple(kf_parser *p, bool with_if); /* a, b is a list */
uint32_t kf_parse_parameters(kf_parser *p);          /* of a macro: a, b=1) */

/* Each returns 0 after a failure, which is kept in p. */
uint32_t kf_parse_fail(kf_parser *p, kf_status s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
uint32_t kf_node_new(kf_parser *p, kf_node_kind kind);
bool kf_accept(kf_parser *p, kf_token_kind kind, uint32_t id); /* id: of an operator */
bool kf_accept_name(kf_parser *p, const char *name);
bool kf_at_name(const kf_parser *p, const char *name);
bool kf_expect(kf_parser *p, kf_token_kind kind, uint32_t id);
const char *kf_token_text(const kf_parser *p, char out[48]); /* for messages */

/* The id of a name; new ones are added. UINT32_MAX: there are too many. */
uint32_t kf_name_id(kf_template *t, const char *name, size_t n);

/* ---- running ---- */

/* A failure of the template at a node's line. */
#define KF_TEMPLATE_FAIL(t, status, node, fmt, ...)                                                                    \
    KF_FAIL(status, "%s line %u: " fmt, (t)->name, (t)->nodes[node].line, ##__VA_ARGS__)

typedef struct kf_args {
    kf_value v[KF_ARGS_MAX]; /* [n] by place */
    uint32_t n;
    kf_value keyword[KF_ARGS_MAX]; /* [n_keywords] */
    uint32_t keyword_id[KF_ARGS_MAX], n_keywords;
} kf_args;

kf_status kf_template_eval(kf_template *t, uint32_t node, kf_value *out);
kf_status kf_template_steps(kf_template *t, size_t n); /* KF_ERR_TOO_LARGE: there are none left */

/* node: for messages. */
kf_status kf_template_filter(kf_template *t, uint32_t node, kf_filter_id filter, kf_value x, const kf_args *args,
                             kf_value *out);
kf_status kf_template_test(kf_template *t, uint32_t node, kf_test_id test, kf_value x, const kf_args *args, bool *out);
kf_status kf_template_method(kf_template *t, uint32_t node, kf_method_id method, kf_value x, const kf_args *args,
                             kf_value *out);
kf_status kf_template_function(kf_template *t, uint32_t node, kf_function_id function, const kf_args *args,
                               kf_value *out);

/* ---- values ---- */

static inline kf_value kf_undefined(void) {
    return (kf_value){.kind = KF_V_UNDEFINED};
}

static inline kf_value kf_none(void) {
    return (kf_value){.kind = KF_V_NONE};
}

static inline kf_value kf_bool(bool b) {
    return (kf_value){.kind = KF_V_BOOL, .integer = b};
}

static inline kf_value kf_int(int64_t i) {
    return (kf_value){.kind = KF_V_INT, .integer = i};
}

static inline kf_value kf_text(uint32_t at, uint32_t n) {
    return (kf_value){.kind = KF_V_TEXT, .text = {at, n}};
}

static inline bool kf_is_number(kf_value v) {
    return v.kind == KF_V_INT || v.kind == KF_V_BOOL;
}

const char *kf_kind_name(kf_value v);
bool kf_truth(kf_value v);

/* Appends to the block of bytes; what was last appended may be extended. marks NULL: all 0. KF_ERR_TOO_LARGE. */
kf_status kf_put(kf_template *t, const char *bytes, const unsigned char *marks, size_t n);
kf_status kf_put_text(kf_template *t, kf_stretch text); /* a text of the block itself */

/* a and b end to end; where a was made last, it is extended in place. */
kf_status kf_concat(kf_template *t, kf_stretch a, kf_stretch b, kf_stretch *out);

/* Room for n values in a row. */
kf_status kf_values_new(kf_template *t, size_t n, uint32_t *at);

/* str(v) as Python has it; KF_ERR_INVALID: a list or a dict. */
kf_status kf_to_text(kf_template *t, uint32_t node, kf_value v, kf_stretch *out);

bool kf_text_equal(const kf_template *t, kf_stretch a, kf_stretch b);
bool kf_text_is(const kf_template *t, kf_stretch a, const char *b);
size_t kf_text_among(const kf_template *t, kf_stretch a, const char *const *names, size_t n); /* n: it is none */
kf_status kf_equal(kf_template *t, kf_value a, kf_value b, bool *out);
kf_status kf_contains(kf_template *t, uint32_t node, kf_value container, kf_value x, bool *out);

/* The value of a dict's or namespace's key; undefined where there is none. */
kf_value kf_dict_get(const kf_template *t, kf_value dict, kf_stretch key);

/* What iterating gives, as a list: a list itself, a dict's keys, a text's characters. KF_ERR_INVALID. */
kf_status kf_to_list(kf_template *t, uint32_t node, kf_value v, kf_value *out);

/* a.name and a[key]; undefined where there is nothing. KF_ERR_INVALID: a is undefined. */
kf_status kf_attribute(kf_template *t, uint32_t node, kf_value a, uint32_t name, kf_value *out);
kf_status kf_item(kf_template *t, uint32_t node, kf_value a, kf_value key, kf_value *out);

/* a[start:stop:step] as Python has it; undefined and none are left out. */
kf_status kf_slice(kf_template *t, uint32_t node, kf_value a, const kf_value bounds[3], kf_value *out);

/* Code points of a text, and the byte at which number cp starts. */
uint32_t kf_chars(const kf_template *t, kf_stretch text);

kf_status kf_to_json(kf_template *t, uint32_t node, kf_value v, int indent, kf_stretch *out);

/* ---- texts ---- */

typedef enum kf_side { KF_LEFT = 1, KF_RIGHT = 2, KF_BOTH = 3 } kf_side;

/* Without the characters of `chars` at the ends, white space where it is NULL. */
kf_stretch kf_strip(const kf_template *t, kf_stretch text, const kf_stretch *chars, kf_side side);

typedef enum kf_case { KF_CASE_UPPER, KF_CASE_LOWER, KF_CASE_CAPITALIZE, KF_CASE_TITLE, KF_CASE_TITLE_FILTER } kf_case;
kf_status kf_change_case(kf_template *t, kf_stretch text, kf_case how, kf_stretch *out);

/* most: how many times, negative for all. KF_ERR_INVALID: an empty old. */
kf_status kf_replace(kf_template *t, uint32_t node, kf_stretch text, kf_stretch old, kf_stretch new, int64_t most,
                     kf_stretch *out);

/* sep NULL: at white space. from_right: the last `most` places are taken. */
kf_status kf_split(kf_template *t, uint32_t node, kf_stretch text, const kf_stretch *sep, int64_t most, bool from_right,
                   kf_value *out);

/* The byte of the first place of `part` in text at or after `from`; UINT32_MAX: there is none. */
uint32_t kf_find(const kf_template *t, kf_stretch text, kf_stretch part, uint32_t from);
bool kf_starts(const kf_template *t, kf_stretch text, kf_stretch part);
bool kf_ends(const kf_template *t, kf_stretch text, kf_stretch part);

kf_status kf_join(kf_template *t, uint32_t node, kf_stretch sep, kf_value list, kf_stretch *out);

#endif
