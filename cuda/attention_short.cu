/* Ragged attention of sequences of up to 64 tokens, bf16 on tensor cores: out = softmax(q Kᵀ scale) V.
 * Layout: qkv [n_tokens, 3, n_heads, D], out [n_tokens, n_heads, D]. Grid: a warp for 16 queries of a sequence and
 * head, 4 a block: a chat's 7 tokens are one warp's work, and nothing of a block waits for anything else. All keys are
 * one tile, in registers: no shared memory, no barrier. attention_mma.cuh has the order of the sums.
 *
 * Bytes: Q, K, V and out once from memory, 8 n_heads D a token; K and V again from L2 for each further 16 queries.
 * Flops: 4 D a query and key; keys are computed by 16, 32 or 64.
 * On paper, BERT-base (12 heads of 64), a layer at 3.0 TB/s: 8,192 tokens of mean 7 move 50 MB in 17 us; their products
 * are 16 × 16, 1.0 GFLOP in 1.3 us at 800 TFLOP/s. Of its warps a third finds no work and ends at once;
 * the others have 6 KiB under way each (D = 64), 12 of them an SM, where 16 KiB an SM fill the memory's latency.
 */
#include "attention_mma.cuh"

/* A warp's 16 queries from `first` on, of a sequence of up to 16 BLOCKS tokens. qkv, out: the head's rows of it. */
template <int D, int BLOCKS>
__device__ void attend_short(__nv_bfloat16 *out, const __nv_bfloat16 *qkv, size_t width, int len, int first,
                             float scale_log2e) {
    const size_t stride = 3 * width;
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, n_keys[2] = {len, len};
    auto row = [&](int i) { return qkv + row_or_last(i, len) * stride; };
    query_rows<D> queries;
    uint4 k[2 * BLOCKS][D / 32];
    value_rows<D> values[BLOCKS];
    load_queries(queries, row(first + g), row(first + g + 8));
    UNROLL for (int n = 0; n < 2 * BLOCKS; n++) {
        UNROLL for (int j = 0; j < D / 32; j++) k[n][j] = ((const uint4 *)(row(8 * n + g) + width))[t + 4 * j];
    }
    UNROLL for (int i = 0; i < BLOCKS; i++)
        load_values(values[i], [&](int key) { return row(16 * i + key) + 2 * width; });

    float s[2 * BLOCKS][4] = {};
    UNROLL for (int n = 0; n < 2 * BLOCKS; n++) {
        UNROLL for (int j = 0; j < D / 32; j++) add_score<D>(s[n], queries, j, k[n][j]);
    }
    online<D> a;
    a.clear();
    mask(s, 0, n_keys);
    weigh(a, s, scale_log2e);
    UNROLL for (int i = 0; i < BLOCKS; i++) {
        uint32_t p[4];
        weights_of(p, s, i);
        add_values(a, p, values[i]);
    }
    a.sum_columns();
    UNROLL for (int h = 0; h < 2; h++) {
        const int r = first + g + 8 * h;
        if (r < len) store_pieces(out + r * width, a, h);
    }
}

template <int D>
__global__ void __launch_bounds__(MMA_WARPS *WARP)
    attention_short(__nv_bfloat16 *out, const __nv_bfloat16 *qkv, kf_batch b, int n_heads, float scale_log2e) {
    const int task = blockIdx.x * MMA_WARPS + threadIdx.x / WARP, slot = task / n_heads, head = task % n_heads;
    const int seq = last_where((int)b.n_seqs, [&](int s) { return first_slot(b.cu_seqlens, s, 1, MMA_ROWS) <= slot; });
    const int begin = b.cu_seqlens[seq], len = b.cu_seqlens[seq + 1] - begin;
    const int first = (slot - first_slot(b.cu_seqlens, seq, 1, MMA_ROWS)) * MMA_ROWS;
    if (first >= len || len > ATTENTION_SHORT) return;
    const size_t width = (size_t)n_heads * D;
    out += begin * width + (size_t)head * D, qkv += begin * 3 * width + (size_t)head * D;
    if (len <= 16)
        attend_short<D, 1>(out, qkv, width, len, first, scale_log2e);
    else if (len <= 32)
        attend_short<D, 2>(out, qkv, width, len, first, scale_log2e);
    else
        attend_short<D, ATTENTION_SHORT / 16>(out, qkv, width, len, first, scale_log2e);
}

template <int D> static void run(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    KF_LAUNCH(s, blocks_for(n_slots(b, 1, MMA_ROWS) * h.n_heads, MMA_WARPS), dim3(MMA_WARPS * WARP), attention_short<D>,
              (__nv_bfloat16 *)out, (const __nv_bfloat16 *)qkv, *b, (int)h.n_heads, scale_log2e(&h));
}

void kf_cuda_attention_short(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    MMA_BY_HEAD_DIM(h.head_dim, run, s, out, qkv, b, h);
}
