/* A schema's parts, from the value outwards; see schema.h. Strings and member names are in schema_string.c. */
#include "grammar/schema.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "grammar/number.h"
#include "grammar/schema_impl.h"

enum { VALUE_STEPS = 9 }; /* what looking at a schema takes, in states made */
enum { DEPTH_MAX = 64, ITEMS_MAX = 4096 };

/* ---- places and failures ---- */

static void put_place(const kf_schema_place *p, char *out, size_t cap, size_t *n) {
    if (p->up) put_place(p->up, out, cap, n);
    int wrote = p->name ? snprintf(out + *n, cap - *n, "/%.64s", p->name) : 0;
    if (wrote > 0) *n += (size_t)wrote < cap - *n ? (size_t)wrote : cap - *n - 1;
}

int32_t kf_schema_fail(kf_schema *b, const kf_schema_place *p, kf_status s, const char *keyword, const char *why) {
    char where[256] = "/";
    size_t n = 0;
    put_place(p, where, sizeof where, &n);
    if (b->n->status == KF_OK)
        kf_nfa_fail(b->n, KF_FAIL(s, "response_format: schema at %s: `%.64s` %s", where, keyword, why));
    return KF_NFA_NONE;
}

/* What nothing meets falls away as an alternative; where the whole schema falls away, the first reason is told. */
static int32_t unmet(kf_schema *b, const kf_schema_place *p, const char *keyword, const char *why) {
    if (b->unmet[0]) return KF_NFA_NONE;
    size_t n = 0;
    char where[256] = "/";
    put_place(p, where, sizeof where, &n);
    snprintf(b->unmet, sizeof b->unmet, "response_format: schema at %s: `%.64s` %s", where, keyword, why);
    return KF_NFA_NONE;
}

static int32_t invalid(kf_schema *b, const kf_schema_place *p, const char *keyword, const char *why) {
    return kf_schema_fail(b, p, KF_ERR_INVALID, keyword, why);
}

/* ---- keywords ---- */

enum { DESCRIBES, CHOOSES, OF_TYPE, REFERS };

static const struct {
    const char *name;
    int kind, type; /* type: that it is of, where the schema names none */
} keywords[] = {
    {"title", DESCRIBES, 0},
    {"description", DESCRIBES, 0},
    {"default", DESCRIBES, 0},
    {"examples", DESCRIBES, 0},
    {"$schema", DESCRIBES, 0},
    {"$id", DESCRIBES, 0},
    {"$comment", DESCRIBES, 0},
    {"$defs", DESCRIBES, 0},
    {"definitions", DESCRIBES, 0},
    {"deprecated", DESCRIBES, 0},
    {"readOnly", DESCRIBES, 0},
    {"writeOnly", DESCRIBES, 0},
    {"type", OF_TYPE, 0},
    {"enum", CHOOSES, 0},
    {"const", CHOOSES, 0},
    {"anyOf", REFERS, 0},
    {"oneOf", REFERS, 0},
    {"allOf", REFERS, 0},
    {"$ref", REFERS, 0},
    {"properties", OF_TYPE, KF_TYPE_OBJECT},
    {"required", OF_TYPE, KF_TYPE_OBJECT},
    {"additionalProperties", OF_TYPE, KF_TYPE_OBJECT},
    {"items", OF_TYPE, KF_TYPE_ARRAY},
    {"prefixItems", OF_TYPE, KF_TYPE_ARRAY},
    {"minItems", OF_TYPE, KF_TYPE_ARRAY},
    {"maxItems", OF_TYPE, KF_TYPE_ARRAY},
    {"pattern", OF_TYPE, KF_TYPE_STRING},
    {"format", OF_TYPE, KF_TYPE_STRING},
    {"minLength", OF_TYPE, KF_TYPE_STRING},
    {"maxLength", OF_TYPE, KF_TYPE_STRING},
    {"minimum", OF_TYPE, KF_TYPE_NUMBER},
    {"maximum", OF_TYPE, KF_TYPE_NUMBER},
    {"exclusiveMinimum", OF_TYPE, KF_TYPE_NUMBER},
    {"exclusiveMaximum", OF_TYPE, KF_TYPE_NUMBER},
};
enum { N_KEYWORDS = sizeof keywords / sizeof *keywords };

/* What a schema is made of. */
typedef struct parts {
    const char *chooses, *refers, *of_type; /* a keyword of each kind, NULL: none */
    unsigned types;                         /* that its keywords speak of */
} parts;

static bool see_keyword(parts *out, const char *key) {
    for (size_t i = 0; i < N_KEYWORDS; i++) {
        if (strcmp(key, keywords[i].name) != 0) continue;
        if (keywords[i].kind == CHOOSES) out->chooses = keywords[i].name;
        if (keywords[i].kind == REFERS) out->refers = keywords[i].name;
        if (keywords[i].kind == OF_TYPE && keywords[i].type) out->of_type = keywords[i].name;
        out->types |= (unsigned)keywords[i].type;
        return true;
    }
    return strncmp(key, "x-", 2) == 0;
}

static const struct {
    const char *name;
    unsigned type;
} types[] = {
    {"null", KF_TYPE_NULL},     {"boolean", KF_TYPE_BOOLEAN}, {"object", KF_TYPE_OBJECT},   {"array", KF_TYPE_ARRAY},
    {"number", KF_TYPE_NUMBER}, {"string", KF_TYPE_STRING},   {"integer", KF_TYPE_INTEGER},
};

static unsigned type_named(const json_t *name) {
    for (size_t i = 0; json_is_string(name) && i < sizeof types / sizeof *types; i++)
        if (!strcmp(json_string_value(name), types[i].name)) return types[i].type;
    return 0;
}

/* Of `type`; 0: a failure, or there is none. */
static unsigned read_types(kf_schema *b, const kf_schema_place *p, const json_t *type) {
    unsigned all = type_named(type);
    for (size_t i = 0; json_is_array(type) && i < json_array_size(type); i++) {
        unsigned one = type_named(json_array_get(type, i));
        if (!one) all = 0;
        if (!one) break;
        all |= one;
    }
    if (type && !all)
        invalid(b, p, "type", "wanted null, boolean, object, array, number, string or integer, or a list of these");
    return all & KF_TYPE_NUMBER ? all & ~(unsigned)KF_TYPE_INTEGER : all;
}

/* ---- values that stand in the schema ---- */

static unsigned type_of(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: return KF_TYPE_OBJECT;
    case JSON_ARRAY: return KF_TYPE_ARRAY;
    case JSON_STRING: return KF_TYPE_STRING;
    case JSON_INTEGER: return KF_TYPE_INTEGER | KF_TYPE_NUMBER;
    case JSON_REAL: return KF_TYPE_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return KF_TYPE_BOOLEAN;
    default: return KF_TYPE_NULL;
    }
}

static int32_t literal(kf_schema *b, const json_t *v, int32_t to) {
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text) return kf_nfa_fail(b->n, KF_FAIL(KF_ERR_NO_MEMORY, "response_format: no memory for a value of `enum`"));
    int32_t start = kf_nfa_text(b->n, text, strlen(text), to);
    free(text);
    return start;
}

static int32_t chosen(kf_schema *b, const kf_schema_place *p, const json_t *s, unsigned allowed, int32_t to) {
    const json_t *list = json_object_get(s, "enum"), *one = json_object_get(s, "const");
    int32_t all = KF_NFA_NONE;
    if (list && one) return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, "const", "is not supported beside `enum`");
    if (one) return type_of(one) & allowed ? literal(b, one, to) : unmet(b, p, "const", "is not of the `type`");
    if (!json_array_size(list)) return invalid(b, p, "enum", "wanted a list of at least one value");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (type_of(json_array_get(list, i)) & allowed)
            all = kf_nfa_either(b->n, all, literal(b, json_array_get(list, i), to));
    return all == KF_NFA_NONE ? unmet(b, p, "enum", "has no value of the `type`") : all;
}

/* ---- numbers ---- */

/* A whole bound into *out; false: it is none. */
static bool bound(const json_t *v, int64_t *out) {
    double real = json_number_value(v);
    if (!json_is_number(v) || real != floor(real) || fabs(real) > 9e18) return false;
    *out = json_is_integer(v) ? json_integer_value(v) : (int64_t)real;
    return true;
}

static int32_t number(kf_schema *b, const kf_schema_place *p, const json_t *s, bool whole, int32_t to) {
    static const char *const names[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"};
    int64_t v[4] = {-KF_WHOLE_MAX, KF_WHOLE_MAX, -KF_WHOLE_MAX - 1, KF_WHOLE_MAX + 1};
    bool bounded = false;
    for (size_t i = 0; i < 4; i++) {
        const json_t *is = json_object_get(s, names[i]);
        if (!is) continue;
        if (!bound(is, &v[i]))
            return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, names[i], "is supported with a whole number only");
        if (i >= 2 && !whole)
            return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, names[i], "is supported for integers only");
        bounded = true;
    }
    if (!whole && !bounded) return kf_nfa_number(b->n, to);
    int64_t min = v[2] + 1 > v[0] ? v[2] + 1 : v[0], max = v[3] - 1 < v[1] ? v[3] - 1 : v[1];
    int32_t start = whole ? kf_nfa_whole(b->n, min, max, to) : kf_nfa_decimal(b->n, min, max, to);
    return start == KF_NFA_NONE ? unmet(b, p, "minimum", "and `maximum` leave no number") : start;
}

/* ---- arrays ---- */

bool kf_schema_count(kf_schema *b, const kf_schema_place *p, const json_t *s, const char *name, size_t most,
                     size_t otherwise, size_t *out) {
    const json_t *v = json_object_get(s, name);
    int64_t count = 0;
    char why[64];
    *out = otherwise;
    if (!v) return true;
    if (!bound(v, &count) || count < 0) {
        invalid(b, p, name, "wanted a whole number from 0 on");
        return false;
    }
    snprintf(why, sizeof why, "is supported up to %zu", most);
    if ((size_t)count > most) kf_schema_fail(b, p, KF_ERR_TOO_LARGE, name, why);
    *out = (size_t)count;
    return (size_t)count <= most;
}

static int32_t comma(kf_schema *b, int32_t to) {
    return kf_nfa_text(b->n, ",", 1, kf_nfa_either(b->n, to, kf_nfa_text(b->n, " ", 1, to)));
}

/* The schema of the item at `at`: prefixItems', or items. */
static const json_t *item_schema(const json_t *s, size_t at) {
    const json_t *prefix = json_object_get(s, "prefixItems");
    return at < json_array_size(prefix) ? json_array_get(prefix, at) : json_object_get(s, "items");
}

/* From the end: after item i, a comma and the next one, or the bracket where there are enough. */
static int32_t array(kf_schema *b, const kf_schema_place *p, const json_t *s, int32_t to) {
    size_t min, max, n_prefix = json_array_size(json_object_get(s, "prefixItems"));
    kf_schema_place items = {.up = p, .name = "items"}, prefix = {.up = p, .name = "prefixItems"};
    bool bounded = json_object_get(s, "maxItems") || (n_prefix && !json_object_get(s, "items"));
    if (!kf_schema_count(b, p, s, "minItems", ITEMS_MAX, 0, &min)) return KF_NFA_NONE;
    if (!kf_schema_count(b, p, s, "maxItems", ITEMS_MAX, min > n_prefix ? min : n_prefix, &max)) return KF_NFA_NONE;
    if (bounded && max < min) return unmet(b, p, "maxItems", "is below `minItems`");
    int32_t close = kf_nfa_text(b->n, "]", 1, to), after = close; /* after: what may follow the item at i - 1 */
    size_t n_items = bounded ? max : min > n_prefix ? min : n_prefix;
    if (!bounded) {
        int32_t loop = kf_nfa_open(b->n);
        int32_t item = kf_schema_value(b, &items, item_schema(s, n_items), loop);
        kf_nfa_close(b->n, loop, comma(b, item), close);
        after = loop;
        if (n_items == 0) return kf_nfa_text(b->n, "[", 1, kf_nfa_either(b->n, item, close));
    }
    for (size_t i = n_items; i-- > 0 && kf_nfa_step(b->n);) {
        int32_t item = kf_schema_value(b, i < n_prefix ? &prefix : &items, item_schema(s, i), after);
        if (i == 0) return kf_nfa_text(b->n, "[", 1, min == 0 ? kf_nfa_either(b->n, item, close) : item);
        after = min <= i ? kf_nfa_either(b->n, comma(b, item), close) : comma(b, item);
    }
    return kf_nfa_text(b->n, "[", 1, close);
}

/* ---- objects ---- */

static bool is_required(const json_t *required, const char *name) {
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *other = json_string_value(json_array_get(required, i));
        if (other && !strcmp(other, name)) return true;
    }
    return false;
}

/* A member's value follows its name: `: value`. */
static int32_t member_value(kf_schema *b, const kf_schema_place *p, const json_t *s, int32_t to) {
    int32_t value = kf_schema_value(b, p, s, to);
    return kf_nfa_text(b->n, ":", 1, kf_nfa_either(b->n, value, kf_nfa_text(b->n, " ", 1, value)));
}

static size_t list_members(const json_t *s, const char *names[KF_SCHEMA_MEMBERS_MAX]) {
    const json_t *required = json_object_get(s, "required");
    json_t *properties = json_object_get(s, "properties"), *value;
    const char *name;
    size_t n = 0;
    json_object_foreach(properties, name, value) {
        if (n < KF_SCHEMA_MEMBERS_MAX) names[n] = name;
        n++;
    }
    for (size_t i = 0; i < json_array_size(required); i++) {
        name = json_string_value(json_array_get(required, i));
        if (!name || json_object_get(properties, name)) continue;
        if (n < KF_SCHEMA_MEMBERS_MAX) names[n] = name;
        n++;
    }
    return n;
}

static bool check_object(kf_schema *b, const kf_schema_place *p, const json_t *s, const char *const *names,
                         size_t n_members) {
    const json_t *properties = json_object_get(s, "properties"), *required = json_object_get(s, "required");
    if (properties && !json_is_object(properties)) invalid(b, p, "properties", "wanted an object");
    if (required && !json_is_array(required)) invalid(b, p, "required", "wanted a list of names");
    for (size_t i = 0; i < json_array_size(required); i++)
        if (!json_is_string(json_array_get(required, i))) invalid(b, p, "required", "wanted a list of names");
    if (n_members > KF_SCHEMA_MEMBERS_MAX)
        kf_schema_fail(b, p, KF_ERR_TOO_LARGE, "properties", "is supported up to 512 members");
    for (size_t i = 0; i < n_members && i < KF_SCHEMA_MEMBERS_MAX; i++)
        if (strlen(names[i]) > KF_SCHEMA_NAME_BYTES_MAX)
            kf_schema_fail(b, p, KF_ERR_TOO_LARGE, "properties", "is supported with names of up to 256 bytes");
    return b->n->status == KF_OK;
}

/* Additional members, each after a comma unless it is the first of all. `first`: where the object has none yet. */
static int32_t additional_members(kf_schema *b, const kf_schema_place *p, const json_t *schema,
                                  const char *const *names, size_t n_names, int32_t close, int32_t *first) {
    kf_schema_place here = {.up = p, .name = "additionalProperties"};
    int32_t loop = kf_nfa_open(b->n);
    int32_t member = kf_schema_other_name(b, names, n_names, member_value(b, &here, schema, loop));
    kf_nfa_close(b->n, loop, comma(b, member), close);
    *first = kf_nfa_either(b->n, member, close);
    return loop;
}

/* From the last member to the first. `later`: what follows once a member stands; `first`: while none does. */
static int32_t object(kf_schema *b, const kf_schema_place *p, const json_t *s, int32_t to) {
    const char *names[KF_SCHEMA_MEMBERS_MAX];
    size_t n_members = list_members(s, names);
    const json_t *more = json_object_get(s, "additionalProperties"), *required = json_object_get(s, "required");
    if (!check_object(b, p, s, names, n_members)) return KF_NFA_NONE;
    int32_t later = kf_nfa_text(b->n, "}", 1, to), first = later;
    if (more ? !json_is_false(more) : n_members == 0)
        later = additional_members(b, p, more ? more : json_true(), names, n_members, later, &first);
    kf_schema_place all = {.up = p, .name = "properties"};
    for (size_t i = n_members; i-- > 0;) {
        kf_schema_place here = {.up = &all, .name = names[i]};
        const json_t *schema = json_object_get(json_object_get(s, "properties"), names[i]);
        if (!schema && json_is_false(more))
            return unmet(b, p, "required", "names what neither `properties` nor `additionalProperties` allow");
        int32_t value = member_value(b, &here, schema ? schema : more ? more : json_true(), later);
        int32_t member = kf_schema_name(b, names[i], value);
        bool must = is_required(required, names[i]);
        first = kf_nfa_either(b->n, member, must ? KF_NFA_NONE : first);
        later = kf_nfa_either(b->n, comma(b, member), must ? KF_NFA_NONE : later);
    }
    return kf_nfa_text(b->n, "{", 1, first);
}

/* ---- one value ---- */

static int32_t of_types(kf_schema *b, const kf_schema_place *p, const json_t *s, unsigned allowed, int32_t to) {
    int32_t all = KF_NFA_NONE;
    if (allowed & KF_TYPE_NULL) all = kf_nfa_either(b->n, all, kf_nfa_text(b->n, "null", 4, to));
    if (allowed & KF_TYPE_BOOLEAN) {
        all = kf_nfa_either(b->n, all, kf_nfa_text(b->n, "true", 4, to));
        all = kf_nfa_either(b->n, all, kf_nfa_text(b->n, "false", 5, to));
    }
    if (allowed & KF_TYPE_INTEGER) all = kf_nfa_either(b->n, all, number(b, p, s, true, to));
    if (allowed & KF_TYPE_NUMBER) all = kf_nfa_either(b->n, all, number(b, p, s, false, to));
    if (allowed & KF_TYPE_STRING) all = kf_nfa_either(b->n, all, kf_schema_string(b, p, s, to));
    if (allowed & KF_TYPE_ARRAY) all = kf_nfa_either(b->n, all, array(b, p, s, to));
    if (allowed & KF_TYPE_OBJECT) all = kf_nfa_either(b->n, all, object(b, p, s, to));
    return all;
}

/* Any value, nested at most b->nesting deep. */
static int32_t any_value(kf_schema *b, int32_t to) {
    unsigned allowed = KF_TYPE_NULL | KF_TYPE_BOOLEAN | KF_TYPE_NUMBER | KF_TYPE_STRING;
    static const kf_schema_place nowhere = {.up = NULL, .name = NULL};
    if (b->n_any < b->nesting) allowed |= KF_TYPE_ARRAY | KF_TYPE_OBJECT;
    b->nests = true;
    b->n_any++;
    int32_t start = of_types(b, &nowhere, NULL, allowed, to);
    b->n_any--;
    return start;
}

static int32_t any_of(kf_schema *b, const kf_schema_place *p, const json_t *list, const char *keyword, int32_t to) {
    int32_t all = KF_NFA_NONE;
    kf_schema_place here = {.up = p, .name = keyword};
    if (!json_array_size(list)) return invalid(b, p, keyword, "wanted a list of at least one schema");
    if (!strcmp(keyword, "allOf") && json_array_size(list) > 1)
        return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, keyword, "is supported with one schema only");
    for (size_t i = 0; i < json_array_size(list); i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        kf_schema_place one = {.up = &here, .name = number};
        all = kf_nfa_either(b->n, all, kf_schema_value(b, &one, json_array_get(list, i), to));
    }
    return all;
}

/* What a JSON pointer behind # leads to, NULL: nothing. */
static const json_t *find(const json_t *root, const char *pointer) {
    char key[128];
    for (const char *at = pointer; root && *at;) {
        size_t n = 0;
        if (*at++ != '/') return NULL;
        for (; *at && *at != '/' && n + 1 < sizeof key; at++) {
            bool escape = *at == '~' && (at[1] == '0' || at[1] == '1');
            key[n++] = escape ? (*++at == '0' ? '~' : '/') : *at;
        }
        if (*at && *at != '/') return NULL;
        key[n] = 0;
        size_t idx = strspn(key, "0123456789") == n && n && n < 6 ? strtoul(key, NULL, 10) : SIZE_MAX;
        root = json_is_array(root) ? json_array_get(root, idx) : json_object_get(root, key);
    }
    return root;
}

static int32_t reference(kf_schema *b, const kf_schema_place *p, const json_t *ref, int32_t to) {
    const char *text = json_string_value(ref);
    if (!text || text[0] != '#') return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, "$ref", "is supported as #/… only");
    const json_t *target = find(b->root, text + 1);
    if (!target) return invalid(b, p, "$ref", "leads nowhere");
    unsigned n_inside = 0;
    for (const kf_schema_place *up = p; up; up = up->up)
        n_inside += up->target == target;
    if (n_inside) b->nests = true;
    if (n_inside >= b->nesting) return unmet(b, p, "$ref", "never comes to an end");
    kf_schema_place here = {.up = p, .target = target};
    return kf_schema_value(b, &here, target, to);
}

static int32_t referred(kf_schema *b, const kf_schema_place *p, const json_t *s, const parts *of, int32_t to) {
    const char *other = of->chooses                  ? of->chooses
                        : of->of_type                ? of->of_type
                        : json_object_get(s, "type") ? "type"
                                                     : NULL;
    if (other) return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, of->refers, "is supported alone: put the rest into it");
    const json_t *is = json_object_get(s, of->refers);
    return strcmp(of->refers, "$ref") ? any_of(b, p, is, of->refers, to) : reference(b, p, is, to);
}

static int32_t value_of_object(kf_schema *b, const kf_schema_place *p, const json_t *s, int32_t to) {
    parts of = {0};
    const char *key;
    json_t *ignored;
    size_t n_refers = 0;
    json_object_foreach((json_t *)s, key, ignored) {
        if (!see_keyword(&of, key)) return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, key, "is not supported");
        n_refers += of.refers && !strcmp(of.refers, key);
    }
    if (n_refers > 1) return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, of.refers, "is supported alone");
    if (of.refers) return referred(b, p, s, &of, to);
    unsigned allowed = read_types(b, p, json_object_get(s, "type"));
    if (of.chooses) {
        if (of.of_type) return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, of.of_type, "is not supported beside a choice");
        return chosen(b, p, s, allowed ? allowed : ~0u, to);
    }
    if (!allowed) allowed = of.types;
    return allowed ? of_types(b, p, s, allowed, to) : any_value(b, to);
}

int32_t kf_schema_value(kf_schema *b, const kf_schema_place *p, const json_t *s, int32_t to) {
    if (to == KF_NFA_NONE || !kf_nfa_step(b->n)) return KF_NFA_NONE;
    if (b->depth == DEPTH_MAX) return kf_schema_fail(b, p, KF_ERR_TOO_LARGE, "…", "nests more than 64 deep");
    b->n->n_steps += VALUE_STEPS;
    b->depth++;
    int32_t start = KF_NFA_NONE;
    if (!s || json_is_true(s))
        start = any_value(b, to);
    else if (json_is_false(s))
        unmet(b, p, "false", "is a schema that nothing meets");
    else if (json_is_object(s))
        start = value_of_object(b, p, s, to);
    else
        invalid(b, p, "?", "is no schema: wanted an object, true or false");
    b->depth--;
    return start;
}

int32_t kf_schema_build(kf_nfa *n, const json_t *root, unsigned nesting, bool *nests) {
    kf_schema b = {.n = n, .root = root, .nesting = nesting};
    kf_schema_place top = {.target = root};
    int32_t start = kf_schema_value(&b, &top, root, KF_NFA_ACCEPT);
    if (start == KF_NFA_NONE && n->status == KF_OK)
        kf_nfa_fail(n,
                    KF_FAIL(KF_ERR_INVALID, "%s", b.unmet[0] ? b.unmet : "response_format: nothing meets the schema"));
    *nests = b.nests;
    return start;
}
