/* Attention (arXiv 1706.03762) with an online softmax (arXiv 1805.02867) over blocks of 16 keys.
 *
 * Blocks lie at multiples of 16 of the key's position in its sequence, whatever the batch, the chunk of a prefill or
 * the place in the cache; so one query's sums have one order (promise 3). The row of `out` is the accumulator: no
 * scratch grows with a sequence's length.
 *
 * A piece of work is one KV head and some neighbouring tokens. A block's keys are transposed once for all of the
 * piece's queries: its tokens of one sequence, times the heads that share the KV head. */
#include "device/cpu/cpu.h"

#include <math.h>

enum { MAX_HEAD_DIM = 512, MAX_QUERIES = 128, MAX_TOKENS = 64 };

typedef struct attention_job {
    const kf_cpu_loops *loops;
    float *out;     /* [n_tokens, n_heads, head_dim] */
    const float *q; /* rows q_stride apart */
    size_t q_stride;
    const kf_batch *b;
    size_t n_tokens;
    kf_heads h;
    size_t piece_tokens;   /* at most MAX_TOKENS */
    const kf_paged *paged; /* NULL: K and V follow q in its row, and every token sees its whole sequence */
    kf_kv_layer cache;
} attention_job;

/* Neighbouring tokens of one sequence and the heads of one KV head: the queries that share keys. */
typedef struct group {
    size_t seq, first, last; /* tokens of the batch */
    size_t kv_head;
    size_t n_keys_first; /* of the first token; the next has one more where attention is causal */
} group;

static size_t n_keys_of(const attention_job *j, const group *g, size_t token) {
    return g->n_keys_first + (j->paged ? token - g->first : 0);
}

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

typedef struct key_block {
    const float *k, *v; /* rows `stride` elements apart */
    size_t stride;
} key_block;

/* Where the keys from position `first` on lie. */
static key_block block_at(const attention_job *j, const group *g, size_t first) {
    const kf_heads *h = &j->h;
    if (j->paged) {
        size_t block = (size_t)j->paged->block_table[g->seq * j->paged->max_blocks + first / KF_KV_BLOCK_SIZE];
        size_t at = (block * h->n_kv_heads + g->kv_head) * KF_KV_BLOCK_SIZE * h->head_dim;
        return (key_block){(const float *)j->cache.k + at, (const float *)j->cache.v + at, h->head_dim};
    }
    size_t width = h->n_heads * h->head_dim;
    const float *row = j->q + ((size_t)j->b->cu_seqlens[g->seq] + first) * j->q_stride + g->kv_head * h->head_dim;
    return (key_block){row + width, row + 2 * width, j->q_stride};
}

/* The group's queries, token by token. Returns how many. */
static size_t queries_of(const attention_job *j, const group *g, kf_cpu_query *queries, kf_cpu_softmax *softmax) {
    const kf_heads *h = &j->h;
    size_t n_shared = h->n_heads / h->n_kv_heads, n = 0;
    for (size_t t = g->first; t < g->last; t++)
        for (size_t head = g->kv_head * n_shared; head < (g->kv_head + 1) * n_shared; head++, n++) {
            softmax[n] = (kf_cpu_softmax){.max = -INFINITY};
            queries[n] = (kf_cpu_query){.q = j->q + t * j->q_stride + head * h->head_dim,
                                        .acc = j->out + (t * h->n_heads + head) * h->head_dim,
                                        .softmax = &softmax[n]};
            memset(queries[n].acc, 0, h->head_dim * sizeof(float));
        }
    return n;
}

static void attend_group(const attention_job *j, const group *g) {
    const kf_heads *h = &j->h;
    size_t n_shared = h->n_heads / h->n_kv_heads;
    kf_cpu_softmax softmax[MAX_QUERIES];
    kf_cpu_query queries[MAX_QUERIES];
    float keys[MAX_HEAD_DIM * KF_KV_BLOCK_SIZE];
    size_t n_queries = queries_of(j, g, queries, softmax), n_keys_last = n_keys_of(j, g, g->last - 1);
    for (size_t first = 0; first < n_keys_last; first += KF_KV_BLOCK_SIZE) {
        key_block block = block_at(j, g, first);
        size_t n = n_keys_last - first < KF_KV_BLOCK_SIZE ? n_keys_last - first : KF_KV_BLOCK_SIZE;
        kf_cpu_keys k = {.keys = keys, .v = block.v, .v_stride = block.stride, .n = n};
        j->loops->transpose_keys(keys, block.k, block.stride, n, h->head_dim);
        /* causal: tokens before the block's last key see a part of it, each one more than the one before */
        size_t t = g->first;
        for (; t < g->last && n_keys_of(j, g, t) < first + n; t++) {
            if (n_keys_of(j, g, t) <= first) continue;
            k.n = n_keys_of(j, g, t) - first;
            j->loops->attend(queries + (t - g->first) * n_shared, n_shared, &k, h->head_dim, h->scale);
        }
        k.n = n;
        j->loops->attend(queries + (t - g->first) * n_shared, (g->last - t) * n_shared, &k, h->head_dim, h->scale);
    }
    for (size_t i = 0; i < n_queries; i++)
        j->loops->attend_end(&softmax[i], queries[i].acc, h->head_dim);
}

/* Pieces first .. last of [token groups, n_kv_heads]. */
static void attention_body(void *arg, size_t first, size_t last) {
    const attention_job *j = arg;
    for (size_t i = first; i < last; i++) {
        size_t token = i / j->h.n_kv_heads * j->piece_tokens;
        size_t end = j->n_tokens - token < j->piece_tokens ? j->n_tokens : token + j->piece_tokens;
        for (group g = {.kv_head = i % j->h.n_kv_heads}; token < end; token = g.last) {
            g.seq = seq_of(j->b, token);
            size_t begin = (size_t)j->b->cu_seqlens[g.seq], seq_end = (size_t)j->b->cu_seqlens[g.seq + 1];
            g.first = token;
            g.last = seq_end < end ? seq_end : end;
            g.n_keys_first = j->paged ? (size_t)j->paged->kv_len[g.seq] - (seq_end - token) + 1 : seq_end - begin;
            attend_group(j, &g);
        }
    }
}

static void run(kf_stream *s, attention_job *j) {
    const kf_heads *h = &j->h;
    j->loops = kf_cpu_loops_of(s);
    j->n_tokens = (size_t)j->b->cu_seqlens[j->b->n_seqs];
    size_t n_shared = h->n_kv_heads ? h->n_heads / h->n_kv_heads : 0;
    if (n_shared == 0 || n_shared > MAX_QUERIES || h->n_heads % h->n_kv_heads || h->head_dim > MAX_HEAD_DIM) {
        kf_cpu_fail(s, KF_ERR_BUG, "attention: %zu heads over %zu KV heads of %zu; at most %d share one, of at most %d",
                    h->n_heads, h->n_kv_heads, h->head_dim, MAX_QUERIES, MAX_HEAD_DIM);
        return;
    }
    /* long pieces share the transposed keys, short ones keep every thread busy */
    size_t n_tokens = j->n_tokens * h->n_kv_heads / 32;
    n_tokens = n_tokens < 1 ? 1 : n_tokens > MAX_TOKENS ? MAX_TOKENS : n_tokens;
    j->piece_tokens = n_tokens * n_shared > MAX_QUERIES ? MAX_QUERIES / n_shared : n_tokens;
    size_t n_pieces = (j->n_tokens + j->piece_tokens - 1) / j->piece_tokens * h->n_kv_heads;
    kf_cpu_parallel_for(s, n_pieces, 1, attention_body, j);
}

void kf_cpu_attention(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    if (!kf_cpu_runs(s)) return;
    h.n_kv_heads = h.n_heads;
    attention_job j = {.out = out, .q = qkv, .q_stride = 3 * h.n_heads * h.head_dim, .b = b, .h = h};
    run(s, &j);
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
    run(s, &j);
}
