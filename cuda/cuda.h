/* The CUDA device's inside: its structs, and what its files offer each other. An operation is one function of the table
 * (device.cu has it): it checks its arguments, launches a kernel on the stream and returns.
 *
 * Activations, cache and weights have one format, kf_device_opts.dtype: float, or __nv_bfloat16 with sums in f32. What
 * is fused into one rounding is written fmaf; the compilers fuse nothing themselves (--fmad=false, -ffp-contract=off),
 * so nvcc's code and the CPU runner's (tests/cuda_on_cpu) round alike.
 */
#ifndef KF_CUDA_CUDA_H
#define KF_CUDA_CUDA_H

/* clang-format off: the CPU runner wants its cuda_runtime.h first */
#include <cuda_runtime.h>
#include <cublasLt.h>
#include <cuda_bf16.h>
/* clang-format on */

extern "C" {
#include "device/device.h"
}

typedef struct kf_cuda_allocation {
    void *p;
    size_t bytes;
} kf_cuda_allocation;

typedef struct kf_cuda_device {
    kf_device base;
    cublasLtHandle_t cublas;
    kf_cuda_allocation *allocations; /* what the caller holds, for the ledger; grows at start, never in an operation */
    size_t n_allocations, max_allocations;
} kf_cuda_device;

/* A broken rule that only a kernel can see. The first one stays; 0: none. */
typedef struct kf_cuda_fault {
    int32_t found;
    int32_t seq, n_new, kv_len; /* attention_paged: fewer keys in the cache than new tokens */
} kf_cuda_fault;

/* A stream's workspace of attention_decode: sums of sequences that several blocks share. */
enum { KF_CUDA_SPLIT_COUNTERS = 1024, KF_CUDA_SPLIT_BYTES = 16 << 20 };

typedef struct kf_cuda_stream {
    kf_stream base;
    cudaStream_t cuda;
    kf_cuda_fault *fault; /* device */
    int *split_counters;  /* device, [KF_CUDA_SPLIT_COUNTERS], 0 between operations */
    float *splits;        /* device, KF_CUDA_SPLIT_BYTES */
    kf_status status;     /* of the first failure that the host has seen; sticky */
    char text[256];       /* its text */
} kf_cuda_stream;

struct kf_event {
    cudaEvent_t cuda;
    kf_cuda_fault *fault; /* pinned: the stream's, when the event is reached */
    kf_status status;     /* the stream's, when it was recorded */
    char text[256];
};

/* cublasLt's algorithms for one weight and one format of the output, by rows (linear.cu has the buckets). */
enum { KF_CUDA_ROW_BUCKETS = 5 };
typedef struct kf_cuda_product {
    size_t n_algos; /* 0: cublasLt has none, every product is ours; 1: one for every row count */
    cublasLtMatmulAlgo_t algos[KF_CUDA_ROW_BUCKETS];
} kf_cuda_product;

struct kf_weight {
    size_t n_in, n_out;
    void *data;     /* [n_out, n_in], in d->weights */
    float *bias;    /* [n_out], NULL for none */
    void *bias_act; /* the same in d->act, as cublasLt wants it; equal to bias where that is f32 */
    kf_cuda_product to_act, to_f32;
};

static inline kf_cuda_device *kf_cuda_device_of(const kf_stream *s) {
    return (kf_cuda_device *)s->device;
}
static inline bool kf_cuda_is_bf16(const kf_stream *s) {
    return s->device->act == KF_BF16;
}

/* ---- memory.cu ---- */
kf_status kf_cuda_alloc(kf_device *d, size_t bytes, const char *what, void **out); /* aligned to 256 */
void kf_cuda_free(kf_device *d, void *p);
kf_status kf_cuda_alloc_pinned(kf_device *d, size_t bytes, void **out);
void kf_cuda_free_pinned(kf_device *d, void *p);

/* ---- stream.cu ---- */
kf_status kf_cuda_stream_open(kf_device *d, kf_stream **out);
void kf_cuda_stream_close(kf_stream *s);
kf_status kf_cuda_event_new(kf_device *d, kf_event **out);
void kf_cuda_event_free(kf_event *e);
kf_status kf_cuda_event_record(kf_stream *s, kf_event *e);
kf_status kf_cuda_event_wait(kf_event *e);
bool kf_cuda_event_done(kf_event *e);
void kf_cuda_stream_wait(kf_stream *s, kf_event *e);
void kf_cuda_copy_in(kf_stream *s, void *dst_device, const void *src_host, size_t bytes);
void kf_cuda_copy_out(kf_stream *s, void *dst_host, const void *src_device, size_t bytes);
void kf_cuda_fill_zero(kf_stream *s, void *dst, size_t bytes);

/* Whether the stream still runs, as far as the host knows; an operation begins with it. */
static inline bool kf_cuda_runs(const kf_stream *s) {
    return ((const kf_cuda_stream *)s)->status == KF_OK;
}
/* Fails the stream, unless it has failed before. */
void kf_cuda_fail(kf_stream *s, kf_status status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same with KF_ERR_DEVICE where e is a failure; `what` was being done. */
void kf_cuda_check(kf_stream *s, const char *what, cudaError_t e);

/* ---- graph.cu ---- */
kf_status kf_cuda_capture_begin(kf_stream *s);
kf_status kf_cuda_capture_end(kf_stream *s, kf_graph **out);
void kf_cuda_graph_launch(kf_stream *s, kf_graph *g);
void kf_cuda_graph_free(kf_device *d, kf_graph *g);

/* ---- weight.cu, linear.cu ---- */
kf_status kf_cuda_weight_pack(kf_device *d, const kf_weight_desc *desc, kf_weight **out);
void kf_cuda_weight_free(kf_device *d, kf_weight *w);
void kf_cuda_products_choose(kf_cuda_device *d, kf_weight *w);

/* Rows of one call of our own product (linear_rows.cu), computed for any row count. */
enum { KF_CUDA_PRODUCT_ROWS = 8 };
void kf_cuda_linear_rows(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o);
/* out = act(out) + residual, n elements of d->act, or of f32 with o.out_f32 (activate.cu). */
void kf_cuda_linear_end(kf_stream *s, void *out, size_t n, kf_linear_opts o);

/* ---- operations: a file of the same name each, kin together ---- */
void kf_cuda_embed(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                   const int32_t *last_token, size_t n_tokens);
void kf_cuda_embed_bert(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden, const kf_batch *b);
void kf_cuda_linear(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o);
void kf_cuda_layernorm(kf_stream *s, void *out, const void *x, const void *gamma, const void *beta, float eps,
                       size_t n_rows, size_t hidden);
void kf_cuda_rmsnorm(kf_stream *s, void *out, const void *x, const void *gamma, float eps, size_t n_rows,
                     size_t hidden);
void kf_cuda_rope_kv_write(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                           const int32_t *slot_mapping, kf_heads h, const kf_qk_opts *o);
void kf_cuda_attention(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h);
/* The fast ones, of bf16 and head_dim 32, 64 or 128: sequences of up to 64 tokens, and longer ones; over the paged
 * cache, sequences of up to 16 new rows (tokens × query heads of a KV head), and of more. */
void kf_cuda_attention_short(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h);
void kf_cuda_attention_long(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h);
void kf_cuda_attention_decode(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                              const kf_batch *b, const kf_paged *p, kf_heads h);
void kf_cuda_attention_prefill(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                               const kf_batch *b, const kf_paged *p, kf_heads h);
void kf_cuda_attention_paged(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                             const kf_batch *b, const kf_paged *p, kf_heads h);
void kf_cuda_gated(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows, size_t width);
void kf_cuda_activate(kf_stream *s, void *out, const void *x, kf_activation act, size_t n);
void kf_cuda_add(kf_stream *s, void *out, const void *x, const void *y, size_t n);
void kf_cuda_gather_rows(kf_stream *s, void *out, const void *x, const int32_t *row_idx, size_t n_rows, size_t width);
void kf_cuda_mean_rows(kf_stream *s, void *out, const void *x, const int32_t *cu_seqlens, size_t n_seqs, size_t width);
void kf_cuda_mark_seen(kf_stream *s, const kf_sampler *sm, const int32_t *slots, const int32_t *ids, size_t n);
void kf_cuda_sample(kf_stream *s, kf_sample_out *out, float *logits, const kf_sample_params *params,
                    const kf_sampler *sm, size_t n_rows);

#endif
