/* The null device: computes nothing and answers at once with fixed results, so that a measurement shows the service
 * without the model. Memory, streams and copies are the CPU device's.
 *
 * Fixed results: an operation that ends a pass writes zeros (logits, hence label 0); `sample` draws NULL_TOKEN for a
 * reply's first NULL_REPLY tokens and then 0, 1 and 2 in turn, the ids at which the usual vocabularies have their end
 * token. What no operation writes is zero from its allocation on, so a run's bits never vary. */
#include "device/cpu/cpu.h"

#include <stdlib.h>

enum { NULL_TOKEN = 5, NULL_REPLY = 8 };

static kf_status null_alloc(kf_device *d, size_t bytes, const char *what, void **out) {
    void *p;
    KF_TRY(kf_cpu_alloc(d, bytes, what, &p));
    memset(p, 0, bytes);
    *out = p;
    return KF_OK;
}

/* Only the shape is kept. */
static kf_status null_weight_pack(kf_device *d, const kf_weight_desc *desc, kf_weight **out) {
    kf_weight *w;
    KF_TRY(kf_cpu_alloc(d, sizeof *w, desc->name, (void **)&w));
    *w = (kf_weight){.n_in = desc->n_in};
    for (size_t i = 0; i < desc->n_parts; i++)
        w->n_out += desc->parts[i].n_out;
    *out = w;
    return KF_OK;
}

static void null_weight_free(kf_device *d, kf_weight *w) {
    kf_cpu_free(d, w);
}

static void null_embed(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                       const int32_t *last_token, size_t n_tokens) {
    (void)s, (void)out, (void)table, (void)hidden, (void)ids, (void)last_token, (void)n_tokens;
}

static void null_embed_bert(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden, const kf_batch *b) {
    (void)s, (void)out, (void)e, (void)hidden, (void)b;
}

static void null_linear(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    (void)x, (void)o;
    (void)s, (void)out, (void)w, (void)n_rows;
}

static void null_layernorm(kf_stream *s, void *out, const void *x, const void *gamma, const void *beta, float eps,
                           size_t n_rows, size_t hidden) {
    (void)s, (void)out, (void)x, (void)gamma, (void)beta, (void)eps, (void)n_rows, (void)hidden;
}

static void null_rmsnorm(kf_stream *s, void *out, const void *x, const void *gamma, float eps, size_t n_rows,
                         size_t hidden) {
    (void)s, (void)out, (void)x, (void)gamma, (void)eps, (void)n_rows, (void)hidden;
}

static void null_rope_kv_write(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                               const int32_t *slot_mapping, kf_heads h, const kf_qk_opts *o) {
    (void)s, (void)cache, (void)qkv, (void)stride, (void)b, (void)slot_mapping, (void)h, (void)o;
}

static void null_attention(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    (void)s, (void)out, (void)qkv, (void)b, (void)h;
}

static void null_attention_paged(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                                 const kf_batch *b, const kf_paged *p, kf_heads h) {
    (void)s, (void)out, (void)q, (void)q_stride, (void)cache, (void)b, (void)p, (void)h;
}

static void null_add(kf_stream *s, void *out, const void *x, const void *y, size_t n) {
    (void)s, (void)out, (void)x, (void)y, (void)n;
}

static void null_gated(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows, size_t width) {
    (void)s, (void)out, (void)gate_up, (void)act, (void)n_rows, (void)width;
}

static void null_activate(kf_stream *s, void *out, const void *x, kf_activation act, size_t n) {
    (void)s, (void)out, (void)x, (void)act, (void)n;
}

static void null_rows(kf_stream *s, void *out, const void *x, const int32_t *index, size_t n_rows, size_t width) {
    (void)s, (void)out, (void)x, (void)index, (void)n_rows, (void)width;
}

static void null_mark_seen(kf_stream *s, const kf_sampler *sm, const int32_t *slots, const int32_t *ids, size_t n) {
    (void)s, (void)sm, (void)slots, (void)ids, (void)n;
}

/* The lowest token that the row's mask allows; `token` where it has none. */
static int32_t lowest_allowed(const kf_sample_params *p, const kf_sampler *sm, int32_t token) {
    size_t words = (sm->vocab_size + 31) / 32;
    const uint32_t *row = p->allowed ? sm->allowed + (size_t)(p->allowed - 1) * words : NULL;
    for (size_t w = 0; row && w < words; w++)
        if (row[w]) return (int32_t)(w * 32 + (size_t)__builtin_ctz(row[w]));
    return token;
}

static void null_sample(kf_stream *s, kf_sample_out *out, float *logits, const kf_sample_params *params,
                        const kf_sampler *sm, size_t n_rows) {
    (void)s, (void)logits;
    for (size_t i = 0; i < n_rows; i++) {
        uint32_t step = params[i].position % (NULL_REPLY + 3);
        int32_t token = step < NULL_REPLY ? NULL_TOKEN : (int32_t)(step - NULL_REPLY);
        if ((size_t)token >= sm->vocab_size) token = 0;
        token = lowest_allowed(&params[i], sm, token);
        out[i] = (kf_sample_out){.token = token, .finite = 1};
        if (params[i].slot >= 0) sm->last_token[params[i].slot] = token;
    }
}

static void null_close(kf_device *d) {
    free(d);
}

static const struct kf_device_ops null_ops = {
    .close = null_close,
    .alloc = null_alloc,
    .free = kf_cpu_free,
    .alloc_pinned = kf_cpu_alloc_pinned,
    .free_pinned = kf_cpu_free_pinned,
    .copy_in = kf_cpu_copy_in,
    .copy_out = kf_cpu_copy_out,
    .fill_zero = kf_cpu_fill_zero,
    .weight_pack = null_weight_pack,
    .weight_free = null_weight_free,
    .stream_open = kf_cpu_stream_open,
    .stream_close = kf_cpu_stream_close,
    .event_new = kf_cpu_event_new,
    .event_free = kf_cpu_event_free,
    .event_record = kf_cpu_event_record,
    .event_wait = kf_cpu_event_wait,
    .event_done = kf_cpu_event_done,
    .embed = null_embed,
    .embed_bert = null_embed_bert,
    .linear = null_linear,
    .layernorm = null_layernorm,
    .rmsnorm = null_rmsnorm,
    .rope_kv_write = null_rope_kv_write,
    .attention = null_attention,
    .attention_paged = null_attention_paged,
    .gated = null_gated,
    .activate = null_activate,
    .add = null_add,
    .gather_rows = null_rows,
    .mean_rows = null_rows,
    .mark_seen = null_mark_seen,
    .sample = null_sample,
};

kf_status kf_null_open(const kf_device_opts *o, kf_device **out) {
    kf_device *d = malloc(sizeof *d);
    if (!d) return KF_FAIL(KF_ERR_NO_MEMORY, "device null: %zu bytes asked for, the system has none", sizeof *d);
    *d = (kf_device){
        .ops = &null_ops,
        .name = "null",
        .act = KF_F32,
        .weights = o->dtype,
        .batch_invariant = true,
        .memory_bytes = kf_cpu_memory_bytes(),
    };
    *out = d;
    return KF_OK;
}
