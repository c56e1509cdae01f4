/* Our own product: out = act(x Wᵀ + bias) + residual, for decoder steps of few rows, and for every shape that cublasLt
 * is not asked for (linear.cu says when).
 * Layout: x [n_rows, n_in], W [n_out, n_in], out [n_rows, n_out]. Grid: a warp has one output for up to two rows, else
 * two, and 1, 2, 4 or 8 rows; 4 warps a block. W is read once for its rows, past L1; x stays in L1. Lane l takes chunks
 * of 16 bytes l, l + 32, … in order, then the lanes' butterfly: the order of a sum depends on n_in and the format
 * alone. Bytes: W, n_out n_in, bound by memory up to 8 rows; flops: 2 n_rows n_out n_in.
 *
 * On paper, one H100 (3.0 TB/s, 0.7 us to memory and back when loaded): 2.1 MB must be in flight, 16 KB a processor.
 * A warp keeps LOADS chunks a lane, 4 KB, under way by cp.async, which no compiler can delay: 4 warps a processor are
 * enough, 12 blocks of 4 fit, and a product of 896 outputs brings 6.8, or 3.4 where a warp has two. Eight rows read 4
 * bytes of x from L1 for each of W, half of its 128 a clock, and take 8 fused multiply-adds a weight: 1.6 of the 4
 * instructions a clock. So it is memory that bounds; with 2 us of launch and drain a product of 1.6 MB (896 to 896)
 * gets 21 % of the bandwidth, of 17 MB (896 to 9,728) 74 %, of 67 MB (2,048 to 16,384) 92 %, the head of Llama-3.2-1B
 * (525 MB) 99 %. */
#include "activation.cuh"
#include "chunk.cuh"
#include "primitives.cuh"

constexpr unsigned WARPS = 4, LOADS = 8; /* the latter: chunks of W that a lane has under way */

template <class T> struct product_args {
    const T *x, *w, *residual;
    const float *bias;
    void *out;
    size_t n_rows;
    unsigned n_in, n_out;
    kf_activation act;
    bool out_f32; /* else T */
};

/* Sums each of N values (a power of two up to 32) over the warp: lane l gets value l / (32 / N). Lanes 16 apart are
 * added first, as in warp_sum, with its bits; but what a lane will not need it gives away, so N values cost N - 1
 * shuffles and log2(32 / N) more, not 5 N. */
template <unsigned N, unsigned APART = WARP / 2> __device__ float warp_sums(float (&v)[N]) {
    if constexpr (N == 1) {
        UNROLL for (unsigned apart = APART; apart > 0; apart /= 2) v[0] +=
            __shfl_xor_sync(0xffffffffu, v[0], (int)apart);
        return v[0];
    } else {
        float kept[N / 2];
        const bool upper = threadIdx.x & APART;
        UNROLL for (unsigned i = 0; i < N / 2; i++) kept[i] =
            (upper ? v[i + N / 2] : v[i]) + __shfl_xor_sync(0xffffffffu, upper ? v[i] : v[i + N / 2], (int)APART);
        return warp_sums<N / 2, APART / 2>(kept);
    }
}

/* A lane's chunks of W, of one warp: it copies them to shared memory itself, LOADS / COLUMNS steps ahead, and nobody
 * else reads them, so there is no barrier. */
template <unsigned COLUMNS> struct weight_ring {
    static constexpr unsigned STEPS = LOADS / COLUMNS;
    uint4 chunks[STEPS][COLUMNS][WARP];
};

/* Starts the copy of a step's chunks; nothing behind the rows' end. Every step is a group, a whole one or an empty. */
template <unsigned COLUMNS, class T>
__device__ void ring_fill(weight_ring<COLUMNS> *ring, const T *const (&w)[COLUMNS], unsigned step, unsigned n_in) {
    const unsigned lane = threadIdx.x % WARP, first = (step * WARP + lane) * CHUNK<T>;
    UNROLL for (unsigned c = 0; c < COLUMNS; c++) if (first < n_in)
        cp_async16(&ring->chunks[step % ring->STEPS][c][lane], w[c] + first, true);
    cp_async_commit();
}

template <class T, unsigned ROWS, bool ALIGNED>
__global__ void __launch_bounds__(WARPS *WARP) linear_rows(product_args<T> p) {
    constexpr unsigned COLUMNS = ROWS > 2 ? 2 : 1, STEPS = LOADS / COLUMNS;
    SHARED_ARRAY(weight_ring<COLUMNS>, rings, [WARPS]);
    weight_ring<COLUMNS> *ring = &rings[threadIdx.x / WARP];
    const unsigned lane = threadIdx.x % WARP, column = (blockIdx.x * WARPS + threadIdx.x / WARP) * COLUMNS;
    const size_t first_row = (size_t)blockIdx.y * ROWS;
    if (column >= p.n_out) return;
    const T *x[ROWS], *w[COLUMNS];
    float sums[COLUMNS * ROWS] = {};
    UNROLL for (unsigned r = 0; r < ROWS; r++) /* rows behind the last compute the last, and are not stored */
        x[r] = p.x + (first_row + r < p.n_rows ? first_row + r : p.n_rows - 1) * p.n_in;
    UNROLL for (unsigned c = 0; c < COLUMNS; c++) /* columns too */
        w[c] = p.w + (size_t)(column + c < p.n_out ? column + c : column) * p.n_in;
    if constexpr (ALIGNED)
        for (unsigned step = 0; step < STEPS; step++)
            ring_fill(ring, w, step, p.n_in);
    for (unsigned step = 0; step * WARP * CHUNK<T> < p.n_in; step++) {
        const unsigned first = (step * WARP + lane) * CHUNK<T>;
        float weights[COLUMNS][CHUNK<T>], values[CHUNK<T>];
        if constexpr (ALIGNED) cp_async_wait<STEPS - 1>();
        UNROLL for (unsigned c = 0; c < COLUMNS; c++) if constexpr (ALIGNED) {
            if (first < p.n_in) unpack(weights[c], ring->chunks[step % STEPS][c][lane]);
        }
        else {
            chunk_load(weights[c], w[c], first, p.n_in, false);
        }
        if (first < p.n_in) UNROLL for (unsigned r = 0; r < ROWS; r++) {
                chunk_load(values, x[r], first, p.n_in, ALIGNED);
                UNROLL for (unsigned c = 0; c < COLUMNS; c++) UNROLL for (unsigned i = 0; i < CHUNK<T>; i++)
                    sums[c * ROWS + r] = fmaf(values[i], weights[c][i], sums[c * ROWS + r]);
            }
        if constexpr (ALIGNED) ring_fill(ring, w, step + STEPS, p.n_in);
    }
    const float sum = warp_sums(sums);
    constexpr unsigned LANES = WARP / (COLUMNS * ROWS); /* that have the same sum */
    const unsigned mine = lane / LANES, my_column = column + mine / ROWS;
    const size_t row = first_row + mine % ROWS, at = row * p.n_out + my_column;
    if (lane % LANES || row >= p.n_rows || my_column >= p.n_out) return;
    float v = activation(p.act, p.bias ? sum + p.bias[my_column] : sum);
    if (p.residual) v += to_f32(p.residual[at]);
    if (p.out_f32)
        ((float *)p.out)[at] = v;
    else
        ((T *)p.out)[at] = from_f32<T>(v);
}

template <class T, unsigned ROWS> static void run_rows(kf_stream *s, const product_args<T> &p, bool aligned) {
    constexpr unsigned COLUMNS = ROWS > 2 ? 2 : 1;
    dim3 grid(blocks_for(p.n_out, WARPS * COLUMNS).x, blocks_for(p.n_rows, ROWS).x), block(WARPS * WARP);
    if (aligned)
        KF_LAUNCH(s, grid, block, linear_rows<T, ROWS, true>, p);
    else
        KF_LAUNCH(s, grid, block, linear_rows<T, ROWS, false>, p);
}

template <class T>
static void run(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    const product_args<T> p = {.x = (const T *)x,
                               .w = (const T *)w->data,
                               .residual = (const T *)o.residual,
                               .bias = w->bias,
                               .out = out,
                               .n_rows = n_rows,
                               .n_in = (unsigned)w->n_in,
                               .n_out = (unsigned)w->n_out,
                               .act = o.act,
                               .out_f32 = o.out_f32};
    bool aligned = chunks_aligned<T>((uintptr_t)x | (uintptr_t)w->data, w->n_in);
    if (n_rows == 1)
        run_rows<T, 1>(s, p, aligned);
    else if (n_rows == 2)
        run_rows<T, 2>(s, p, aligned);
    else if (n_rows <= 4)
        run_rows<T, 4>(s, p, aligned);
    else
        run_rows<T, KF_CUDA_PRODUCT_ROWS>(s, p, aligned);
}

void kf_cuda_linear_rows(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    if (kf_cuda_is_bf16(s))
        run<__nv_bfloat16>(s, out, x, w, n_rows, o);
    else
        run<float>(s, out, x, w, n_rows, o);
}
