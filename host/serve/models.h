/* The models of a worker and what belongs to each: tokenizers, prompt form, policy; their limits and their bytes. */
#ifndef KF_SERVE_MODELS_H
#define KF_SERVE_MODELS_H

#include "dialogue/policy.h"
#include "dialogue/prompt.h"
#include "grammar/grammar.h"
#include "model/bert.h"
#include "model/decoder.h"
#include "serve/understand.h"

typedef struct kf_models_opts {
    const char *dir;      /* DIR/encoder; DIR/decoder; DIR/policy.json (need not be there) */
    bool understand_only; /* DIR/decoder is not looked at, and no reply is written */
    size_t max_running;
    size_t kv_cache_bytes;    /* 0: what max_running full sequences need */
    kf_stream *graphs_stream; /* where decode steps are to run as graphs (kf_decoder_capture); NULL: nowhere */
} kf_models_opts;

typedef struct kf_models {
    kf_tokenizer *encoder_tokenizer;
    kf_bert *encoder;
    kf_bert_pass *pass[2]; /* one is read while the other runs */
    kf_understander understander;
    size_t encoder_max_seqlen, encode_max_tokens, encode_max_seqs;

    kf_tokenizer *decoder_tokenizer; /* NULL, as all below: no decoder */
    kf_decoder *decoder;
    kf_decoder_step *step[2];
    kf_prompt *prompt;
    kf_grammars *grammars;
    kf_kv_cache *kv;
    size_t decoder_max_seqlen, step_max_tokens;

    kf_policy policy;
    char id[192]; /* what answers: "encoder@hash" or "encoder@hash+decoder@hash" */
} kf_models;

/* The statuses of opening a model or a tokenizer; KF_ERR_NOT_FOUND: a folder that must be there is not; KF_ERR_CORRUPT:
 * a tokenizer with more ids than its model has rows; KF_ERR_INVALID: a cache that cannot hold one full sequence;
 * KF_ERR_NO_MEMORY. On failure nothing is left open. */
kf_status kf_models_open(kf_device *d, const kf_models_opts *o, kf_models *out);
void kf_models_close(kf_models *m);

size_t kf_models_weights_bytes(const kf_models *m);
size_t kf_models_activations_bytes(const kf_models *m); /* graphs included */

#endif
