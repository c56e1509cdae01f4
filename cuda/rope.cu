/* Rotary embedding in place (RoFormer, arXiv 2104.09864), halves layout: (x1, x2) = (x1 cos - x2 sin, x2 cos + x1 sin)
 * for pair (i, i + head_dim / 2).
 * Layout: row t starts at t * x_stride, [n_heads, head_dim]; cos, sin f32 [max_positions, head_dim / 2]. Grid: a block
 * a token, a thread a pair. Bytes a token: 2 n_heads head_dim, and head_dim of the tables; flops: 3 n_heads head_dim.
 */
#include "kernel.cuh"

template <class T>
__global__ void rope(T *x, size_t x_stride, kf_rope_table table, const int32_t *position_ids, unsigned n_pairs,
                     unsigned half) {
    T *row = x + blockIdx.x * x_stride;
    size_t angle = (size_t)position_ids[blockIdx.x] * half;
    for (unsigned i = threadIdx.x; i < n_pairs; i += blockDim.x) {
        unsigned head = i / half, c = i % half;
        T *x1 = row + head * 2 * half + c, *x2 = x1 + half;
        float a = to_f32(*x1), b = to_f32(*x2), cos = table.cos[angle + c], sin = table.sin[angle + c];
        *x1 = from_f32<T>(a * cos - b * sin);
        *x2 = from_f32<T>(b * cos + a * sin);
    }
}

void kf_cuda_rope(kf_stream *s, void *x, size_t x_stride, const kf_rope_table *t, const int32_t *position_ids,
                  size_t n_tokens, size_t n_heads, size_t head_dim) {
    if (!kf_cuda_runs(s) || n_tokens == 0) return;
    unsigned half = (unsigned)head_dim / 2, n_pairs = (unsigned)n_heads * half;
    dim3 grid((unsigned)n_tokens), block = threads_for(n_pairs);
    if (kf_cuda_is_bf16(s))
        KF_LAUNCH(s, grid, block, rope<__nv_bfloat16>, (__nv_bfloat16 *)x, x_stride, *t, position_ids, n_pairs, half);
    else
        KF_LAUNCH(s, grid, block, rope<float>, (float *)x, x_stride, *t, position_ids, n_pairs, half);
}
