/* Ragged attention of sequences of up to 64 tokens, bf16 on tensor cores: out = softmax(q Kᵀ scale) V.
 * Layout: qkv [n_tokens, 3, n_heads, D], out [n_tokens, n_heads, D]. Grid: a warp for 16 queries of a sequence and
 * head, 4 a block: a chat's 7 tokens are one warp's work, and nothing of a block waits for anything else. All keys are
 * one tile, in registers: no shared memory, no barrier. attention_mma.cuh has the order of the sums.
 *
 * Bytes: Q, K, V and out once from memory, 8 n_heads D a token; K and V again from L2 for each further 16 queries.
 * Flops: 4 D a query and key; keys are computed by 16.
 * On paper, BERT-base (12 heads of 64), a layer at 3.0 TB/s: 8,192 tokens of mean 7 move 50 MB in 17 us; their products
 * are 16 × 16, 1.0 GFLOP in 1.3 us at 800 TFLOP/s. Of its warps a third finds no work and ends at once. */
#include "attention_mma.cuh"

/* The lane's scores of 16 keys, tiles 2 i and 2 i + 1; key(k) is key k's row, NULL for one that is not there. */
template <int D, class Rows>
__device__ void scores_16(float (&s)[ATTENTION_SHORT / 8][4], int i, const query_rows<D> &r, const Rows &key) {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    UNROLL for (int n = 2 * i; n < 2 * i + 2; n++) {
        const uint4 *row = (const uint4 *)key(8 * n + g);
        UNROLL for (int j = 0; j < D / 32; j++) add_score<D>(s[n], r, j, row ? row[t + 4 * j] : uint4{});
    }
}

template <int D>
__global__ void __launch_bounds__(MMA_WARPS *WARP)
    attention_short(__nv_bfloat16 *out, const __nv_bfloat16 *qkv, kf_batch b, int n_heads, float scale_log2e) {
    constexpr int BLOCKS = ATTENTION_SHORT / 16;
    const int task = blockIdx.x * MMA_WARPS + threadIdx.x / WARP, slot = task / n_heads, head = task % n_heads;
    const int seq = last_where((int)b.n_seqs, [&](int s) { return first_slot(b.cu_seqlens, s, 1, MMA_ROWS) <= slot; });
    const int begin = b.cu_seqlens[seq], len = b.cu_seqlens[seq + 1] - begin;
    const int first = (slot - first_slot(b.cu_seqlens, seq, 1, MMA_ROWS)) * MMA_ROWS;
    if (first >= len || len > ATTENTION_SHORT) return;

    const size_t width = (size_t)n_heads * D, stride = 3 * width;
    const int g = threadIdx.x % WARP / 4, row[2] = {first + g, first + g + 8}, n_keys[2] = {len, len};
    const __nv_bfloat16 *q = qkv + begin * stride + (size_t)head * D, *k = q + width, *v = k + width;
    query_rows<D> queries;
    load_queries(queries, row[0] < len ? q + row[0] * stride : nullptr, row[1] < len ? q + row[1] * stride : nullptr);

    float s[2 * BLOCKS][4] = {};
    UNROLL for (int i = 0; i < BLOCKS; i++) {
        if (16 * i < len) scores_16<D>(s, i, queries, [&](int key) { return key < len ? k + key * stride : nullptr; });
    }
    online<D> a;
    a.clear();
    mask(s, 0, n_keys);
    weigh(a, s, scale_log2e);
    UNROLL for (int i = 0; i < BLOCKS; i++) {
        uint32_t p[4];
        value_rows<D> values;
        if (16 * i >= len) continue;
        load_values(values, [&](int key) { return 16 * i + key < len ? v + (16 * i + key) * stride : nullptr; });
        weights_of(p, s, i);
        add_values(a, p, values);
    }
    a.sum_columns();
    for (int h = 0; h < 2; h++)
        if (row[h] < len) store_pieces(out + (begin + row[h]) * width + (size_t)head * D, a, h);
}

template <int D> static void run(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    KF_LAUNCH(s, blocks_for(n_slots(b, 1, MMA_ROWS) * h.n_heads, MMA_WARPS), dim3(MMA_WARPS * WARP), attention_short<D>,
              (__nv_bfloat16 *)out, (const __nv_bfloat16 *)qkv, *b, (int)h.n_heads, scale_log2e(&h));
}

void kf_cuda_attention_short(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    MMA_BY_HEAD_DIM(h.head_dim, run, s, out, qkv, b, h);
}
