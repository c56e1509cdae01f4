/* RMS normalisation (arXiv 1910.07467): out = gamma x / sqrt(mean(x²) + eps). The residual that a decoder adds before
 * is in the epilogue of the product that made x (linear.cu); the norm over heads is in rope_kv_write.cu.
 * Layout: [n_rows, hidden], gamma f32 [hidden]. Grid: a warp a row up to a hidden of 1024, 4 rows a block; a block of
 * 8 or 32 warps a row above (norm.cuh, with the order of the sums). The row stays in registers. Bytes a row:
 * 2 hidden, and gamma's 4 hidden from L1; flops: about 4 hidden. */
#include "norm.cuh"

template <class T, unsigned WARPS>
__global__ void __launch_bounds__(NORM_THREADS<WARPS>)
    rmsnorm(T *out, const T *x, const float *gamma, float eps, size_t n_rows, unsigned hidden, bool aligned) {
    size_t row = norm_row<WARPS>();
    if (row >= n_rows) return;
    row_part<T, WARPS> y;
    y.width = hidden, y.aligned = aligned;
    y.load(x + row * hidden);
    float scale = 1 / sqrtf(y.squares(0) / (float)hidden + eps);
    for (unsigned c = 0; c < y.CHUNKS; c++) {
        float g[CHUNK<T>], v[CHUNK<T>];
        unsigned first = y.first(c);
        if (first >= hidden) break;
        f32_load(g, gamma, first, hidden, aligned);
        for (unsigned i = 0; i < CHUNK<T>; i++)
            v[i] = y.v[c][i] * scale * g[i];
        chunk_store(out + row * hidden, v, first, hidden, aligned);
    }
}

template <class T>
static void run(kf_stream *s, void *out, const void *x, const void *gamma, float eps, size_t n_rows, size_t hidden) {
    bool aligned = chunks_aligned<T>((uintptr_t)out | (uintptr_t)x | (uintptr_t)gamma, hidden);
    NORM_LAUNCH(s, T, n_rows, hidden, rmsnorm, (T *)out, (const T *)x, (const float *)gamma, eps, n_rows,
                (unsigned)hidden, aligned);
}

void kf_cuda_rmsnorm(kf_stream *s, void *out, const void *x, const void *gamma, float eps, size_t n_rows,
                     size_t hidden) {
    if (!kf_cuda_runs(s) || n_rows == 0) return;
    if (kf_cuda_is_bf16(s))
        run<__nv_bfloat16>(s, out, x, gamma, eps, n_rows, hidden);
    else
        run<float>(s, out, x, gamma, eps, n_rows, hidden);
}
