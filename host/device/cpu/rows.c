/* Operations that move rows: embeddings, gather, mean. */
#include "device/cpu/cpu.h"

void kf_cpu_embed(kf_stream *s, void *out, const void *table, size_t hidden, const int32_t *ids,
                  const int32_t *last_token, size_t n_tokens) {
    if (!kf_cpu_runs(s)) return;
    for (size_t t = 0; t < n_tokens; t++) {
        int32_t id = ids[t] >= 0 ? ids[t] : last_token[-1 - ids[t]];
        memcpy((float *)out + t * hidden, (const float *)table + (size_t)id * hidden, hidden * sizeof(float));
    }
}

typedef struct embed_job {
    const kf_cpu_loops *loops;
    float *out;
    const kf_bert_embeddings *e;
    size_t hidden;
    const kf_batch *b;
} embed_job;

static void embed_bert_body(void *arg, size_t first, size_t last) {
    const embed_job *j = arg;
    const float *type = j->e->type0; /* [hidden] */
    for (size_t t = first; t < last; t++) {
        const float *w = (const float *)j->e->word + (size_t)j->b->input_ids[t] * j->hidden;
        const float *p = (const float *)j->e->position + (size_t)j->b->position_ids[t] * j->hidden;
        float *row = j->out + t * j->hidden;
        for (size_t i = 0; i < j->hidden; i++)
            row[i] = w[i] + p[i] + type[i];
        j->loops->layernorm(row, row, j->e->gamma, j->e->beta, j->e->eps, j->hidden);
    }
}

void kf_cpu_embed_bert(kf_stream *s, void *out, const kf_bert_embeddings *e, size_t hidden, const kf_batch *b) {
    if (!kf_cpu_runs(s)) return;
    embed_job j = {.loops = kf_cpu_loops_of(s), .out = out, .e = e, .hidden = hidden, .b = b};
    kf_cpu_parallel_for(s, (size_t)b->cu_seqlens[b->n_seqs], 1 + KF_CPU_GRAIN / (hidden + 1), embed_bert_body, &j);
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
