/* Puts rows of new K and V in their slots of the paged cache (PagedAttention, arXiv 2309.06180).
 * Layout: k, v rows `stride` apart, [n_kv_heads, head_dim]; cache [n_blocks, n_kv_heads, 16, head_dim]. Grid: a block
 * a token, a thread an element. Bytes a token: 4 n_kv_heads head_dim. Writes nothing after a fault: the cache outlives
 * the step. */
#include "kernel.cuh"

template <class T>
__global__ void kv_write(T *k_cache, T *v_cache, const T *k, const T *v, size_t stride, const int32_t *slot_mapping,
                         unsigned n_kv_heads, unsigned head_dim, const kf_cuda_fault *fault) {
    int32_t slot = slot_mapping[blockIdx.x];
    if (slot < 0 || fault->found) return;
    size_t block = (size_t)slot / KF_KV_BLOCK_SIZE, row = (size_t)slot % KF_KV_BLOCK_SIZE, from = blockIdx.x * stride;
    for (unsigned i = threadIdx.x; i < n_kv_heads * head_dim; i += blockDim.x) {
        unsigned head = i / head_dim, c = i % head_dim;
        size_t to = ((block * n_kv_heads + head) * KF_KV_BLOCK_SIZE + row) * head_dim + c;
        k_cache[to] = k[from + i];
        v_cache[to] = v[from + i];
    }
}

template <class T>
static void run(kf_stream *s, kf_kv_layer cache, const void *k, const void *v, size_t stride,
                const int32_t *slot_mapping, size_t n_tokens, size_t n_kv_heads, size_t head_dim) {
    KF_LAUNCH(s, dim3((unsigned)n_tokens), threads_for(n_kv_heads * head_dim), kv_write<T>, (T *)cache.k, (T *)cache.v,
              (const T *)k, (const T *)v, stride, slot_mapping, (unsigned)n_kv_heads, (unsigned)head_dim,
              ((kf_cuda_stream *)s)->fault);
}

void kf_cuda_kv_write(kf_stream *s, kf_kv_layer cache, const void *k, const void *v, size_t stride,
                      const int32_t *slot_mapping, size_t n_tokens, size_t n_kv_heads, size_t head_dim) {
    if (!kf_cuda_runs(s) || n_tokens == 0) return;
    if (kf_cuda_is_bf16(s))
        run<__nv_bfloat16>(s, cache, k, v, stride, slot_mapping, n_tokens, n_kv_heads, head_dim);
    else
        run<float>(s, cache, k, v, stride, slot_mapping, n_tokens, n_kv_heads, head_dim);
}
