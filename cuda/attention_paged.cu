/* Causal attention of new tokens over the paged cache (PagedAttention, arXiv 2309.06180): prefill, a chunk of it and a
 * decoder step are one case. The last token of sequence i sits at position kv_len[i] - 1. Here are the plain kernel,
 * and the choice between it and the fast ones (attention_decode.cu, attention_prefill.cu). Layout: q rows q_stride
 * apart, [n_heads, head_dim]; cache [n_blocks, n_kv_heads, 16, head_dim]; out [n_tokens, n_heads, head_dim]. Grid: a
 * warp a token and head, 4 a block; attention.cuh has the order of the sums. Bytes: K and V once a query, from L2;
 * flops: 4 head_dim a query and key. A cache shorter than the new tokens is a fault. */
#include "attention.cuh"
#include "attention_mma.cuh"
#include "attention_paged.cuh"

template <class T, int PER_LANE>
__global__ void attention_paged(T *out, const T *q, size_t q_stride, kf_kv_layer cache, kf_batch b, kf_paged p,
                                kf_heads h, kf_cuda_fault *fault) {
    SHARED_ARRAY(attention_scratch<PER_LANE>, scratch, [ATTENTION_WARPS]);
    size_t query = (size_t)blockIdx.x * ATTENTION_WARPS + threadIdx.x / WARP;
    size_t t = query / h.n_heads, head = query % h.n_heads;
    if (t >= (size_t)b.cu_seqlens[b.n_seqs]) return;
    int seq = seq_of(b.cu_seqlens, (int)b.n_seqs, (int)t), begin = b.cu_seqlens[seq], end = b.cu_seqlens[seq + 1];
    if (cache_too_short(fault, seq, end - begin, p.kv_len[seq])) return;
    int n_keys = p.kv_len[seq] - (end - (int)t) + 1;
    paged_rows<T> rows(cache, p, h, seq, head / (h.n_heads / h.n_kv_heads));
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
    size_t group = h.n_heads / h.n_kv_heads;
    if (!mma_possible(s, &h, q, q_stride)) {
        ATTENTION_BY_FORMAT(s, h.head_dim, run, s, out, q, q_stride, cache, b, p, h);
        return;
    }
    if (group <= MMA_ROWS) kf_cuda_attention_decode(s, out, q, q_stride, cache, b, p, h);
    if (group * b->max_seqlen > MMA_ROWS) kf_cuda_attention_prefill(s, out, q, q_stride, cache, b, p, h);
}
