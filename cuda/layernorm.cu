/* Layer normalisation (arXiv 1607.06450): out = gamma (y - mean) / sqrt(var + eps) + beta.
 *   layernorm   y = x, to which the product before it has added the residual
 *   embed_bert  y = (word[id_t] + position[p_t]) + type0
 * Layout: [n_rows, hidden]; gamma, beta f32 [hidden]. Grid: a warp a row up to a hidden of 1024, 4 rows a block; a
 * block of 8 or 32 warps a row above (norm.cuh, with the order of the sums). The row stays in registers: mean first,
 * then the squares of the differences. Bytes a row: read and written once, embed_bert reads 2 (type0 stays in L1),
 * gamma and beta 8 hidden from L1; flops: about 8 hidden. */
#include "norm.cuh"

struct layernorm_args {
    const float *gamma, *beta;
    float eps;
    size_t n_rows;
    unsigned hidden;
    bool aligned;
};

/* out = the norm of y, a row. */
template <class T, unsigned WARPS>
__device__ void normalise(T *out, const row_part<T, WARPS> &y, const layernorm_args &p) {
    float mean = y.mean(), scale = 1 / sqrtf(y.squares(mean) / (float)p.hidden + p.eps);
    for (unsigned c = 0; c < y.CHUNKS; c++) {
        float gamma[CHUNK<T>], beta[CHUNK<T>], v[CHUNK<T>];
        unsigned first = y.first(c);
        if (first >= p.hidden) break;
        f32_load(gamma, p.gamma, first, p.hidden, p.aligned);
        f32_load(beta, p.beta, first, p.hidden, p.aligned);
        for (unsigned i = 0; i < CHUNK<T>; i++)
            v[i] = fmaf((y.v[c][i] - mean) * scale, gamma[i], beta[i]);
        chunk_store(out, v, first, p.hidden, p.aligned);
    }
}

template <class T, unsigned WARPS>
__global__ void __launch_bounds__(NORM_THREADS<WARPS>) layernorm(T *out, const T *x, layernorm_args p) {
    size_t row = norm_row<WARPS>();
    if (row >= p.n_rows) return;
    row_part<T, WARPS> y;
    y.width = p.hidden, y.aligned = p.aligned;
    y.load(x + row * p.hidden);
    normalise(out + row * p.hidden, y, p);
}

template <class T> static void run(kf_stream *s, void *out, const void *x, layernorm_args p) {
    p.aligned = chunks_aligned<T>((uintptr_t)out | (uintptr_t)x | (uintptr_t)p.gamma | (uintptr_t)p.beta, p.hidden);
    NORM_LAUNCH(s, T, p.n_rows, p.hidden, layernorm, (T *)out, (const T *)x, p);
}

void kf_cuda_layernorm(kf_stream *s, void *out, const void *x, const void *gamma, const void *beta, float eps,
                       size_t n_rows, size_t hidden) {
    if (!kf_cuda_runs(s) || n_rows == 0) return;
    layernorm_args p = {(const float *)gamma, (const float *)beta, eps, n_rows, (unsigned)hidden, false};
    if (kf_cuda_is_bf16(s))
        run<__nv_bfloat16>(s, out, x, p);
    else
        run<float>(s, out, x, p);
}

template <class T, unsigned WARPS>
__global__ void __launch_bounds__(NORM_THREADS<WARPS>)
    embed_bert(T *out, kf_bert_embeddings e, kf_batch b, layernorm_args p) {
    size_t t = norm_row<WARPS>();
    if (t >= (size_t)b.cu_seqlens[b.n_seqs]) return;
    row_part<T, WARPS> y;
    y.width = p.hidden, y.aligned = p.aligned;
    y.load((const T *)e.word + (size_t)b.input_ids[t] * p.hidden);
    y.add((const T *)e.position + (size_t)b.position_ids[t] * p.hidden);
    y.add((const T *)e.type0);
    normalise(out + t * p.hidden, y, p);
}

template <class T>
static void run_bert(kf_stream *s, void *out, const kf_bert_embeddings *e, const kf_batch *b, layernorm_args p) {
    p.aligned = chunks_aligned<T>((uintptr_t)out | (uintptr_t)e->word | (uintptr_t)e->position | (uintptr_t)e->type0 |
                                      (uintptr_t)e->gamma | (uintptr_t)e->beta,
                                  p.hidden);
    NORM_LAUNCH(s, T, p.n_rows, p.hidden, embed_bert, (T *)out, *e, *b, p);
}

void kf_cuda_embed_bert(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden, const kf_batch *b) {
    if (!kf_cuda_runs(s) || b->n_tokens == 0) return;
    layernorm_args p = {e->gamma, e->beta, e->eps, b->n_tokens, (unsigned)hidden, false};
    if (kf_cuda_is_bf16(s))
        run_bert<__nv_bfloat16>(s, out, e, b, p);
    else
        run_bert<float>(s, out, e, b, p);
}
