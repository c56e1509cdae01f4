/* Rows picked and averaged.
 *   embed        out[t, :] = table[id_t, :], id_t = ids[t], or last_token[-1 - ids[t]] where ids[t] < 0
 *   gather_rows  out[i, :] = x[row_idx[i], :], the same kernel
 *                grid: a block a row, a thread a chunk of 16 bytes; bytes a row: 2 width
 *   mean_rows    out[i, :] = mean of sequence i's rows, added in order; a row of 0 where it is empty
 *                grid: a thread a chunk and sequence, 128 a block; four rows are loaded at a time, so a thread keeps 64
 *                bytes in flight; bytes: width (n_tokens + n_seqs); flops: width n_tokens */
#include "chunk.cuh"

constexpr unsigned MEAN_THREADS = 128, MEAN_ROWS = 4;

template <class T>
__global__ void pick_rows(T *out, const T *table, unsigned width, const int32_t *ids, const int32_t *last_token,
                          bool aligned) {
    int32_t id = ids[blockIdx.x] >= 0 ? ids[blockIdx.x] : last_token[-1 - ids[blockIdx.x]];
    const T *from = table + (size_t)id * width;
    T *to = out + (size_t)blockIdx.x * width;
    if (aligned) {
        for (unsigned i = threadIdx.x * CHUNK<T>; i < width; i += blockDim.x * CHUNK<T>)
            store_16(to + i, load_16(from + i));
        return;
    }
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x)
        to[i] = from[i];
}

template <class T>
static void run_pick(kf_stream *s, void *out, const void *table, size_t width, const int32_t *ids,
                     const int32_t *last_token, size_t n_rows) {
    bool aligned = chunks_aligned<T>((uintptr_t)out | (uintptr_t)table, width);
    KF_LAUNCH(s, dim3((unsigned)n_rows), threads_for(aligned ? width / CHUNK<T> : width), pick_rows<T>, (T *)out,
              (const T *)table, (unsigned)width, ids, last_token, aligned);
}

void kf_cuda_embed(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                   const int32_t *last_token, size_t n_tokens) {
    if (!kf_cuda_runs(s) || n_tokens == 0) return;
    if (kf_cuda_is_bf16(s))
        run_pick<__nv_bfloat16>(s, out, table, hidden, ids, last_token, n_tokens);
    else
        run_pick<float>(s, out, table, hidden, ids, last_token, n_tokens);
}

void kf_cuda_gather_rows(kf_stream *s, void *out, const void *x, const int32_t *row_idx, size_t n_rows, size_t width) {
    kf_cuda_embed(s, out, x, width, row_idx, NULL, n_rows);
}

template <class T>
__global__ void mean_rows(T *out, const T *x, const int32_t *cu_seqlens, unsigned width, bool aligned) {
    size_t begin = (size_t)cu_seqlens[blockIdx.x], end = (size_t)cu_seqlens[blockIdx.x + 1];
    unsigned first = (blockIdx.y * MEAN_THREADS + threadIdx.x) * CHUNK<T>;
    if (first >= width) return;
    float sum[CHUNK<T>] = {}, v[MEAN_ROWS][CHUNK<T>];
    for (size_t r = begin; r < end; r += MEAN_ROWS) {
        for (unsigned j = 0; j < MEAN_ROWS; j++)
            chunk_load(v[j], x + (r + j < end ? r + j : r) * width, first, width, aligned);
        for (unsigned j = 0; j < MEAN_ROWS && r + j < end; j++)
            for (unsigned i = 0; i < CHUNK<T>; i++)
                sum[i] += v[j][i];
    }
    for (unsigned i = 0; i < CHUNK<T>; i++)
        sum[i] = end > begin ? sum[i] / (float)(end - begin) : 0;
    chunk_store(out + (size_t)blockIdx.x * width, sum, first, width, aligned);
}

template <class T>
static void run_mean(kf_stream *s, void *out, const void *x, const int32_t *cu_seqlens, size_t n_seqs, size_t width) {
    bool aligned = chunks_aligned<T>((uintptr_t)out | (uintptr_t)x, width);
    dim3 grid((unsigned)n_seqs, blocks_for(width, MEAN_THREADS * CHUNK<T>).x);
    KF_LAUNCH(s, grid, dim3(MEAN_THREADS), mean_rows<T>, (T *)out, (const T *)x, cu_seqlens, (unsigned)width, aligned);
}

void kf_cuda_mean_rows(kf_stream *s, void *out, const void *x, const int32_t *cu_seqlens, size_t n_seqs, size_t width) {
    if (!kf_cuda_runs(s) || n_seqs == 0) return;
    if (kf_cuda_is_bf16(s))
        run_mean<__nv_bfloat16>(s, out, x, cu_seqlens, n_seqs, width);
    else
        run_mean<float>(s, out, x, cu_seqlens, n_seqs, width);
}
