/* The tallies of `kefu eval`, how a message is added to them, and how they are printed. */
#ifndef KF_CLI_EVAL_PRINT_H
#define KF_CLI_EVAL_PRINT_H

#include "cli/eval_data.h"
#include "cli/eval_score.h"
#include "dialogue/conversation.h"

typedef struct kf_eval_tallies {
    kf_tally intent, sentiment, entities;
    kf_word_tallies words;
} kf_eval_tallies;

void kf_eval_tallies_free(kf_eval_tallies *t);

/* Scores what was said of a message against its gold, part by part: what the gold does not have is left alone, what the
 * model does not say counts as wrong. KF_ERR_NO_MEMORY. */
kf_status kf_eval_add(kf_eval_tallies *t, const kf_gold *gold, const kf_understanding *said);

typedef struct kf_eval_about {
    const char *model;
    size_t n_messages;
    double seconds;
} kf_eval_about;

/* For people; for programs. Parts that no message had are left out. KF_ERR_NO_MEMORY; KF_ERR_IO. */
kf_status kf_eval_print(const kf_eval_tallies *t, const kf_eval_about *about);
kf_status kf_eval_print_json(const kf_eval_tallies *t, const kf_eval_about *about);

#endif
