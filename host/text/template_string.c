/* What Python's str does to a template's texts. Each byte that a result takes from a text keeps its mark. */
#include <string.h>
#include <utf8proc.h>

#include "text/template_impl.h"
#include "text/utf8.h"

/* Python's str.isspace. */
static bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static uint32_t next_char(const kf_template *t, kf_stretch text, uint32_t *byte) {
    size_t at = text.at + *byte;
    uint32_t c = kf_utf8_next(t->bytes, &at);
    *byte = (uint32_t)at - text.at;
    return c;
}

/* ---- ends ---- */

static bool is_among(const kf_template *t, kf_stretch chars, uint32_t c) {
    for (uint32_t i = 0; i < chars.n;)
        if (next_char(t, chars, &i) == c) return true;
    return false;
}

static bool goes(const kf_template *t, const kf_stretch *chars, uint32_t c) {
    return chars ? is_among(t, *chars, c) : is_space(c);
}

kf_stretch kf_strip(const kf_template *t, kf_stretch text, const kf_stretch *chars, kf_side side) {
    while (side & KF_LEFT && text.n) {
        uint32_t n = 0;
        if (!goes(t, chars, next_char(t, text, &n))) break;
        text.at += n;
        text.n -= n;
    }
    while (side & KF_RIGHT && text.n) {
        uint32_t last = text.n - 1;
        while (((unsigned char)t->bytes[text.at + last] & 0xC0) == 0x80)
            last--;
        uint32_t n = last;
        if (!goes(t, chars, next_char(t, text, &n))) break;
        text.n = last;
    }
    return text;
}

uint32_t kf_find(const kf_template *t, kf_stretch text, kf_stretch part, uint32_t from) {
    if (from > text.n) return UINT32_MAX;
    const char *s = t->bytes + text.at, *found = memmem(s + from, text.n - from, t->bytes + part.at, part.n);
    return found ? (uint32_t)(found - s) : UINT32_MAX;
}

bool kf_starts(const kf_template *t, kf_stretch text, kf_stretch part) {
    return part.n <= text.n && !memcmp(t->bytes + text.at, t->bytes + part.at, part.n);
}

bool kf_ends(const kf_template *t, kf_stretch text, kf_stretch part) {
    return part.n <= text.n && !memcmp(t->bytes + text.at + text.n - part.n, t->bytes + part.at, part.n);
}

/* ---- upper and lower case ---- */

/* One code point becomes one: Python makes two of a few, such as the German sharp s. */

/* Whether the next letter begins a word, c being the character before it. */
static bool begins_word(kf_case how, uint32_t c) {
    if (how == KF_CASE_TITLE_FILTER) return is_space(c) || (c < 128 && c && strchr("-({[<", (int)c));
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category != UTF8PROC_CATEGORY_LU && category != UTF8PROC_CATEGORY_LL && category != UTF8PROC_CATEGORY_LT;
}

kf_status kf_change_case(kf_template *t, kf_stretch text, kf_case how, kf_stretch *out) {
    uint32_t at = t->n_bytes;
    bool begins = true;
    for (uint32_t i = 0; i < text.n;) {
        char bytes[4];
        unsigned char marks[4];
        memset(marks, t->marks[text.at + i], sizeof marks);
        utf8proc_int32_t c = (utf8proc_int32_t)next_char(t, text, &i);
        bool upper = how == KF_CASE_UPPER || (how != KF_CASE_LOWER && begins);
        size_t n = kf_utf8_put((uint32_t)(upper ? utf8proc_toupper(c) : utf8proc_tolower(c)), bytes);
        KF_TRY(kf_put(t, bytes, marks, n));
        begins = how == KF_CASE_CAPITALIZE ? false : begins_word(how, (uint32_t)c);
    }
    *out = (kf_stretch){at, t->n_bytes - at};
    return kf_template_steps(t, text.n);
}

/* ---- parts ---- */

kf_status kf_replace(kf_template *t, uint32_t node, kf_stretch text, kf_stretch old, kf_stretch new, int64_t most,
                     kf_stretch *out) {
    uint32_t at = t->n_bytes, from = 0, found;
    if (old.n == 0) return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "replace of an empty text");
    KF_TRY(kf_template_steps(t, text.n / 16));
    for (; most != 0 && (found = kf_find(t, text, old, from)) != UINT32_MAX; most--) {
        KF_TRY(kf_put_text(t, (kf_stretch){text.at + from, found - from}));
        KF_TRY(kf_put_text(t, new));
        from = found + old.n;
    }
    KF_TRY(kf_put_text(t, (kf_stretch){text.at + from, text.n - from}));
    *out = (kf_stretch){at, t->n_bytes - at};
    return KF_OK;
}

static kf_status add_part(kf_template *t, kf_stretch text, uint32_t from, uint32_t to) {
    uint32_t at;
    KF_TRY(kf_values_new(t, 1, &at)); /* the list's members lie in a row: nothing else is made meanwhile */
    t->values[at] = kf_text(text.at + from, to - from);
    return kf_template_steps(t, 1);
}

static kf_status split_at_space(kf_template *t, kf_stretch text, int64_t most) {
    for (;; most--) {
        text = kf_strip(t, text, NULL, KF_LEFT);
        if (text.n == 0) return KF_OK;
        uint32_t end = 0;
        for (uint32_t next = 0; end < text.n && !is_space(next_char(t, text, &next)); end = next) {
        }
        if (most == 0) end = text.n; /* white space at the very end stays, as in Python */
        KF_TRY(add_part(t, text, 0, end));
        text.at += end;
        text.n -= end;
    }
}

static kf_status split_at(kf_template *t, kf_stretch text, kf_stretch sep, int64_t most) {
    uint32_t from = 0, found;
    for (; most != 0 && (found = kf_find(t, text, sep, from)) != UINT32_MAX; most--) {
        KF_TRY(add_part(t, text, from, found));
        from = found + sep.n;
    }
    return add_part(t, text, from, text.n);
}

/* The last `most` separators are taken; those that overlap are counted from the left. */
static kf_status split_from_right(kf_template *t, kf_stretch text, kf_stretch sep, int64_t most) {
    int64_t n = 0;
    for (uint32_t at = 0; (at = kf_find(t, text, sep, at)) != UINT32_MAX; at += sep.n)
        n++;
    if (n <= most) return split_at(t, text, sep, -1);
    if (most == 0) return add_part(t, text, 0, text.n);
    uint32_t from = 0;
    for (; n > most; n--)
        from = kf_find(t, text, sep, from) + sep.n;
    uint32_t end = kf_find(t, text, sep, from);
    KF_TRY(add_part(t, text, 0, end));
    return split_at(t, (kf_stretch){text.at + end + sep.n, text.n - end - sep.n}, sep, -1);
}

kf_status kf_split(kf_template *t, uint32_t node, kf_stretch text, const kf_stretch *sep, int64_t most, bool from_right,
                   kf_value *out) {
    uint32_t at = t->n_values;
    if (sep && sep->n == 0) return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "split at an empty text");
    if (from_right && most >= 0 && !sep)
        return KF_TEMPLATE_FAIL(t, KF_ERR_INVALID, node, "rsplit at white space with a limit is not supported");
    KF_TRY(kf_template_steps(t, text.n / 16));
    if (!sep)
        KF_TRY(split_at_space(t, text, most));
    else if (from_right && most >= 0)
        KF_TRY(split_from_right(t, text, *sep, most));
    else
        KF_TRY(split_at(t, text, *sep, most));
    *out = (kf_value){.kind = KF_V_LIST, .seq = {at, t->n_values - at}};
    return KF_OK;
}

kf_status kf_join(kf_template *t, uint32_t node, kf_stretch sep, kf_value list, kf_stretch *out) {
    kf_stretch made = {t->n_bytes, 0}, member;
    for (uint32_t i = 0; i < list.seq.n; i++) {
        KF_TRY(kf_template_steps(t, 1));
        if (i) KF_TRY(kf_concat(t, made, sep, &made));
        KF_TRY(kf_to_text(t, node, t->values[list.seq.at + i], &member));
        KF_TRY(kf_concat(t, made, member, &made));
    }
    *out = made;
    return KF_OK;
}
