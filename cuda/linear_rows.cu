/* Our own product: out = act(x Wᵀ + bias) + residual, for decoder steps of few rows, and for every shape that cublasLt
 * is not asked for.
 * Layout: x [n_rows, n_in], W [n_out, n_in], out [n_rows, n_out]. Grid: a warp an output and ROWS rows (1, 2, 4 or 8),
 * 4 warps a block; a row of W is read once for its rows. Lane l takes inputs l, l + 32, … in order, then the lanes'
 * butterfly: the order of a sum depends on n_in alone. Bytes: n_out n_in, bound by memory up to about 8 rows; flops:
 * 2 n_rows n_out n_in. */
#include "activation.cuh"

constexpr int WARPS = 4;

template <class T> struct product_args {
    const T *x, *w, *residual;
    const float *bias;
    size_t n_rows, n_in, n_out;
    kf_activation act;
};

/* T: x, W and the residual; O: out. */
template <class T, class O, int ROWS> __global__ void linear_rows(O *out, product_args<T> p) {
    size_t column = (size_t)blockIdx.x * WARPS + threadIdx.x / WARP, first = (size_t)blockIdx.y * ROWS;
    unsigned lane = threadIdx.x % WARP;
    if (column >= p.n_out) return;
    const T *x[ROWS];
    float sum[ROWS], mine = 0;
    for (int r = 0; r < ROWS; r++) { /* rows behind the last compute the last, and are not stored */
        x[r] = p.x + (first + r < p.n_rows ? first + r : p.n_rows - 1) * p.n_in;
        sum[r] = 0;
    }
    for (size_t k = lane; k < p.n_in; k += WARP) {
        float w = to_f32(p.w[column * p.n_in + k]);
        for (int r = 0; r < ROWS; r++)
            sum[r] = fmaf(to_f32(x[r][k]), w, sum[r]);
    }
    for (int r = 0; r < ROWS; r++) {
        float all = warp_sum(sum[r]);
        if ((int)lane == r) mine = all;
    }
    if (lane >= ROWS || first + lane >= p.n_rows) return;
    size_t at = (first + lane) * p.n_out + column;
    float v = activation(p.act, p.bias ? mine + p.bias[column] : mine);
    out[at] = from_f32<O>(p.residual ? v + to_f32(p.residual[at]) : v);
}

template <class T, class O> static void run(kf_stream *s, void *to, const product_args<T> &p) {
    O *out = (O *)to;
    unsigned columns = (unsigned)((p.n_out + WARPS - 1) / WARPS);
    dim3 block(WARPS * WARP);
    switch (p.n_rows) {
    case 1: KF_LAUNCH(s, dim3(columns), block, linear_rows<T, O, 1>, out, p); break;
    case 2: KF_LAUNCH(s, dim3(columns), block, linear_rows<T, O, 2>, out, p); break;
    case 3:
    case 4: KF_LAUNCH(s, dim3(columns), block, linear_rows<T, O, 4>, out, p); break;
    default:
        KF_LAUNCH(s, dim3(columns, blocks_for(p.n_rows, KF_CUDA_PRODUCT_ROWS).x), block,
                  linear_rows<T, O, KF_CUDA_PRODUCT_ROWS>, out, p);
    }
}

template <class T> static product_args<T> args(const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    return product_args<T>{.x = (const T *)x,
                           .w = (const T *)w->data,
                           .residual = (const T *)o.residual,
                           .bias = w->bias,
                           .n_rows = n_rows,
                           .n_in = w->n_in,
                           .n_out = w->n_out,
                           .act = o.act};
}

void kf_cuda_linear_rows(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    if (!kf_cuda_is_bf16(s))
        run<float, float>(s, out, args<float>(x, w, n_rows, o));
    else if (o.out_f32)
        run<__nv_bfloat16, float>(s, out, args<__nv_bfloat16>(x, w, n_rows, o));
    else
        run<__nv_bfloat16, __nv_bfloat16>(s, out, args<__nv_bfloat16>(x, w, n_rows, o));
}
