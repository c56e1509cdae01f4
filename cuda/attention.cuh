/* The plain attention of one query, by one warp, with an online softmax (arXiv 1805.02867): the reference beside faster
 * versions, and what runs for every head_dim that they do not name.
 *
 * Keys are taken 32 at a time, blocks lying at multiples of 32 of the key's position, whatever the batch, the chunk or
 * the place in the cache; so a query's sums have one order (promise 3). In a block lane i has key i: its score is one
 * chain over head_dim; the weights are added by butterfly. Then lane l has elements l, l + 32, … of the values, and
 * adds the block's keys in order. */
#ifndef KF_CUDA_ATTENTION_CUH
#define KF_CUDA_ATTENTION_CUH

#include "kernel.cuh"

constexpr int ATTENTION_WARPS = 4, ATTENTION_HEAD_DIM_MAX = 512;

/* PER_LANE: elements of a head that one lane has; head_dim is at most 32 of it. */
template <int PER_LANE> struct attention_scratch { /* of one warp, in shared memory */
    float q[PER_LANE * WARP];
    float weight[WARP];
};

/* out [head_dim] = softmax(q · keys scale) · values. rows(i) gives key i's K and V. */
template <int PER_LANE, class T, class Rows>
__device__ void attend(T *out, const T *q, int n_keys, int head_dim, float scale, const Rows &rows,
                       attention_scratch<PER_LANE> *scratch) {
    int lane = threadIdx.x % WARP;
    float acc[PER_LANE] = {}, max = -INFINITY, sum = 0;
    for (int c = lane; c < head_dim; c += WARP)
        scratch->q[c] = to_f32(q[c]);
    __syncwarp();
    for (int first = 0; first < n_keys; first += WARP) {
        float score = -INFINITY;
        if (first + lane < n_keys) {
            const T *k = rows.k(first + lane);
            float dot = 0;
            for (int c = 0; c < head_dim; c++)
                dot = fmaf(scratch->q[c], to_f32(k[c]), dot);
            score = dot * scale;
        }
        float new_max = fmaxf(max, warp_max(score)), shrink = expf(max - new_max);
        float weight = expf(score - new_max);
        max = new_max;
        sum = fmaf(sum, shrink, warp_sum(weight));
        scratch->weight[lane] = weight;
        __syncwarp();
        int n = n_keys - first < WARP ? n_keys - first : WARP;
        for (int i = 0; i < PER_LANE; i++)
            acc[i] *= shrink;
        for (int j = 0; j < n; j++) {
            const T *v = rows.v(first + j);
            for (int i = 0; i < PER_LANE; i++)
                if (lane + i * WARP < head_dim) acc[i] = fmaf(scratch->weight[j], to_f32(v[lane + i * WARP]), acc[i]);
        }
        __syncwarp(); /* the next block writes weight */
    }
    for (int i = 0; i < PER_LANE; i++)
        if (lane + i * WARP < head_dim) out[lane + i * WARP] = from_f32<T>(acc[i] / sum);
}

/* Calls run<T, PER_LANE>(arguments…) for the device's format and the least PER_LANE that holds head_dim. */
#define ATTENTION_BY_FORMAT(s, head_dim, run, ...)                                                                     \
    do {                                                                                                               \
        if (kf_cuda_is_bf16(s)) {                                                                                      \
            if ((head_dim) <= 2 * WARP)                                                                                \
                run<__nv_bfloat16, 2>(__VA_ARGS__);                                                                    \
            else if ((head_dim) <= 4 * WARP)                                                                           \
                run<__nv_bfloat16, 4>(__VA_ARGS__);                                                                    \
            else                                                                                                       \
                run<__nv_bfloat16, 16>(__VA_ARGS__);                                                                   \
        } else {                                                                                                       \
            if ((head_dim) <= 2 * WARP)                                                                                \
                run<float, 2>(__VA_ARGS__);                                                                            \
            else if ((head_dim) <= 4 * WARP)                                                                           \
                run<float, 4>(__VA_ARGS__);                                                                            \
            else                                                                                                       \
                run<float, 16>(__VA_ARGS__);                                                                           \
        }                                                                                                              \
    } while (0)

/* False: shapes that no attention of ours computes; the stream has failed. */
static inline bool attention_possible(kf_stream *s, const kf_heads *h) {
    if (h->n_kv_heads > 0 && h->n_heads % h->n_kv_heads == 0 && h->head_dim <= ATTENTION_HEAD_DIM_MAX) return true;
    kf_cuda_fail(s, KF_ERR_BUG, "attention: %zu heads over %zu KV heads of %zu; head_dim is at most %d", h->n_heads,
                 h->n_kv_heads, h->head_dim, ATTENTION_HEAD_DIM_MAX);
    return false;
}

#endif
