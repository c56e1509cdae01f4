/* Activations, element by element.
 *   activate    out[i] = act(x[i])                                       bytes: 2 n
 *   gated       out[r, i] = act(x[r, i]) * x[r, width + i] (2002.05202)  bytes: 3 n_rows width
 *   linear_end  out[i] = act(out[i]) + residual[i], behind a product of cublasLt: the same kernel as activate
 *   add         out[i] = x[i] + y[i]: the same kernel, no activation     bytes: 3 n
 * Grid: a thread a chunk of 16 bytes, up to 256 a block; gated: rows by pieces of a row. Instructions: 20 an element in
 * bf16 with GELU, 8 with SiLU; in f32 30 and about 25.
 *
 * What erf costs BERT: cublasLt has GELU in its epilogue in the tanh form only, and at -3 that is 10 % off, so GELU is
 * this pass behind each product up, whose epilogue has added the bias already. For BERT-base in bf16 (768 to 3,072) it
 * moves 12.3 KB a token: 4.1 ns at 3.0 TB/s, 2.2 ns where the product left its output in the L2 (up to about 4,000
 * tokens of 50 MB), beside the product's 5.9 ns at 800 TFLOP/s or 9.8 ns at 60 % of that: 22 to 70 % of that product, 8
 * to 23 % of the layer's four. Adding the bias here instead saves nothing: the epilogue's is free, and the bytes are
 * the same. Its 20 instructions an element take 2.2 ns a token, erff's 30 would take 3.2: as much as the bytes, and
 * beside them. What would save the pass is a product of ours with GELU in its epilogue; on sm_90 it would have to reach
 * 80 % of cublasLt's rate, which mma.sync does not (62 % of wgmma's peak). */
#include "activation.cuh"
#include "chunk.cuh"

/* out = act(x) + residual (NULL: 0); out may be equal to either. */
template <class T>
__global__ void activate(T *out, const T *x, const T *residual, kf_activation act, size_t n, bool aligned) {
    const size_t first = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * CHUNK<T>;
    if (first >= n) return;
    const unsigned left = n - first < CHUNK<T> ? (unsigned)(n - first) : CHUNK<T>;
    const bool whole = aligned && left == CHUNK<T>;
    float v[CHUNK<T>], more[CHUNK<T>];
    chunk_load(v, x + first, 0, left, whole);
    activate_all<T>(act, v);
    if (residual) {
        chunk_load(more, residual + first, 0, left, whole);
        for (unsigned i = 0; i < CHUNK<T>; i++)
            v[i] += more[i];
    }
    chunk_store(out + first, v, 0, left, whole);
}

template <class T>
static void run(kf_stream *s, void *out, const void *x, const void *residual, kf_activation act, size_t n) {
    bool aligned = chunks_aligned<T>((uintptr_t)out | (uintptr_t)x | (uintptr_t)residual, 0);
    KF_LAUNCH(s, blocks_for(n, BLOCK_MAX * CHUNK<T>), threads_for((n + CHUNK<T> - 1) / CHUNK<T>), activate<T>, (T *)out,
              (const T *)x, (const T *)residual, act, n, aligned);
}

void kf_cuda_activate(kf_stream *s, void *out, const void *x, kf_activation act, size_t n) {
    if (!kf_cuda_runs(s) || n == 0) return;
    if (kf_cuda_is_bf16(s))
        run<__nv_bfloat16>(s, out, x, NULL, act, n);
    else
        run<float>(s, out, x, NULL, act, n);
}

void kf_cuda_add(kf_stream *s, void *out, const void *x, const void *y, size_t n) {
    if (!kf_cuda_runs(s) || n == 0) return;
    if (kf_cuda_is_bf16(s))
        run<__nv_bfloat16>(s, out, x, y, KF_ACT_NONE, n);
    else
        run<float>(s, out, x, y, KF_ACT_NONE, n);
}

void kf_cuda_linear_end(kf_stream *s, void *out, size_t n, kf_linear_opts o) {
    if (kf_cuda_is_bf16(s) && !o.out_f32)
        run<__nv_bfloat16>(s, out, out, o.residual, o.act, n);
    else
        run<float>(s, out, out, o.residual, o.act, n);
}

template <class T> __global__ void gated(T *out, const T *gate_up, kf_activation act, unsigned width, bool aligned) {
    const size_t row = blockIdx.x;
    const unsigned first = (blockIdx.y * blockDim.x + threadIdx.x) * CHUNK<T>;
    if (first >= width) return;
    const T *gate = gate_up + row * 2 * width;
    float v[CHUNK<T>], up[CHUNK<T>];
    chunk_load(v, gate, first, width, aligned);
    chunk_load(up, gate + width, first, width, aligned);
    activate_all<T>(act, v);
    for (unsigned i = 0; i < CHUNK<T>; i++)
        v[i] *= up[i];
    chunk_store(out + row * width, v, first, width, aligned);
}

template <class T>
static void run_gated(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows, size_t width) {
    bool aligned = chunks_aligned<T>((uintptr_t)out | (uintptr_t)gate_up, width);
    dim3 grid((unsigned)n_rows, blocks_for(width, BLOCK_MAX * CHUNK<T>).x);
    KF_LAUNCH(s, grid, threads_for((width + CHUNK<T> - 1) / CHUNK<T>), gated<T>, (T *)out, (const T *)gate_up, act,
              (unsigned)width, aligned);
}

void kf_cuda_gated(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows, size_t width) {
    if (!kf_cuda_runs(s) || n_rows == 0) return;
    if (kf_cuda_is_bf16(s))
        run_gated<__nv_bfloat16>(s, out, gate_up, act, n_rows, width);
    else
        run_gated<float>(s, out, gate_up, act, n_rows, width);
}
