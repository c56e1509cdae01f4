/* Causal attention over the paged cache for sequences with few new tokens, bf16 on tensor cores: a decoder step, split
 * over the keys (FlashDecoding; the cache as in PagedAttention, arXiv 2309.06180).
 * Layout: q rows q_stride apart, [n_heads, D]; cache [n_blocks, n_kv_heads, 16, D]; out [n_tokens, n_heads, D]. A row
 * is a new token and one query head of a KV head's group; a sequence's, up to 16, share each load of K and V.
 * Grid: (sequences × KV heads; blocks that share the keys of one); a warp has a split of 128 keys, a block of 4 warps a
 * round of 512. Splits are folded in order: by the block itself, round for round, or where several share the keys by
 * the last of them to end, from the stream's workspace (nobody waits). How many share is the host's choice by its
 * bounds, and changes no bit: attention_prefill.cu sums in the same splits, too.
 *
 * Bytes: K and V once, 4 D n_kv_heads a key; a shared split (D + 4) 4 bytes a row to L2 and back. Flops: 64 D a key and
 * KV head (16 rows, whether there or not). K and V come by 128-bit loads straight into operands: a warp has up to 32
 * keys' under way, 8 KiB for D = 64.
 * On paper, a layer at 3.0 TB/s and 800 TFLOP/s, 32 heads over 8 of 64 (1B shape): 128 sequences of 1,024 keys move
 * 268 MB in 90 us, products 4.3 GFLOP, 6 us; one sequence of 1,024 keys 2 MB, 0.7 us and so the latency of loads: 4
 * tiles a warp one after the other, fold and drain, 5 us. */
#include "attention_mma.cuh"
#include "attention_paged.cuh"

/* Sums over a split's keys of one row, in shared memory or the workspace: D outputs, max, sum; 16 bytes aligned. */
template <int D> constexpr int SUMS = D + 4;

typedef struct workspace {
    int *n_done;   /* [sequences × KV heads] blocks that have put their splits here; 0 between launches */
    float *splits; /* [sequences × KV heads, max_splits, max_rows, SUMS] */
    int max_splits, max_rows;
} workspace;

/* One sequence and KV head. */
typedef struct decode_rows {
    int begin, n_rows, group, kv_len, n_before; /* n_before: keys before the first new token */
    size_t head;                                /* the group's first */
} decode_rows;

/* The sums of keys [first, end) of a split; the lane's rows see n_keys of all. The split's cache blocks are looked up
 * at once, a lane one of them, so that no tile waits for the table first. */
template <int D>
__device__ void attend_split(online<D> &a, const query_rows<D> &queries, int first, int end, const int (&n_keys)[2],
                             float scale_log2e, const paged_rows<__nv_bfloat16> &rows) {
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, first_block = first / KF_KV_BLOCK_SIZE;
    const int n_blocks = (end - 1) / KF_KV_BLOCK_SIZE - first_block + 1;
    const int block = rows.blocks[first_block + row_or_last(lane, n_blocks)];
    auto at = [&](int i) {
        const int key = row_or_last(i, end);
        return rows.at(__shfl_sync(0xffffffffu, block, key / KF_KV_BLOCK_SIZE - first_block), key);
    };
    a.clear();
    for (; first < end; first += KEYS) {
        uint4 k[KEYS / 8][D / 32];
        value_rows<D> values[KEYS / 16];
        float s[KEYS / 8][4] = {};
        UNROLL for (int n = 0; n < KEYS / 8; n++) {
            const uint4 *key = (const uint4 *)(rows.k_cache + at(first + 8 * n + g));
            UNROLL for (int j = 0; j < D / 32; j++) k[n][j] = key[t + 4 * j];
        }
        auto load = [&](int i) {
            load_values(values[i], [&](int key) { return rows.v_cache + at(first + 16 * i + key); });
        };
        if (D < 128) { /* else registers hold K, then V */
            UNROLL for (int i = 0; i < KEYS / 16; i++) load(i);
        }
        UNROLL for (int n = 0; n < KEYS / 8; n++) {
            UNROLL for (int j = 0; j < D / 32; j++) add_score<D>(s[n], queries, j, k[n][j]);
        }
        mask(s, first, n_keys);
        weigh(a, s, scale_log2e);
        UNROLL for (int i = 0; i < KEYS / 16; i++) {
            uint32_t p[4];
            if (D == 128) load(i);
            weights_of(p, s, i);
            add_values(a, p, values[i]);
        }
    }
    a.sum_columns();
}

template <int D> __device__ void store_sums(float *to, const online<D> &a, int n_rows) {
    typedef value_pieces<D> pieces;
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    UNROLL for (int half = 0; half < 2; half++) {
        if (g + 8 * half >= n_rows) continue;
        float *row = to + (g + 8 * half) * SUMS<D>;
        UNROLL for (int h = 0; h < pieces::N; h++) {
            UNROLL for (int i = 0; i < 2 * pieces::WIDTH; i += 4) {
                const int n = h * pieces::WIDTH + i % pieces::WIDTH, c = 2 * half + i / pieces::WIDTH;
                *(float4 *)(row + 64 * h + 2 * pieces::WIDTH * t + i) =
                    make_float4(a.o[n][c], a.o[n + 1][c], a.o[n + 2][c], a.o[n + 3][c]);
            }
        }
        if (t == 0) row[D] = a.max[half], row[D + 1] = a.sum[half];
    }
}

/* Folds n splits, `apart` floats from one to the next, to what `total` has; nothing yet where `fresh`. total [n_rows,
 * SUMS] in shared memory; a warp has every fourth row, here and in store_total. */
template <int D>
__device__ void fold(float *total, bool fresh, const float *splits, int n, size_t apart, int n_rows,
                     float scale_log2e) {
    const int lane = threadIdx.x % WARP;
    for (int row = threadIdx.x / WARP; row < n_rows; row += MMA_WARPS) {
        float *to = total + row * SUMS<D>, o[D / WARP];
        float max = fresh ? -INFINITY : to[D], sum = fresh ? 0 : to[D + 1];
        UNROLL for (int i = 0; i < D / WARP; i++) o[i] = fresh ? 0 : to[lane + i * WARP];
        const float *next = splits + row * SUMS<D>;
        for (int split = 0; split < n; split++, next += apart) {
            const fold_by by = fold_max(max, next[D], scale_log2e);
            sum = fmaf(sum, by.keep, next[D + 1] * by.add);
            UNROLL for (int i = 0; i < D / WARP; i++) o[i] = fmaf(o[i], by.keep, next[lane + i * WARP] * by.add);
        }
        __syncwarp(); /* every lane has read max and sum */
        UNROLL for (int i = 0; i < D / WARP; i++) to[lane + i * WARP] = o[i];
        if (lane == 0) to[D] = max, to[D + 1] = sum;
        __syncwarp();
    }
}

template <int D>
__device__ void store_total(__nv_bfloat16 *out, const float *total, const decode_rows &r, size_t n_heads) {
    for (int row = threadIdx.x / WARP; row < r.n_rows; row += MMA_WARPS) {
        const size_t at = (size_t)(r.begin + row / r.group) * n_heads + r.head + row % r.group;
        const float *from = total + row * SUMS<D>;
        const float inverse = 1 / from[D + 1];
        for (int c = threadIdx.x % WARP; c < D; c += WARP)
            out[at * D + c] = __float2bfloat16_rn(normalised(from[c], inverse));
    }
}

/* Whether this block is the last of n to come here; what the others wrote before is then there to be read. */
__device__ static bool is_last(int *n_done, int n) {
    SHARED_ARRAY(bool, last, [1]);
    __syncthreads();
    if (threadIdx.x == 0) {
        last[0] = atomic_add_acq_rel(n_done, 1) == n - 1;
        if (last[0]) *n_done = 0;
    }
    __syncthreads();
    return last[0];
}

template <int D>
__global__ void __launch_bounds__(MMA_WARPS *WARP)
    attention_decode(__nv_bfloat16 *out, const __nv_bfloat16 *q, size_t q_stride, kf_kv_layer cache, kf_batch b,
                     kf_paged p, kf_heads h, float scale_log2e, workspace w, kf_cuda_fault *fault) {
    constexpr int SPLIT_SUMS = MMA_ROWS * SUMS<D>;
    SHARED_ARRAY(float, own, [MMA_WARPS * SPLIT_SUMS]);
    SHARED_ARRAY(float, total, [SPLIT_SUMS]);
    const int seq = blockIdx.x / h.n_kv_heads, kv_head = blockIdx.x % h.n_kv_heads, warp = threadIdx.x / WARP;
    const int begin = b.cu_seqlens[seq], n_new = b.cu_seqlens[seq + 1] - begin, group = h.n_heads / h.n_kv_heads;
    const decode_rows r = {begin, n_new * group, group, p.kv_len[seq], p.kv_len[seq] - n_new, (size_t)kv_head * group};
    if (n_new == 0 || r.n_rows > MMA_ROWS || cache_too_short(fault, seq, n_new, r.kv_len)) return;
    const int n_splits = (r.kv_len + SPLIT - 1) / SPLIT, n_rounds = (n_splits + MMA_WARPS - 1) / MMA_WARPS;
    const int n_blocks = n_rounds < (int)gridDim.y ? n_rounds : gridDim.y; /* that have a round to do */
    if ((int)blockIdx.y >= n_blocks) return;

    query_rows<D> queries;
    const __nv_bfloat16 *row[2];
    int n_keys[2];
    UNROLL for (int i = 0; i < 2; i++) {
        const int at = row_or_last(threadIdx.x % WARP / 4 + 8 * i, r.n_rows);
        row[i] = q + (begin + at / group) * q_stride + (r.head + at % group) * D;
        n_keys[i] = r.n_before + at / group + 1;
    }
    load_queries(queries, row[0], row[1]);

    const paged_rows<__nv_bfloat16> rows(cache, p, h, seq, kv_head);
    float *splits = w.splits + (size_t)blockIdx.x * w.max_splits * w.max_rows * SUMS<D>;
    for (int round = blockIdx.y; round < n_rounds; round += n_blocks) {
        const int split = round * MMA_WARPS + warp, end = (split + 1) * SPLIT, n = n_splits - round * MMA_WARPS;
        if (split < n_splits) {
            online<D> a;
            attend_split(a, queries, split * SPLIT, end < r.kv_len ? end : r.kv_len, n_keys, scale_log2e, rows);
            store_sums(n_blocks == 1 ? own + warp * SPLIT_SUMS : splits + split * w.max_rows * SUMS<D>, a, r.n_rows);
        }
        if (n_blocks > 1) continue;
        __syncthreads(); /* the round's splits are there */
        fold<D>(total, round == 0, own, n < MMA_WARPS ? n : MMA_WARPS, SPLIT_SUMS, r.n_rows, scale_log2e);
        __syncthreads(); /* and read */
    }
    if (n_blocks > 1) {
        if (!is_last(&w.n_done[blockIdx.x], n_blocks)) return;
        fold<D>(total, true, splits, n_splits, w.max_rows * SUMS<D>, r.n_rows, scale_log2e);
    }
    store_total<D>(out, total, r, h.n_heads);
}

/* How many blocks share one sequence's keys: enough to fill a large card, where the workspace can hold their splits. */
static unsigned blocks_sharing(size_t n_pairs, size_t n_rounds, size_t workspace_bytes) {
    constexpr size_t ENOUGH = 1024;
    if (n_pairs > KF_CUDA_SPLIT_COUNTERS || workspace_bytes > KF_CUDA_SPLIT_BYTES) return 1;
    size_t n = ENOUGH / n_pairs < n_rounds ? ENOUGH / n_pairs : n_rounds;
    return (unsigned)(n > 0 ? n : 1);
}

template <int D>
static void run(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache, const kf_batch *b,
                const kf_paged *p, kf_heads h) {
    constexpr size_t ROUND = MMA_WARPS * SPLIT;
    kf_cuda_stream *stream = (kf_cuda_stream *)s;
    size_t n_pairs = b->n_seqs * h.n_kv_heads, n_rows = b->max_seqlen * (h.n_heads / h.n_kv_heads);
    size_t n_rounds = (p->max_blocks * KF_KV_BLOCK_SIZE + ROUND - 1) / ROUND, n_splits = n_rounds * MMA_WARPS;
    if (n_rows > MMA_ROWS) n_rows = MMA_ROWS;
    workspace w = {stream->split_counters, stream->splits, (int)n_splits, (int)n_rows};
    dim3 grid((unsigned)n_pairs,
              blocks_sharing(n_pairs, n_rounds, n_pairs * n_splits * n_rows * SUMS<D> * sizeof(float)));
    KF_LAUNCH(s, grid, dim3(MMA_WARPS * WARP), attention_decode<D>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)q,
              q_stride, cache, *b, *p, h, scale_log2e(&h), w, stream->fault);
}

void kf_cuda_attention_decode(kf_stream *s, void *out, const void *q, size_t q_stride, kf_kv_layer cache,
                              const kf_batch *b, const kf_paged *p, kf_heads h) {
    MMA_BY_HEAD_DIM(h.head_dim, run, s, out, q, q_stride, cache, b, p, h);
}
