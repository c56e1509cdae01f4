/* What the kernels over the paged cache share: where a key lies, and the rule that they check. */
#ifndef KF_CUDA_ATTENTION_PAGED_CUH
#define KF_CUDA_ATTENTION_PAGED_CUH

#include "kernel.cuh"

/* One sequence and KV head in a cache of [n_blocks, n_kv_heads, KF_KV_BLOCK_SIZE, head_dim]. */
template <class T> struct paged_rows {
    const T *k_cache, *v_cache; /* of the KV head, in block 0 */
    const int32_t *blocks;      /* the sequence's row of block_table */
    size_t block_stride, head_dim;
    __device__ paged_rows(const kf_kv_layer &cache, const kf_paged &p, const kf_heads &h, int seq, size_t kv_head)
        : k_cache((const T *)cache.k + kv_head * KF_KV_BLOCK_SIZE * h.head_dim),
          v_cache((const T *)cache.v + kv_head * KF_KV_BLOCK_SIZE * h.head_dim),
          blocks(p.block_table + (size_t)seq * p.max_blocks),
          block_stride(h.n_kv_heads * KF_KV_BLOCK_SIZE * h.head_dim), head_dim(h.head_dim) {
    }
    /* Elements from the cache's first key to key i; block: where the table says that its block is. */
    __device__ size_t at(int block, int i) const {
        return (size_t)block * block_stride + (size_t)(i % KF_KV_BLOCK_SIZE) * head_dim;
    }
    __device__ size_t at(int i) const {
        return at(blocks[i / KF_KV_BLOCK_SIZE], i);
    }
    __device__ const T *k(int i) const {
        return k_cache + at(i);
    }
    __device__ const T *v(int i) const {
        return v_cache + at(i);
    }
};

/* A cache shorter than the sequence's new tokens is a broken rule: written down for the host, and nothing is computed.
 */
__device__ inline bool cache_too_short(kf_cuda_fault *fault, int seq, int n_new, int kv_len) {
    if (kv_len >= n_new) return false;
    if (threadIdx.x % WARP == 0 && atomicCAS(&fault->found, 0, 1) == 0)
        fault->seq = seq, fault->n_new = n_new, fault->kv_len = kv_len;
    return true;
}

#endif
