/* Scores of a labelled set: accuracy, F1, their 95 % intervals, confusions. Pure: no model, no file.
 *
 *     kf_tally t;
 *     kf_tally_init(&t);
 *     for every message:
 *         KF_TRY(kf_tally_label(&t, "purchase", &label));
 *         KF_TRY(kf_tally_add(&t, label, KF_HIT, 1));        // found as it is
 *         KF_TRY(kf_tally_end_row(&t));                      // the message is complete
 *     KF_TRY(kf_tally_scores(&t, &scores));
 *
 * A tally holds, for every message, how often each label was hit (true positive), missed (false negative) and said
 * wrongly (false positive). A classifier's message has one hit, or one miss and one false; spans have any number.
 *
 * Intervals. Of an accuracy over messages: Wilson's score interval. Of everything else (F1, and accuracies over words,
 * which are not independent within a message): percentiles 2.5 and 97.5 of 1,000 bootstrap resamples of messages, drawn
 * from a fixed seed, so that the same file gives the same figures.
 */
#ifndef KF_CLI_EVAL_SCORE_H
#define KF_CLI_EVAL_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum kf_outcome { KF_HIT, KF_MISS, KF_FALSE, KF_N_OUTCOMES } kf_outcome;

typedef struct kf_tally_event {
    uint32_t label;
    kf_outcome outcome;
    uint32_t n;
} kf_tally_event;

typedef struct kf_tally {
    char **labels; /* [n_labels], the tally's */
    size_t n_labels;
    kf_tally_event *events; /* [n_events], message after message */
    size_t n_events, events_cap;
    size_t *row_end; /* [n_rows]: the first event past the row */
    size_t n_rows, rows_cap;
} kf_tally;

void kf_tally_init(kf_tally *t);
void kf_tally_free(kf_tally *t);

/* The number of a label, which is added where it is new. KF_ERR_NO_MEMORY. */
kf_status kf_tally_label(kf_tally *t, const char *name, uint32_t *out);

/* Adds n outcomes to the present row; n 0 adds nothing. KF_ERR_NO_MEMORY. */
kf_status kf_tally_add(kf_tally *t, uint32_t label, kf_outcome outcome, uint32_t n);
kf_status kf_tally_end_row(kf_tally *t);

typedef struct kf_estimate {
    double value, lo, hi; /* lo … hi: the 95 % interval */
} kf_estimate;

typedef struct kf_label_score {
    const char *label; /* the tally's */
    uint64_t n_gold, n_said, n_hits;
    double precision, recall;
    kf_estimate f1;
} kf_label_score;

typedef struct kf_scores {
    size_t n_rows;
    kf_estimate row_accuracy;  /* share of messages without a miss and without a false: Wilson */
    kf_estimate item_accuracy; /* hits / (hits + misses) over all items: bootstrap */
    kf_estimate micro_f1;      /* over all items */
    kf_estimate macro_f1;      /* mean over the labels that are in the gold or were said */
    kf_label_score *labels;    /* [n_labels], most frequent in the gold first; the caller's to free */
    size_t n_labels;
} kf_scores;

/* KF_ERR_NO_MEMORY. A tally without rows gives zeros. out->labels points into the tally's labels. */
kf_status kf_tally_scores(const kf_tally *t, kf_scores *out);

/* How often a message of one label was taken for another: rows with one miss and one false. */
typedef struct kf_confusion {
    uint32_t gold, said; /* labels of the tally */
    size_t n;
} kf_confusion;

/* All of them, most frequent first; *out is the caller's to free (NULL where *n is 0). KF_ERR_NO_MEMORY. */
kf_status kf_tally_confusions(const kf_tally *t, kf_confusion **out, size_t *n);

/* Wilson's 95 % interval of k in n; n 0 gives 0, 0, 1. */
kf_estimate kf_wilson(size_t k, size_t n);

/* ---- spans ---- */

typedef struct kf_eval_span {
    int32_t start, end; /* code points, half-open */
    const char *label;
} kf_eval_span;

/* Adds one message's spans, each right only where start, end and label are all equal. Neither list need be sorted;
 * equal spans are matched one to one. */
kf_status kf_score_spans(kf_tally *t, const kf_eval_span *gold, size_t n_gold, const kf_eval_span *said, size_t n_said);

typedef struct kf_word_tallies {
    kf_tally cuts;   /* one label, "word": right where both its borders are */
    kf_tally tagged; /* one label, "word": right where its tag is right, too */
    kf_tally tags;   /* parts of speech, of words cut right */
} kf_word_tallies;

void kf_word_tallies_free(kf_word_tallies *t);

/* Adds one message's words; without with_tags to `cuts` alone. Both lists are in order and do not overlap. 一件 and
 * 一/件 both count as right: where one side has a number and a measure word (m, q) on exactly one word of the other,
 * what was said is first brought into the gold's form. */
kf_status kf_score_words(kf_word_tallies *t, bool with_tags, const kf_eval_span *gold, size_t n_gold,
                         const kf_eval_span *said, size_t n_said);

/* Adds a classifier's answer: right where it is `gold` or one of `also`; such a message counts for the label said. */
kf_status kf_score_class(kf_tally *t, const char *gold, const char *const *also, size_t n_also, const char *said);

#endif
