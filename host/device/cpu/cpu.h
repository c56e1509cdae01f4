/* The CPU device's inside: its structs and what its files offer each other. An operation is one function of the
 * table (device.c has it); it runs at once, in the caller's thread and the compute pool's.
 *
 * Activations and the cache are f32; weights are f32 or bf16.
 */
#ifndef KF_DEVICE_CPU_H
#define KF_DEVICE_CPU_H

#include <string.h>

#include "device/cpu/loops.h"
#include "device/device.h"

typedef struct kf_cpu_pool kf_cpu_pool;
typedef struct kf_onednn kf_onednn; /* linear_onednn.c */
typedef struct kf_onednn_weight kf_onednn_weight;

/* What products need beside their arguments. It grows when a weight is packed, never in an operation. */
typedef struct kf_cpu_scratch {
    void *p;
    size_t bytes;
} kf_cpu_scratch;

typedef struct kf_cpu_device {
    kf_device base;
    kf_cpu_loops loops;
    kf_cpu_pool *pool;
    kf_cpu_scratch x;  /* rows of x in a product's format */
    kf_onednn *onednn; /* NULL: every product is ours */
} kf_cpu_device;

typedef struct kf_cpu_stream {
    kf_stream base;
    kf_status status; /* of the first failure; sticky */
    char text[256];   /* its text */
} kf_cpu_stream;

struct kf_event {
    kf_status status; /* the stream's, when it was recorded */
    char text[256];
};

/* Our products of a weight: which loop, and where K restarts. */
typedef struct kf_cpu_plan {
    void (*product)(const kf_cpu_product *p);
    bool x_bf16; /* product takes x in bf16 */
    size_t k_block;
} kf_cpu_plan;

struct kf_weight {
    size_t n_in, n_out;
    size_t n_in_padded; /* kf_cpu_panel_depth */
    kf_dtype dtype;     /* of panels */
    void *panels;       /* as loops.h has them, n_panels = n_out / KF_CPU_PANEL, rounded up */
    float *bias;        /* [n_panels * KF_CPU_PANEL], zeros behind the last; NULL for none */
    kf_cpu_plan plan;
    size_t n_rows_ours;       /* products of at most so many rows are ours; SIZE_MAX: all */
    kf_onednn_weight *onednn; /* NULL: oneDNN has no product for it */
};

/* ---- limits.c ---- */
size_t kf_cpu_memory_bytes(void); /* what this process may use */
int kf_cpu_threads_allowed(void); /* cores that the calling thread may use */

/* ---- memory.c ---- */
kf_status kf_cpu_alloc(kf_device *d, size_t bytes, const char *what, void **out); /* aligned to 64 */
void kf_cpu_free(kf_device *d, void *p);
kf_status kf_cpu_alloc_pinned(kf_device *d, size_t bytes, void **out);
void kf_cpu_free_pinned(kf_device *d, void *p);

/* ---- stream.c ---- */
static inline const kf_cpu_loops *kf_cpu_loops_of(const kf_stream *s) {
    return &((const kf_cpu_device *)s->device)->loops;
}

kf_status kf_cpu_stream_open(kf_device *d, kf_stream **out);
void kf_cpu_stream_close(kf_stream *s);
kf_status kf_cpu_event_new(kf_device *d, kf_event **out);
void kf_cpu_event_free(kf_event *e);
kf_status kf_cpu_event_record(kf_stream *s, kf_event *e);
kf_status kf_cpu_event_wait(kf_event *e);
bool kf_cpu_event_done(kf_event *e);
void kf_cpu_copy_in(kf_stream *s, void *dst_device, const void *src_host, size_t bytes);
void kf_cpu_copy_out(kf_stream *s, void *dst_host, const void *src_device, size_t bytes);
void kf_cpu_fill_zero(kf_stream *s, void *dst, size_t bytes);

/* Whether the stream still runs; an operation begins with it. */
static inline bool kf_cpu_runs(const kf_stream *s) {
    return ((const kf_cpu_stream *)s)->status == KF_OK;
}
/* Fails the stream, unless it has failed before. */
void kf_cpu_fail(kf_stream *s, kf_status status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- pool.c ---- */

/* n_threads counts the caller. KF_ERR_NO_MEMORY; KF_ERR_IO: a thread could not be started. */
kf_status kf_cpu_pool_open(int n_threads, kf_cpu_pool **out);
void kf_cpu_pool_close(kf_cpu_pool *p);

int kf_cpu_pool_threads(const kf_cpu_pool *p); /* the caller counted */
int kf_cpu_thread_index(void);                 /* in a body: 0 for the caller, below kf_cpu_pool_threads for all */

/* Calls body(arg, first, last) for pieces of [0, n) that are at least `grain` long, on the pool's threads, and
 * returns when all are done. What a body writes must not depend on how [0, n) was cut. */
enum { KF_CPU_GRAIN = 8192 }; /* elements of a simple loop worth a thread */
typedef void kf_cpu_body(void *arg, size_t first, size_t last);
void kf_cpu_parallel_for(kf_stream *s, size_t n, size_t grain, kf_cpu_body *body, void *arg);

/* ---- weight.c ---- */
kf_status kf_cpu_weight_pack(kf_device *d, const kf_weight_desc *desc, kf_weight **out);
void kf_cpu_weight_free(kf_device *d, kf_weight *w);

/* Makes it hold `bytes` at least, zeroed; what it held is lost. KF_ERR_NO_MEMORY. */
kf_status kf_cpu_scratch_grow(kf_cpu_scratch *scratch, size_t bytes);

/* ---- linear_onednn.c, where KF_HAVE_ONEDNN ---- */
kf_status kf_onednn_open(kf_cpu_device *d, kf_onednn **out);
void kf_onednn_close(kf_onednn *o);

/* Gives a packed weight its products and the plan whose bits are theirs, and sets n_rows_ours.
 * KF_ERR_NO_MEMORY; where oneDNN has no product for the weight it stays as it is. */
kf_status kf_onednn_weight_add(kf_cpu_device *d, kf_weight *w);
void kf_onednn_weight_free(kf_onednn_weight *w);

/* out = act(x Wᵀ + bias) + residual */
void kf_onednn_linear(kf_stream *s, float *out, const float *x, const kf_weight *w, size_t n_rows, kf_linear_opts o);

/* ---- operations ---- */
void kf_cpu_embed(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                  const int32_t *last_token, size_t n_tokens);
void kf_cpu_embed_bert(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden, const kf_batch *b);
void kf_cpu_linear(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o);
void kf_cpu_layernorm(kf_stream *s, void *out, const void *x, const void *gamma, const void *beta, float eps,
                      size_t n_rows, size_t hidden);
void kf_cpu_rmsnorm(kf_stream *s, void *out, const void *x, const void *gamma, float eps, size_t n_rows, size_t hidden);
void kf_cpu_rope_kv_write(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                          const int32_t *slot_mapping, kf_heads h, const kf_qk_opts *o);
void kf_cpu_attention(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h);
void kf_cpu_attention_paged(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                            const kf_batch *b, const kf_paged *p, kf_heads h);
void kf_cpu_gated(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows, size_t width);
void kf_cpu_activate(kf_stream *s, void *out, const void *x, kf_activation act, size_t n);
void kf_cpu_add(kf_stream *s, void *out, const void *x, const void *y, size_t n);
void kf_cpu_gather_rows(kf_stream *s, void *out, const void *x, const int32_t *row_idx, size_t n_rows, size_t width);
void kf_cpu_mean_rows(kf_stream *s, void *out, const void *x, const int32_t *cu_seqlens, size_t n_seqs, size_t width);
void kf_cpu_mark_seen(kf_stream *s, const kf_sampler *sm, const int32_t *slots, const int32_t *ids, size_t n);
void kf_cpu_sample(kf_stream *s, kf_sample_out *out, float *logits, const kf_sample_params *params,
                   const kf_sampler *sm, size_t n_rows);

#endif
