/* Oniguruma's classes in PCRE2's words. */
#include "text/pattern.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SPACES                                                                                                         \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORDS "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"

/* The longest thing that one character of a pattern can become. */
enum { GROWTH = sizeof SPACES + 4 };

typedef struct translation {
    const char *where, *in;
    size_t n, at;
    char *out;
    size_t n_out;
    bool in_class;
} translation;

static void put(translation *t, const char *s, size_t n) {
    memcpy(t->out + t->n_out, s, n);
    t->n_out += n;
}

static void put_text(translation *t, const char *s) {
    put(t, s, strlen(s));
}

/* A class of characters by its members, on its own or inside a class. */
static void put_members(translation *t, const char *open, const char *members) {
    if (!t->in_class) put_text(t, open);
    put_text(t, members);
    if (!t->in_class) put_text(t, "]");
}

/* \p{Name}: a name of more than two letters is taken for a script. "Any" and the long names of categories, which
 * scripts do not have, are refused by PCRE2. */
static void put_property(translation *t) {
    const char *name = t->in + t->at + 3, *end = memchr(name, '}', t->n - t->at - 3);
    size_t n_name = end ? (size_t)(end - name) : 0;
    bool negated = n_name && name[0] == '^';
    put(t, t->in + t->at, 3);
    if (n_name - negated > 2 && !memchr(name, ':', n_name) && !memchr(name, '=', n_name)) {
        if (negated) put_text(t, "^");
        put_text(t, "sc:");
        t->at += negated;
    }
    t->at += 3;
}

static kf_status put_escape(translation *t) {
    char c = t->at + 1 < t->n ? t->in[t->at + 1] : 0;
    bool braced = t->at + 2 < t->n && t->in[t->at + 2] == '{';
    if ((c == 'p' || c == 'P') && braced) {
        put_property(t);
        return KF_OK;
    }
    switch (c) {
    case 's': put_members(t, "[", SPACES); break;
    case 'w': put_members(t, "[", WORDS); break;
    case 'h': put_members(t, "[", "0-9A-Fa-f"); break;
    case 'S':
        if (t->in_class)
            put_text(t, "\\S\\x{180e}");
        else
            put_members(t, "[^", SPACES);
        break;
    case 'W':
    case 'H':
        if (t->in_class) return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: its pattern has \\%c inside a class", t->where, c);
        put_members(t, "[^", c == 'W' ? WORDS : "0-9A-Fa-f");
        break;
    default: put(t, t->in + t->at, t->at + 1 < t->n ? 2 : 1); break;
    }
    t->at += 2;
    return KF_OK;
}

/* Of a class's first characters, ] is a member when it follows [ or [^. */
static void open_class(translation *t) {
    t->in_class = true;
    put(t, t->in + t->at++, 1);
    if (t->at < t->n && t->in[t->at] == '^') put(t, t->in + t->at++, 1);
    if (t->at < t->n && t->in[t->at] == ']') put(t, t->in + t->at++, 1);
}

static kf_status translate(translation *t) {
    while (t->at < t->n) {
        char c = t->in[t->at];
        if (c == '\\') {
            KF_TRY(put_escape(t));
        } else if (!t->in_class && c == '[') {
            open_class(t);
        } else if (t->in_class && c == '[') {
            return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: its pattern has a class inside a class, at %zu", t->where, t->at);
        } else if (t->in_class && c == '&' && t->at + 1 < t->n && t->in[t->at + 1] == '&') {
            return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: its pattern has && in a class, at %zu", t->where, t->at);
        } else {
            if (c == ']') t->in_class = false;
            put(t, t->in + t->at++, 1);
        }
    }
    t->out[t->n_out] = 0;
    return KF_OK;
}

kf_status kf_pattern_translate(const char *where, const char *pattern, size_t n, char **out) {
    enum { PATTERN_BYTES_MAX = 1 << 16 };
    if (n > PATTERN_BYTES_MAX)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: a pattern of %zu bytes, the limit is %d", where, n, PATTERN_BYTES_MAX);
    if (memchr(pattern, 0, n)) return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: a pattern with a NUL", where);
    translation t = {.where = where, .in = pattern, .n = n};
    t.out = malloc(n * GROWTH + 1);
    if (!t.out) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for a pattern of %zu bytes", where, n);
    kf_status s = translate(&t);
    if (s != KF_OK) {
        free(t.out);
        return s;
    }
    *out = t.out;
    return KF_OK;
}
