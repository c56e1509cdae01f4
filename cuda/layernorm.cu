/* Layer normalisation (arXiv 1607.06450): out = gamma (y - mean) / sqrt(var + eps) + beta, y = x + residual.
 * Layout: [n_rows, hidden]; gamma, beta f32 [hidden]. Grid: a warp a row, 4 a block. Lane l takes elements l, l + 32, …
 * in order, then the lanes' butterfly; mean first, then the squares of the differences. The row is read three times
 * (twice from L1). Bytes a row: 2 or 3 hidden; flops: about 8 hidden. */
#include "kernel.cuh"

constexpr int WARPS = 4;

template <class T>
__global__ void layernorm(T *out, const T *x, const T *residual, const float *gamma, const float *beta, float eps,
                          size_t n_rows, size_t hidden) {
    size_t row = (size_t)blockIdx.x * WARPS + threadIdx.x / WARP, at = row * hidden;
    unsigned lane = threadIdx.x % WARP;
    if (row >= n_rows) return;
    auto y = [&](size_t i) { return residual ? to_f32(x[at + i]) + to_f32(residual[at + i]) : to_f32(x[at + i]); };
    float sum = 0, squares = 0;
    for (size_t i = lane; i < hidden; i += WARP)
        sum += y(i);
    float mean = warp_sum(sum) / (float)hidden;
    for (size_t i = lane; i < hidden; i += WARP) {
        float difference = y(i) - mean;
        squares = fmaf(difference, difference, squares);
    }
    float scale = 1 / sqrtf(warp_sum(squares) / (float)hidden + eps);
    for (size_t i = lane; i < hidden; i += WARP)
        out[at + i] = from_f32<T>(fmaf((y(i) - mean) * scale, gamma[i], beta[i]));
}

template <class T>
static void run(kf_stream *s, void *out, const void *x, const void *residual, const void *gamma, const void *beta,
                float eps, size_t n_rows, size_t hidden) {
    KF_LAUNCH(s, blocks_for(n_rows, WARPS), dim3(WARPS * WARP), layernorm<T>, (T *)out, (const T *)x,
              (const T *)residual, (const float *)gamma, (const float *)beta, eps, n_rows, hidden);
}

void kf_cuda_layernorm(kf_stream *s, void *out, const void *x, const void *residual, const void *gamma,
                       const void *beta, float eps, size_t n_rows, size_t hidden) {
    if (!kf_cuda_runs(s) || n_rows == 0) return;
    if (kf_cuda_is_bf16(s))
        run<__nv_bfloat16>(s, out, x, residual, gamma, beta, eps, n_rows, hidden);
    else
        run<float>(s, out, x, residual, gamma, beta, eps, n_rows, hidden);
}
