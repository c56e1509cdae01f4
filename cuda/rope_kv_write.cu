/* From the rows of a QKV product to what attention reads, in one pass:
 *   RMSNorm over each head of Q and K where there are gammas (arXiv 1910.07467), in f32 into
 *   RoPE (arXiv 2104.09864), halves layout: (x1, x2) = (x1 cos - x2 sin, x2 cos + x1 sin), pair (i, i + head_dim / 2),
 *   Q back to its place, K and V to their slots of the paged cache (arXiv 2309.06180).
 * Layout: qkv rows `stride` apart, [n_heads + 2 n_kv_heads, head_dim]; cos, sin f32 [max_positions, head_dim / 2];
 * cache [n_blocks, n_kv_heads, 16, head_dim].
 * Grid: a block a token. `lanes` threads have a head, a power of two up to 32: each takes a chunk of both halves, so
 * head_dim 64 in bf16 is 4 lanes. Squares are summed by lane, first half then second, then over the lanes' butterfly.
 * Bytes a token: 2 (n_heads + 2 n_kv_heads) head_dim, and 8 head_dim of angles from L1; flops: 3 a rotated element, 4
 * more where normed. Nothing is written to the cache after a fault: it outlives the step. */
#include "chunk.cuh"

template <class T> struct rope_args {
    T *qkv, *k_cache, *v_cache;
    size_t stride;
    const int32_t *position_ids, *slot_mapping;
    const kf_cuda_fault *fault;
    kf_qk_opts o;
    unsigned n_heads, n_kv_heads, head_dim, half, lanes; /* half: of head_dim, rounded up */
    bool aligned;
};

/* 1 / sqrt(mean(x²) + eps) of one head, the same in all of its lanes. */
template <class T> __device__ float rms_scale(const rope_args<T> &p, const T *x, unsigned lane) {
    float squares = 0, v[CHUNK<T>];
    for (unsigned c = lane * CHUNK<T>; c < p.half; c += p.lanes * CHUNK<T>)
        for (unsigned side = 0; side < 2; side++) {
            chunk_load(v, x + side * p.half, c, side ? p.head_dim - p.half : p.half, p.aligned);
            for (unsigned i = 0; i < CHUNK<T>; i++)
                squares = fmaf(v[i], v[i], squares);
        }
    unsigned first = threadIdx.x % WARP / p.lanes * p.lanes; /* lane of the warp that the head begins at */
    unsigned mask = 0xffffffffu >> (WARP - p.lanes) << first;
    for (unsigned apart = p.lanes / 2; apart > 0; apart /= 2)
        squares += __shfl_xor_sync(mask, squares, (int)apart);
    return 1 / sqrtf(squares / (float)p.head_dim + p.o.eps);
}

/* v *= scale * gamma, for a chunk of a head. */
template <class T>
__device__ void scale_chunk(float (&v)[CHUNK<T>], float scale, const float *gamma, unsigned first, unsigned width,
                            bool aligned) {
    float g[CHUNK<T>];
    f32_load(g, gamma, first, width, aligned);
    for (unsigned i = 0; i < CHUNK<T>; i++)
        v[i] = v[i] * scale * g[i];
}

/* One head by its lanes: out = RoPE(norm(x)); out may be equal to x. gamma, cos: NULL for none. */
template <class T>
__device__ void rope_head(const rope_args<T> &p, T *out, const T *x, const float *gamma, const float *cos,
                          const float *sin, unsigned lane) {
    const unsigned rest = p.head_dim - p.half;
    float scale = gamma ? rms_scale(p, x, lane) : 1;
    for (unsigned c = lane * CHUNK<T>; c < p.half; c += p.lanes * CHUNK<T>) {
        float a[CHUNK<T>], b[CHUNK<T>], cosines[CHUNK<T>], sines[CHUNK<T>];
        chunk_load(a, x, c, p.half, p.aligned);
        chunk_load(b, x + p.half, c, rest, p.aligned);
        if (gamma) {
            scale_chunk<T>(a, scale, gamma, c, p.half, p.aligned);
            scale_chunk<T>(b, scale, gamma + p.half, c, rest, p.aligned);
        }
        if (cos) {
            f32_load(cosines, cos, c, p.half, p.aligned);
            f32_load(sines, sin, c, p.half, p.aligned);
            for (unsigned i = 0; i < CHUNK<T>; i++) {
                float turned = a[i] * cosines[i] - b[i] * sines[i];
                b[i] = b[i] * cosines[i] + a[i] * sines[i];
                a[i] = turned;
            }
        }
        chunk_store(out, a, c, p.half, p.aligned);
        chunk_store(out + p.half, b, c, rest, p.aligned);
    }
}

template <class T> __global__ void rope_kv_write(rope_args<T> p) {
    const size_t t = blockIdx.x;
    const unsigned lane = threadIdx.x % p.lanes;
    const int32_t slot = p.fault->found ? -1 : p.slot_mapping[t];
    const size_t block = (size_t)slot / KF_KV_BLOCK_SIZE, row = (size_t)slot % KF_KV_BLOCK_SIZE;
    const size_t angles = p.o.rope.cos ? (size_t)p.position_ids[t] * p.half : 0;
    const float *cos = p.o.rope.cos ? p.o.rope.cos + angles : NULL, *sin = p.o.rope.sin + angles;
    for (unsigned head = threadIdx.x / p.lanes; head < p.n_heads + 2 * p.n_kv_heads; head += blockDim.x / p.lanes) {
        T *x = p.qkv + t * p.stride + (size_t)head * p.head_dim;
        if (head < p.n_heads) {
            rope_head(p, x, x, p.o.q_norm, cos, sin, lane);
            continue;
        }
        if (slot < 0) return; /* the heads that follow are K's and V's */
        unsigned kv_head = head - p.n_heads;
        bool is_k = kv_head < p.n_kv_heads;
        if (!is_k) kv_head -= p.n_kv_heads;
        size_t at = ((block * p.n_kv_heads + kv_head) * KF_KV_BLOCK_SIZE + row) * p.head_dim;
        if (is_k)
            rope_head(p, p.k_cache + at, x, p.o.k_norm, cos, sin, lane);
        else
            rope_head<T>(p, p.v_cache + at, x, NULL, NULL, NULL, lane);
    }
}

template <class T>
static void run(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                const int32_t *slot_mapping, kf_heads h, const kf_qk_opts *o) {
    rope_args<T> p = {.qkv = (T *)qkv,
                      .k_cache = (T *)cache.k,
                      .v_cache = (T *)cache.v,
                      .stride = stride,
                      .position_ids = b->position_ids,
                      .slot_mapping = slot_mapping,
                      .fault = ((kf_cuda_stream *)s)->fault,
                      .o = *o,
                      .n_heads = (unsigned)h.n_heads,
                      .n_kv_heads = (unsigned)h.n_kv_heads,
                      .head_dim = (unsigned)h.head_dim,
                      .half = (unsigned)(h.head_dim + 1) / 2,
                      .lanes = 1,
                      .aligned = false};
    uintptr_t pointers = (uintptr_t)qkv | (uintptr_t)cache.k | (uintptr_t)cache.v | (uintptr_t)o->rope.cos |
                         (uintptr_t)o->rope.sin | (uintptr_t)o->q_norm | (uintptr_t)o->k_norm;
    p.aligned = h.head_dim % 2 == 0 && chunks_aligned<T>(pointers, stride | h.head_dim / 2);
    while (p.lanes < WARP && p.lanes * CHUNK<T> < p.half)
        p.lanes *= 2;
    KF_LAUNCH(s, dim3((unsigned)b->n_tokens), threads_for((h.n_heads + 2 * h.n_kv_heads) * p.lanes), rope_kv_write<T>,
              p);
}

void kf_cuda_rope_kv_write(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                           const int32_t *slot_mapping, kf_heads h, const kf_qk_opts *o) {
    if (!kf_cuda_runs(s) || b->n_tokens == 0) return;
    if (kf_cuda_is_bf16(s))
        run<__nv_bfloat16>(s, cache, qkv, stride, b, slot_mapping, h, o);
    else
        run<float>(s, cache, qkv, stride, b, slot_mapping, h, o);
}
