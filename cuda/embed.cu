/* Embeddings: rows of tables.
 *   embed       out[t, :] = table[id_t, :], id_t = ids[t], or last_token[-1 - ids[t]] where ids[t] < 0
 *   embed_bert  out[t, :] = (word[id_t] + position[p_t]) + type0
 * Layout: [n_tokens, hidden]. Grid: a block a token. Bytes a token: 2 or 4 rows of hidden; flops: 0 or 2 hidden. */
#include "kernel.cuh"

template <class T>
__global__ void embed(T *out, const T *table, size_t hidden, const int32_t *ids, const int32_t *last_token) {
    size_t t = blockIdx.x;
    int32_t id = ids[t] >= 0 ? ids[t] : last_token[-1 - ids[t]];
    for (size_t i = threadIdx.x; i < hidden; i += blockDim.x)
        out[t * hidden + i] = table[(size_t)id * hidden + i];
}

void kf_cuda_embed(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                   const int32_t *last_token, size_t n_tokens) {
    if (!kf_cuda_runs(s) || n_tokens == 0) return;
    dim3 grid((unsigned)n_tokens), block = threads_for(hidden);
    if (kf_cuda_is_bf16(s))
        KF_LAUNCH(s, grid, block, embed<__nv_bfloat16>, (__nv_bfloat16 *)out, (const __nv_bfloat16 *)table, hidden, ids,
                  last_token);
    else
        KF_LAUNCH(s, grid, block, embed<float>, (float *)out, (const float *)table, hidden, ids, last_token);
}

template <class T>
__global__ void embed_bert(T *out, const T *word, const T *position, const T *type0, size_t hidden, kf_batch b) {
    size_t t = blockIdx.x;
    if (t >= (size_t)b.cu_seqlens[b.n_seqs]) return;
    const T *w = word + (size_t)b.input_ids[t] * hidden, *p = position + (size_t)b.position_ids[t] * hidden;
    for (size_t i = threadIdx.x; i < hidden; i += blockDim.x)
        out[t * hidden + i] = from_f32<T>(to_f32(w[i]) + to_f32(p[i]) + to_f32(type0[i]));
}

template <class T>
static void run_bert(kf_stream *s, void *out, const void *word, const void *position, const void *type0, size_t hidden,
                     const kf_batch *b) {
    KF_LAUNCH(s, dim3((unsigned)b->n_tokens), threads_for(hidden), embed_bert<T>, (T *)out, (const T *)word,
              (const T *)position, (const T *)type0, hidden, *b);
}

void kf_cuda_embed_bert(kf_stream *s, void *out, const void *word, const void *position, const void *type0,
                        size_t hidden, const kf_batch *b) {
    if (!kf_cuda_runs(s) || b->n_tokens == 0) return;
    if (kf_cuda_is_bf16(s))
        run_bert<__nv_bfloat16>(s, out, word, position, type0, hidden, b);
    else
        run_bert<float>(s, out, word, position, type0, hidden, b);
}
