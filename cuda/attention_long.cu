/* Ragged attention of sequences above 64 tokens, bf16 on tensor cores: out = softmax(q Kᵀ scale) V (FlashAttention-2,
 * arXiv 2307.08691).
 * Layout: qkv [n_tokens, 3, n_heads, D], out [n_tokens, n_heads, D]. Grid: (places of 64 tokens, two pieces each;
 * heads); a block of 4 warps has M × 64 queries of a sequence and head, a warp M × 16 (M: 2; 1 for D = 128), queries in
 * registers. K and V go through shared memory, tiles of 32 rows in three stages: cp.async brings two tiles while
 * one is computed, one barrier a tile. attention_mma.cuh has the order of the sums and the places in shared memory.
 *
 * Bytes: Q and out once, K and V once a M × 64 queries (from L2 all but once). Flops: 4 D a query and key.
 * On paper, BERT-base (12 heads of 64), a layer of 8,192 tokens at 3.0 TB/s and 800 TFLOP/s: 50 MB in 17 us; products
 * 3.2 GFLOP in 4 us at length 128, 12.9 GFLOP in 16 us at 512. There mma.sync, which reaches some 60 % of sm_90's peak,
 * takes 21 us, and 50 M exponentials at 16 an SM and clock 14 us: 21 to 35 us, as they overlap. Shared memory: a warp
 * reads 4 KiB for 32 products, 256 clocks of sm_80's tensor cores, in which 4 warps' reads take 128. */
#include "attention_mma.cuh"

constexpr int PLACE =
    64; /* tokens; at most two pieces of long sequences begin in so few: the last of one, and a first */

typedef struct long_piece {
    int begin, len, first; /* the sequence's first token and length; the piece's first token in it, or len for none */
} long_piece;

__device__ static int seq_of_token(const kf_batch &b, int t) {
    return last_where((int)b.n_seqs, [&](int s) { return b.cu_seqlens[s] <= t; });
}

/* The piece that begins in a place: which == 0, of the sequence that has the place's first token; else the one of the
 * sequence that begins behind it and has its last token. */
__device__ static long_piece piece_of(const kf_batch &b, int place, int which, int rows) {
    const int n_tokens = b.cu_seqlens[b.n_seqs], from = place * PLACE;
    if (from >= n_tokens) return {0, 0, 0};
    const int to = from + PLACE < n_tokens ? from + PLACE : n_tokens;
    const int seq = seq_of_token(b, which ? to - 1 : from);
    const int begin = b.cu_seqlens[seq], len = b.cu_seqlens[seq + 1] - begin;
    const int first = which ? 0 : (from - begin + rows - 1) / rows * rows;
    if (len <= ATTENTION_SHORT || begin + first >= to || (which && begin <= from)) return {begin, len, len};
    return {begin, len, first};
}

template <int D, int M>
__global__ void __launch_bounds__(MMA_WARPS *WARP, 2)
    attention_long(__nv_bfloat16 *out, const __nv_bfloat16 *qkv, kf_batch b, int n_heads, float scale_log2e) {
    SHARED_ARRAY(uint4, k_tiles, [STAGES][KEYS * CHUNKS<D>]);
    SHARED_ARRAY(uint4, v_tiles, [STAGES][KEYS * CHUNKS<D>]);
    const long_piece piece = piece_of(b, blockIdx.x / 2, blockIdx.x % 2, M * MMA_WARPS * MMA_ROWS);
    const int len = piece.len, head = blockIdx.y;
    if (piece.first >= len) return;

    const size_t width = (size_t)n_heads * D, stride = 3 * width;
    const int lane = threadIdx.x % WARP, n_keys[2] = {len, len};
    const int warp_first = piece.first + threadIdx.x / WARP * M * MMA_ROWS, row = warp_first + lane / 4;
    const __nv_bfloat16 *q = qkv + piece.begin * stride + (size_t)head * D, *k = q + width, *v = k + width;
    auto load = [&](int tile) {
        if (tile * KEYS < len)
            load_tile<D>(k_tiles[tile % STAGES], v_tiles[tile % STAGES], k, v, len - tile * KEYS,
                         [&](int i) { return (tile * KEYS + i) * stride; });
        cp_async_commit();
    };
    for (int tile = 0; tile < STAGES - 1; tile++)
        load(tile);
    query_rows<D> queries[M];
    online<D> a[M];
    UNROLL for (int m = 0; m < M; m++) {
        const int r = row + m * MMA_ROWS;
        load_queries(queries[m], q + row_or_last(r, len) * stride, q + row_or_last(r + 8, len) * stride);
        a[m].clear();
    }
    for (int tile = 0; tile * KEYS < len; tile++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); /* the tile is there, and nobody reads the one before any more */
        load(tile + STAGES - 1);
        if (warp_first >= len) continue;
        float s[M][KEYS / 8][4];
        scores<D, M>(s, queries, k_tiles[tile % STAGES]);
        UNROLL for (int m = 0; m < M; m++) {
            if ((tile + 1) * KEYS > len) mask(s[m], tile * KEYS, n_keys);
            weigh(a[m], s[m], scale_log2e);
        }
        add_tile<D, M>(a, s, v_tiles[tile % STAGES]);
    }
    UNROLL for (int m = 0; m < M; m++) {
        a[m].sum_columns();
        UNROLL for (int h = 0; h < 2; h++) {
            const int r = row + m * MMA_ROWS + 8 * h;
            if (r < len) store_row(out + (piece.begin + r) * width + (size_t)head * D, a[m], h);
        }
    }
}

template <int D> static void run(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    constexpr int M = D == 128 ? 1 : 2;
    dim3 grid((unsigned)((b->n_tokens + PLACE - 1) / PLACE * 2), (unsigned)h.n_heads);
    KF_LAUNCH(s, grid, dim3(MMA_WARPS * WARP), attention_long<D, M>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)qkv,
              *b, (int)h.n_heads, scale_log2e(&h));
}

void kf_cuda_attention_long(kf_stream *s, void *out, const void *qkv, const kf_batch *b, kf_heads h) {
    MMA_BY_HEAD_DIM(h.head_dim, run, s, out, qkv, b, h);
}
