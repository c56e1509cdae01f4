/* One query against a block of 16 keys. Scores run in lanes over the keys, values in lanes over head_dim, so no sum
 * crosses lanes but the maximum and, at the very end, the softmax's denominator. */

enum { KEY_VECS = KF_KV_BLOCK_SIZE / VW };

static void transpose_keys(float *keys, const float *k, size_t stride, size_t n, size_t head_dim) {
    if (n < KF_KV_BLOCK_SIZE) memset(keys, 0, head_dim * KF_KV_BLOCK_SIZE * sizeof *keys);
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < head_dim; c++)
            keys[c * KF_KV_BLOCK_SIZE + i] = k[i * stride + c];
}

/* q · key for 16 keys. Four chains over head_dim, since one would wait for itself; added as a tree. */
INLINE void score_block(vec out[KEY_VECS], const float *q, const float *keys, size_t head_dim) {
    vec s[4][KEY_VECS] = {{{0}}};
    size_t c = 0;
    for (; c + 4 <= head_dim; c += 4)
        for (size_t j = 0; j < 4; j++)
            for (size_t v = 0; v < KEY_VECS; v++)
                s[j][v] = fma_v(splat(q[c + j]), load(keys + (c + j) * KF_KV_BLOCK_SIZE + v * VW), s[j][v]);
    for (; c < head_dim; c++)
        for (size_t v = 0; v < KEY_VECS; v++)
            s[0][v] = fma_v(splat(q[c]), load(keys + c * KF_KV_BLOCK_SIZE + v * VW), s[0][v]);
    for (size_t v = 0; v < KEY_VECS; v++)
        out[v] = (s[0][v] + s[1][v]) + (s[2][v] + s[3][v]);
}

static void attend(kf_cpu_softmax *s, float *acc, const float *q, const float *keys, const float *v, size_t v_stride,
                   size_t n, size_t head_dim, float scale) {
    vec score[KEY_VECS];
    float p[KF_KV_BLOCK_SIZE];
    score_block(score, q, keys, head_dim);
    for (size_t j = 0; j < KEY_VECS; j++)
        store(p + j * VW, score[j] * scale);
    for (size_t i = n; i < KF_KV_BLOCK_SIZE; i++)
        p[i] = -INFINITY; /* a place without a key weighs 0 */
    vec top = load(p);
    for (size_t j = 1; j < KEY_VECS; j++)
        top = max_v(load(p + j * VW), top);
    float max = max_of(top);
    if (s->max > max) max = s->max;
    vec shrink = exp_v(splat(s->max - max)); /* 0 for the first block, where s->max is -inf */
    s->max = max;
    for (size_t j = 0; j < KEY_VECS; j++) {
        vec weight = exp_v(load(p + j * VW) - max);
        store(p + j * VW, weight);
        store(s->sums + j * VW, fma_v(load(s->sums + j * VW), shrink, weight));
    }
    size_t c = 0;
    for (; c + VW <= head_dim; c += VW) {
        vec sum = load(acc + c) * shrink;
        for (size_t i = 0; i < n; i++)
            sum = fma_v(splat(p[i]), load(v + i * v_stride + c), sum);
        store(acc + c, sum);
    }
    for (; c < head_dim; c++) {
        float sum = acc[c] * shrink[0];
        for (size_t i = 0; i < n; i++)
            sum = fma_s(p[i], v[i * v_stride + c], sum);
        acc[c] = sum;
    }
}

static void attend_end(const kf_cpu_softmax *s, float *acc, size_t head_dim) {
    vec sum = load(s->sums);
    for (size_t j = 1; j < KEY_VECS; j++)
        sum += load(s->sums + j * VW);
    float scale = 1 / sum_of(sum);
    for (size_t c = 0; c < head_dim; c++)
        acc[c] *= scale;
}
