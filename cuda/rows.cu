/* Rows picked and averaged.
 *   gather_rows  out[i, :] = x[row_idx[i], :]              grid: a block a row; bytes a row: 2 width
 *   mean_rows    out[i, :] = mean of sequence i's rows     grid: a block a sequence, a thread a column, rows in order;
 *                                                          bytes: width (n_tokens + n_seqs); a row of 0 where it is
 * empty */
#include "kernel.cuh"

template <class T> __global__ void gather_rows(T *out, const T *x, const int32_t *row_idx, size_t width) {
    size_t from = (size_t)row_idx[blockIdx.x] * width, to = blockIdx.x * width;
    for (size_t i = threadIdx.x; i < width; i += blockDim.x)
        out[to + i] = x[from + i];
}

void kf_cuda_gather_rows(kf_stream *s, void *out, const void *x, const int32_t *row_idx, size_t n_rows, size_t width) {
    if (!kf_cuda_runs(s) || n_rows == 0) return;
    dim3 grid((unsigned)n_rows), block = threads_for(width);
    if (kf_cuda_is_bf16(s))
        KF_LAUNCH(s, grid, block, gather_rows<__nv_bfloat16>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)x, row_idx,
                  width);
    else
        KF_LAUNCH(s, grid, block, gather_rows<float>, (float *)out, (const float *)x, row_idx, width);
}

template <class T> __global__ void mean_rows(T *out, const T *x, const int32_t *cu_seqlens, size_t width) {
    size_t first = (size_t)cu_seqlens[blockIdx.x], last = (size_t)cu_seqlens[blockIdx.x + 1];
    for (size_t i = threadIdx.x; i < width; i += blockDim.x) {
        float sum = 0;
        for (size_t r = first; r < last; r++)
            sum += to_f32(x[r * width + i]);
        out[blockIdx.x * width + i] = from_f32<T>(last > first ? sum / (float)(last - first) : 0);
    }
}

void kf_cuda_mean_rows(kf_stream *s, void *out, const void *x, const int32_t *cu_seqlens, size_t n_seqs, size_t width) {
    if (!kf_cuda_runs(s) || n_seqs == 0) return;
    dim3 grid((unsigned)n_seqs), block = threads_for(width);
    if (kf_cuda_is_bf16(s))
        KF_LAUNCH(s, grid, block, mean_rows<__nv_bfloat16>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)x, cu_seqlens,
                  width);
    else
        KF_LAUNCH(s, grid, block, mean_rows<float>, (float *)out, (const float *)x, cu_seqlens, width);
}
