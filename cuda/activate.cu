/* Activations, element by element.
 *   activate    out[i] = act(x[i])                                       bytes: 2 n
 *   gated       out[r, i] = act(x[r, i]) * x[r, width + i] (2002.05202)  bytes: 3 n_rows width
 *   linear_end  out[i] = act(out[i]) + residual[i], behind a product of cublasLt whose epilogue has no such activation:
 *               one more reading and writing of out
 * Grid: a thread an element, 256 a block; gated: a block a row. Flops: up to about 30 an element (erf). */
#include "activation.cuh"

template <class T> __global__ void activate(T *out, const T *x, kf_activation act, size_t n) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = from_f32<T>(activation(act, to_f32(x[i])));
}

void kf_cuda_activate(kf_stream *s, void *out, const void *x, kf_activation act, size_t n) {
    if (!kf_cuda_runs(s) || n == 0) return;
    dim3 grid = blocks_for(n, BLOCK_MAX), block = threads_for(n);
    if (kf_cuda_is_bf16(s))
        KF_LAUNCH(s, grid, block, activate<__nv_bfloat16>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)x, act, n);
    else
        KF_LAUNCH(s, grid, block, activate<float>, (float *)out, (const float *)x, act, n);
}

template <class T> __global__ void gated(T *out, const T *gate_up, kf_activation act, size_t width) {
    const T *gate = gate_up + blockIdx.x * 2 * width, *up = gate + width;
    for (size_t i = threadIdx.x; i < width; i += blockDim.x)
        out[blockIdx.x * width + i] = from_f32<T>(activation(act, to_f32(gate[i])) * to_f32(up[i]));
}

void kf_cuda_gated(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows, size_t width) {
    if (!kf_cuda_runs(s) || n_rows == 0) return;
    dim3 grid((unsigned)n_rows), block = threads_for(width);
    if (kf_cuda_is_bf16(s))
        KF_LAUNCH(s, grid, block, gated<__nv_bfloat16>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)gate_up, act,
                  width);
    else
        KF_LAUNCH(s, grid, block, gated<float>, (float *)out, (const float *)gate_up, act, width);
}

template <class T> __global__ void linear_end(T *out, const T *residual, kf_activation act, size_t n) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = activation(act, to_f32(out[i]));
    out[i] = from_f32<T>(residual ? v + to_f32(residual[i]) : v);
}

void kf_cuda_linear_end(kf_stream *s, void *out, size_t n, kf_linear_opts o) {
    dim3 grid = blocks_for(n, BLOCK_MAX), block = threads_for(n);
    if (kf_cuda_is_bf16(s) && !o.out_f32)
        KF_LAUNCH(s, grid, block, linear_end<__nv_bfloat16>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)o.residual,
                  o.act, n);
    else
        KF_LAUNCH(s, grid, block, linear_end<float>, (float *)out, (const float *)o.residual, o.act, n);
}
