/* Queries against a block of 16 keys. Scores run in lanes over the keys, values in lanes over head_dim, so no sum
 * crosses lanes but the maximum and, at the very end, the softmax's denominator. */

enum { KEY_VECS = KF_KV_BLOCK_SIZE / VW };

typedef float quad __attribute__((vector_size(16)));
typedef float quad_mem __attribute__((vector_size(16), aligned(4), may_alias));

/* Four elements of four keys. */
INLINE void transpose_4x4(float *keys, const float *k, size_t stride) {
    quad a = *(const quad_mem *)k, b = *(const quad_mem *)(k + stride);
    quad c = *(const quad_mem *)(k + 2 * stride), d = *(const quad_mem *)(k + 3 * stride);
    quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(quad_mem *)keys = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(quad_mem *)(keys + KF_KV_BLOCK_SIZE) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(quad_mem *)(keys + 2 * KF_KV_BLOCK_SIZE) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    *(quad_mem *)(keys + 3 * KF_KV_BLOCK_SIZE) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

static void transpose_keys(float *keys, const float *k, size_t stride, size_t n, size_t head_dim) {
    size_t whole = head_dim / 4 * 4, i = 0;
    if (n < KF_KV_BLOCK_SIZE) memset(keys, 0, head_dim * KF_KV_BLOCK_SIZE * sizeof *keys);
    for (; i + 4 <= n; i += 4) {
        for (size_t c = 0; c < whole; c += 4)
            transpose_4x4(keys + c * KF_KV_BLOCK_SIZE + i, k + i * stride + c, stride);
        for (size_t c = whole; c < head_dim; c++)
            for (size_t j = i; j < i + 4; j++)
                keys[c * KF_KV_BLOCK_SIZE + j] = k[j * stride + c];
    }
    for (; i < n; i++)
        for (size_t c = 0; c < head_dim; c++)
            keys[c * KF_KV_BLOCK_SIZE + i] = k[i * stride + c];
}

/* Queries of one call that go through a block together: as many as hide each other's waits in the registers there
 * are. Each has the sums that it has alone. */
enum { TOGETHER = VW == 16 ? 4 : 1, CHAINS = 4 };

/* weight [16] of each query from q · key. CHAINS chains over head_dim, since one would wait for itself; added as a
 * tree. Places without a key weigh 0. */
INLINE void scores(float weight[][KF_KV_BLOCK_SIZE], const kf_cpu_query *queries, size_t n_queries, const float *keys,
                   size_t n, size_t head_dim, float scale) {
    vec s[TOGETHER][CHAINS][KEY_VECS] = {{{{0}}}};
    size_t c = 0;
    for (; c + CHAINS <= head_dim; c += CHAINS)
        for (size_t j = 0; j < CHAINS; j++)
            for (size_t v = 0; v < KEY_VECS; v++) {
                vec key = load(keys + (c + j) * KF_KV_BLOCK_SIZE + v * VW);
                for (size_t r = 0; r < n_queries; r++)
                    s[r][j][v] = fma_v(splat(queries[r].q[c + j]), key, s[r][j][v]);
            }
    for (; c < head_dim; c++)
        for (size_t v = 0; v < KEY_VECS; v++)
            for (size_t r = 0; r < n_queries; r++)
                s[r][0][v] = fma_v(splat(queries[r].q[c]), load(keys + c * KF_KV_BLOCK_SIZE + v * VW), s[r][0][v]);
    for (size_t r = 0; r < n_queries; r++) {
        for (size_t v = 0; v < KEY_VECS; v++)
            store(weight[r] + v * VW, ((s[r][0][v] + s[r][1][v]) + (s[r][2][v] + s[r][3][v])) * scale);
        for (size_t i = n; i < KF_KV_BLOCK_SIZE; i++)
            weight[r][i] = -INFINITY;
    }
}

/* Scores to weights exp(score - max). Where the maximum rises, what has been summed shrinks; elsewhere the factor
 * would be exactly 1. */
INLINE void softmax_block(float *weight, const kf_cpu_query *query, size_t head_dim) {
    kf_cpu_softmax *s = query->softmax;
    vec top = load(weight);
    for (size_t j = 1; j < KEY_VECS; j++)
        top = max_v(load(weight + j * VW), top);
    float max = max_of(top);
    if (!(max <= s->max)) {                      /* a NaN goes this way */
        vec shrink = exp_v(splat(s->max - max)); /* 0 for the first block, where s->max is -inf */
        s->max = max;
        for (size_t j = 0; j < KEY_VECS; j++)
            store(s->sums + j * VW, load(s->sums + j * VW) * shrink);
        size_t c = 0;
        for (; c + VW <= head_dim; c += VW)
            store(query->acc + c, load(query->acc + c) * shrink);
        for (; c < head_dim; c++)
            query->acc[c] *= shrink[0];
    }
    for (size_t j = 0; j < KEY_VECS; j++) {
        vec w = exp_v(load(weight + j * VW) - s->max);
        store(weight + j * VW, w);
        store(s->sums + j * VW, load(s->sums + j * VW) + w);
    }
}

/* acc += weight · values, over the keys in order. */
INLINE void values(float weight[][KF_KV_BLOCK_SIZE], const kf_cpu_query *queries, size_t n_queries, const float *v,
                   size_t v_stride, size_t n, size_t head_dim) {
    size_t c = 0;
    for (; c + VW <= head_dim; c += VW) {
        vec sum[TOGETHER];
        for (size_t r = 0; r < n_queries; r++)
            sum[r] = load(queries[r].acc + c);
        for (size_t i = 0; i < n; i++) {
            vec value = load(v + i * v_stride + c);
            for (size_t r = 0; r < n_queries; r++)
                sum[r] = fma_v(splat(weight[r][i]), value, sum[r]);
        }
        for (size_t r = 0; r < n_queries; r++)
            store(queries[r].acc + c, sum[r]);
    }
    for (; c < head_dim; c++)
        for (size_t r = 0; r < n_queries; r++)
            for (size_t i = 0; i < n; i++)
                queries[r].acc[c] = fma_s(weight[r][i], v[i * v_stride + c], queries[r].acc[c]);
}

INLINE void attend_together(const kf_cpu_query *queries, size_t n_queries, const kf_cpu_keys *k, size_t head_dim,
                            float scale) {
    float weight[TOGETHER][KF_KV_BLOCK_SIZE];
    scores(weight, queries, n_queries, k->keys, k->n, head_dim, scale);
    for (size_t r = 0; r < n_queries; r++)
        softmax_block(weight[r], &queries[r], head_dim);
    values(weight, queries, n_queries, k->v, k->v_stride, k->n, head_dim);
}

static void attend(const kf_cpu_query *queries, size_t n_queries, const kf_cpu_keys *k, size_t head_dim, float scale) {
    size_t i = 0;
    for (; i + TOGETHER <= n_queries; i += TOGETHER)
        attend_together(queries + i, TOGETHER, k, head_dim, scale);
    for (; i < n_queries; i++)
        attend_together(queries + i, 1, k, head_dim, scale);
}

static void attend_end(const kf_cpu_softmax *s, float *acc, size_t head_dim) {
    vec sum = load(s->sums);
    for (size_t j = 1; j < KEY_VECS; j++)
        sum += load(s->sums + j * VW);
    float scale = 1 / sum_of(sum);
    for (size_t c = 0; c < head_dim; c++)
        acc[c] *= scale;
}
