/* Token labels in BIO form to spans: entities ("O", "B-price", "I-price", …), or words with their parts of speech
 * ("B-n", "I-n", …). The labels are those of the best legal path: I-x follows B-x or I-x only (Viterbi with hard
 * constraints; every other step costs nothing).
 *
 *     kf_tag_set tags;
 *     KF_TRY(kf_tag_set_init(&tags, labels, n_labels));                          // once, at load
 *     KF_TRY(kf_spans_find(&tags, &(kf_span_input){logits, n_tokens, start, end}, scratch, spans, cap, &n));
 *
 * Pure; a tag set is read-only after init and may be used by any thread.
 */
#ifndef KF_TEXT_SPANS_H
#define KF_TEXT_SPANS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { KF_TAGS_MAX = 256 };

typedef struct kf_tag_set {
    size_t n_labels;
    size_t n_types;
    const char *types[KF_TAGS_MAX]; /* [n_types] "price": point into the labels, which must outlive the set */
    struct {
        int16_t type;    /* index into types; -1: outside */
        int16_t begin;   /* of an inside label: the label that begins its type; else -1 */
    } tags[KF_TAGS_MAX]; /* [n_labels] */
} kf_tag_set;

/* labels: "O", "B-x" and "I-x" in any order; a type without I-x has spans of one token each.
 * KF_ERR_UNSUPPORTED: another label, one that comes twice, an I-x without its B-x, more than KF_TAGS_MAX. */
kf_status kf_tag_set_init(kf_tag_set *t, const char *const *labels, size_t n_labels);

typedef struct kf_span_input {
    const float *logits; /* [n_tokens, n_labels]; the text's own tokens, no special ones */
    size_t n_tokens;
    const int32_t *start, *end; /* [n_tokens] code points, from the tokenizer */
} kf_span_input;

typedef struct kf_span {
    const char *type;
    int32_t start, end;               /* code points: from the first token's start to the last one's end */
    uint32_t first_token, last_token; /* inclusive */
    float score;                      /* mean over its tokens of the softmax probability of the label that each got */
} kf_span;

/* What kf_spans_find needs as scratch, in bytes; any alignment that malloc or an arena gives. */
size_t kf_spans_scratch_bytes(const kf_tag_set *t, size_t n_tokens);

/* Writes the spans in the order of the text, as many as cap holds; *n: how many there are. A NaN counts as the
 * smallest of logits. KF_OK; KF_ERR_TOO_LARGE: more than cap, the first cap are written. */
kf_status kf_spans_find(const kf_tag_set *t, const kf_span_input *in, void *scratch, kf_span *spans, size_t cap,
                        size_t *n);

#endif
