/* A small validator of JSON against JSON schema (2020-12), written from the standard and not from host/grammar: what
 * the masks let through is held against it. Knows the keywords that host/grammar takes; patterns by PCRE2. */
#ifndef KF_TESTS_SCHEMA_CHECK_H
#define KF_TESTS_SCHEMA_CHECK_H

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "text/utf8.h"

static bool schema_ok(const json_t *root, const json_t *schema, json_t *v);

static inline bool pattern_found(const char *pattern, const char *text) {
    int err;
    PCRE2_SIZE at;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &err, &at, NULL);
    if (!code) return false;
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    bool found = pcre2_match(code, (PCRE2_SPTR)text, strlen(text), 0, 0, match, NULL) >= 0;
    pcre2_match_data_free(match);
    pcre2_code_free(code);
    return found;
}

static inline bool type_ok(const char *type, const json_t *v) {
    if (!strcmp(type, "null")) return json_is_null(v);
    if (!strcmp(type, "boolean")) return json_is_boolean(v);
    if (!strcmp(type, "object")) return json_is_object(v);
    if (!strcmp(type, "array")) return json_is_array(v);
    if (!strcmp(type, "string")) return json_is_string(v);
    if (!strcmp(type, "number")) return json_is_number(v);
    return json_is_integer(v) || (json_is_real(v) && json_real_value(v) == floor(json_real_value(v)));
}

static inline bool types_ok(const json_t *type, const json_t *v) {
    if (!type || json_is_string(type)) return !type || type_ok(json_string_value(type), v);
    for (size_t i = 0; i < json_array_size(type); i++)
        if (type_ok(json_string_value(json_array_get(type, i)), v)) return true;
    return false;
}

static inline bool number_ok(const json_t *s, const json_t *v) {
    const json_t *min = json_object_get(s, "minimum"), *max = json_object_get(s, "maximum");
    const json_t *above = json_object_get(s, "exclusiveMinimum"), *below = json_object_get(s, "exclusiveMaximum");
    double x = json_number_value(v);
    return (!min || x >= json_number_value(min)) && (!max || x <= json_number_value(max)) &&
           (!above || x > json_number_value(above)) && (!below || x < json_number_value(below));
}

static inline bool count_ok(const json_t *s, const char *min, const char *max, size_t n) {
    const json_t *least = json_object_get(s, min), *most = json_object_get(s, max);
    return (!least || (json_int_t)n >= json_integer_value(least)) &&
           (!most || (json_int_t)n <= json_integer_value(most));
}

static inline bool string_ok(const json_t *s, const json_t *v) {
    const json_t *pattern = json_object_get(s, "pattern");
    if (pattern && !pattern_found(json_string_value(pattern), json_string_value(v))) return false;
    return count_ok(s, "minLength", "maxLength", kf_utf8_length(json_string_value(v), json_string_length(v)));
}

static inline bool array_ok(const json_t *root, const json_t *s, json_t *v) {
    const json_t *prefix = json_object_get(s, "prefixItems"), *items = json_object_get(s, "items");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *of = i < json_array_size(prefix) ? json_array_get(prefix, i) : items;
        if (of && !schema_ok(root, of, json_array_get(v, i))) return false;
    }
    return count_ok(s, "minItems", "maxItems", json_array_size(v));
}

static inline bool object_ok(const json_t *root, const json_t *s, json_t *v) {
    const json_t *required = json_object_get(s, "required"), *more = json_object_get(s, "additionalProperties");
    const char *name;
    json_t *member;
    for (size_t i = 0; i < json_array_size(required); i++)
        if (!json_object_get(v, json_string_value(json_array_get(required, i)))) return false;
    json_object_foreach(v, name, member) {
        const json_t *of = json_object_get(json_object_get(s, "properties"), name);
        if (!of) of = more;
        if (of && !schema_ok(root, of, member)) return false;
    }
    return true;
}

static inline const json_t *referred(const json_t *root, const char *ref) { /* "#" or "#/$defs/NAME" */
    return strcmp(ref, "#") ? json_object_get(json_object_get(root, "$defs"), strrchr(ref, '/') + 1) : root;
}

static inline bool choice_ok(const json_t *root, const json_t *s, json_t *v) {
    const json_t *list = json_object_get(s, "enum"), *one = json_object_get(s, "const");
    const json_t *any = json_object_get(s, "anyOf") ? json_object_get(s, "anyOf") : json_object_get(s, "oneOf");
    bool in_list = !list, in_any = !any;
    for (size_t i = 0; i < json_array_size(list); i++)
        in_list |= json_equal(json_array_get(list, i), v) == 1;
    for (size_t i = 0; i < json_array_size(any); i++)
        in_any |= schema_ok(root, json_array_get(any, i), v);
    return in_list && in_any && (!one || json_equal(one, v) == 1);
}

static bool schema_ok(const json_t *root, const json_t *s, json_t *v) {
    if (json_is_boolean(s)) return json_is_true(s);
    const json_t *ref = json_object_get(s, "$ref");
    if (ref && !schema_ok(root, referred(root, json_string_value(ref)), v)) return false;
    if (!types_ok(json_object_get(s, "type"), v) || !choice_ok(root, s, v)) return false;
    if (json_is_number(v)) return number_ok(s, v);
    if (json_is_string(v)) return string_ok(s, v);
    if (json_is_array(v)) return array_ok(root, s, v);
    return !json_is_object(v) || object_ok(root, s, v);
}

#endif
