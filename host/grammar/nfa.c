/* Building automata; see nfa.h. */
#include "grammar/nfa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

void kf_nfa_init(kf_nfa *n) {
    *n = (kf_nfa){.cap = 256};
    n->states = malloc(n->cap * sizeof *n->states);
    if (!n->states) {
        kf_nfa_fail(n, KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu states", n->cap));
        return;
    }
    n->states[n->n++] = (kf_nfa_state){.kind = KF_NFA_FINAL};
}

void kf_nfa_free(kf_nfa *n) {
    free(n->states);
    *n = (kf_nfa){0};
}

int32_t kf_nfa_fail(kf_nfa *n, kf_status s) {
    if (n->status == KF_OK) n->status = s;
    return KF_NFA_NONE;
}

bool kf_nfa_step(kf_nfa *n) {
    if (n->status != KF_OK) return false;
    if (++n->n_steps <= KF_NFA_STEPS_MAX) return true;
    kf_nfa_fail(n, KF_FAIL(KF_ERR_TOO_LARGE, "response_format: takes more than %d steps to build: repeat or nest less",
                           KF_NFA_STEPS_MAX));
    return false;
}

static int32_t add(kf_nfa *n, kf_nfa_state state) {
    if (!kf_nfa_step(n)) return KF_NFA_NONE;
    if (n->n == KF_NFA_STATES_MAX)
        return kf_nfa_fail(n, KF_FAIL(KF_ERR_TOO_LARGE,
                                      "response_format: needs more than %d states: repeat or nest less "
                                      "(maxItems, maxLength, {n,m})",
                                      KF_NFA_STATES_MAX));
    if (n->n == n->cap) {
        kf_nfa_state *more = realloc(n->states, 2 * n->cap * sizeof *more);
        if (!more) return kf_nfa_fail(n, KF_FAIL(KF_ERR_NO_MEMORY, "grammar: no memory for %zu states", 2 * n->cap));
        n->states = more;
        n->cap *= 2;
    }
    n->states[n->n] = state;
    return (int32_t)n->n++;
}

int32_t kf_nfa_range(kf_nfa *n, uint8_t lo, uint8_t hi, int32_t to) {
    if (to == KF_NFA_NONE) return KF_NFA_NONE;
    for (size_t i = 0; i < KF_NFA_SUFFIXES && i < n->n_suffixes; i++)
        if (n->suffixes[i].to == to && n->suffixes[i].lo == lo && n->suffixes[i].hi == hi) return n->suffixes[i].state;
    int32_t state = add(n, (kf_nfa_state){.kind = KF_NFA_BYTES, .lo = lo, .hi = hi, .out = to, .out2 = KF_NFA_NONE});
    size_t at = n->n_suffixes++ % KF_NFA_SUFFIXES;
    n->suffixes[at].state = state;
    n->suffixes[at].to = to;
    n->suffixes[at].lo = lo;
    n->suffixes[at].hi = hi;
    return state;
}

int32_t kf_nfa_text(kf_nfa *n, const char *bytes, size_t n_bytes, int32_t to) {
    for (size_t i = n_bytes; i-- > 0;)
        to = kf_nfa_range(n, (uint8_t)bytes[i], (uint8_t)bytes[i], to);
    return to;
}

int32_t kf_nfa_either(kf_nfa *n, int32_t a, int32_t b) {
    if (a == KF_NFA_NONE || a == b) return b;
    if (b == KF_NFA_NONE) return a;
    return add(n, (kf_nfa_state){.kind = KF_NFA_SPLIT, .out = a, .out2 = b});
}

int32_t kf_nfa_open(kf_nfa *n) {
    return add(n, (kf_nfa_state){.kind = KF_NFA_SPLIT, .out = KF_NFA_NONE, .out2 = KF_NFA_NONE});
}

void kf_nfa_close(kf_nfa *n, int32_t open, int32_t a, int32_t b) {
    if (open == KF_NFA_NONE) return;
    n->states[open].out = a;
    n->states[open].out2 = b;
}

/* ---- characters ---- */

/* The last code point from lo on, at most hi, such that lo to it is one range in each byte. */
static uint32_t one_step(uint32_t lo, uint32_t hi) {
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF};
    for (size_t i = 0; i < 3; i++)
        if (lo <= ends[i] && hi > ends[i]) hi = ends[i];
    if (hi <= 0x7F) return hi;
    for (unsigned i = 1; i < 4; i++) {
        uint32_t mask = (1u << 6 * i) - 1;
        if ((lo & ~mask) == (hi & ~mask)) break;
        if (lo & mask) return lo | mask;
        if ((hi & mask) != mask) hi = (hi & ~mask) - 1;
    }
    return hi;
}

static int32_t utf8_range(kf_nfa *n, uint32_t lo, uint32_t hi, int32_t to) {
    int32_t all = KF_NFA_NONE;
    for (uint32_t last; lo <= hi && kf_nfa_step(n); lo = last + 1) {
        char a[4], b[4];
        int32_t state = to;
        last = one_step(lo, hi);
        size_t n_bytes = kf_utf8_put(lo, a);
        kf_utf8_put(last, b);
        for (size_t i = n_bytes; i-- > 0;)
            state = kf_nfa_range(n, (uint8_t)a[i], (uint8_t)b[i], state);
        all = kf_nfa_either(n, all, state);
    }
    return all;
}

/* The escape of a character that a JSON string must not hold as it is, 0 for the others. */
static size_t json_escape(uint32_t cp, char out[8]) {
    static const char named[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
    if (cp >= 0x20 && cp != '"' && cp != '\\') return 0;
    const char *at = memchr(named, (int)cp, sizeof named - 1);
    return (size_t)(at ? snprintf(out, 8, "\\%c", letters[at - named]) : snprintf(out, 8, "\\u%04x", (unsigned)cp));
}

/* The escapes of U+0001 to U+001F as a tree: most strings take them all. */
static int32_t control_escapes(kf_nfa *n, int32_t to) {
    int32_t low = kf_nfa_either(n, kf_nfa_range(n, '1', '7', to), kf_nfa_range(n, 'b', 'b', to));
    low = kf_nfa_either(n, low, kf_nfa_range(n, 'e', 'f', to));
    int32_t high = kf_nfa_either(n, kf_nfa_range(n, '0', '9', to), kf_nfa_range(n, 'a', 'f', to));
    int32_t digits = kf_nfa_either(n, kf_nfa_range(n, '0', '0', low), kf_nfa_range(n, '1', '1', high));
    int32_t all = kf_nfa_text(n, "u00", 3, digits);
    for (const char *letter = "bfnrt"; *letter; letter++)
        all = kf_nfa_either(n, all, kf_nfa_text(n, letter, 1, to));
    return kf_nfa_text(n, "\\", 1, all);
}

static int32_t json_range(kf_nfa *n, uint32_t lo, uint32_t hi, int32_t to) {
    int32_t all = KF_NFA_NONE;
    if (lo == 1 && hi >= 0x1F) {
        all = control_escapes(n, to);
        lo = 0x20;
    }
    for (uint32_t last; lo <= hi; lo = last + 1) {
        char escape[8];
        size_t n_escape = json_escape(last = lo, escape);
        if (!n_escape) last = hi < '"' ? hi : lo < '"' ? '"' - 1 : hi < '\\' ? hi : lo < '\\' ? '\\' - 1 : hi;
        all = kf_nfa_either(n, all, n_escape ? kf_nfa_text(n, escape, n_escape, to) : utf8_range(n, lo, last, to));
    }
    return all;
}

static int32_t spelled_range(kf_nfa *n, uint32_t lo, uint32_t hi, kf_spelling spelling, int32_t to) {
    if (lo > hi) return KF_NFA_NONE;
    return spelling == KF_SPELL_JSON ? json_range(n, lo, hi, to) : utf8_range(n, lo, hi, to);
}

int32_t kf_nfa_chars(kf_nfa *n, const kf_char_range *ranges, size_t n_ranges, kf_spelling spelling, int32_t to) {
    int32_t all = KF_NFA_NONE;
    if (to == KF_NFA_NONE) return KF_NFA_NONE;
    for (size_t i = 0; i < n_ranges; i++) {
        uint32_t lo = ranges[i].lo ? ranges[i].lo : 1, hi = ranges[i].hi;
        all = kf_nfa_either(n, all, spelled_range(n, lo, hi < 0xD7FF ? hi : 0xD7FF, spelling, to));
        all = kf_nfa_either(n, all, spelled_range(n, lo > 0xE000 ? lo : 0xE000, hi, spelling, to));
    }
    return all;
}

int32_t kf_nfa_any_text(kf_nfa *n, kf_spelling spelling, int32_t to) {
    static const kf_char_range all = {0, 0x10FFFF};
    int32_t loop = kf_nfa_open(n);
    kf_nfa_close(n, loop, kf_nfa_chars(n, &all, 1, spelling, loop), to);
    return to == KF_NFA_NONE ? KF_NFA_NONE : loop;
}

int32_t kf_nfa_spell(kf_nfa *n, const char *text, size_t n_bytes, kf_spelling spelling, int32_t to) {
    for (size_t end = n_bytes; end > 0;) {
        size_t at = end - 1;
        while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80)
            at--;
        char escape[8];
        size_t n_escape = spelling == KF_SPELL_JSON ? json_escape((unsigned char)text[at], escape) : 0;
        to = n_escape ? kf_nfa_text(n, escape, n_escape, to) : kf_nfa_text(n, text + at, end - at, to);
        end = at;
    }
    return to;
}
