/* Attention (arXiv 1706.03762) with an online softmax (arXiv 1805.02867) over blocks of 16 keys.
 *
 * Blocks lie at multiples of 16 of the key's position in its sequence, whatever the batch, the chunk of a prefill or
 * the place in the cache; so one query's sums have one order (promise 3). The row of `out` is the accumulator: no
 * scratch is needed, however long the sequence. */
#include "device/cpu/cpu.h"

#include <math.h>

typedef struct attend {
    float max, sum; /* of the scores so far; of exp(score - max) so far */
} attend;

/* One block of n keys. q [head_dim]; k, v: n rows, strides in elements; acc [head_dim]. */
static void attend_block(attend *a, float *acc, const float *q, const float *k, const float *v, size_t stride, size_t n,
                         const kf_heads *h) {
    float p[KF_KV_BLOCK_SIZE];
    float max = a->max;
    for (size_t i = 0; i < n; i++) {
        float score = 0;
        for (size_t c = 0; c < h->head_dim; c++)
            score += q[c] * k[i * stride + c];
        p[i] = score * h->scale;
        if (p[i] > max) max = p[i];
    }
    float shrink = expf(a->max - max); /* 0 for the first block, where a->max is -inf */
    a->max = max;
    a->sum *= shrink;
    for (size_t c = 0; c < h->head_dim; c++)
        acc[c] *= shrink;
    for (size_t i = 0; i < n; i++) {
        p[i] = expf(p[i] - max);
        a->sum += p[i];
        for (size_t c = 0; c < h->head_dim; c++)
            acc[c] += p[i] * v[i * stride + c];
    }
}

typedef struct attention_job {
    float *out;     /* [n_tokens, n_heads, head_dim] */
    const float *q; /* rows q_stride apart */
    size_t q_stride;
    const kf_batch *b;
    kf_heads h;
    const kf_paged *paged; /* NULL: K and V follow q in its row */
    kf_kv_layer cache;
} attention_job;

/* The sequence that token t belongs to. */
static size_t seq_of(const kf_batch *b, size_t t) {
    size_t low = 0, high = b->n_seqs;
    while (high - low > 1) {
        size_t mid = (low + high) / 2;
        if ((size_t)b->cu_seqlens[mid] <= t)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* One query against n_keys keys of its sequence. */
static void attend_row(const attention_job *j, size_t t, size_t seq, size_t head, size_t n_keys) {
    const kf_heads *h = &j->h;
    const float *q = j->q + t * j->q_stride + head * h->head_dim;
    float *acc = j->out + (t * h->n_heads + head) * h->head_dim;
    size_t kv_head = head / (h->n_heads / h->n_kv_heads);
    attend a = {.max = -INFINITY};
    memset(acc, 0, h->head_dim * sizeof *acc);
    for (size_t first = 0; first < n_keys; first += KF_KV_BLOCK_SIZE) {
        size_t n = n_keys - first < KF_KV_BLOCK_SIZE ? n_keys - first : KF_KV_BLOCK_SIZE;
        if (j->paged) {
            size_t block = (size_t)j->paged->block_table[seq * j->paged->max_blocks + first / KF_KV_BLOCK_SIZE];
            size_t at = (block * h->n_kv_heads + kv_head) * KF_KV_BLOCK_SIZE * h->head_dim;
            attend_block(&a, acc, q, (float *)j->cache.k + at, (float *)j->cache.v + at, h->head_dim, n, h);
        } else {
            size_t width = h->n_heads * h->head_dim;
            const float *k = j->q + ((size_t)j->b->cu_seqlens[seq] + first) * j->q_stride + width + head * h->head_dim;
            attend_block(&a, acc, q, k, k + width, j->q_stride, n, h);
        }
    }
    for (size_t c = 0; c < h->head_dim; c++)
        acc[c] /= a.sum;
}

static void attention_body(void *arg, size_t first, size_t last) {
    const attention_job *j = arg;
    for (size_t t = first; t < last; t++) {
        size_t seq = seq_of(j->b, t);
        size_t begin = (size_t)j->b->cu_seqlens[seq], end = (size_t)j->b->cu_seqlens[seq + 1];
        size_t n_keys = j->paged ? (size_t)j->paged->kv_len[seq] - (end - begin) + (t - begin) + 1 : end - begin;
        for (size_t head = 0; head < j->h.n_heads; head++)
            attend_row(j, t, seq, head, n_keys);
    }
}

void kf_cpu_attention(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    if (!kf_cpu_runs(s)) return;
    h.n_kv_heads = h.n_heads;
    attention_job j = {.out = out, .q = qkv, .q_stride = 3 * h.n_heads * h.head_dim, .b = b, .h = h};
    kf_cpu_parallel_for(s, (size_t)b->cu_seqlens[b->n_seqs], 1, attention_body, &j);
}

void kf_cpu_attention_paged(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                            const kf_batch *b, const kf_paged *p, kf_heads h) {
    if (!kf_cpu_runs(s)) return;
    for (size_t i = 0; i < b->n_seqs; i++)
        if (p->kv_len[i] < b->cu_seqlens[i + 1] - b->cu_seqlens[i]) {
            kf_cpu_fail(s, KF_ERR_BUG, "attention: sequence %zu has %d new tokens and a cache of %d", i,
                        b->cu_seqlens[i + 1] - b->cu_seqlens[i], p->kv_len[i]);
            return;
        }
    attention_job j = {.out = out, .q = q, .q_stride = q_stride, .b = b, .h = h, .paged = p, .cache = cache};
    kf_cpu_parallel_for(s, (size_t)b->cu_seqlens[b->n_seqs], 1, attention_body, &j);
}
