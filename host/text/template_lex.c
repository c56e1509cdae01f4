/* A template's source to tokens, with Jinja's rules for white space as transformers sets them: a newline right after a
 * block or a comment is dropped (trim_blocks), blanks between a line's start and one as well (lstrip_blocks); "-" takes
 * all white space on its side, "+" leaves it. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_impl.h"
#include "text/utf8.h"

typedef struct lexer {
    kf_template *t;
    kf_tokens *tokens;
    const char *s; /* [n] the source with newlines as \n */
    size_t n, at;
    uint32_t line;
    bool line_start; /* the tag before ended with a newline */
    unsigned n_open; /* brackets: inside them }} is two of them */
    char open[KF_DEPTH_MAX];
} lexer;

/* Python's str.isspace for what is ASCII: a template's own white space. */
static bool is_space(char c) {
    return (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= ' ');
}

static kf_status put_token(lexer *l, kf_token token) {
    kf_tokens *k = l->tokens;
    if (k->n == k->cap) {
        size_t cap = k->cap ? 2 * k->cap : 256;
        kf_token *grown = realloc(k->tokens, cap * sizeof *grown);
        if (!grown) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %zu tokens", l->t->name, cap);
        k->tokens = grown;
        k->cap = cap;
    }
    token.line = l->line;
    k->tokens[k->n++] = token;
    return KF_OK;
}

static void count_lines(lexer *l, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        l->line += l->s[i] == '\n';
}

/* ---- names and texts ---- */

static bool keep_bytes(kf_template *t, const char *bytes, size_t n, kf_stretch *out) {
    if (n > t->bytes_cap - t->n_bytes) return false; /* never: the own texts have room for the whole source */
    memcpy(t->bytes + t->n_bytes, bytes, n);
    *out = (kf_stretch){t->n_bytes, (uint32_t)n};
    t->n_bytes += (uint32_t)n;
    return true;
}

uint32_t kf_name_id(kf_template *t, const char *name, size_t n) {
    for (uint32_t i = 0; i < t->n_names; i++)
        if (t->names[i].n == n && !memcmp(t->bytes + t->names[i].at, name, n)) return i;
    if (t->n_names == KF_NAMES_MAX) return UINT32_MAX;
    return keep_bytes(t, name, n, &t->names[t->n_names]) ? t->n_names++ : UINT32_MAX;
}

/* ---- strings ---- */

static int hex_digits(const char *s, size_t n, uint32_t *out) {
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isxdigit((unsigned char)s[i])) return 0;
        char c = (char)tolower((unsigned char)s[i]);
        *out = *out * 16 + (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return 1;
}

/* The escape after a backslash at s[*i]; writes what it stands for and moves *i behind it. False: a bad one. */
static bool unescape(const char *s, size_t n, size_t *i, char *out, size_t *n_out) {
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    char c = s[(*i)++];
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        out[(*n_out)++] = to[simple - from];
        return true;
    }
    if (c == '\n') return true;
    uint32_t cp = 0;
    if (c == 'x' || c == 'u' || c == 'U') {
        size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        if (*i + digits > n || !hex_digits(s + *i, digits, &cp)) return false;
        *i += digits;
    } else if (c >= '0' && c <= '7') {
        cp = (uint32_t)(c - '0');
        for (int k = 0; k < 2 && *i < n && s[*i] >= '0' && s[*i] <= '7'; k++)
            cp = cp * 8 + (uint32_t)(s[(*i)++] - '0');
    } else {
        out[(*n_out)++] = '\\'; /* Python leaves an escape that it does not know */
        out[(*n_out)++] = c;
        return c != 'N';
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000) || cp == 0) return false;
    *n_out += kf_utf8_put(cp, out + *n_out);
    return true;
}

/* A string from its opening quote on. An escape is never shorter than what it stands for. */
static kf_status lex_string(lexer *l) {
    char quote = l->s[l->at];
    size_t from = l->at + 1, to = from, n_out = 0;
    while (to < l->n && l->s[to] != quote)
        to += l->s[to] == '\\' ? 2 : 1;
    if (to >= l->n) return KF_FAIL(KF_ERR_CORRUPT, "%s line %u: a string without its end", l->t->name, l->line);
    char *out = l->t->bytes + l->t->n_bytes;
    for (size_t i = from; i < to;) {
        if (l->s[i] != '\\') {
            out[n_out++] = l->s[i++];
            continue;
        }
        i++;
        if (!unescape(l->s, to, &i, out, &n_out))
            return KF_FAIL(KF_ERR_UNSUPPORTED, "%s line %u: an escape in a string that kefu does not know", l->t->name,
                           l->line);
    }
    kf_token token = {.kind = KF_T_STRING, .text = {l->t->n_bytes, (uint32_t)n_out}};
    l->t->n_bytes += (uint32_t)n_out;
    KF_TRY(put_token(l, token));
    count_lines(l, l->at, to);
    l->at = to + 1;
    return KF_OK;
}

/* ---- names, numbers, operators ---- */

static bool is_name_start(char c) {
    return isalpha((unsigned char)c) || c == '_';
}

static kf_status lex_name(lexer *l) {
    size_t from = l->at;
    while (l->at < l->n && (is_name_start(l->s[l->at]) || isdigit((unsigned char)l->s[l->at])))
        l->at++;
    uint32_t id = kf_name_id(l->t, l->s + from, l->at - from);
    if (id == UINT32_MAX) return KF_FAIL(KF_ERR_TOO_LARGE, "%s: more than %d names", l->t->name, KF_NAMES_MAX);
    return put_token(l, (kf_token){.kind = KF_T_NAME, .id = id, .text = l->t->names[id]});
}

static kf_status lex_integer(lexer *l) {
    int64_t value = 0;
    while (l->at < l->n && (isdigit((unsigned char)l->s[l->at]) || l->s[l->at] == '_')) {
        char c = l->s[l->at++];
        if (c == '_') continue;
        value = value * 10 + (c - '0');
        if (value > INT32_MAX)
            return KF_FAIL(KF_ERR_UNSUPPORTED, "%s line %u: a number above 2^31 - 1", l->t->name, l->line);
    }
    bool fraction = l->at + 1 < l->n && l->s[l->at] == '.' && isdigit((unsigned char)l->s[l->at + 1]);
    if (fraction || (l->at < l->n && is_name_start(l->s[l->at])))
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s line %u: a number that is no decimal integer: kefu knows those",
                       l->t->name, l->line);
    return put_token(l, (kf_token){.kind = KF_T_INT, .integer = value});
}

static bool bracket(lexer *l, char c) {
    if (strchr("([{", c)) {
        if (l->n_open == sizeof l->open) return false;
        l->open[l->n_open++] = c;
        return true;
    }
    char want = c == ')' ? '(' : c == ']' ? '[' : '{';
    return l->n_open && l->open[--l->n_open] == want;
}

static kf_status lex_operator(lexer *l) {
    static const char doubles[][3] = {"==", "!=", "<=", ">=", "//", "**"};
    char c = l->s[l->at], d = l->at + 1 < l->n ? l->s[l->at + 1] : 0;
    uint32_t op = KF_OP(c, 0);
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        if (doubles[i][0] == c && doubles[i][1] == d) op = KF_OP(c, d);
    if (!c || !strchr("+-*/%~=!<>()[]{},.:|", c) || op == KF_OP('!', 0))
        return KF_FAIL(KF_ERR_CORRUPT, "%s line %u: a character 0x%02x that no expression has", l->t->name, l->line,
                       (unsigned char)c);
    if (strchr("()[]{}", c) && !bracket(l, c))
        return KF_FAIL(KF_ERR_CORRUPT, "%s line %u: brackets that do not match, or more than %d in one another",
                       l->t->name, l->line, KF_DEPTH_MAX);
    l->at += op & 0xFF ? 2 : 1;
    return put_token(l, (kf_token){.kind = KF_T_OP, .id = op});
}

/* Whether the tag's end stands here: with "-", and as it is. *skip: its bytes. */
static bool at_end(const lexer *l, const char *end, bool *strip, size_t *skip) {
    if (l->n_open) return false;
    const char *s = l->s + l->at;
    size_t left = l->n - l->at;
    bool signed_end = left >= 3 && (*s == '-' || (*s == '+' && *end == '%')) && !memcmp(s + 1, end, 2);
    if (!signed_end && !(left >= 2 && !memcmp(s, end, 2))) return false;
    *strip = signed_end && *s == '-';
    *skip = signed_end ? 3 : 2;
    /* one newline goes with a block's plain end */
    if (!signed_end && *end == '%' && left > 2 && s[2] == '\n') *skip = 3;
    return true;
}

static void skip_space(lexer *l) {
    size_t from = l->at;
    while (l->at < l->n && is_space(l->s[l->at]))
        l->at++;
    count_lines(l, from, l->at);
}

/* What stands between {{ and }}, or {% and %}. */
static kf_status lex_tag(lexer *l, bool block) {
    const char *end = block ? "%}" : "}}";
    bool strip;
    size_t skip;
    for (;;) {
        skip_space(l);
        if (l->at >= l->n)
            return KF_FAIL(KF_ERR_CORRUPT, "%s line %u: %s without its end", l->t->name, l->line, block ? "{%" : "{{");
        if (at_end(l, end, &strip, &skip)) break;
        char c = l->s[l->at];
        if (c == '"' || c == '\'')
            KF_TRY(lex_string(l));
        else if (is_name_start(c))
            KF_TRY(lex_name(l));
        else if (isdigit((unsigned char)c))
            KF_TRY(lex_integer(l));
        else
            KF_TRY(lex_operator(l));
    }
    KF_TRY(put_token(l, (kf_token){.kind = block ? KF_T_BLOCK_END : KF_T_PRINT_END}));
    count_lines(l, l->at, l->at + skip);
    l->at += skip;
    if (strip) skip_space(l);
    l->line_start = l->s[l->at - 1] == '\n';
    return KF_OK;
}

static kf_status skip_comment(lexer *l) {
    const char *end = memmem(l->s + l->at, l->n - l->at, "#}", 2);
    if (!end) return KF_FAIL(KF_ERR_CORRUPT, "%s line %u: {# without its end", l->t->name, l->line);
    size_t to = (size_t)(end - l->s) + 2, before = l->at;
    char sign = end > l->s + l->at ? end[-1] : 0;
    count_lines(l, before, to);
    l->at = to;
    if (sign == '-') {
        skip_space(l);
    } else if (sign != '+' && l->at < l->n && l->s[l->at] == '\n') {
        l->at++;
        l->line++;
    }
    l->line_start = l->s[l->at - 1] == '\n';
    return KF_OK;
}

/* ---- between tags ---- */

/* Where the next tag starts, n where there is none. */
static size_t next_tag(const lexer *l) {
    for (size_t i = l->at; i + 1 < l->n; i++)
        if (l->s[i] == '{' && (l->s[i + 1] == '{' || l->s[i + 1] == '%' || l->s[i + 1] == '#')) return i;
    return l->n;
}

/* The data's end once the tag at `tag` has taken the white space before it. */
static size_t data_end(const lexer *l, size_t tag) {
    size_t end = tag;
    char sign = tag + 2 < l->n ? l->s[tag + 2] : 0;
    if (tag >= l->n || sign == '+') return end;
    while (end > l->at && is_space(l->s[end - 1]) && (sign == '-' || l->s[end - 1] != '\n'))
        end--;
    if (sign == '-') return end;
    bool from_line_start = end > l->at ? l->s[end - 1] == '\n' : l->line_start;
    return l->s[tag + 1] != '{' && from_line_start ? end : tag;
}

static kf_status lex_all(lexer *l) {
    while (l->at < l->n) {
        size_t tag = next_tag(l), end = data_end(l, tag);
        kf_token data = {.kind = KF_T_DATA};
        if (end > l->at) {
            KF_REQUIRE(keep_bytes(l->t, l->s + l->at, end - l->at, &data.text));
            KF_TRY(put_token(l, data));
        }
        count_lines(l, l->at, tag);
        l->at = tag;
        if (tag == l->n) break;
        char kind = l->s[tag + 1];
        l->at += 2;
        if (l->at < l->n && (l->s[l->at] == '-' || l->s[l->at] == '+')) l->at++;
        if (kind == '#') {
            KF_TRY(skip_comment(l));
            continue;
        }
        KF_TRY(put_token(l, (kf_token){.kind = kind == '%' ? KF_T_BLOCK : KF_T_PRINT}));
        KF_TRY(lex_tag(l, kind == '%'));
    }
    return put_token(l, (kf_token){.kind = KF_T_END});
}

kf_status kf_template_lex(kf_template *t, const char *source, size_t n, kf_tokens *out) {
    char *plain = calloc(n + 1, 1);
    if (!plain) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %zu bytes", t->name, n);
    size_t n_plain = 0;
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n') continue;
        plain[n_plain++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n_plain && plain[n_plain - 1] == '\n') n_plain--; /* Jinja's keep_trailing_newline is off */
    lexer l = {.t = t, .tokens = out, .s = plain, .n = n_plain, .line = 1, .line_start = true};
    kf_status s = lex_all(&l);
    free(plain);
    return s;
}
