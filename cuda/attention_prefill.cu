/* Causal attention of a prompt, or a chunk of it, over the paged cache, bf16 on tensor cores (FlashAttention-2, arXiv
 * 2307.08691; the cache as in PagedAttention, arXiv 2309.06180). Sequences with more than 16 rows, a row being a new
 * token and one query head of a KV head's group; attention_decode.cu has the others.
 * Layout: q rows q_stride apart, [n_heads, D]; cache [n_blocks, n_kv_heads, 16, D]; out [n_tokens, n_heads, D].
 * Grid: (pieces of 64 rows; KV heads), 4 warps of 16 rows a block, queries in registers. K and V go through shared
 * memory as in attention_long.cu, up to the last key that a row of the piece sees. Every 128 keys the sums are folded
 * to those before, as decode folds its splits: so a row has the same bits however its prompt was cut (promise 3).
 *
 * Bytes: Q and out once, K and V once a 64 rows (from L2 all but once). Flops: 4 D a query and key.
 * On paper, a layer at 3.0 TB/s and 800 TFLOP/s, 32 heads over 8 of 64 (1B shape): a prompt of 4,096 tokens has 69
 * GFLOP, half of them masked and left out, 43 us; mma.sync reaches 60 % of the peak, and a warp's 16 rows want as many
 * clocks of shared memory as of products on sm_80: expect a third of the peak, 130 us. 512 tokens: 0.5 GFLOP, 1 us, so
 * the latency of 16 tiles a block. */
#include "attention_mma.cuh"
#include "attention_paged.cuh"

constexpr int PIECE = MMA_WARPS * MMA_ROWS;

/* A lane's two rows, and what of the keys their warp needs. Row r of a sequence is token r / group, head r % group. */
typedef struct prefill_rows {
    int token[2], head[2], n_keys[2];
    bool there[2]; /* else the row is the last one once more */
    int all, some; /* keys that every row of the warp sees, and that one of them does */
} prefill_rows;

__device__ static prefill_rows rows_of_lane(int first, int n_rows, int n_before, int group) {
    const int warp_first = first + threadIdx.x / WARP * MMA_ROWS;
    prefill_rows r = {};
    UNROLL for (int i = 0; i < 2; i++) {
        const int at = warp_first + threadIdx.x % WARP / 4 + 8 * i, row = row_or_last(at, n_rows);
        r.there[i] = at < n_rows, r.token[i] = row / group, r.head[i] = row % group;
        r.n_keys[i] = n_before + r.token[i] + 1;
    }
    r.all = n_before + warp_first / group + 1;
    if (warp_first < n_rows) r.some = n_before + row_or_last(warp_first + MMA_ROWS - 1, n_rows) / group + 1;
    return r;
}

template <int D> __device__ void fold(online<D> &total, const online<D> &a, float scale_log2e) {
    UNROLL for (int h = 0; h < 2; h++) {
        const fold_by by = fold_max(total.max[h], a.max[h], scale_log2e);
        total.sum[h] = fmaf(total.sum[h], by.keep, a.sum[h] * by.add);
        UNROLL for (int n = 0; n < D / 8; n++) {
            UNROLL for (int i = 2 * h; i < 2 * h + 2; i++) total.o[n][i] =
                fmaf(total.o[n][i], by.keep, a.o[n][i] * by.add);
        }
    }
}

template <int D>
__global__ void __launch_bounds__(MMA_WARPS *WARP, 2)
    attention_prefill(__nv_bfloat16 *out, const __nv_bfloat16 *q, size_t q_stride, kf_kv_layer cache, kf_batch b,
                      kf_paged p, kf_heads h, float scale_log2e, kf_cuda_fault *fault) {
    SHARED_ARRAY(uint4, k_tiles, [STAGES][KEYS * CHUNKS<D>]);
    SHARED_ARRAY(uint4, v_tiles, [STAGES][KEYS * CHUNKS<D>]);
    const int slot = blockIdx.x, group = h.n_heads / h.n_kv_heads;
    const int seq = last_where((int)b.n_seqs, [&](int s) { return first_slot(b.cu_seqlens, s, group, PIECE) <= slot; });
    const int begin = b.cu_seqlens[seq], n_new = b.cu_seqlens[seq + 1] - begin, n_rows = n_new * group;
    const int first = (slot - first_slot(b.cu_seqlens, seq, group, PIECE)) * PIECE, n_before = p.kv_len[seq] - n_new;
    if (first >= n_rows || n_rows <= MMA_ROWS || cache_too_short(fault, seq, n_new, p.kv_len[seq])) return;

    const int n_keys = n_before + row_or_last(first + PIECE - 1, n_rows) / group + 1;
    const paged_rows<__nv_bfloat16> rows(cache, p, h, seq, blockIdx.y);
    auto load = [&](int tile) {
        if (tile * KEYS < n_keys)
            load_tile<D>(k_tiles[tile % STAGES], v_tiles[tile % STAGES], rows.k_cache, rows.v_cache,
                         n_keys - tile * KEYS, [&](int i) { return rows.at(tile * KEYS + i); });
        cp_async_commit();
    };
    for (int tile = 0; tile < STAGES - 1; tile++)
        load(tile);
    const prefill_rows r = rows_of_lane(first, n_rows, n_before, group);
    auto query = [&](int i) {
        return q + (begin + r.token[i]) * q_stride + ((size_t)blockIdx.y * group + r.head[i]) * D;
    };
    query_rows<D> queries[1];
    load_queries(queries[0], query(0), query(1));
    online<D> total, a[1]; /* of the splits before, and of this one */
    total.clear(), a[0].clear();
    for (int tile = 0; tile * KEYS < n_keys; tile++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); /* the tile is there, and nobody reads the one before any more */
        load(tile + STAGES - 1);
        if (tile * KEYS >= r.some) continue;
        float s[1][KEYS / 8][4];
        scores<D, 1>(s, queries, k_tiles[tile % STAGES]);
        if ((tile + 1) * KEYS > r.all) mask(s[0], tile * KEYS, r.n_keys);
        weigh(a[0], s[0], scale_log2e);
        add_tile<D, 1>(a, s, v_tiles[tile % STAGES]);
        if ((tile + 1) * KEYS % SPLIT != 0 && (tile + 1) * KEYS < r.some) continue;
        a[0].sum_columns();
        fold(total, a[0], scale_log2e);
        a[0].clear();
    }
    UNROLL for (int i = 0; i < 2; i++) {
        const size_t row = (size_t)(begin + r.token[i]) * h.n_heads + blockIdx.y * group + r.head[i];
        if (r.there[i]) store_row(out + row * D, total, i);
    }
}

template <int D>
static void run(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache, const kf_batch *b,
                const kf_paged *p, kf_heads h) {
    dim3 grid((unsigned)n_slots(b, h.n_heads / h.n_kv_heads, PIECE), (unsigned)h.n_kv_heads);
    KF_LAUNCH(s, grid, dim3(MMA_WARPS * WARP), attention_prefill<D>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)q,
              q_stride, cache, *b, *p, h, scale_log2e(&h), ((kf_cuda_stream *)s)->fault);
}

void kf_cuda_attention_prefill(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                               const kf_batch *b, const kf_paged *p, kf_heads h) {
    MMA_BY_HEAD_DIM(h.head_dim, run, s, out, q, q_stride, cache, b, p, h);
}
