/* RMS normalisation (arXiv 1910.07467): out = gamma x / sqrt(mean(x²) + eps) over `width`.
 * Layout: row r starts at r * x_stride, with n_groups neighbouring groups of width; gamma f32 [width]. Grid: a warp
 * a group, 4 a block. Lane l takes elements l, l + 32, … in order, then the lanes' butterfly. Bytes a group: 2 width
 * (the second reading is from L1); flops: about 4 width. */
#include "kernel.cuh"

constexpr int WARPS = 4;

template <class T>
__global__ void rmsnorm(T *out, const T *x, size_t x_stride, const float *gamma, float eps, size_t n_groups_all,
                        size_t n_groups, size_t width) {
    size_t group = (size_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    unsigned lane = threadIdx.x % WARP;
    if (group >= n_groups_all) return;
    size_t at = group / n_groups * x_stride + group % n_groups * width;
    float squares = 0;
    for (size_t i = lane; i < width; i += WARP)
        squares = fmaf(to_f32(x[at + i]), to_f32(x[at + i]), squares);
    float scale = 1 / sqrtf(warp_sum(squares) / (float)width + eps);
    for (size_t i = lane; i < width; i += WARP)
        out[at + i] = from_f32<T>(to_f32(x[at + i]) * scale * gamma[i]);
}

void kf_cuda_rmsnorm(kf_stream *s, void *out, const void *x, size_t x_stride, const void *gamma, float eps,
                     size_t n_rows, size_t n_groups, size_t width) {
    size_t n = n_rows * n_groups;
    if (!kf_cuda_runs(s) || n == 0) return;
    dim3 grid = blocks_for(n, WARPS), block(WARPS * WARP);
    if (kf_cuda_is_bf16(s))
        KF_LAUNCH(s, grid, block, rmsnorm<__nv_bfloat16>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)x, x_stride,
                  (const float *)gamma, eps, n, n_groups, width);
    else
        KF_LAUNCH(s, grid, block, rmsnorm<float>, (float *)out, (const float *)x, x_stride, (const float *)gamma, eps,
                  n, n_groups, width);
}
