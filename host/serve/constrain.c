/* Masks and adjustments of a sequence's draws; see constrain.h. */
#include "serve/constrain.h"

static bool has_penalties(const kf_generate *g) {
    return g->presence_penalty != 0 || g->frequency_penalty != 0;
}

/* The adjustments begin with the bias as it was sent; tokens of the reply come behind. */
static kf_status prepare_adjust(const kf_models *m, kf_job_impl *j) {
    const kf_generate *g = &j->job.request.generate;
    size_t vocab_size = kf_decoder_config(m->decoder)->vocab_size;
    size_t cap = g->n_logit_bias + (has_penalties(g) ? j->max_new : 0);
    if (cap == 0) return KF_OK;
    j->adjust = kf_arena_alloc(&j->job.arena, cap * sizeof *j->adjust);
    if (!j->adjust)
        return KF_FAIL(KF_ERR_NO_MEMORY, "the penalties of a reply of %zu tokens do not fit: ask for fewer max_tokens",
                       j->max_new);
    for (size_t i = 0; i < g->n_logit_bias; i++) {
        if ((size_t)g->logit_bias[i].token >= vocab_size)
            return KF_FAIL(KF_ERR_INVALID, "generate.logit_bias[%zu].token: %d, the model's tokens end at %zu", i,
                           g->logit_bias[i].token, vocab_size - 1);
        j->adjust[i] = g->logit_bias[i];
    }
    j->n_adjust = g->n_logit_bias;
    return KF_OK;
}

kf_status kf_constrain_prepare(kf_models *m, kf_job_impl *j) {
    const kf_generate *g = &j->job.request.generate;
    KF_TRY(prepare_adjust(m, j));
    if (g->format == KF_GRAMMAR_NONE) return KF_OK;
    KF_TRY(kf_grammar_get(m->grammars, g->format, g->format_text.s, g->format_text.n, &j->grammar));
    size_t shortest = kf_grammar_shortest(j->grammar);
    if (shortest > j->max_new)
        return KF_FAIL(KF_ERR_INVALID,
                       "generate.response_format: its shortest text may take %zu tokens, max_tokens leaves %zu: raise "
                       "it, at most to half of what this worker's model takes",
                       shortest, j->max_new);
    return KF_OK;
}

void kf_constrain_release(kf_models *m, kf_job_impl *j) {
    if (j->grammar) kf_grammar_put(m->grammars, j->grammar);
    j->grammar = NULL;
}

void kf_constrain_begin(kf_job_impl *j) {
    if (j->grammar) j->grammar_run = kf_grammar_begin(j->grammar);
}

bool kf_constrain_waits(const kf_job_impl *j) {
    return j->grammar || has_penalties(&j->job.request.generate);
}

void kf_constrain_seq(kf_models *m, const kf_job_impl *j, uint32_t *row, kf_decoder_seq *seq) {
    seq->adjust = j->adjust;
    seq->n_adjust = j->n_adjust;
    if (!j->grammar) return;
    kf_grammar_mask(m->grammars, &j->grammar_run, j->max_new - j->n_written, row);
    seq->allowed = row;
}

/* OpenAI's penalties: presence once for a token that the reply has, frequency for each time. */
static void penalise(kf_job_impl *j, int32_t token) {
    const kf_generate *g = &j->job.request.generate;
    const int32_t *reply = j->ids + j->n_prompt;
    size_t i = 0, before = 0;
    while (i < j->n_adjust && j->adjust[i].token != token)
        i++;
    if (i == j->n_adjust) j->adjust[j->n_adjust++] = (kf_logit_adjust){.token = token};
    while (before < j->n_written && reply[before] != token)
        before++;
    if (before == j->n_written) j->adjust[i].value -= g->presence_penalty;
    j->adjust[i].value -= g->frequency_penalty;
}

kf_status kf_constrain_drawn(kf_models *m, kf_job_impl *j, int32_t token) {
    if (j->grammar) KF_TRY(kf_grammar_add(m->grammars, &j->grammar_run, token));
    if (has_penalties(&j->job.request.generate) && j->n_written < j->max_new) penalise(j, token);
    return KF_OK;
}

bool kf_constrain_over(const kf_job_impl *j) {
    return j->grammar && kf_grammar_over(&j->grammar_run);
}
