/* What a request may ask of each token drawn for it: response_format's masks, logit bias, presence and frequency
 * penalties.
 *
 * A mask and the penalties need the token before. So such a sequence waits for its token: no row of it is planned until
 * the last one's draw has been applied (kf_plan_wait_for_tokens). Where a device has done a step by the time that the
 * next one is planned (the CPU), that costs nothing; elsewhere, among others that do not wait, it gets a row in every
 * other step. A bias alone needs no token and waits for none. */
#ifndef KF_SERVE_CONSTRAIN_H
#define KF_SERVE_CONSTRAIN_H

#include "serve/job_internal.h"
#include "serve/models.h"

/* At admission, I/O thread, once j->max_new is known: the grammar, and room for the adjustments in the job's arena.
 * The statuses of kf_grammar_get; KF_ERR_INVALID: the shortest text has more tokens than max_tokens, or a bias for a
 * token that there is not; KF_ERR_NO_MEMORY. */
kf_status kf_constrain_prepare(kf_models *m, kf_job_impl *j);

/* I/O thread, when the job is put back. */
void kf_constrain_release(kf_models *m, kf_job_impl *j);

/* ---- the device thread ---- */

/* The reply begins. */
void kf_constrain_begin(kf_job_impl *j);

bool kf_constrain_waits(const kf_job_impl *j);

/* Sets what the sequence's next draw takes. row: [kf_grammars_words], valid as long as seq. */
void kf_constrain_seq(kf_models *m, const kf_job_impl *j, uint32_t *row, kf_decoder_seq *seq);

/* Its token was drawn; called before the writer has it. KF_ERR_BUG: the mask did not allow it. */
kf_status kf_constrain_drawn(kf_models *m, kf_job_impl *j, int32_t token);

/* Whether the text is whole and nothing may follow. */
bool kf_constrain_over(const kf_job_impl *j);

#endif
