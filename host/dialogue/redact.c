/* Masking by entity and by shape, code point by code point, in one pass over the text. */
#include "dialogue/redact.h"

#include <stdio.h>
#include <string.h>

#include "text/utf8.h"

enum { MIN_DIGITS = 7, SUMMARY_CHARS = 120 };

static bool is_personal(const char *type) {
    return !strcmp(type, "phone") || !strcmp(type, "order_id") || !strcmp(type, "address") || !strcmp(type, "person");
}

static bool is_digit(uint32_t cp) {
    static const uint32_t numerals[] = {0x96F6, 0x3007, 0x4E00, 0x5E7A, 0x4E8C, 0x4E09,
                                        0x56DB, 0x4E94, 0x516D, 0x4E03, 0x516B, 0x4E5D}; /* 零〇一幺二三四五六七八九 */
    if ((cp >= '0' && cp <= '9') || (cp >= 0xFF10 && cp <= 0xFF19)) return true;
    for (size_t i = 0; i < sizeof numerals / sizeof *numerals; i++)
        if (cp == numerals[i]) return true;
    return false;
}

static bool is_filler(uint32_t cp) {
    return cp == ' ' || cp == '-' || cp == 0x2013 || cp == 0x2014 || cp == 0x3000;
}

static bool is_ascii_word(uint32_t cp) {
    return cp > ' ' && cp < 0x7F && cp != ',' && cp != ';';
}

/* Bytes of a number that starts at `at`: MIN_DIGITS or more digits with single fillers between; 0 where there is none.
 */
static size_t number_bytes(kf_str t, size_t at) {
    size_t n_digits = 0, end = at, next = at;
    bool filled = true; /* no filler before the first digit */
    while (next < t.n) {
        uint32_t cp = kf_utf8_next(t.s, &next);
        if (is_digit(cp)) {
            n_digits++;
            end = next;
            filled = false;
        } else if (!filled && is_filler(cp)) {
            filled = true;
        } else {
            break;
        }
    }
    return n_digits >= MIN_DIGITS ? end - at : 0;
}

/* Bytes of an ASCII word with an @ inside that starts at `at`; 0 where it is none. */
static size_t mail_bytes(kf_str t, size_t at) {
    size_t end = at;
    bool mark = false;
    while (end < t.n && is_ascii_word((unsigned char)t.s[end])) {
        if (t.s[end] == '@' && end > at) mark = true;
        end++;
    }
    return mark ? end - at : 0;
}

static const kf_entity *entity_at(const kf_entity *entities, size_t n, int32_t cp) {
    for (size_t i = 0; i < n; i++)
        if (entities[i].start == cp && entities[i].end > cp && is_personal(entities[i].type)) return &entities[i];
    return NULL;
}

typedef struct writer {
    char *out; /* [cap] */
    size_t n, cap, n_chars, max_chars;
    bool full;
} writer;

/* All of it or, once something did not fit, nothing more. */
static void put(writer *w, const char *text, size_t n_bytes, size_t n_chars) {
    if (w->full || w->n + n_bytes > w->cap || w->n_chars + n_chars > w->max_chars) {
        w->full = true;
        return;
    }
    memcpy(w->out + w->n, text, n_bytes);
    w->n += n_bytes;
    w->n_chars += n_chars;
}

static void put_mask(writer *w, const char *name) {
    char mask[32];
    int n = snprintf(mask, sizeof mask, "[%.24s]", name);
    put(w, mask, (size_t)n, (size_t)n);
}

static void redact(writer *w, kf_str t, const kf_entity *entities, size_t n_entities) {
    size_t at = 0;
    int32_t cp = 0;
    uint32_t before = ' ';
    while (at < t.n && !w->full) {
        const kf_entity *e = entity_at(entities, n_entities, cp);
        size_t n = 0;
        if (e) {
            n = kf_utf8_offset(t.s + at, t.n - at, (size_t)(e->end - e->start));
            put_mask(w, e->type);
        } else if (!is_digit(before) && (n = number_bytes(t, at)) > 0) {
            put_mask(w, "number");
        } else if (!is_ascii_word(before) && (n = mail_bytes(t, at)) > 0) {
            put_mask(w, "mail");
        }
        size_t next = at;
        if (n == 0) {
            before = kf_utf8_next(t.s, &next);
            put(w, t.s + at, next - at, 1);
            cp++;
        } else {
            next = at + n;
            before = ' ';
            cp += (int32_t)kf_utf8_length(t.s + at, n);
        }
        at = next;
    }
}

bool kf_redact(kf_arena *arena, kf_str text, const kf_entity *entities, size_t n_entities, size_t max_chars,
               kf_str *out) {
    static const char cut[] = "…";
    writer w = {.cap = text.n + n_entities * 16 + 16, .max_chars = max_chars};
    w.out = kf_arena_alloc(arena, w.cap + sizeof cut);
    if (!w.out) return false;
    redact(&w, text, entities, n_entities);
    if (w.full) {
        memcpy(w.out + w.n, cut, sizeof cut - 1);
        w.n += sizeof cut - 1;
    }
    w.out[w.n] = 0;
    *out = (kf_str){.s = w.out, .n = w.n};
    return true;
}

void kf_handoff_summary(kf_arena *arena, kf_str text, const kf_understanding *u, size_t n_history, kf_str *out) {
    kf_str words;
    *out = (kf_str){.s = ""};
    if (!kf_redact(arena, text, u ? u->entities : NULL, u ? u->n_entities : 0, SUMMARY_CHARS, &words)) return;
    size_t cap = words.n + 256;
    char *s = kf_arena_alloc(arena, cap);
    if (!s) return;
    int n = 0;
    if (u && u->n_intents)
        n = snprintf(s, cap, "intent %.48s (%.2f), ", u->intents[0].label, (double)u->intents[0].score);
    if (u && u->sentiment.label) n += snprintf(s + n, cap - (size_t)n, "sentiment %.48s, ", u->sentiment.label);
    n += snprintf(s + n, cap - (size_t)n, "%zu earlier turns: %s", n_history, words.s);
    *out = (kf_str){.s = s, .n = (size_t)n};
}
