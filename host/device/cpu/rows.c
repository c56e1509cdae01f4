/* Operations that move rows: embeddings, gather, mean, rotary positions, writes to the cache. */
#include "device/cpu/cpu.h"

void kf_cpu_embed(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                  const int32_t *last_token, size_t n_tokens) {
    if (!kf_cpu_runs(s)) return;
    for (size_t t = 0; t < n_tokens; t++) {
        int32_t id = ids[t] >= 0 ? ids[t] : last_token[-1 - ids[t]];
        memcpy((float *)out + t * hidden, (const float *)table + (size_t)id * hidden, hidden * sizeof(float));
    }
}

void kf_cpu_embed_bert(kf_stream *s, void *out, const void *word, const void *position, const void *type0,
                       size_t hidden, const kf_batch *b) {
    if (!kf_cpu_runs(s)) return;
    const float *type = type0; /* [hidden] */
    size_t n_tokens = (size_t)b->cu_seqlens[b->n_seqs];
    for (size_t t = 0; t < n_tokens; t++) {
        const float *w = (const float *)word + (size_t)b->input_ids[t] * hidden;
        const float *p = (const float *)position + (size_t)b->position_ids[t] * hidden;
        float *row = (float *)out + t * hidden;
        for (size_t i = 0; i < hidden; i++)
            row[i] = w[i] + p[i] + type[i];
    }
}

void kf_cpu_gather_rows(kf_stream *s, void *out, const void *x, const int32_t *row_idx, size_t n_rows, size_t width) {
    if (!kf_cpu_runs(s)) return;
    for (size_t r = 0; r < n_rows; r++)
        memcpy((float *)out + r * width, (const float *)x + (size_t)row_idx[r] * width, width * sizeof(float));
}

void kf_cpu_mean_rows(kf_stream *s, void *out, const void *x, const int32_t *cu_seqlens, size_t n_seqs, size_t width) {
    if (!kf_cpu_runs(s)) return;
    for (size_t i = 0; i < n_seqs; i++) {
        float *mean = (float *)out + i * width;
        size_t first = (size_t)cu_seqlens[i], last = (size_t)cu_seqlens[i + 1];
        memset(mean, 0, width * sizeof(float));
        for (size_t r = first; r < last; r++)
            for (size_t c = 0; c < width; c++)
                mean[c] += ((const float *)x)[r * width + c];
        for (size_t c = 0; c < width && last > first; c++)
            mean[c] /= (float)(last - first);
    }
}

void kf_cpu_rope(kf_stream *s, void *x, size_t x_stride, const kf_rope_table *t, const int32_t *position_ids,
                 size_t n_tokens, size_t n_heads, size_t head_dim) {
    if (!kf_cpu_runs(s)) return;
    size_t half = head_dim / 2;
    for (size_t i = 0; i < n_tokens; i++) {
        const float *cos = t->cos + (size_t)position_ids[i] * half, *sin = t->sin + (size_t)position_ids[i] * half;
        for (size_t h = 0; h < n_heads; h++) {
            float *x1 = (float *)x + i * x_stride + h * head_dim, *x2 = x1 + half;
            for (size_t c = 0; c < half; c++) {
                float a = x1[c], b = x2[c];
                x1[c] = a * cos[c] - b * sin[c];
                x2[c] = b * cos[c] + a * sin[c];
            }
        }
    }
}

void kf_cpu_kv_write(kf_stream *s, kf_kv_layer cache, const void *k, const void *v, size_t stride,
                     const int32_t *slot_mapping, size_t n_tokens, size_t n_kv_heads, size_t head_dim) {
    if (!kf_cpu_runs(s)) return;
    for (size_t t = 0; t < n_tokens; t++) {
        if (slot_mapping[t] < 0) continue;
        size_t block = (size_t)slot_mapping[t] / KF_KV_BLOCK_SIZE, row = (size_t)slot_mapping[t] % KF_KV_BLOCK_SIZE;
        for (size_t h = 0; h < n_kv_heads; h++) {
            size_t at = ((block * n_kv_heads + h) * KF_KV_BLOCK_SIZE + row) * head_dim;
            memcpy((float *)cache.k + at, (const float *)k + t * stride + h * head_dim, head_dim * sizeof(float));
            memcpy((float *)cache.v + at, (const float *)v + t * stride + h * head_dim, head_dim * sizeof(float));
        }
    }
}
