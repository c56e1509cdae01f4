/* Decoders of the Llama family (Llama, Qwen2, Qwen3) over a paged cache: one step is any mix of prefill chunks and
 * decode rows, and draws one token for each sequence that asks for it.
 *
 *     kf_decoder *m;
 *     kf_decoder_step *step[2];                                   // two, so that one is read while the next one runs
 *     KF_TRY(kf_decoder_open(d, "models/decoder", &(kf_decoder_opts){.max_tokens = 512, .max_seqs = 32,
 *                            .max_seqlen = 2048, .cache_bytes = 256 << 20}, &m));
 *     KF_TRY(kf_decoder_capture(m, s));                           // graphs, where the device has them
 *     kf_kv_cache *kv = kf_decoder_kv_cache(m);
 *
 *     // a prompt in slot 3, then token after token
 *     KF_TRY(kf_kv_cache_reserve(kv, 3, n_prompt + 1));
 *     kf_decoder_seq seq = {.slot = 3, .input_ids = prompt, .n_tokens = n_prompt, .n_computed = 0, .sample = true, …};
 *     KF_TRY(kf_decoder_run(step[0], s, &seq, 1));
 *     seq = (kf_decoder_seq){.slot = 3, .input_ids = NULL, .n_tokens = 1, .n_computed = n_prompt, .sample = true, …};
 *     KF_TRY(kf_decoder_run(step[1], s, &seq, 1));                 // enqueued before step 0's token is known here
 *     KF_TRY(kf_decoder_wait(step[0]));
 *     int32_t token = kf_decoder_results(step[0])[0].token;
 *     …
 *     kf_kv_cache_release(kv, 3);
 *
 * Everything is allocated by open, step_new and capture. All of it belongs to the device thread. What a sequence's
 * token is does not depend on the other sequences of the step, nor on how its prompt was cut (promise 3 of DESIGN.md).
 * MODEL.md has the shapes and the names of the weights.
 */
#ifndef KF_MODEL_DECODER_H
#define KF_MODEL_DECODER_H

#include "device/device.h"
#include "model/config.h"
#include "model/dump.h"
#include "model/kv_cache.h"

typedef struct kf_decoder kf_decoder;
typedef struct kf_decoder_step kf_decoder_step;

typedef struct kf_decoder_opts {
    size_t max_tokens;  /* rows of one step, prompts and decode rows together */
    size_t max_seqs;    /* running sequences: slots 0 … max_seqs - 1 */
    size_t max_seqlen;  /* prompt and reply; 0, or more than the model has positions: its positions */
    size_t cache_bytes; /* of device memory for K and V; 0: enough for max_seqs sequences of max_seqlen. Where it holds
                         * fewer tokens than max_seqlen, that is lowered (kf_decoder_max_seqlen) */
    bool keep_logits;   /* steps copy the sampled rows' logits to the host too: tests, `kefu logits` */
    kf_dump dump;       /* .tensor NULL: KEFU_DUMP's folder where that is set, else none */
} kf_decoder_opts;

/* One sequence's part of a step. */
typedef struct kf_decoder_seq {
    int32_t slot;             /* each at most once a step */
    const int32_t *input_ids; /* host [n_tokens]; NULL, with n_tokens 1: the token that was sampled last in this slot */
    size_t n_tokens;          /* new tokens, at least 1 */
    size_t n_computed;        /* tokens of it in the cache; 0 starts a sequence: its seen tokens are forgotten */
    bool sample;              /* draw a token after its last row: false for all chunks of a prompt but the last */
    kf_sample_params params;  /* the same in all its steps; slot, position and what follows are filled in by run */
    const uint32_t *allowed;  /* host, bits [(vocab_size + 31) / 32]: the tokens that may be drawn; NULL: all */
    const kf_logit_adjust *adjust; /* host [n_adjust], each token once; at most max_seqlen + KF_DECODER_BIAS_MAX */
    size_t n_adjust;
} kf_decoder_seq;

enum { KF_DECODER_BIAS_MAX = 64 };

/* Loads DIR onto d, which must outlive the model. The statuses of kf_config_read and kf_checkpoint_open;
 * KF_ERR_CORRUPT: a tensor's shape is not what config.json wants; KF_ERR_UNSUPPORTED: no decoder;
 * KF_ERR_NO_MEMORY. */
kf_status kf_decoder_open(kf_device *d, const char *dir, const kf_decoder_opts *o, kf_decoder **out);
void kf_decoder_close(kf_decoder *m); /* free its steps first */

const kf_config *kf_decoder_config(const kf_decoder *m);
const char *kf_decoder_id(const kf_decoder *m);  /* "NAME@HASH", NAME the folder's; lives as long as the model */
kf_kv_cache *kf_decoder_kv_cache(kf_decoder *m); /* the model's */
size_t kf_decoder_max_seqlen(const kf_decoder *m);

/* At start, before the first step: steps on s that are decode rows alone, each with `sample`, run from now on as one
 * graph, filled up to 1, 2, 4, … or max_seqs rows, with the same bits as without (where the device keeps promise 3).
 * Other steps, and those on another stream, run as before. s must outlive the model. Nothing is done where the device
 * has no graphs or a dump is on. A line in the log for each graph. KF_ERR_NO_MEMORY; KF_ERR_DEVICE. */
kf_status kf_decoder_capture(kf_decoder *m, kf_stream *s);
size_t kf_decoder_n_graphs(const kf_decoder *m);

kf_status kf_decoder_step_new(kf_decoder *m, kf_decoder_step **out);
void kf_decoder_step_free(kf_decoder_step *step);

/* Checks and copies the input, enqueues the forward pass, the draw and the copies out, records the step's event. The
 * caller has reserved n_computed + n_tokens in the cache for every sequence; the input's memory is the caller's again
 * on return. allowed and adjust are those of the token that this step draws. A step object must have been waited for
 * (or found done) before it is run again. KF_ERR_TOO_LARGE: more rows or sequences than opts; KF_ERR_INVALID: an id
 * outside the vocabulary; KF_ERR_BUG: a slot twice or out of range, or not reserved. On failure nothing is enqueued. */
kf_status kf_decoder_run(kf_decoder_step *step, kf_stream *s, const kf_decoder_seq *seqs, size_t n_seqs);

/* What is enqueued on s from here on, another stream, runs after the step's last run. Does not block. */
void kf_decoder_order(const kf_decoder_step *step, kf_stream *s);

bool kf_decoder_done(const kf_decoder_step *step);      /* does not block */
kf_status kf_decoder_wait(const kf_decoder_step *step); /* blocks; the status of what was enqueued */

/* One for each sequence with `sample`, in the order of seqs. Valid after done or wait until the step's next run. */
const kf_sample_out *kf_decoder_results(const kf_decoder_step *step);
size_t kf_decoder_n_results(const kf_decoder_step *step);

/* f32 [vocab_size] of result idx; NULL without keep_logits. */
const float *kf_decoder_logits(const kf_decoder_step *step, size_t idx);

/* Bytes on the device: weights and tables; activations (the cache is not in it); graphs. For the ledger. */
size_t kf_decoder_weights_bytes(const kf_decoder *m);
size_t kf_decoder_arena_bytes(const kf_decoder *m);
size_t kf_decoder_graphs_bytes(const kf_decoder *m);

#endif
