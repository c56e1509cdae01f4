/* What kernels share: launching, shared memory, the two formats, and warp reductions of a fixed order.
 *
 * The only file where nvcc's code and the CPU runner's differ (KF_CUDA_ON_CPU): a kernel declares shared memory with
 * SHARED_ARRAY, which the runner can then guard, and is launched with KF_LAUNCH.
 */
#ifndef KF_CUDA_KERNEL_CUH
#define KF_CUDA_KERNEL_CUH

#include "cuda.h"

#ifndef KF_CUDA_ON_CPU /* else tests/cuda_on_cpu/device_code.h has it */
/* type name[dimensions], one for the block */
#define SHARED_ARRAY(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__
#endif

constexpr int WARP = 32, BLOCK_MAX = 256;

/* Threads of a block that loops over a row's `width` elements. */
static inline dim3 threads_for(size_t width) {
    size_t n = (width + WARP - 1) / WARP * WARP;
    return dim3((unsigned)(n < WARP ? WARP : n > BLOCK_MAX ? BLOCK_MAX : n));
}
static inline dim3 blocks_for(size_t n, size_t a_block) {
    return dim3((unsigned)((n + a_block - 1) / a_block));
}

static inline cudaLaunchConfig_t launch_config(kf_stream *s, dim3 grid, dim3 block) {
    cudaLaunchConfig_t c = {};
    c.gridDim = grid;
    c.blockDim = block;
    c.stream = ((kf_cuda_stream *)s)->cuda;
    return c;
}

/* KF_LAUNCH(stream, grid, block, kernel, arguments…): enqueues, and fails the stream where that is refused. */
#define KF_LAUNCH(s, grid, block, ...)                                                                                 \
    do {                                                                                                               \
        const cudaLaunchConfig_t kf_launch_ = launch_config(s, grid, block);                                           \
        kf_cuda_check(s, __func__, cudaLaunchKernelEx(&kf_launch_, __VA_ARGS__));                                      \
    } while (0)

__device__ inline float to_f32(float x) {
    return x;
}
__device__ inline float to_f32(__nv_bfloat16 x) {
    return __bfloat162float(x);
}
template <class T> __device__ T from_f32(float x);
template <> __device__ inline float from_f32<float>(float x) {
    return x;
}
template <> __device__ inline __nv_bfloat16 from_f32<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}

/* Butterflies over 32 lanes, 16 apart first: every lane gets the same bits. */
__device__ inline float warp_sum(float v) {
    for (int apart = WARP / 2; apart > 0; apart /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, apart);
    return v;
}
__device__ inline float warp_max(float v) {
    for (int apart = WARP / 2; apart > 0; apart /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, apart));
    return v;
}

/* The sequence that token t belongs to: the last that begins at or before it. */
__device__ inline int seq_of(const int32_t *cu_seqlens, int n_seqs, int t) {
    int low = 0, high = n_seqs;
    while (high - low > 1) {
        int mid = (low + high) / 2;
        if (cu_seqlens[mid] <= t)
            low = mid;
        else
            high = mid;
    }
    return low;
}

#endif
