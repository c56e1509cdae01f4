/* Causal attention of new tokens over the paged cache (PagedAttention, arXiv 2309.06180), plain: prefill, a chunk of it
 * and a decoder step are one case. The last token of sequence i sits at position kv_len[i] - 1.
 * Layout: q rows q_stride apart, [n_heads, head_dim]; cache [n_blocks, n_kv_heads, 16, head_dim]; out [n_tokens,
 * n_heads, head_dim]. Grid: a warp a token and head, 4 a block; attention.cuh has the order of the sums. Bytes: K and V
 * once a query, from L2; flops: 4 head_dim a query and key. A cache shorter than the new tokens is a fault. */
#include "attention.cuh"

template <class T> struct paged_rows {
    const T *k_cache, *v_cache; /* of the KV head, in block 0 */
    const int32_t *blocks;      /* the sequence's row of block_table */
    size_t block_stride, head_dim;
    __device__ size_t at(int i) const {
        return (size_t)blocks[i / KF_KV_BLOCK_SIZE] * block_stride + (size_t)(i % KF_KV_BLOCK_SIZE) * head_dim;
    }
    __device__ const T *k(int i) const {
        return k_cache + at(i);
    }
    __device__ const T *v(int i) const {
        return v_cache + at(i);
    }
};

__device__ static void report(kf_cuda_fault *fault, int seq, int n_new, int kv_len) {
    if (atomicCAS(&fault->found, 0, 1) != 0) return;
    fault->seq = seq, fault->n_new = n_new, fault->kv_len = kv_len;
}

template <class T, int PER_LANE>
__global__ void attention_paged(T *out, const T *q, size_t q_stride, kf_kv_layer cache, kf_batch b, kf_paged p,
                                kf_heads h, kf_cuda_fault *fault) {
    SHARED_ARRAY(attention_scratch<PER_LANE>, scratch, [ATTENTION_WARPS]);
    size_t query = (size_t)blockIdx.x * ATTENTION_WARPS + threadIdx.x / WARP;
    size_t t = query / h.n_heads, head = query % h.n_heads, kv_head = head / (h.n_heads / h.n_kv_heads);
    if (t >= (size_t)b.cu_seqlens[b.n_seqs]) return;
    int seq = seq_of(b.cu_seqlens, (int)b.n_seqs, (int)t), begin = b.cu_seqlens[seq], end = b.cu_seqlens[seq + 1];
    if (p.kv_len[seq] < end - begin) {
        if (threadIdx.x % WARP == 0) report(fault, seq, end - begin, p.kv_len[seq]);
        return;
    }
    int n_keys = p.kv_len[seq] - (end - (int)t) + 1;
    size_t head_size = KF_KV_BLOCK_SIZE * h.head_dim;
    paged_rows<T> rows = {(const T *)cache.k + kv_head * head_size, (const T *)cache.v + kv_head * head_size,
                          p.block_table + (size_t)seq * p.max_blocks, h.n_kv_heads * head_size, h.head_dim};
    attend<PER_LANE>(out + (t * h.n_heads + head) * h.head_dim, q + t * q_stride + head * h.head_dim, n_keys,
                     (int)h.head_dim, h.scale, rows, &scratch[threadIdx.x / WARP]);
}

template <class T, int PER_LANE>
static void run(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache, const kf_batch *b,
                const kf_paged *p, kf_heads h) {
    KF_LAUNCH(s, blocks_for(b->n_tokens * h.n_heads, ATTENTION_WARPS), dim3(ATTENTION_WARPS * WARP),
              attention_paged<T, PER_LANE>, (T *)out, (const T *)q, q_stride, cache, *b, *p, h,
              ((kf_cuda_stream *)s)->fault);
}

void kf_cuda_attention_paged(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                             const kf_batch *b, const kf_paged *p, kf_heads h) {
    if (!kf_cuda_runs(s) || b->n_tokens == 0 || b->n_seqs == 0 || !attention_possible(s, &h)) return;
    ATTENTION_BY_FORMAT(s, h.head_dim, run, s, out, q, q_stride, cache, b, p, h);
}
