/* A non-deterministic automaton over bytes, built from its end to its start: every function takes the state that
 * follows and returns the state that begins, so a sequence is nested calls and needs no joints.
 *
 *     kf_nfa n;
 *     kf_nfa_init(&n);
 *     int32_t start = kf_nfa_text(&n, "ab", 2, kf_nfa_range(&n, '0', '9', KF_NFA_ACCEPT));     // ab[0-9]
 *     if (n.status == KF_OK) …
 *     kf_nfa_free(&n);
 *
 * KF_NFA_NONE is the state that matches nothing: what leads to it is it, and an alternative that is it falls away.
 * A failure (over a bound, no memory) is kept in `status` and everything after it returns KF_NFA_NONE: checked once.
 * Bounds: 65,536 states and a million steps of building, a few milliseconds. Internal to host/grammar.
 */
#ifndef KF_GRAMMAR_NFA_H
#define KF_GRAMMAR_NFA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { KF_NFA_NONE = -1, KF_NFA_ACCEPT = 0 };
enum { KF_NFA_STATES_MAX = 1 << 16, KF_NFA_STEPS_MAX = 1000000 };
enum { KF_NFA_SUFFIXES = 32 };

typedef struct kf_nfa_state {
    enum { KF_NFA_FINAL, KF_NFA_BYTES, KF_NFA_SPLIT } kind;
    uint8_t lo, hi;    /* BYTES: one of these, then out */
    int32_t out, out2; /* SPLIT: both at once, without a byte; KF_NFA_NONE: not there */
} kf_nfa_state;

typedef struct kf_nfa {
    kf_nfa_state *states; /* [n] */
    size_t n, cap, n_steps;
    kf_status status; /* the first failure, in words in this thread's record */
    struct {
        int32_t state, to;
        uint8_t lo, hi;
    } suffixes[KF_NFA_SUFFIXES]; /* ranges made lately: characters share their last bytes */
    size_t n_suffixes;
} kf_nfa;

/* Characters: code points in ascending ranges that do not touch. */
typedef struct kf_char_range {
    uint32_t lo, hi;
} kf_char_range;

typedef enum kf_spelling {
    KF_SPELL_PLAIN, /* UTF-8 */
    KF_SPELL_JSON   /* as inside a JSON string: UTF-8, and the shortest escape of what must be escaped */
} kf_spelling;

void kf_nfa_init(kf_nfa *n);
void kf_nfa_free(kf_nfa *n);

/* False once something has failed. Called at every step of building that adds no state of its own. */
bool kf_nfa_step(kf_nfa *n);

/* Keeps s, whose text the caller has set with KF_FAIL, unless something failed before. Returns KF_NFA_NONE. */
int32_t kf_nfa_fail(kf_nfa *n, kf_status s);

int32_t kf_nfa_range(kf_nfa *n, uint8_t lo, uint8_t hi, int32_t to);
int32_t kf_nfa_text(kf_nfa *n, const char *bytes, size_t n_bytes, int32_t to);
int32_t kf_nfa_either(kf_nfa *n, int32_t a, int32_t b);

/* A state that leads nowhere yet, for a loop: kf_nfa_close makes it a then the rest, or b. */
int32_t kf_nfa_open(kf_nfa *n);
void kf_nfa_close(kf_nfa *n, int32_t open, int32_t a, int32_t b);

/* One character of the ranges. U+0000 and surrogates are left out: no text of ours holds them. */
int32_t kf_nfa_chars(kf_nfa *n, const kf_char_range *ranges, size_t n_ranges, kf_spelling spelling, int32_t to);

/* Any number of any characters, then `to`. */
int32_t kf_nfa_any_text(kf_nfa *n, kf_spelling spelling, int32_t to);

/* A UTF-8 text in that spelling, e.g. a JSON string's content. */
int32_t kf_nfa_spell(kf_nfa *n, const char *text, size_t n_bytes, kf_spelling spelling, int32_t to);

#endif
