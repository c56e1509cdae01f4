/* out = act(x Wᵀ + bias) + residual, in plain C. */
#include "device/cpu/cpu.h"
#include "device/bf16.h"

typedef struct linear_job {
    float *out;         /* [n_rows, n_out] */
    const float *x;     /* [n_rows, n_in] */
    const kf_weight *w; /* [n_out, n_in] */
    kf_linear_opts o;
} linear_job;

static float dot(const float *x, const kf_weight *w, size_t col) {
    float sum = 0;
    if (w->dtype == KF_F32) {
        const float *row = (const float *)w->data + col * w->n_in;
        for (size_t k = 0; k < w->n_in; k++)
            sum += x[k] * row[k];
    } else {
        const uint16_t *row = (const uint16_t *)w->data + col * w->n_in;
        for (size_t k = 0; k < w->n_in; k++)
            sum += x[k] * kf_bf16_to_f32(row[k]);
    }
    return sum;
}

/* Elements first .. last of out, counted row by row. */
static void linear_body(void *arg, size_t first, size_t last) {
    const linear_job *j = arg;
    const kf_weight *w = j->w;
    for (size_t i = first; i < last; i++) {
        size_t row = i / w->n_out, col = i % w->n_out;
        float v = dot(j->x + row * w->n_in, w, col);
        if (w->bias) v += w->bias[col];
        v = kf_cpu_act(j->o.act, v);
        if (j->o.residual) v += ((const float *)j->o.residual)[i];
        j->out[i] = v;
    }
}

void kf_cpu_linear(kf_stream *s, void *out, const void *x, const kf_weight *w, size_t n_rows, kf_linear_opts o) {
    if (!kf_cpu_runs(s)) return;
    linear_job j = {.out = out, .x = x, .w = w, .o = o};
    kf_cpu_parallel_for(s, n_rows * w->n_out, 64, linear_body, &j);
}
