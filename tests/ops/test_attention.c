/* Aim: attention at the shapes where fast kernels change their ways, and small ones by hand: each head_dim, lengths at
 * the borders of tiles, pieces and splits, ragged batches with empty sequences and padding rows. Method: every sequence
 * of a batch against a reference in double precision, then alone: its bits must be the same. What lies behind the last
 * token stays as it was. */
#include "ops/harness.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* out [head_dim] = softmax(q · k scale) · v of one query; row i of k and v is at[i] elements into them. */
static void attend(double *out, const float *q, const float *k, const float *v, const size_t *at, size_t n_keys,
                   size_t head_dim, double scale) {
    double *p = doubles(n_keys), max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n_keys; i++) {
        for (size_t c = 0; c < head_dim; c++)
            p[i] += (double)q[c] * (double)k[at[i] + c];
        p[i] *= scale;
        max = fmax(max, p[i]);
    }
    for (size_t i = 0; i < n_keys; i++)
        sum += p[i] = exp(p[i] - max);
    for (size_t c = 0; c < head_dim; c++)
        out[c] = 0;
    for (size_t i = 0; i < n_keys; i++)
        for (size_t c = 0; c < head_dim; c++)
            out[c] += p[i] / sum * (double)v[at[i] + c];
    free(p);
}

static void same_bits(const bench *t, const char *what, const float *got, const float *want, size_t n, size_t width) {
    for (size_t i = 0; i < n * width; i++)
        if (memcmp(&got[i], &want[i], sizeof *got))
            fail_msg("%s: %s: row %zu, column %zu: %.9g, but %.9g in other company", t->c->name, what, i / width,
                     i % width, (double)got[i], (double)want[i]);
}

/* ---- over cu_seqlens ---- */

/* bf16: weights and outputs are rounded to 2^-9; tighter than the table's, or a lost key would hide among hundreds. */
static double limit(const bench *t) {
    return t->d->act == KF_BF16 ? 6e-3 : t->c->limit;
}

enum { PADDING = 19, LONGEST = 700 };

/* out of the batch [cu[n_seqs], width], in f32; the caller frees. The device is told of PADDING rows more, of a longer
 * sequence, and of two sequences behind the last that have no tokens. */
static float *attention_run(bench *t, const float *qkv, const int32_t *cu, size_t n_seqs, kf_heads h) {
    size_t n = (size_t)cu[n_seqs], width = h.n_heads * h.head_dim, padded = n + PADDING;
    float *rows = normal(t, padded * 3 * width, 1);
    memcpy(rows, qkv, n * 3 * width * sizeof *rows);
    int32_t *all = calloc(n_seqs + 3, sizeof *all);
    assert_non_null(all);
    memcpy(all, cu, (n_seqs + 1) * sizeof *cu);
    all[n_seqs + 1] = all[n_seqs + 2] = cu[n_seqs];
    kf_batch b = {
        .n_seqs = n_seqs + 2, .n_tokens = padded, .max_seqlen = LONGEST, .cu_seqlens = put_i32(t, all, n_seqs + 3)};
    unsigned char *out = put_act(t, NULL, padded * width);
    kf_attention(t->s, out, put_act(t, rows, padded * 3 * width), &b, h);
    size_t bytes = kf_dtype_bytes(t->d->act);
    float *got = get(t, out, n * width, t->d->act);
    unsigned char *behind = (unsigned char *)get(t, out + n * width * bytes, PADDING * width * bytes / 4, KF_F32);
    for (size_t i = 0; i < PADDING * width * bytes / 4 * 4; i++)
        assert_int_equal(behind[i], GUARD_BYTE);
    bench_clear(t);
    free(rows), free(all), free(behind);
    return got;
}

static void ragged(bench *t, const int32_t *lens, size_t n_seqs, size_t n_heads, size_t head_dim) {
    int32_t cu[16] = {0};
    size_t width = n_heads * head_dim, at[LONGEST];
    for (size_t s = 0; s < n_seqs; s++)
        cu[s + 1] = cu[s] + lens[s];
    kf_heads h = {
        .n_heads = n_heads, .n_kv_heads = n_heads, .head_dim = head_dim, .scale = 0.7f / sqrtf((float)head_dim)};
    float *qkv = normal(t, (size_t)cu[n_seqs] * 3 * width, 1.5f), *got = attention_run(t, qkv, cu, n_seqs, h);
    double *want = doubles((size_t)cu[n_seqs] * width);
    for (size_t s = 0; s < n_seqs; s++) {
        for (int32_t i = 0; i < lens[s]; i++)
            at[i] = (size_t)(cu[s] + i) * 3 * width;
        for (int32_t i = cu[s]; i < cu[s + 1]; i++)
            for (size_t c = 0; c < width; c += head_dim)
                attend(want + (size_t)i * width + c, qkv + (size_t)i * 3 * width + c, qkv + width + c,
                       qkv + 2 * width + c, at, (size_t)lens[s], head_dim, (double)h.scale);
    }
    compare(t, "attention", got, want, (size_t)cu[n_seqs] * width, limit(t));
    for (size_t s = 0; s < n_seqs; s++) {
        float *alone = attention_run(t, qkv + (size_t)cu[s] * 3 * width, (int32_t[]){0, lens[s]}, 1, h);
        same_bits(t, "attention", alone, got + (size_t)cu[s] * width, (size_t)lens[s], width);
        free(alone);
    }
    free(qkv), free(got), free(want);
}

/* Attention has no other way where invariance is off: one configuration tells as much as two. */
static bool seen_already(const bench *t) {
    return t->c->opts.batch_invariant_off;
}

static void op_attention(bench *t) {
    if (seen_already(t)) return;
    static const int32_t many[] = {1, 7, 15, 16, 17, 0, 48, 63, 64, 65, 0, 127, 128, 129}, few[] = {2, 300, 1, 66};
    for (size_t head_dim = 32; head_dim <= 128; head_dim *= 2) {
        ragged(t, many, COUNT(many), head_dim == 64 ? 3 : 1, head_dim);
        ragged(t, few, COUNT(few), 2, head_dim);
    }
    ragged(t, (int32_t[]){511, 512, 513, LONGEST}, 4, 1, 64);
    ragged(t, (int32_t[]){5, 70, 0, 9}, 4, 2, 48);
}

/* ---- over the paged cache ---- */

enum { N_BLOCKS = 79, SIDE = 37 }; /* SIDE: tokens of the sequence beside ours */

/* A prompt of [len, stride], rows of [q, k, v], and how it is put through attention: its tokens before cuts[0] go to
 * the cache without, then those up to each further cut by a call each, beside `side` tokens of another sequence and
 * before n_empty sequences without any. */
typedef struct prompt {
    kf_heads h;
    const float *rows;
    int32_t len;
} prompt;

typedef struct way {
    const int32_t *cuts;
    size_t n_cuts;
    int32_t side;
    size_t n_empty, max_blocks;
} way;

static size_t q_width(kf_heads h) {
    return h.n_heads * h.head_dim;
}
static size_t stride_of(kf_heads h) {
    return (h.n_heads + 2 * h.n_kv_heads) * h.head_dim;
}

/* Block i of our sequence's, somewhere in the cache; those of the other sequence follow from 75 on. */
static int32_t block_of(int32_t i, int32_t shift) {
    return (i * 5 + shift) % N_BLOCKS;
}
static int32_t slot_of(int32_t pos, int32_t first_block, int32_t shift) {
    return block_of(first_block + pos / KF_KV_BLOCK_SIZE, shift) * KF_KV_BLOCK_SIZE + pos % KF_KV_BLOCK_SIZE;
}

/* One call: tokens [from, to), which are written first; attended to, and their rows put in got, unless it is NULL. */
static void paged_call(bench *t, float *got, const prompt *r, const way *w, kf_kv_layer cache, int32_t shift,
                       int32_t from, int32_t to) {
    size_t n = (size_t)(w->side + to - from), padded = n + PADDING, stride = stride_of(r->h), first = t->n_buffers;
    size_t n_seqs = 2 + w->n_empty, bytes = kf_dtype_bytes(t->d->act), width = q_width(r->h);
    float *batch = normal(t, padded * stride, 1);
    memcpy(batch + (size_t)w->side * stride, r->rows + (size_t)from * stride,
           (size_t)(to - from) * stride * sizeof *batch);
    int32_t *ints = calloc(padded + 2 * n_seqs + 1 + n_seqs * w->max_blocks, sizeof *ints);
    assert_non_null(ints);
    int32_t *slots = ints, *cu = slots + padded, *kv_len = cu + n_seqs + 1, *table = kv_len + n_seqs;
    for (size_t i = 0; i < padded; i++)
        slots[i] = (int32_t)i < w->side ? slot_of((int32_t)i, 75, shift)
                   : i < n              ? slot_of(from + (int32_t)i - w->side, 0, shift)
                                        : -1;
    for (size_t i = 1; i <= n_seqs; i++)
        cu[i] = i == 1 ? w->side : (int32_t)n;
    kv_len[0] = w->side, kv_len[1] = to;
    for (int32_t i = 0; i < N_BLOCKS; i++)
        table[i < 75 ? w->max_blocks + (size_t)i : (size_t)i - 75] = block_of(i, shift);
    kf_batch b = {.n_seqs = n_seqs,
                  .n_tokens = padded,
                  .max_seqlen = (size_t)(to - from > w->side ? to - from : w->side),
                  .cu_seqlens = put_i32(t, cu, n_seqs + 1)};
    kf_paged p = {.slot_mapping = put_i32(t, slots, padded),
                  .block_table = put_i32(t, table, n_seqs * w->max_blocks),
                  .max_blocks = w->max_blocks,
                  .kv_len = put_i32(t, kv_len, n_seqs)};
    char *x = put_act(t, batch, padded * stride), *out = put_act(t, NULL, padded * width);
    kf_rope_kv_write(t->s, cache, x, stride, &b, p.slot_mapping, r->h, &(kf_qk_opts){0});
    if (got) {
        kf_attention_paged(t->s, out, x, stride, cache, &b, &p, r->h);
        float *piece = get(t, out + (size_t)w->side * width * bytes, (size_t)(to - from) * width, t->d->act);
        memcpy(got, piece, (size_t)(to - from) * width * sizeof *got);
        free(piece);
    }
    bench_sync(t);
    for (; t->n_buffers > first; t->n_buffers--)
        kf_device_free(t->d, t->buffers[t->n_buffers - 1].block);
    free(batch), free(ints);
}

/* Rows of the tokens from w->cuts[0] on; the caller frees. What nobody wrote in the cache is NaN. */
static float *paged_run(bench *t, const prompt *r, const way *w) {
    size_t n = N_BLOCKS * KF_KV_BLOCK_SIZE * r->h.n_kv_heads * r->h.head_dim;
    float *nothing = malloc(n * sizeof *nothing), *got = malloc((size_t)r->len * q_width(r->h) * sizeof *got);
    assert_true(nothing && got);
    for (size_t i = 0; i < n; i++)
        nothing[i] = NAN;
    kf_kv_layer cache = {put_act(t, nothing, n), put_act(t, nothing, n)};
    int32_t shift = below(t, N_BLOCKS), start = w->cuts[0];
    if (start > 0) paged_call(t, NULL, r, w, cache, shift, 0, start);
    for (size_t i = 0; i + 1 < w->n_cuts; i++)
        paged_call(t, got + (size_t)(w->cuts[i] - start) * q_width(r->h), r, w, cache, shift, w->cuts[i],
                   w->cuts[i + 1]);
    bench_clear(t);
    free(nothing);
    return got;
}

/* Tokens from `start` on against the reference. */
static void paged_check(bench *t, const prompt *r, const float *got, int32_t start) {
    size_t at[N_BLOCKS * KF_KV_BLOCK_SIZE], width = q_width(r->h), stride = stride_of(r->h), d = r->h.head_dim;
    double *want = doubles((size_t)(r->len - start) * width);
    for (int32_t i = 0; i < r->len; i++)
        at[i] = (size_t)i * stride;
    for (int32_t i = start; i < r->len; i++)
        for (size_t head = 0; head < r->h.n_heads; head++) {
            const float *k = r->rows + width + head / (r->h.n_heads / r->h.n_kv_heads) * d;
            attend(want + (size_t)(i - start) * width + head * d, r->rows + (size_t)i * stride + head * d, k,
                   k + r->h.n_kv_heads * d, at, (size_t)i + 1, d, (double)r->h.scale);
        }
    compare(t, "attention_paged", got, want, (size_t)(r->len - start) * width, limit(t));
    free(want);
}

/* Every way must give the bits of the first; len is the last cut of each, and all begin at the same. */
static void paged(bench *t, size_t n_heads, size_t n_kv_heads, size_t head_dim, const way *ways, size_t n_ways) {
    prompt r = {.len = ways->cuts[ways->n_cuts - 1]};
    r.h = (kf_heads){n_heads, n_kv_heads, head_dim, 0.7f / sqrtf((float)head_dim)};
    float *rows = normal(t, (size_t)r.len * stride_of(r.h), 1.5f), *want = NULL;
    r.rows = rows;
    for (size_t i = 0; i < n_ways; i++) {
        float *got = paged_run(t, &r, &ways[i]);
        if (!want) {
            want = got;
            paged_check(t, &r, want, ways->cuts[0]);
            continue;
        }
        same_bits(t, "attention_paged", got, want, (size_t)(r.len - ways->cuts[0]), q_width(r.h));
        free(got);
    }
    free(rows), free(want);
}

#define WAY(side_, n_empty_, max_blocks_, ...)                                                                         \
    {                                                                                                                  \
        .cuts = (const int32_t[]){__VA_ARGS__}, .n_cuts = sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t),          \
        .side = (side_), .n_empty = (n_empty_), .max_blocks = (max_blocks_)                                            \
    }

/* A prompt whole, in chunks, and by single tokens where a tile, a block or a split ends. */
static void op_paged_cuts(bench *t) {
    if (seen_already(t)) return;
    const way ways[] = {
        WAY(0, 0, 80, 0, 260),
        WAY(SIDE, 2, 80, 0, 1, 2, 5, 6, 15, 16, 17, 31, 32, 33, 64, 127, 128, 129, 130, 200, 255, 256, 257, 260),
        WAY(1, 1, 80, 0, 100, 104, 108, 124, 126, 131, 253, 258, 259, 260),
    };
    static const size_t groups[][2] = {{2, 2}, {4, 2}, {4, 1}, {7, 1}, {8, 1}, {20, 1}};
    for (size_t i = 0; i < COUNT(groups); i++)
        paged(t, groups[i][0], groups[i][1], i % 2 ? 64 : 32, ways, COUNT(ways));
    paged(t, 2, 1, 128, ways, COUNT(ways));
    paged(t, 2, 1, 48, ways, COUNT(ways));
    const way long_ways[] = {WAY(0, 0, 80, 510, 511, 512, 513, LONGEST - 1, LONGEST), WAY(1, 0, 80, 510, 515, LONGEST)};
    paged(t, 4, 2, 64, long_ways, COUNT(long_ways));
}

/* A long sequence's last token. By how many sequences there are and how long they may be, the keys are shared by as
 * many blocks as there are rounds of 512, by two, or by none. */
static void op_paged_shared(bench *t) {
    if (seen_already(t)) return;
    const way ways[] = {WAY(0, 0, 80, 1099, 1100), WAY(3, 180, 80, 1099, 1100), WAY(1, 400, 80, 1099, 1100),
                        WAY(0, 0, 1 << 16, 1099, 1100)};
    for (size_t head_dim = 32; head_dim <= 128; head_dim *= 2)
        paged(t, 14, 2, head_dim, ways, COUNT(ways));
}

/* ---- the same by hand-picked batches, plain rows in odd places ---- */

static void small_case(bench *t, const int32_t *cu, size_t n_seqs, size_t n_heads, size_t head_dim, float scale) {
    size_t n_tokens = (size_t)cu[n_seqs], width = n_heads * head_dim, longest = 0;
    float *qkv = normal(t, n_tokens * 3 * width, 1.5f);
    for (size_t i = 0; i < n_tokens * 3 * width && scale > 1; i++)
        qkv[i] = roundf(qkv[i]); /* scores in the hundreds, exactly: only their softmax is in question */
    double *want = doubles(n_tokens * width);
    size_t at[512];
    for (size_t s = 0; s < n_seqs; s++) {
        size_t begin = (size_t)cu[s], n = (size_t)cu[s + 1] - begin;
        if (n > longest) longest = n;
        for (size_t i = 0; i < n; i++)
            at[i] = (begin + i) * 3 * width;
        for (size_t i = begin; i < begin + n; i++)
            for (size_t h = 0; h < n_heads; h++) {
                const float *q = qkv + h * head_dim;
                attend(want + i * width + h * head_dim, q + i * 3 * width, q + width, q + 2 * width, at, n, head_dim,
                       (double)scale);
            }
    }
    kf_batch b = {
        .n_seqs = n_seqs, .n_tokens = n_tokens, .max_seqlen = longest, .cu_seqlens = put_i32(t, cu, n_seqs + 1)};
    kf_heads heads = {.n_heads = n_heads, .n_kv_heads = n_heads, .head_dim = head_dim, .scale = scale};
    void *out = put_act(t, NULL, n_tokens * width);
    kf_attention(t->s, out, put_act(t, qkv, n_tokens * 3 * width), &b, heads);
    check_act(t, "attention", out, want, n_tokens * width, t->c->limit);
    bench_clear(t);
    free(qkv), free(want);
}

static void op_small(bench *t) {
    small_case(t, (int32_t[]){0, 1}, 1, 1, 1, 1);
    small_case(t, (int32_t[]){0, 1, 4, 4, 20, 37, 37, 70}, 7, 3, 20, 0.3f);
    small_case(t, (int32_t[]){0, 16, 48, 49}, 3, 2, 32, 0.17f);
    small_case(t, (int32_t[]){0, 200}, 1, 2, 64, 0.125f);
    small_case(t, (int32_t[]){0, 5, 70}, 2, 1, 128, 0.5f); /* scores in the tens */
    small_case(t, (int32_t[]){0, 5, 70}, 2, 1, 40, 4);
}

enum { SMALL_MAX_BLOCKS = 20, SMALL_BLOCKS = 80 };

/* A batch over a paged cache. new_of: tokens of this batch; old_of: tokens that are in the cache already. A token's row
 * is [q, k, v, three elements of nobody], as a model has it. */
typedef struct paged_batch {
    const int32_t *new_of, *old_of; /* [n_seqs] */
    size_t n_seqs, n_tokens, q_width, kv_width, stride, cache_n;
    kf_heads h;
    int32_t cu[9], kv_len[8], table[8 * SMALL_MAX_BLOCKS], slots[300];
} paged_batch;

/* Blocks in random order, and where each token goes. */
static void paged_lay(bench *t, paged_batch *p) {
    int32_t blocks[SMALL_BLOCKS];
    size_t next_block = 0;
    for (int i = 0; i < SMALL_BLOCKS; i++)
        blocks[i] = i;
    for (int i = SMALL_BLOCKS - 1; i > 0; i--) {
        int j = below(t, (size_t)i + 1), keep = blocks[i];
        blocks[i] = blocks[j], blocks[j] = keep;
    }
    for (size_t s = 0; s < p->n_seqs; s++) {
        int32_t *table = p->table + s * SMALL_MAX_BLOCKS;
        p->kv_len[s] = p->old_of[s] + p->new_of[s];
        for (int b = 0; b * KF_KV_BLOCK_SIZE < p->kv_len[s]; b++)
            table[b] = blocks[next_block++];
        for (int at = p->old_of[s]; at < p->kv_len[s]; at++)
            p->slots[p->n_tokens++] = table[at / KF_KV_BLOCK_SIZE] * KF_KV_BLOCK_SIZE + at % KF_KV_BLOCK_SIZE;
        p->cu[s + 1] = (int32_t)p->n_tokens;
    }
    assert_true(next_block <= SMALL_BLOCKS);
    if (p->n_tokens > 3) p->slots[0] = -1; /* written nowhere: the cache keeps what it has */
}

/* The cache's element 0 of a head at a slot. */
static size_t cache_at(const paged_batch *p, int32_t slot, size_t kv_head) {
    size_t block = (size_t)slot / KF_KV_BLOCK_SIZE, at = (size_t)slot % KF_KV_BLOCK_SIZE;
    return ((block * p->h.n_kv_heads + kv_head) * KF_KV_BLOCK_SIZE + at) * p->h.head_dim;
}

static void want_written(const paged_batch *p, const float *rows, float *k_cache, float *v_cache) {
    size_t head_bytes = p->h.head_dim * sizeof *rows;
    for (size_t i = 0; i < p->n_tokens; i++)
        for (size_t head = 0; head < p->h.n_kv_heads && p->slots[i] >= 0; head++) {
            const float *k = rows + i * p->stride + p->q_width + head * p->h.head_dim;
            memcpy(k_cache + cache_at(p, p->slots[i], head), k, head_bytes);
            memcpy(v_cache + cache_at(p, p->slots[i], head), k + p->kv_width, head_bytes);
        }
}

static void want_attended(const paged_batch *p, const float *rows, const float *k_cache, const float *v_cache,
                          double *want) {
    size_t head_dim = p->h.head_dim;
    for (size_t s = 0; s < p->n_seqs; s++)
        for (int i = p->cu[s]; i < p->cu[s + 1]; i++)
            for (size_t head = 0; head < p->h.n_heads; head++) {
                size_t at[SMALL_MAX_BLOCKS * KF_KV_BLOCK_SIZE], n = (size_t)(p->old_of[s] + i - p->cu[s] + 1);
                for (size_t pos = 0; pos < n; pos++) {
                    int32_t block = p->table[s * SMALL_MAX_BLOCKS + pos / KF_KV_BLOCK_SIZE];
                    int32_t slot = block * KF_KV_BLOCK_SIZE + (int32_t)(pos % KF_KV_BLOCK_SIZE);
                    at[pos] = cache_at(p, slot, head / (p->h.n_heads / p->h.n_kv_heads));
                }
                attend(want + (size_t)i * p->q_width + head * head_dim, rows + (size_t)i * p->stride + head * head_dim,
                       k_cache, v_cache, at, n, head_dim, (double)p->h.scale);
            }
}

/* Puts the keys of a batch in the cache as they are, and attends. */
static void small_paged_case(bench *t, const int32_t *new_of, const int32_t *old_of, size_t n_seqs, kf_heads h) {
    size_t q_width = h.n_heads * h.head_dim, kv_width = h.n_kv_heads * h.head_dim;
    paged_batch p = {.new_of = new_of, .old_of = old_of, .n_seqs = n_seqs, .h = h, .q_width = q_width};
    p.kv_width = kv_width, p.stride = q_width + 2 * kv_width + 3,
    p.cache_n = SMALL_BLOCKS * kv_width * KF_KV_BLOCK_SIZE;
    paged_lay(t, &p);
    float *k_cache = normal(t, p.cache_n, 1), *v_cache = normal(t, p.cache_n, 1);
    float *rows = normal(t, p.n_tokens * p.stride, 1);
    kf_kv_layer cache = {put_act(t, k_cache, p.cache_n), put_act(t, v_cache, p.cache_n)};
    void *q = put_act(t, rows, p.n_tokens * p.stride);
    int32_t *slots = put_i32(t, p.slots, p.n_tokens);
    double *want = doubles(p.n_tokens * q_width);
    kf_batch b = {
        .n_seqs = n_seqs, .n_tokens = p.n_tokens, .max_seqlen = p.n_tokens, .cu_seqlens = put_i32(t, p.cu, n_seqs + 1)};
    kf_rope_kv_write(t->s, cache, q, p.stride, &b, slots, h, &(kf_qk_opts){0});
    want_written(&p, rows, k_cache, v_cache);
    want_attended(&p, rows, k_cache, v_cache, want);
    kf_paged paged = {.slot_mapping = slots,
                      .block_table = put_i32(t, p.table, n_seqs * SMALL_MAX_BLOCKS),
                      .max_blocks = SMALL_MAX_BLOCKS,
                      .kv_len = put_i32(t, p.kv_len, n_seqs)};
    void *out = put_act(t, NULL, p.n_tokens * q_width);
    kf_attention_paged(t->s, out, q, p.stride, cache, &b, &paged, h);
    check_act(t, "attention_paged", out, want, p.n_tokens * q_width, t->c->limit);
    bench_clear(t);
    free(k_cache), free(v_cache), free(rows), free(want);
}

static void op_small_paged(bench *t) {
    kf_heads gqa = {.n_heads = 6, .n_kv_heads = 2, .head_dim = 24, .scale = 0.2f};
    kf_heads plain = {.n_heads = 3, .n_kv_heads = 3, .head_dim = 64, .scale = 0.125f};
    kf_heads one = {.n_heads = 4, .n_kv_heads = 1, .head_dim = 5, .scale = 1};
    small_paged_case(t, (int32_t[]){1}, (int32_t[]){0}, 1, gqa);
    small_paged_case(t, (int32_t[]){1, 1, 1, 1}, (int32_t[]){0, 15, 16, 299}, 4, gqa);
    small_paged_case(t, (int32_t[]){33, 1, 0, 17, 5}, (int32_t[]){0, 70, 3, 15, 100}, 5, plain);
    small_paged_case(t, (int32_t[]){200, 2}, (int32_t[]){1, 31}, 2, one);
}

int main(void) {
    static const operation operations[] = {
        {"attention", op_attention},
        {"attention: small", op_small},
        {"attention_paged: small", op_small_paged},
        {"attention_paged: cuts", op_paged_cuts},
        {"attention_paged: shared keys", op_paged_shared},
    };
    return run_table("attention", operations, COUNT(operations));
}
