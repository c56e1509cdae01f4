/* From a QKV row to what attention reads: norms over heads, rotary positions, writes to the cache; tokens shared among
 * threads. */
#include "device/cpu/cpu.h"

typedef struct rope_job {
    const kf_cpu_loops *loops;
    float *qkv, *k_cache, *v_cache;
    size_t stride;
    const int32_t *position_ids, *slot_mapping;
    kf_heads h;
    const kf_qk_opts *o;
} rope_job;

/* One head of Q or K, normed and turned; out may be equal to x. */
static void rope_head(const rope_job *j, float *out, const float *x, const float *gamma, size_t position) {
    const size_t half = j->h.head_dim / 2;
    if (gamma)
        j->loops->rmsnorm(out, x, gamma, j->o->eps, j->h.head_dim);
    else if (out != x)
        memcpy(out, x, j->h.head_dim * sizeof *out);
    if (!j->o->rope.cos) return;
    const float *cos = j->o->rope.cos + position * half, *sin = j->o->rope.sin + position * half;
    float *x1 = out, *x2 = out + half;
    for (size_t c = 0; c < half; c++) {
        float a = x1[c], b = x2[c];
        x1[c] = a * cos[c] - b * sin[c];
        x2[c] = b * cos[c] + a * sin[c];
    }
}

static void rope_body(void *arg, size_t first, size_t last) {
    const rope_job *j = arg;
    const size_t head_dim = j->h.head_dim;
    for (size_t t = first; t < last; t++) {
        float *q = j->qkv + t * j->stride, *k = q + j->h.n_heads * head_dim, *v = k + j->h.n_kv_heads * head_dim;
        const size_t position = j->o->rope.cos ? (size_t)j->position_ids[t] : 0;
        for (size_t h = 0; h < j->h.n_heads; h++)
            rope_head(j, q + h * head_dim, q + h * head_dim, j->o->q_norm, position);
        if (j->slot_mapping[t] < 0) continue;
        const size_t block = (size_t)j->slot_mapping[t] / KF_KV_BLOCK_SIZE;
        const size_t row = (size_t)j->slot_mapping[t] % KF_KV_BLOCK_SIZE;
        for (size_t h = 0; h < j->h.n_kv_heads; h++) {
            size_t at = ((block * j->h.n_kv_heads + h) * KF_KV_BLOCK_SIZE + row) * head_dim;
            rope_head(j, j->k_cache + at, k + h * head_dim, j->o->k_norm, position);
            memcpy(j->v_cache + at, v + h * head_dim, head_dim * sizeof *v);
        }
    }
}

void kf_cpu_rope_kv_write(kf_stream *s, kf_kv_layer cache, void *qkv, size_t stride, const kf_batch *b,
                          const int32_t *slot_mapping, kf_heads h, const kf_qk_opts *o) {
    if (!kf_cpu_runs(s)) return;
    rope_job j = {.loops = kf_cpu_loops_of(s),
                  .qkv = qkv,
                  .k_cache = cache.k,
                  .v_cache = cache.v,
                  .stride = stride,
                  .position_ids = b->position_ids,
                  .slot_mapping = slot_mapping,
                  .h = h,
                  .o = o};
    kf_cpu_parallel_for(s, b->n_tokens, 1 + KF_CPU_GRAIN / (stride + 1), rope_body, &j);
}
