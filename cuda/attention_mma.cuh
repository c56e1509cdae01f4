/* Attention on tensor cores (bf16, sums in f32): what one warp does for 16 queries, and what the kernels share.
 *
 * A lane is l = 4 g + t, as mma.m16n8k16 deals its operands out: a warp holds queries g and g + 8, scores and outputs
 * of both in the same lane. Shared and device memory are moved in chunks of 16 bytes, 8 elements of a row of a head.
 *
 * - q kᵀ: any order of head_dim will do if Q and K share it. A lane takes chunks t, t + 4, … of its rows, whole: so
 *   both come by 128-bit loads, from device or shared memory alike, and are operands as they are.
 * - softmax: online (arXiv 1805.02867, 2205.14135), exp as 2^x with log2(e) in the scale.
 * - p v: scores are the operand p as they lie. V comes transposed from shared memory by ldmatrix, or straight from
 *   device memory, see add_values.
 * - Rows behind the last are read as the last (so that loads stand together, before any branch) or as zeros; such a
 * key's score is masked, it weighs 0; such a query's output goes nowhere.
 *
 * Keys are taken in order, in tiles at fixed distances from the sequence's first. A query's sums depend on its keys
 * alone, never on its row in the tile, the warp or the block, nor on the neighbours there (promise 3). */
#ifndef KF_CUDA_ATTENTION_MMA_CUH
#define KF_CUDA_ATTENTION_MMA_CUH

#include "primitives.cuh"

constexpr int MMA_ROWS = 16, MMA_WARPS = 4;
constexpr int KEYS = 32, STAGES = 3;           /* keys of a tile in shared memory, and tiles: 48 KiB for D = 128 */
template <int D> constexpr int CHUNKS = D / 8; /* of a row */
constexpr int ATTENTION_SHORT = 64;            /* tokens: the most that attention_short.cu takes */
constexpr int SPLIT = 128;                     /* keys that the paged kernels sum up by themselves, then fold */

template <int D> struct query_rows { /* of 16 queries, a lane's share: operands a of D / 16 products */
    uint32_t q[D / 16][4];
};

/* Of 16 queries, a lane's share. [0]: row g, [1]: row g + 8. */
template <int D> struct online {
    float o[D / 8][4]; /* not yet divided by sum */
    float max[2];      /* of the scores, before scale; -INFINITY: no key yet */
    float sum[2];      /* this lane's columns only, until sum_columns */
    __device__ void clear() {
        UNROLL for (int n = 0; n < D / 8; n++) o[n][0] = o[n][1] = o[n][2] = o[n][3] = 0;
        max[0] = max[1] = -INFINITY, sum[0] = sum[1] = 0;
    }
    __device__ void sum_columns() {
        for (int h = 0; h < 2; h++) {
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
        }
    }
};

/* Row i of n, or the last. */
__device__ inline int row_or_last(int i, int n) {
    return i < n ? i : n - 1;
}

__device__ inline uint32_t pack_bf16(float low, float high) {
    __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* row_g, row_g8: the lane's two queries in device memory. */
template <int D>
__device__ void load_queries(query_rows<D> &r, const __nv_bfloat16 *row_g, const __nv_bfloat16 *row_g8) {
    const int t = threadIdx.x % 4;
    UNROLL for (int j = 0; j < D / 32; j++) {
        const uint4 a = ((const uint4 *)row_g)[t + 4 * j], b = ((const uint4 *)row_g8)[t + 4 * j];
        r.q[2 * j][0] = a.x, r.q[2 * j][1] = b.x, r.q[2 * j][2] = a.y, r.q[2 * j][3] = b.y;
        r.q[2 * j + 1][0] = a.z, r.q[2 * j + 1][1] = b.z, r.q[2 * j + 1][2] = a.w, r.q[2 * j + 1][3] = b.w;
    }
}

/* s += q · k of chunk t + 4 j of a key. */
template <int D> __device__ void add_score(float (&s)[4], const query_rows<D> &r, int j, uint4 k) {
    const uint32_t low[2] = {k.x, k.y}, high[2] = {k.z, k.w};
    mma_m16n8k16_bf16(s, r.q[2 * j], low);
    mma_m16n8k16_bf16(s, r.q[2 * j + 1], high);
}

/* Columns 2t, 2t + 1 of score tile n are keys first + 8 n + 2 t, + 1; row g sees n_keys[0] keys, row g + 8 n_keys[1].
 */
template <int N> __device__ void mask(float (&s)[N][4], int first, const int (&n_keys)[2]) {
    const int column = first + threadIdx.x % 4 * 2;
    UNROLL for (int n = 0; n < N; n++) {
        UNROLL for (int i = 0; i < 4; i++) {
            if (column + 8 * n + i % 2 >= n_keys[i / 2]) s[n][i] = -INFINITY;
        }
    }
}

/* One step of the online softmax: s becomes its weights, and what was summed before shrinks to the new maximum. */
template <int D, int N> __device__ void weigh(online<D> &a, float (&s)[N][4], float scale_log2e) {
    UNROLL for (int h = 0; h < 2; h++) {
        float max = a.max[h], sum = 0;
        UNROLL for (int n = 0; n < N; n++) max = fmaxf(max, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
        const float from = max == -INFINITY ? 0 : max; /* no key yet: every weight is 0, not NaN */
        const float shrink = exp2_approx((a.max[h] - from) * scale_log2e), shift = -from * scale_log2e;
        UNROLL for (int n = 0; n < N; n++) {
            s[n][2 * h] = exp2_approx(fmaf(s[n][2 * h], scale_log2e, shift));
            s[n][2 * h + 1] = exp2_approx(fmaf(s[n][2 * h + 1], scale_log2e, shift));
            sum += s[n][2 * h] + s[n][2 * h + 1];
        }
        UNROLL for (int n = 0; n < D / 8; n++) a.o[n][2 * h] *= shrink, a.o[n][2 * h + 1] *= shrink;
        a.max[h] = max;
        a.sum[h] = fmaf(a.sum[h], shrink, sum);
    }
}

/* Weights of keys 16 i … 16 i + 15 of a tile as an operand. */
template <int N> __device__ void weights_of(uint32_t (&p)[4], const float (&s)[N][4], int i) {
    p[0] = pack_bf16(s[2 * i][0], s[2 * i][1]), p[1] = pack_bf16(s[2 * i][2], s[2 * i][3]);
    p[2] = pack_bf16(s[2 * i + 1][0], s[2 * i + 1][1]), p[3] = pack_bf16(s[2 * i + 1][2], s[2 * i + 1][3]);
}

/* Sums over a split's keys are put to those of the splits before, in order: a sum becomes fmaf(sum, keep, next add).
 * The first split stays as it is, one without a key changes nothing. */
typedef struct fold_by {
    float keep, add;
} fold_by;

__device__ inline fold_by fold_max(float &max, float next, float scale_log2e) {
    const float before = max;
    max = fmaxf(max, next);
    const float from = max == -INFINITY ? 0 : max;
    return {exp2_approx((before - from) * scale_log2e), exp2_approx((next - from) * scale_log2e)};
}

/* What a query's output element is: sum is not 0, a query has a key. -0 becomes 0: masked tiles turn the one into the
 * other, and they are not the same for each way to cut a prompt. */
__device__ inline float normalised(float o, float inverse) {
    return o * inverse + 0.0f;
}

/* ---- V straight from device memory: lanes g have other elements of a row than by ldmatrix ---- */

/* A row's elements that lanes g take together: 8, 4 for D = 32, of piece h at 64 h + g WIDTH. So column n of product
 * j of piece h is element 64 h + n WIDTH + j, and a lane ends with 2 WIDTH neighbours, from 64 h + 2 WIDTH t. */
template <int D> struct value_pieces {
    static constexpr int WIDTH = D < 64 ? D / 8 : 8, N = D / 8 / WIDTH;
    struct alignas(2 * WIDTH) piece {
        uint32_t w[WIDTH / 2];
    };
};

/* A lane's share of 16 rows of V: of rows 2t, 2t + 1, 2t + 8, 2t + 9. */
template <int D> struct value_rows { typename value_pieces<D>::piece x[4][value_pieces<D>::N]; };

/* v(i) is row i. */
template <int D, class Rows> __device__ void load_values(value_rows<D> &r, const Rows &v) {
    typedef typename value_pieces<D>::piece piece;
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    UNROLL for (int i = 0; i < 4; i++) {
        const piece *row = (const piece *)v(2 * t + i % 2 + i / 2 * 8);
        UNROLL for (int h = 0; h < value_pieces<D>::N; h++) r.x[i][h] = row[8 * h + g];
    }
}

/* o += p V for 16 keys. */
template <int D> __device__ void add_values(online<D> &a, const uint32_t (&p)[4], const value_rows<D> &r) {
    constexpr int WIDTH = value_pieces<D>::WIDTH;
    UNROLL for (int h = 0; h < value_pieces<D>::N; h++) {
        UNROLL for (int j = 0; j < WIDTH / 2; j++) {
            const uint32_t k0 = r.x[0][h].w[j], k1 = r.x[1][h].w[j], k8 = r.x[2][h].w[j], k9 = r.x[3][h].w[j];
            const uint32_t even[2] = {(k0 & 0xffffu) | k1 << 16, (k8 & 0xffffu) | k9 << 16};
            const uint32_t odd[2] = {k0 >> 16 | (k1 & 0xffff0000u), k8 >> 16 | (k9 & 0xffff0000u)};
            mma_m16n8k16_bf16(a.o[h * WIDTH + 2 * j], p, even);
            mma_m16n8k16_bf16(a.o[h * WIDTH + 2 * j + 1], p, odd);
        }
    }
}

/* Row g (half 0) or g + 8 (half 1) of the outputs, after add_values and sum_columns. */
template <int D> __device__ void store_pieces(__nv_bfloat16 *row, const online<D> &a, int half) {
    typedef value_pieces<D> pieces;
    const int t = threadIdx.x % 4;
    const float inverse = 1 / a.sum[half];
    UNROLL for (int h = 0; h < pieces::N; h++) {
        uint32_t w[pieces::WIDTH];
        UNROLL for (int j = 0; j < pieces::WIDTH; j++) {
            const int n = h * pieces::WIDTH + j * 2 % pieces::WIDTH, column = 2 * half + j * 2 / pieces::WIDTH;
            w[j] = pack_bf16(normalised(a.o[n][column], inverse), normalised(a.o[n + 1][column], inverse));
        }
        uint4 *to = (uint4 *)(row + 64 * h + 2 * pieces::WIDTH * t);
        UNROLL for (int i = 0; i < pieces::WIDTH / 4; i++) to[i] =
            make_uint4(w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]);
    }
}

/* ---- tiles of K and V in shared memory ---- */

/* Where chunk c of row r of a tile lies: the lower bits of c are mixed with r. */
template <int D> __device__ constexpr int chunk_at(int r, int c) {
    const int mix = D == 32 ? r / 2 % 4 : r % 2 * 4 + r / 2 % 4;
    return r * CHUNKS<D> + (c ^ mix);
}

/* Whether no two of the eight lanes that shared memory serves at a time meet in a bank: loads of eight rows' chunk c
 * (ldmatrix), of chunks 4j … 4j + 3 of two rows (scores), and writes of eight chunks in a row (cp.async). */
template <int D> __device__ constexpr bool free_of_conflicts() {
    for (int i = 0; i < KEYS * CHUNKS<D>; i += 8) {
        unsigned column = 0, pair = 0, copied = 0;
        for (int l = 0; l < 8; l++) {
            const int j = i / 8 % (CHUNKS<D> / 4), r = i / 8 / (CHUNKS<D> / 4) * 2 + l / 4; /* scores */
            column |= 1u << chunk_at<D>(i / 8 / CHUNKS<D> * 8 + l, i / 8 % CHUNKS<D>) % 8;
            pair |= 1u << chunk_at<D>(r, 4 * j + l % 4) % 8;
            copied |= 1u << chunk_at<D>((i + l) / CHUNKS<D>, (i + l) % CHUNKS<D>) % 8;
        }
        if ((column & pair & copied) != 0xff) return false;
    }
    return true;
}
static_assert(free_of_conflicts<32>() && free_of_conflicts<64>() && free_of_conflicts<128>());

/* Begins to copy n rows into a tile, row(i) elements behind k and v; zeros follow them. */
template <int D, class Row>
__device__ void load_tile(uint4 *k_tile, uint4 *v_tile, const __nv_bfloat16 *k, const __nv_bfloat16 *v, int n,
                          const Row &row) {
    for (int i = threadIdx.x; i < KEYS * CHUNKS<D>; i += MMA_WARPS * WARP) {
        const int r = i / CHUNKS<D>, c = i % CHUNKS<D>, to = chunk_at<D>(r, c);
        const size_t from = r < n ? row(r) + 8 * c : 0;
        cp_async16(k_tile + to, k + from, r < n);
        cp_async16(v_tile + to, v + from, r < n);
    }
}

/* s [KEYS / 8][4] of M times 16 queries for a tile of keys. */
template <int D, int M>
__device__ void scores(float (&s)[M][KEYS / 8][4], const query_rows<D> (&r)[M], const uint4 *k) {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    UNROLL for (int n = 0; n < KEYS / 8; n++) {
        UNROLL for (int m = 0; m < M; m++) s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0;
        UNROLL for (int j = 0; j < D / 32; j++) {
            const uint4 chunk = k[chunk_at<D>(8 * n + g, t + 4 * j)];
            UNROLL for (int m = 0; m < M; m++) add_score<D>(s[m][n], r[m], j, chunk);
        }
    }
}

/* o += p V of M times 16 queries for a tile of keys. */
template <int D, int M> __device__ void add_tile(online<D> (&a)[M], const float (&s)[M][KEYS / 8][4], const uint4 *v) {
    const int lane = threadIdx.x % WARP;
    UNROLL for (int i = 0; i < KEYS / 16; i++) {
        uint32_t p[M][4];
        UNROLL for (int m = 0; m < M; m++) weights_of(p[m], s[m], i);
        UNROLL for (int n = 0; n < D / 8; n += 2) {
            uint32_t b[4];
            ldmatrix_x4_trans(b, v + chunk_at<D>(16 * i + lane % 16, n + lane / 16));
            UNROLL for (int m = 0; m < M; m++) {
                mma_m16n8k16_bf16(a[m].o[n], p[m], b);
                mma_m16n8k16_bf16(a[m].o[n + 1], p[m], b + 2);
            }
        }
    }
}

/* Row g (half 0) or g + 8 (half 1) of the outputs, after add_tile and sum_columns. */
template <int D> __device__ void store_row(__nv_bfloat16 *row, const online<D> &a, int half) {
    uint32_t *to = (uint32_t *)row + threadIdx.x % 4;
    const float inverse = 1 / a.sum[half];
    UNROLL for (int n = 0; n < D / 8; n++) to[4 * n] =
        pack_bf16(normalised(a.o[n][2 * half], inverse), normalised(a.o[n][2 * half + 1], inverse));
}

/* ---- who has which rows ---- */

/* The last i of [0, n) where before(i), which holds for 0 and then to some place; the whole warp calls. Each round
 * tells 32 places apart: three loads in a row for 32,768 sequences. */
template <class Before> __device__ int last_where(int n, const Before &before) {
    const int lane = threadIdx.x % WARP;
    int low = 0;
    while (n > 1) {
        const int step = (n + WARP - 1) / WARP, at = lane * step;
        const int last = __popc(__ballot_sync(0xffffffffu, at < n && before(low + at))) - 1;
        low += last * step;
        n = step < n - last * step ? step : n - last * step;
    }
    return low;
}

/* Slots for pieces of `rows` rows, of sequences with `a_token` rows a token: sequence s has those from
 * cu_seqlens[s] a_token / rows + s, as many as it needs and at most one more. */
__device__ inline int first_slot(const int32_t *cu_seqlens, int s, int a_token, int rows) {
    return (int)((size_t)cu_seqlens[s] * a_token / rows) + s;
}
static inline size_t n_slots(const kf_batch *b, size_t a_token, size_t rows) {
    return b->n_tokens * a_token / rows + b->n_seqs;
}

/* ---- launchers ---- */

/* Whether these kernels compute this. Rows must be aligned to 16 bytes: a model's lie alike in every call. */
static inline bool mma_possible(const kf_stream *s, const kf_heads *h, const void *rows, size_t stride) {
    return kf_cuda_is_bf16(s) && (h->head_dim == 32 || h->head_dim == 64 || h->head_dim == 128) && h->scale > 0 &&
           ((uintptr_t)rows | stride * sizeof(__nv_bfloat16)) % sizeof(uint4) == 0;
}
static inline float scale_log2e(const kf_heads *h) {
    return h->scale * 1.4426950408889634f;
}

/* Calls run<head_dim>(arguments…). */
#define MMA_BY_HEAD_DIM(head_dim, run, ...)                                                                            \
    do {                                                                                                               \
        if ((head_dim) == 32)                                                                                          \
            run<32>(__VA_ARGS__);                                                                                      \
        else if ((head_dim) == 64)                                                                                     \
            run<64>(__VA_ARGS__);                                                                                      \
        else                                                                                                           \
            run<128>(__VA_ARGS__);                                                                                     \
    } while (0)

#endif
