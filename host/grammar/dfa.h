/* A deterministic automaton over bytes: what a text may look like, one table look-up a byte.
 *
 *     uint16_t s = KF_DFA_START;
 *     for (…) s = kf_dfa_next(d, s, byte);      // KF_DFA_DEAD: no text of the language begins so, for ever
 *     if (d->distance[s] == 0) …                // the bytes so far are a whole text
 *
 * No state but the dead one is a dead end: from each a whole text can be reached by bytes that are `usable`. Those are
 * the bytes that the tokenizer has a token for, so it can be reached by tokens too, and distance[s] of them are enough.
 * Immutable once made: any thread. At most 16,384 states and 4 MiB; making one takes at most about 0.1 s.
 * Internal to host/grammar.
 */
#ifndef KF_GRAMMAR_DFA_H
#define KF_GRAMMAR_DFA_H

#include "grammar/nfa.h"

enum { KF_DFA_DEAD = 0, KF_DFA_START = 1 };
enum { KF_DFA_STATES_MAX = 1 << 14 };

typedef struct kf_dfa {
    uint16_t *next;        /* [n_states, n_classes] */
    uint16_t *distance;    /* [n_states] bytes to the nearest whole text; KF_DFA_STATES_MAX for the dead state */
    uint16_t *plain;       /* [n_states] the state after any plain character (below); KF_DFA_DEAD: they differ */
    uint8_t class_of[256]; /* bytes that no state tells apart; 0, those that lead nowhere, as 11 in all do in UTF-8 */
    size_t n_states, n_classes;
    uint16_t distance_max; /* of the live states */
} kf_dfa;

/* The automaton of what n accepts from `start`. KF_ERR_INVALID: nothing at all; KF_ERR_TOO_LARGE: over the bounds;
 * KF_ERR_NO_MEMORY; or n's own failure. */
kf_status kf_dfa_new(const kf_nfa *n, int32_t start, const bool usable[256], kf_dfa **out);
void kf_dfa_free(kf_dfa *d);

static inline uint16_t kf_dfa_next(const kf_dfa *d, uint16_t state, uint8_t byte) {
    return d->next[state * d->n_classes + d->class_of[byte]];
}

/* Whether the text can go on from here. */
bool kf_dfa_goes_on(const kf_dfa *d, uint16_t state);

/* A plain character needs no escape in a JSON string: from U+0020 on, but neither " nor \. */
static inline bool kf_plain_byte(uint8_t byte) {
    return byte >= 0x20 && byte != '"' && byte != '\\';
}

#endif
