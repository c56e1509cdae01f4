/* BERT (Devlin et al., 1810.04805) and every head on its trunk, in one ragged pass.
 *
 *     kf_bert *m;
 *     kf_bert_pass *p;                                            // make two, and one can be read while one runs
 *     KF_TRY(kf_bert_open(d, "models/encoder", &(kf_bert_opts){.max_tokens = 4096, .max_seqs = 64}, &m));
 *     KF_TRY(kf_bert_pass_new(m, &p));
 *
 *     KF_TRY(kf_bert_begin(p, s, &(kf_bert_input){ids, cu_seqlens, n_seqs}));    // enqueues the embeddings
 *     kf_bert_layers(p, s, 0, kf_bert_config(m)->n_layers);                      // in as many pieces as wanted
 *     KF_TRY(kf_bert_finish(p, s));                                              // heads, copies out, event
 *     KF_TRY(kf_bert_wait(p));
 *     const float *z = kf_bert_logits(p, kf_bert_head_find(m, "intent"), 0);     // [n_labels] of sequence 0
 *
 * Passes of one model share its activations: from begin to finish only one pass may be under way (other work, a
 * decoder's step say, may be enqueued between its pieces), and all of them go to one stream. A pass that was given up
 * half way is begun anew. Everything is allocated by open and pass_new. A model and its passes belong to the device
 * thread. MODEL.md has the shapes and the names of the weights.
 */
#ifndef KF_MODEL_BERT_H
#define KF_MODEL_BERT_H

#include "device/device.h"
#include "model/config.h"
#include "model/dump.h"
#include "model/heads.h"

typedef struct kf_bert kf_bert;
typedef struct kf_bert_pass kf_bert_pass;

typedef struct kf_bert_opts {
    size_t max_tokens, max_seqs; /* of one pass */
    kf_dump dump;                /* .tensor NULL: KEFU_DUMP's folder where that is set, else none */
} kf_bert_opts;

typedef struct kf_bert_input {
    const int32_t *input_ids;  /* host [n_tokens], sequences end to end, special tokens included */
    const int32_t *cu_seqlens; /* host [n_seqs + 1], first 0, last n_tokens */
    size_t n_seqs;
} kf_bert_input;

/* Loads DIR (config.json, model.safetensors, heads/NAME.{json,safetensors}) onto d, which must outlive the model.
 * The statuses of kf_config_read and kf_checkpoint_open; KF_ERR_CORRUPT: a tensor's shape is not what config.json
 * wants; KF_ERR_UNSUPPORTED: not of the BERT family; KF_ERR_NO_MEMORY. */
kf_status kf_bert_open(kf_device *d, const char *dir, const kf_bert_opts *o, kf_bert **out);
void kf_bert_close(kf_bert *m); /* free its passes first */

const kf_config *kf_bert_config(const kf_bert *m);
const char *kf_bert_id(const kf_bert *m); /* "NAME@HASH", NAME the folder's; lives as long as the model */

/* Heads: the checkpoint's own classifier (named "classifier") first, then those of DIR/heads by name. */
size_t kf_bert_n_heads(const kf_bert *m);
const kf_head *kf_bert_head(const kf_bert *m, size_t head_idx);
int kf_bert_head_find(const kf_bert *m, const char *name); /* -1: there is none */

kf_status kf_bert_pass_new(kf_bert *m, kf_bert_pass **out);
void kf_bert_pass_free(kf_bert_pass *p);

/* Checks and copies the input, and enqueues the embeddings. The input's memory is the caller's again on return.
 * KF_ERR_TOO_LARGE: more tokens or sequences than opts, or a sequence longer than the model's positions;
 * KF_ERR_INVALID: an id outside the vocabulary, an empty sequence; KF_ERR_BUG: another pass is under way, or this one
 * was not waited for. On failure nothing is enqueued. */
kf_status kf_bert_begin(kf_bert_pass *p, kf_stream *s, const kf_bert_input *in);

/* Enqueues layers [from, to). Their order is the caller's: 0 first, each once. */
void kf_bert_layers(kf_bert_pass *p, kf_stream *s, size_t from, size_t to);

/* Enqueues every head and the copies of its logits to pinned host memory, and records the pass's event.
 * KF_ERR_BUG: it was not begun; KF_ERR_DEVICE. */
kf_status kf_bert_finish(kf_bert_pass *p, kf_stream *s);

bool kf_bert_done(const kf_bert_pass *p);      /* does not block */
kf_status kf_bert_wait(const kf_bert_pass *p); /* blocks; the status of what was enqueued */

/* f32 logits [n_labels] of one row: a sequence of the pass for a sequence head, a token (index into input_ids) for a
 * token head. Valid after done or wait until this pass's next begin. */
const float *kf_bert_logits(const kf_bert_pass *p, size_t head_idx, size_t row);

/* Bytes on the device: weights and tables; activations. For the ledger. */
size_t kf_bert_weights_bytes(const kf_bert *m);
size_t kf_bert_arena_bytes(const kf_bert *m);

#endif
