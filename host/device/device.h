/* The table of operations that every model is written against, and what each promises.
 *
 *     kf_device *d;                                        // kf_cpu_open, kf_null_open, kf_cuda_open
 *     kf_stream *s;
 *     KF_TRY(kf_stream_open(d, &s));
 *     kf_embed(s, x, m->embed, hidden, ids, NULL, n);      // enqueue only: returns at once, never fails by itself
 *     kf_linear(s, qkv, x, l->wqkv, n_tokens, (kf_linear_opts){0});
 *     kf_copy_out(s, pinned, logits, bytes);
 *     KF_TRY(kf_event_record(s, e));
 *     ...
 *     KF_TRY(kf_event_wait(d, e));                         // the status of all that was enqueued before it
 *
 * Rules that hold for every operation
 * - Memory: pointers are device pointers from kf_device_alloc unless a comment says host. Activations are in d->act
 *   (f32 on the CPU; bf16 or f32 on CUDA), row-major, rows without gaps unless a stride is given. Indices, lengths and
 *   tables are int32 in device memory. n_* arguments are host integers: upper bounds of the bucket that is launched;
 *   the true lengths are read from device memory where an operation takes them (cu_seqlens, kv_len, block_table).
 * - Order: operations of one stream run in the order of the calls. out may be equal to an input only where stated.
 * - Errors: a stream is sticky. After a failure later operations do nothing, and the next kf_event_wait returns
 *   KF_ERR_DEVICE (a fault of the device) or KF_ERR_BUG (a shape we got wrong) with the text of the first failure.
 * - Numbers: sums are accumulated in f32. For one output element the order of summation depends on the reduced
 *   length and the format, never on the number of rows, on neighbours or on how a sequence was cut (promise 3).
 * - Threads: a device and its streams belong to one thread, the device thread.
 */
#ifndef KF_DEVICE_DEVICE_H
#define KF_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum kf_dtype { KF_F32, KF_BF16, KF_F16, KF_I32, KF_N_DTYPES } kf_dtype;
size_t kf_dtype_bytes(kf_dtype t);
const char *kf_dtype_name(kf_dtype t); /* "F32", "BF16", "F16", "I32", as safetensors spells them */

/* Every hidden_act that transformers can name maps to one of these (host/model/config.c has the names). */
typedef enum kf_activation {
    KF_ACT_NONE,
    KF_ACT_GELU,       /* x Phi(x) with erf: BERT's */
    KF_ACT_GELU_TANH,  /* gelu_new, gelu_pytorch_tanh, gelu_fast */
    KF_ACT_QUICK_GELU, /* x sigmoid(1.702 x) */
    KF_ACT_GELU_10,    /* GELU clipped to [-10, 10] */
    KF_ACT_RELU,
    KF_ACT_RELU6,
    KF_ACT_RELU2,      /* relu(x)^2 */
    KF_ACT_LEAKY_RELU, /* slope 0.01 */
    KF_ACT_SILU,
    KF_ACT_MISH,
    KF_ACT_TANH,
    KF_ACT_SIGMOID,
    KF_ACT_LAPLACE, /* 0.5 (1 + erf((x - mu) / (sigma sqrt 2))), mu = sqrt(1/2), sigma = sqrt(1/(4 pi)) */
    KF_N_ACTIVATIONS
} kf_activation;

typedef struct kf_device kf_device;
typedef struct kf_stream kf_stream;
typedef struct kf_event kf_event;
typedef struct kf_weight kf_weight; /* packed as its device likes it; opaque */
typedef struct kf_graph kf_graph;   /* operations that were captured, to be launched as one */

/* ---- weights ---- */

/* A matrix [n_out, n_in] (PyTorch's Linear layout, row-major) and its bias, in host memory, in the file's format.
 * Several parts are stacked along n_out: Q, K and V become one product. */
typedef struct kf_weight_part {
    const void *data; /* host, dtype, [n_out, n_in] */
    const void *bias; /* host, bias_dtype, [n_out]; NULL for none */
    size_t n_out;
    kf_dtype bias_dtype;
} kf_weight_part;

typedef struct kf_weight_desc {
    const char *name; /* for messages */
    const kf_weight_part *parts;
    size_t n_parts;
    size_t n_in;
    kf_dtype dtype;
} kf_weight_desc;

/* ---- rows of a batch ---- */

/* A ragged batch (promise 2): sequences laid end to end, no padding. All pointers are device memory. */
typedef struct kf_batch {
    size_t n_seqs, n_tokens;     /* host upper bounds */
    size_t max_seqlen;           /* host upper bound of a sequence's tokens in this batch */
    const int32_t *input_ids;    /* [n_tokens]; -1 - slot takes that slot's last sampled token (kf_sample) */
    const int32_t *position_ids; /* [n_tokens] */
    const int32_t *cu_seqlens;   /* [n_seqs + 1], first 0, last n_tokens */
} kf_batch;

/* The paged cache of one layer (PagedAttention, arXiv 2309.06180): K and V each
 * [n_blocks, n_kv_heads, KF_KV_BLOCK_SIZE, head_dim] in d->act. Slot i is block i / 16, row i % 16. */
enum { KF_KV_BLOCK_SIZE = 16 };
typedef struct kf_kv_layer {
    void *k, *v;
} kf_kv_layer;

typedef struct kf_paged {
    const int32_t *slot_mapping; /* [n_tokens] where each new token's K and V go; -1 writes nothing */
    const int32_t *block_table;  /* [n_seqs, max_blocks] */
    size_t max_blocks;           /* the table's row length */
    const int32_t *kv_len;       /* [n_seqs] tokens in the cache after this batch's are written */
} kf_paged;

typedef struct kf_heads {
    size_t n_heads, n_kv_heads, head_dim;
    float scale; /* usually 1 / sqrt(head_dim) */
} kf_heads;

/* ---- sampling ---- */

/* Device memory, one a row; all fields 4 bytes so that a table of them is one copy. */
typedef struct kf_sample_params {
    float temperature;        /* 0, or so small that the logits overflow: greedy, the lowest id of equals */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off; over prompt and reply, as transformers has it */
    int32_t top_k;            /* 0: off */
    int32_t slot;             /* the sequence's slot in last_token and seen, -1: touch neither */
    uint32_t seed_lo, seed_hi;
    uint32_t position;        /* of the token to be drawn: the random number is a hash of (seed, position) */
    int32_t allowed;          /* 0: every token; i: those of the sampler's allowed row i - 1 */
    int32_t adjust, n_adjust; /* the sampler's adjust[adjust .. adjust + n_adjust) are added to the logits */
} kf_sample_params;

/* Presence and frequency penalties and a logit bias come to this: a sum for each token that they touch. */
typedef struct kf_logit_adjust {
    int32_t token; /* each at most once a row */
    float value;   /* finite */
} kf_logit_adjust;

typedef struct kf_sample_out {
    int32_t token;
    float logprob;  /* natural log, of the unmodified distribution */
    int32_t finite; /* 0 where the row held NaN or Inf: token is then 0 and means nothing (promise 9) */
} kf_sample_out;

typedef struct kf_sampler {
    int32_t *last_token; /* [n_slots] */
    uint32_t *seen;      /* [n_slots, (vocab_size + 31) / 32], a bit a token id */
    size_t vocab_size;
    const uint32_t *allowed; /* as seen, a row for each row that names one; no bit beyond the vocabulary. May be NULL */
    kf_logit_adjust *adjust; /* those of all rows; a draw leaves its own changed. May be NULL */
} kf_sampler;

/* ---- the table ---- */

typedef struct kf_linear_opts {
    kf_activation act;
    const void *residual; /* [n_rows, n_out], added after the activation; may be equal to out; NULL for none */
    bool out_f32;         /* out is f32 whatever d->act is: for logits */
} kf_linear_opts;

/* BERT's embeddings and the norm behind them. */
typedef struct kf_bert_embeddings {
    const void *word, *position, *type0; /* d->act [vocab_size, hidden], [max_positions, hidden], [hidden] */
    const float *gamma, *beta;           /* f32 [hidden] */
    float eps;
} kf_bert_embeddings;

typedef struct kf_rope_table {
    const float *cos, *sin; /* f32, [max_positions, head_dim / 2] */
} kf_rope_table;

/* What Q and K go through before attention. */
typedef struct kf_qk_opts {
    kf_rope_table rope;           /* NULLs: nothing is turned */
    const float *q_norm, *k_norm; /* f32 [head_dim], gammas of an RMSNorm over each head; NULL for none */
    float eps;                    /* of these norms */
} kf_qk_opts;

struct kf_device_ops {
    void (*close)(kf_device *d); /* kf_device_close */

    /* memory */
    kf_status (*alloc)(kf_device *d, size_t bytes, const char *what, void **out);
    void (*free)(kf_device *d, void *p);
    kf_status (*alloc_pinned)(kf_device *d, size_t bytes, void **out); /* host memory that copies overlap with */
    void (*free_pinned)(kf_device *d, void *p);
    void (*copy_in)(kf_stream *s, void *dst_device, const void *src_host, size_t bytes);
    void (*copy_out)(kf_stream *s, void *dst_host, const void *src_device, size_t bytes);
    void (*fill_zero)(kf_stream *s, void *dst, size_t bytes);
    kf_status (*weight_pack)(kf_device *d, const kf_weight_desc *desc, kf_weight **out);
    void (*weight_free)(kf_device *d, kf_weight *w);

    /* streams and events */
    kf_status (*stream_open)(kf_device *d, kf_stream **out);
    void (*stream_close)(kf_stream *s);
    kf_status (*event_new)(kf_device *d, kf_event **out);
    void (*event_free)(kf_event *e);
    kf_status (*event_record)(kf_stream *s, kf_event *e);
    kf_status (*event_wait)(kf_event *e);           /* blocks; the status of all enqueued before the record */
    bool (*event_done)(kf_event *e);                /* does not block */
    void (*stream_wait)(kf_stream *s, kf_event *e); /* NULL where an operation has run when its call returns */

    /* optional: NULL where the device has no graphs (kf_device_has_graphs) */
    kf_status (*capture_begin)(kf_stream *s);
    kf_status (*capture_end)(kf_stream *s, kf_graph **out);
    void (*graph_launch)(kf_stream *s, kf_graph *g);
    void (*graph_free)(kf_device *d, kf_graph *g);

    /* operations: see the wrappers below for what each computes */
    void (*embed)(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                  const int32_t *last_token, size_t n_tokens);
    void (*embed_bert)(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden, const kf_batch *b);
    void (*linear)(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o);
    void (*layernorm)(kf_stream *s, void *out, const void *x, const void *gamma, const void *beta, float eps,
                      size_t n_rows, size_t hidden);
    void (*rmsnorm)(kf_stream *s, void *out, const void *x, const void *gamma, float eps, size_t n_rows, size_t hidden);
    void (*rope_kv_write)(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                          const int32_t *slot_mapping, kf_heads h, const kf_qk_opts *o);
    void (*attention)(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h);
    void (*attention_paged)(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                            const kf_batch *b, const kf_paged *p, kf_heads h);
    void (*gated)(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows, size_t width);
    void (*activate)(kf_stream *s, void *out, const void *x, kf_activation act, size_t n);
    void (*add)(kf_stream *s, void *out, const void *x, const void *y, size_t n);
    void (*gather_rows)(kf_stream *s, void *out, const void *x, const int32_t *row_idx, size_t n_rows, size_t width);
    void (*mean_rows)(kf_stream *s, void *out, const void *x, const int32_t *cu_seqlens, size_t n_seqs, size_t width);
    void (*mark_seen)(kf_stream *s, const kf_sampler *sm, const int32_t *slots, const int32_t *ids, size_t n);
    void (*sample)(kf_stream *s, kf_sample_out *out, float *logits, const kf_sample_params *params,
                   const kf_sampler *sm, size_t n_rows);
};

struct kf_device {
    const struct kf_device_ops *ops;
    const char *name; /* "cpu", "null", "cuda" */
    kf_dtype act;     /* the format of activations and of the cache */
    kf_dtype weights; /* the format that weights are packed to: KF_F32 or KF_BF16 */
    bool batch_invariant;
    size_t memory_bytes;      /* what the device has in all */
    size_t memory_bytes_used; /* by kf_device_alloc and packed weights, now */
};

struct kf_stream {
    const struct kf_device_ops *ops; /* == device->ops: one load nearer */
    kf_device *device;
};

/* ---- opening a device ---- */

typedef struct kf_device_opts {
    kf_dtype dtype;           /* KF_F32 or KF_BF16: the format of the weights and, on a GPU, of activations */
    int n_threads;            /* cpu: 0 takes every core this process may use */
    bool batch_invariant_off; /* promise 3 is kept unless this is set */
    bool plain_products;      /* cpu: our own C for the products even where oneDNN is there: the reference */
    const char *cpu_isa;      /* cpu: the most that our own loops use of "generic", "avx2", "avx512", "avx512_bf16";
                               * NULL: what the processor has */
} kf_device_opts;

/* KF_OK; KF_ERR_UNSUPPORTED: not built in, or the machine lacks it (the text says what to do); KF_ERR_NO_MEMORY.
 * kf_device_close frees the device; weights, buffers and streams must have been freed before. */
kf_status kf_cpu_open(const kf_device_opts *o, kf_device **out);
kf_status kf_null_open(const kf_device_opts *o, kf_device **out);
kf_status kf_cuda_open(const kf_device_opts *o, kf_device **out);

extern const char *const kf_device_names[]; /* "cpu", "cuda", "null", NULL */

/* The device of that name. KF_ERR_INVALID: there is none; else as above. */
kf_status kf_device_open(const char *name, const kf_device_opts *o, kf_device **out);
void kf_device_close(kf_device *d);

/* The format that this machine computes fastest in: KF_BF16 on "cuda", and on "cpu" where the processor has
 * instructions for it; else KF_F32. */
kf_dtype kf_device_fastest_dtype(const char *name);

/* ---- the wrappers: what a model calls ---- */

/* Uninitialised device memory; `what` names it in the ledger and in a refusal ("kv_cache"). KF_ERR_NO_MEMORY says
 * what was asked for and what there is. */
static inline kf_status kf_device_alloc(kf_device *d, size_t bytes, const char *what, void **out) {
    return d->ops->alloc(d, bytes, what, out);
}
static inline void kf_device_free(kf_device *d, void *p) {
    d->ops->free(d, p);
}

/* Packs [sum of n_out, n_in] once, at load. The parts' memory is not needed afterwards.
 * KF_ERR_NO_MEMORY; KF_ERR_UNSUPPORTED: a dtype that this device cannot pack. */
static inline kf_status kf_weight_pack(kf_device *d, const kf_weight_desc *desc, kf_weight **out) {
    return d->ops->weight_pack(d, desc, out);
}
static inline void kf_weight_free(kf_device *d, kf_weight *w) {
    if (w) d->ops->weight_free(d, w);
}

/* out[i, :] = table[id_i, :]; id_i = ids[i], or last_token[-1 - ids[i]] where ids[i] < 0. table: d->act. */
static inline void kf_embed(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                            const int32_t *last_token, size_t n_tokens) {
    s->ops->embed(s, out, table, hidden, ids, last_token, n_tokens);
}

/* out[i, :] = LayerNorm(word[ids_i] + position[position_ids_i] + type0), added in this order. out [n_tokens, hidden].
 */
static inline void kf_embed_bert(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden,
                                 const kf_batch *b) {
    s->ops->embed_bert(s, out, e, hidden, b);
}

/* out = act(x Wᵀ + bias) + residual. x [n_rows, n_in], out [n_rows, n_out]. */
static inline void kf_linear(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows,
                             kf_linear_opts o) {
    s->ops->linear(s, out, x, w, n_rows, o);
}

/* out = gamma (x - mean) / sqrt(var + eps) + beta. out may be equal to x. gamma, beta: f32 [hidden].
 * Two passes over the row, in f32: mean first, then the squares of the differences. */
static inline void kf_layernorm(kf_stream *s, void *out, const void *x, const void *gamma, const void *beta, float eps,
                                size_t n_rows, size_t hidden) {
    s->ops->layernorm(s, out, x, gamma, beta, eps, n_rows, hidden);
}

/* out = gamma x / sqrt(mean(x²) + eps). gamma: f32 [hidden]. out may be equal to x. */
static inline void kf_rmsnorm(kf_stream *s, void *out, const void *x, const void *gamma, float eps, size_t n_rows,
                              size_t hidden) {
    s->ops->rmsnorm(s, out, x, gamma, eps, n_rows, hidden);
}

/* From the rows of a QKV product to what attention reads. Row t starts at t * stride and is
 * [n_heads + 2 n_kv_heads, head_dim]: Q, K, V. Each head of Q and K is normed where o has gammas, then turned by
 * b->position_ids[t]: rotary embedding (RoFormer, arXiv 2104.09864), halves layout as in Llama and Qwen,
 * (x1, x2) = (x1 cos - x2 sin, x2 cos + x1 sin) for pair (i, i + head_dim / 2). Q stays in its place; K and V go to
 * slot slot_mapping[t] of the cache, nowhere where that is -1, and are left as they are in qkv. Slots must differ: two
 * equal ones are a caller's bug. */
static inline void kf_rope_kv_write(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                                    const int32_t *slot_mapping, kf_heads h, const kf_qk_opts *o) {
    s->ops->rope_kv_write(s, cache, qkv, stride, b, slot_mapping, h, o);
}

/* Every token attends to all tokens of its own sequence (bidirectional), softmax in f32 with the maximum taken out.
 * qkv [n_tokens, 3, n_heads, head_dim], out [n_tokens, n_heads, head_dim]. (Attention is all you need, 1706.03762) */
static inline void kf_attention(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    s->ops->attention(s, out, qkv, b, h);
}

/* Causal attention of new tokens over the cache, their own K and V included (rope_kv_write goes first). The last token
 * of sequence i sits at position kv_len[i] - 1. q rows are q_stride elements apart. Prefill, a chunk of it and
 * a decoder step are one case. Keys are visited in order of position, in f32, whatever the cut. */
static inline void kf_attention_paged(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                                      const kf_batch *b, const kf_paged *p, kf_heads h) {
    s->ops->attention_paged(s, out, q, q_stride, cache, b, p, h);
}

/* out[r, i] = act(gate_up[r, i]) * gate_up[r, width + i]: SwiGLU with KF_ACT_SILU. (arXiv 2002.05202) */
static inline void kf_gated(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows,
                            size_t width) {
    s->ops->gated(s, out, gate_up, act, n_rows, width);
}

/* out[i] = act(x[i]) for n elements; out may be equal to x. */
static inline void kf_activate(kf_stream *s, void *out, const void *x, kf_activation act, size_t n) {
    s->ops->activate(s, out, x, act, n);
}

/* out[i] = x[i] + y[i] for n elements; out may be equal to x or y. */
static inline void kf_add(kf_stream *s, void *out, const void *x, const void *y, size_t n) {
    s->ops->add(s, out, x, y, n);
}

/* out[i, :] = x[row_idx[i], :]. */
static inline void kf_gather_rows(kf_stream *s, void *out, const void *x, const int32_t *row_idx, size_t n_rows,
                                  size_t width) {
    s->ops->gather_rows(s, out, x, row_idx, n_rows, width);
}

/* out[i, :] = mean over the rows of sequence i, summed in order. */
static inline void kf_mean_rows(kf_stream *s, void *out, const void *x, const int32_t *cu_seqlens, size_t n_seqs,
                                size_t width) {
    s->ops->mean_rows(s, out, x, cu_seqlens, n_seqs, width);
}

/* Sets seen[slots[i]] bit ids[i]: a prompt's tokens, for the repetition penalty. */
static inline void kf_mark_seen(kf_stream *s, const kf_sampler *sm, const int32_t *slots, const int32_t *ids,
                                size_t n) {
    s->ops->mark_seen(s, sm, slots, ids, n);
}

/* Draws one token a row of those allowed: adjustments, repetition penalty, temperature, top-k, top-p, min-p, in this
 * order (as transformers orders them), then the draw. A row that allows none counts as not finite. logits: f32
 * [n_rows, vocab_size], device; written and put back where there are adjustments. params, out: device, [n_rows]. Also
 * stores the token in last_token and seen of its slot, so that the next step can be enqueued before the host has read
 * this one. */
static inline void kf_sample(kf_stream *s, kf_sample_out *out, float *logits, const kf_sample_params *params,
                             const kf_sampler *sm, size_t n_rows) {
    s->ops->sample(s, out, logits, params, sm, n_rows);
}

/* Host memory that copies can overlap with; the caller's until kf_pinned_free. KF_ERR_NO_MEMORY. */
static inline kf_status kf_pinned_alloc(kf_device *d, size_t bytes, void **out) {
    return d->ops->alloc_pinned(d, bytes, out);
}
static inline void kf_pinned_free(kf_device *d, void *p) {
    d->ops->free_pinned(d, p);
}

/* KF_ERR_NO_MEMORY; KF_ERR_DEVICE. Close streams and free events before the device. NULL is fine for the second. */
static inline kf_status kf_stream_open(kf_device *d, kf_stream **out) {
    return d->ops->stream_open(d, out);
}
static inline void kf_stream_close(kf_stream *s) {
    if (s) s->ops->stream_close(s);
}
static inline kf_status kf_event_new(kf_device *d, kf_event **out) {
    return d->ops->event_new(d, out);
}
static inline void kf_event_free(kf_device *d, kf_event *e) {
    if (e) d->ops->event_free(e);
}

/* Host and device memory of a copy must stay valid, and a source unchanged, until an event recorded after it. */
static inline void kf_copy_in(kf_stream *s, void *dst_device, const void *src_host, size_t bytes) {
    s->ops->copy_in(s, dst_device, src_host, bytes);
}
static inline void kf_copy_out(kf_stream *s, void *dst_host, const void *src_device, size_t bytes) {
    s->ops->copy_out(s, dst_host, src_device, bytes);
}
static inline void kf_fill_zero(kf_stream *s, void *dst, size_t bytes) {
    s->ops->fill_zero(s, dst, bytes);
}

/* Marks this place in the stream; an event may be recorded again after it was waited for. KF_ERR_DEVICE. */
static inline kf_status kf_event_record(kf_stream *s, kf_event *e) {
    return s->ops->event_record(s, e);
}
/* Blocks until the place is reached: the status of all that was enqueued before it. An event that was never recorded
 * is done. */
static inline kf_status kf_event_wait(kf_device *d, kf_event *e) {
    return d->ops->event_wait(e);
}
static inline bool kf_event_done(kf_device *d, kf_event *e) {
    return d->ops->event_done(e);
}

/* What is enqueued on s from here on runs after the event was reached, which may be on another stream. Does not block.
 * An event that was never recorded is reached. A failure of the other stream does not fail s. */
static inline void kf_stream_wait(kf_stream *s, kf_event *e) {
    if (s->ops->stream_wait) s->ops->stream_wait(s, e);
}

/* Graphs: what is enqueued between begin and end is not run but kept, with its pointers, sizes and parameters, and runs
 * again at every launch; what is read from device memory (lengths, tables, ids) is read anew. Operations only: no
 * copies to or from the host, no events. Each operation must have run once before, outside a capture.
 * At start: begin and end allocate, on the device too (counted in memory_bytes_used); launch does not. */
static inline bool kf_device_has_graphs(const kf_device *d) {
    return d->ops->capture_begin != NULL;
}

/* KF_ERR_DEVICE: the stream has failed, or captures already. */
static inline kf_status kf_capture_begin(kf_stream *s) {
    return s->ops->capture_begin(s);
}
/* Ends the capture, on failure too. The graph is the caller's until kf_graph_free, and may be launched on s alone,
 * whose fault it reports. KF_ERR_NO_MEMORY; KF_ERR_DEVICE: something in it cannot be captured; the statuses of the
 * operations.
 */
static inline kf_status kf_capture_end(kf_stream *s, kf_graph **out) {
    return s->ops->capture_end(s, out);
}
static inline void kf_graph_launch(kf_stream *s, kf_graph *g) {
    s->ops->graph_launch(s, g);
}
/* Free what was launched only after an event behind it. NULL is fine. */
static inline void kf_graph_free(kf_device *d, kf_graph *g) {
    if (g) d->ops->graph_free(d, g);
}

#endif
