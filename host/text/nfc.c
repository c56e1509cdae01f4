/* Form C by segments: a character that combines with nothing before it, and those after it that may. Each is
 * decomposed, put in canonical order and composed again (Unicode standard annex 15). */
#include "text/nfc.h"

#include <utf8proc.h>

#include "text/bert_chars.h"
#include "text/utf8.h"

/* The standard's stream-safe form allows 30 combining characters in a row. A longer row is normalised in parts. */
enum { SEGMENT_MAX = 128 };

typedef struct part {
    uint32_t cp;
    unsigned class;
    int change; /* code points that this one adds to the original text; below 0: takes away */
} part;

static bool is_hangul_vowel_or_tail(uint32_t cp) {
    return (cp >= 0x1161 && cp <= 0x1175) || (cp >= 0x11A8 && cp <= 0x11C2);
}

/* Whether cp may combine with what stands before it: every such character is a mark or a hangul vowel or tail. */
static bool may_combine(uint32_t cp) {
    if (cp < 0x300 || (cp >= 0x3400 && cp <= 0x9FFF) || (cp >= 0xAC00 && cp <= 0xD7A3)) return false;
    if (is_hangul_vowel_or_tail(cp)) return true;
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)cp);
    return p->combining_class != 0 || p->category == UTF8PROC_CATEGORY_MN || p->category == UTF8PROC_CATEGORY_MC ||
           p->category == UTF8PROC_CATEGORY_ME;
}

/* The character that a and b compose, 0 if none. */
static uint32_t compose(uint32_t a, uint32_t b) {
    utf8proc_int32_t pair[2] = {(utf8proc_int32_t)a, (utf8proc_int32_t)b};
    utf8proc_ssize_t n = utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    return n == 1 && pair[0] != 0x11938 ? (uint32_t)pair[0] : 0; /* U+11938: see kf_bert_decompose */
}

/* Canonical order: by class within each row of characters of a class over 0, stable. */
static void order(part *p, size_t n) {
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && p[j].class && p[j - 1].class > p[j].class; j--) {
            part t = p[j];
            p[j] = p[j - 1];
            p[j - 1] = t;
        }
}

/* Composes p[0 .. n) in place, returns what is left. A character is blocked from its base by one in between of the
 * same class or a higher one. */
static size_t recompose(part *p, size_t n) {
    size_t base = SIZE_MAX, kept = 0;
    unsigned last_class = 0; /* of what was kept since the base; 0: nothing */
    for (size_t i = 0; i < n; i++) {
        bool blocked = base == SIZE_MAX || (kept > base + 1 && last_class >= p[i].class);
        uint32_t composed = blocked ? 0 : compose(p[base].cp, p[i].cp);
        if (composed) {
            p[base].cp = composed;
            p[base].change += p[i].change - 1;
            continue;
        }
        if (p[i].class == 0) base = kept;
        last_class = p[i].class;
        p[kept++] = p[i];
    }
    return kept;
}

static size_t decompose(uint32_t cp, part *out) {
    uint32_t cps[KF_DECOMPOSED_MAX];
    size_t n = kf_bert_decompose(cp, cps);
    for (size_t i = 0; i < n; i++)
        out[i] = (part){cps[i], kf_bert_combining_class(cps[i]), i > 0};
    return n;
}

bool kf_nfc_needed(const char *text, size_t n_bytes) {
    for (size_t at = 0; at < n_bytes;) {
        if ((unsigned char)text[at] < 0xCC) { /* below U+0300 */
            kf_utf8_next(text, &at);
            continue;
        }
        uint32_t cp = kf_utf8_next(text, &at);
        if ((cp >= 0x3400 && cp <= 0x9FFF) || (cp >= 0xAC00 && cp <= 0xD7A3)) continue;
        if (may_combine(cp)) return true;
        part parts[KF_DECOMPOSED_MAX];
        size_t n = decompose(cp, parts);
        if (recompose(parts, n) != 1 || parts[0].cp != cp) return true;
    }
    return false;
}

size_t kf_nfc(const char *text, size_t n_bytes, char *out, int32_t *source) {
    size_t n_out = 0, n_cps = 0;
    int32_t next = 0; /* the next code point of text that no character of out stands for */
    for (size_t at = 0; at < n_bytes;) {
        part parts[SEGMENT_MAX];
        size_t n = decompose(kf_utf8_next(text, &at), parts);
        while (at < n_bytes && n + KF_DECOMPOSED_MAX <= SEGMENT_MAX) {
            size_t after = at;
            uint32_t cp = kf_utf8_next(text, &after);
            if (!may_combine(cp)) break;
            n += decompose(cp, parts + n);
            at = after;
        }
        order(parts, n);
        n = recompose(parts, n);
        for (size_t i = 0; i < n; i++) {
            bool added = parts[i].change > 0;
            source[n_cps++] = added && next > 0 ? next - 1 : next;
            if (!added) next += 1 - parts[i].change;
            n_out += kf_utf8_put(parts[i].cp, out + n_out);
        }
    }
    return n_out;
}
