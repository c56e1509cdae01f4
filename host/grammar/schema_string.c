/* Strings of a schema: length, pattern, format; and the names of members. */
#include <string.h>

#include "grammar/regex.h"
#include "grammar/schema_impl.h"
#include "text/utf8.h"

enum { LENGTH_MAX = 4096 };

/* Texts that the standards behind JSON schema's formats allow, by RFC 3339, RFC 4122, RFC 2673; an e-mail address in
 * the form that nobody doubts. Days are those that the month has. */
#define YEAR "(000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})"
#define LEAP_YEAR "(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define DATE                                                                                                           \
    "(" YEAR "-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))"      \
    "|" LEAP_YEAR "-02-29)"
#define TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define BYTE "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
    {"email", "[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
              "(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+"},
    {"ipv4", BYTE "(\\." BYTE "){3}"},
};

static int32_t of_format(kf_schema *b, const kf_schema_place *p, const json_t *format, int32_t to) {
    const char *name = json_string_value(format);
    for (size_t i = 0; name && i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(name, formats[i].name))
            return kf_regex_build(b->n, "response_format: a format", formats[i].pattern, strlen(formats[i].pattern),
                                  KF_REGEX_WHOLE, KF_SPELL_JSON, to);
    return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, "format",
                          "is supported as date, time, date-time, uuid, email and ipv4");
}

static int32_t of_length(kf_schema *b, const kf_schema_place *p, const json_t *s, int32_t to) {
    static const kf_char_range all = {0, 0x10FFFF};
    size_t min, max;
    bool bounded = json_object_get(s, "maxLength") != NULL;
    if (!kf_schema_count(b, p, s, "minLength", LENGTH_MAX, 0, &min)) return KF_NFA_NONE;
    if (!kf_schema_count(b, p, s, "maxLength", LENGTH_MAX, 0, &max)) return KF_NFA_NONE;
    if (!bounded) {
        to = kf_nfa_any_text(b->n, KF_SPELL_JSON, to);
    } else if (max < min) {
        return kf_schema_fail(b, p, KF_ERR_INVALID, "maxLength", "is below `minLength`: nothing meets it");
    } else {
        int32_t end = to;
        for (size_t i = min; i < max && kf_nfa_step(b->n); i++)
            to = kf_nfa_either(b->n, kf_nfa_chars(b->n, &all, 1, KF_SPELL_JSON, to), end);
    }
    for (size_t i = 0; i < min && kf_nfa_step(b->n); i++)
        to = kf_nfa_chars(b->n, &all, 1, KF_SPELL_JSON, to);
    return to;
}

int32_t kf_schema_string(kf_schema *b, const kf_schema_place *p, const json_t *s, int32_t to) {
    const json_t *pattern = json_object_get(s, "pattern"), *format = json_object_get(s, "format");
    const char *length = json_object_get(s, "minLength") ? "minLength" : "maxLength";
    bool has_length = json_object_get(s, length) != NULL;
    int32_t close = kf_nfa_text(b->n, "\"", 1, to), start;
    if ((pattern && format) || ((pattern || format) && has_length))
        return kf_schema_fail(b, p, KF_ERR_UNSUPPORTED, has_length ? length : "format",
                              "is not supported beside `pattern` or `format`: say it in the pattern");
    if (pattern && !json_is_string(pattern))
        return kf_schema_fail(b, p, KF_ERR_INVALID, "pattern", "wanted a regular expression");
    if (pattern) {
        start = kf_regex_build(b->n, "response_format: schema: `pattern`", json_string_value(pattern),
                               json_string_length(pattern), KF_REGEX_SEARCH, KF_SPELL_JSON, close);
    } else {
        start = format ? of_format(b, p, format, close) : of_length(b, p, s, close);
    }
    return kf_nfa_text(b->n, "\"", 1, start);
}

/* ---- names of members ---- */

int32_t kf_schema_name(kf_schema *b, const char *name, int32_t to) {
    int32_t close = kf_nfa_text(b->n, "\"", 1, to);
    return kf_nfa_text(b->n, "\"", 1, kf_nfa_spell(b->n, name, strlen(name), KF_SPELL_JSON, close));
}

static int32_t chars(kf_schema *b, uint32_t lo, uint32_t hi, int32_t to) {
    return lo > hi ? KF_NFA_NONE : kf_nfa_chars(b->n, &(kf_char_range){lo, hi}, 1, KF_SPELL_JSON, to);
}

/* The rest of a name that begins with the first `at` bytes of these n, which are sorted and all begin so, and is none
 * of them. `any`: whatever comes, and the quote. */
static int32_t other_rest(kf_schema *b, const char *const *names, size_t n, size_t at, int32_t close, int32_t any) {
    size_t i = names[0][at] == 0; /* a name that ends here */
    int32_t all = i ? KF_NFA_NONE : close;
    uint32_t from = 1;
    while (i < n && kf_nfa_step(b->n)) {
        size_t first = i, behind = at;
        uint32_t cp = kf_utf8_next(names[i], &behind);
        while (i < n && !memcmp(names[i] + at, names[first] + at, behind - at))
            i++;
        all = kf_nfa_either(b->n, all, chars(b, from, cp - 1, any));
        all = kf_nfa_either(b->n, all, chars(b, cp, cp, other_rest(b, names + first, i - first, behind, close, any)));
        from = cp + 1;
    }
    return kf_nfa_either(b->n, all, chars(b, from, 0x10FFFF, any));
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int32_t kf_schema_other_name(kf_schema *b, const char *const *names, size_t n_names, int32_t to) {
    const char *sorted[KF_SCHEMA_MEMBERS_MAX];
    int32_t close = kf_nfa_text(b->n, "\"", 1, to), any = kf_nfa_any_text(b->n, KF_SPELL_JSON, close);
    if (n_names == 0) return kf_nfa_text(b->n, "\"", 1, any);
    memcpy(sorted, names, n_names * sizeof *sorted);
    qsort(sorted, n_names, sizeof *sorted, by_bytes);
    return kf_nfa_text(b->n, "\"", 1, other_rest(b, sorted, n_names, 0, close, any));
}
