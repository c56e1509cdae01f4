/* Norms of rows that stay in registers between the reading, the sums and the writing: each row is read once.
 *
 * A row belongs to 1 warp up to 1024 elements, to 8 up to 8192, to 32 up to 16384; thread i of them has chunks i,
 * i + threads, … (chunk.cuh), at most 32 elements, or 16 where 32 warps share the registers of a processor. A sum goes
 * over a thread's elements in order, then over the warp's butterfly, then over the warps in order: it does not depend
 * on where the row lies, nor on how many there are. */
#ifndef KF_CUDA_NORM_CUH
#define KF_CUDA_NORM_CUH

#include "chunk.cuh"

constexpr unsigned ROWS_OF_ONE_WARP = 4; /* in a block */

template <unsigned WARPS> constexpr unsigned NORM_ELEMENTS = WARPS == 32 ? 16 : 32; /* of a thread */
template <unsigned WARPS> constexpr unsigned NORM_THREADS = (WARPS == 1 ? ROWS_OF_ONE_WARP : WARPS) * WARP;

/* The block's row, or the warp's where it has one for itself. */
template <unsigned WARPS> __device__ size_t norm_row(void) {
    return WARPS == 1 ? (size_t)blockIdx.x * ROWS_OF_ONE_WARP + threadIdx.x / WARP : blockIdx.x;
}

/* v summed over the threads of a row; each gets the same bits. */
template <unsigned WARPS> __device__ float row_sum(float v) {
    v = warp_sum(v);
    if constexpr (WARPS > 1) {
        SHARED_ARRAY(float, of_warp, [WARPS]);
        __syncthreads(); /* those of the sum before may still be read */
        if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = v;
        __syncthreads();
        v = of_warp[0];
        for (unsigned w = 1; w < WARPS; w++)
            v += of_warp[w];
    }
    return v;
}

/* A thread's part of a row. */
template <class T, unsigned WARPS> struct row_part {
    static constexpr unsigned CHUNKS = NORM_ELEMENTS<WARPS> / CHUNK<T>;
    float v[CHUNKS][CHUNK<T>];
    unsigned width;
    bool aligned;

    /* The first element of the thread's chunk c. */
    __device__ static unsigned first(unsigned c) {
        return (threadIdx.x % (WARPS * WARP) + c * WARPS * WARP) * CHUNK<T>;
    }

    __device__ void load(const T *row) {
        for (unsigned c = 0; c < CHUNKS; c++)
            chunk_load(v[c], row, first(c), width, aligned);
    }

    __device__ void add(const T *row) {
        for (unsigned c = 0; c < CHUNKS; c++) {
            float more[CHUNK<T>];
            chunk_load(more, row, first(c), width, aligned);
            for (unsigned i = 0; i < CHUNK<T>; i++)
                v[c][i] += more[i];
        }
    }

    /* sum of (v - from)² over the row */
    __device__ float squares(float from) const {
        float sum = 0;
        for (unsigned c = 0; c < CHUNKS; c++)
            for (unsigned i = 0; i < CHUNK<T>; i++) {
                float difference = first(c) + i < width ? v[c][i] - from : 0;
                sum = fmaf(difference, difference, sum);
            }
        return row_sum<WARPS>(sum);
    }

    __device__ float mean(void) const {
        float sum = 0;
        for (unsigned c = 0; c < CHUNKS; c++)
            for (unsigned i = 0; i < CHUNK<T>; i++)
                sum += v[c][i]; /* zeros behind the row's end */
        return row_sum<WARPS>(sum) / (float)width;
    }
};

template <unsigned WARPS> constexpr size_t NORM_WIDTH_MAX = (size_t)WARPS *WARP *NORM_ELEMENTS<WARPS>;

/* Launches kernel<T, WARPS>(arguments…) for rows of `width`. */
#define NORM_LAUNCH(s, T, n_rows, width, kernel, ...)                                                                  \
    do {                                                                                                               \
        if ((width) <= NORM_WIDTH_MAX<1>)                                                                              \
            KF_LAUNCH(s, blocks_for(n_rows, ROWS_OF_ONE_WARP), dim3(NORM_THREADS<1>), kernel<T, 1>, __VA_ARGS__);      \
        else if ((width) <= NORM_WIDTH_MAX<8>)                                                                         \
            KF_LAUNCH(s, dim3((unsigned)(n_rows)), dim3(NORM_THREADS<8>), kernel<T, 8>, __VA_ARGS__);                  \
        else if ((width) <= NORM_WIDTH_MAX<32>)                                                                        \
            KF_LAUNCH(s, dim3((unsigned)(n_rows)), dim3(NORM_THREADS<32>), kernel<T, 32>, __VA_ARGS__);                \
        else                                                                                                           \
            kf_cuda_fail(s, KF_ERR_BUG, "%s: a row of %zu; at most %zu are possible", __func__, (size_t)(width),       \
                         NORM_WIDTH_MAX<32>);                                                                          \
    } while (0)

#endif
