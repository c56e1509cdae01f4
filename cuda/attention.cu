/* Ragged attention: out = softmax(q Kᵀ scale) V over the token's own sequence (arXiv 1706.03762), bidirectional. Here
 * are the plain kernel, and the choice between it and the fast ones (attention_short.cu, attention_long.cu).
 * Layout: qkv [n_tokens, 3, n_heads, head_dim], out [n_tokens, n_heads, head_dim], cu_seqlens [n_seqs + 1]. Grid: a
 * warp a token and head, 4 a block; attention.cuh has the order of the sums. Bytes: K and V once a query, from L2;
 * flops: 4 head_dim a query and key. */
#include "attention.cuh"
#include "attention_mma.cuh"

template <class T> struct sequence_rows {
    const T *first; /* K of the head, in the sequence's first row */
    size_t stride, width;
    __device__ const T *k(int i) const {
        return first + (size_t)i * stride;
    }
    __device__ const T *v(int i) const {
        return k(i) + width;
    }
};

template <class T, int PER_LANE> __global__ void attention(T *out, const T *qkv, kf_batch b, kf_heads h) {
    SHARED_ARRAY(attention_scratch<PER_LANE>, scratch, [ATTENTION_WARPS]);
    size_t query = (size_t)blockIdx.x * ATTENTION_WARPS + threadIdx.x / WARP;
    size_t t = query / h.n_heads, head = query % h.n_heads, width = h.n_heads * h.head_dim;
    if (t >= (size_t)b.cu_seqlens[b.n_seqs]) return;
    int seq = seq_of(b.cu_seqlens, (int)b.n_seqs, (int)t), begin = b.cu_seqlens[seq];
    const T *q = qkv + t * 3 * width + head * h.head_dim;
    sequence_rows<T> rows = {qkv + (size_t)begin * 3 * width + width + head * h.head_dim, 3 * width, width};
    attend<PER_LANE>(out + t * width + head * h.head_dim, q, b.cu_seqlens[seq + 1] - begin, (int)h.head_dim, h.scale,
                     rows, &scratch[threadIdx.x / WARP]);
}

template <class T, int PER_LANE>
static void run(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    KF_LAUNCH(s, blocks_for(b->n_tokens * h.n_heads, ATTENTION_WARPS), dim3(ATTENTION_WARPS * WARP),
              attention<T, PER_LANE>, (T *)out, (const T *)qkv, *b, h);
}

void kf_cuda_attention(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    h.n_kv_heads = h.n_heads;
    if (!kf_cuda_runs(s) || b->n_tokens == 0 || b->n_seqs == 0 || !attention_possible(s, &h)) return;
    if (!mma_possible(s, &h, qkv, 3 * h.n_heads * h.head_dim)) {
        ATTENTION_BY_FORMAT(s, h.head_dim, run, s, out, qkv, b, h);
        return;
    }
    kf_cuda_attention_short(s, out, qkv, b, h);
    if (b->max_seqlen > ATTENTION_SHORT) kf_cuda_attention_long(s, out, qkv, b, h);
}
