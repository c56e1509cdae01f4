/* Layer normalisation (arXiv 1607.06450) and RMS normalisation (arXiv 1910.07467), one row at a time. */
#include "device/cpu/cpu.h"

#include <math.h>

typedef struct norm_job {
    float *out;
    const float *x, *residual, *gamma, *beta;
    float eps;
    size_t width, stride, n_groups;
} norm_job;

static void layernorm_row(float *out, const float *x, const float *residual, const norm_job *j) {
    size_t n = j->width;
    float sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = residual ? x[i] + residual[i] : x[i];
        sum += out[i];
    }
    float mean = sum / (float)n;
    for (size_t i = 0; i < n; i++)
        squares += (out[i] - mean) * (out[i] - mean);
    float scale = 1 / sqrtf(squares / (float)n + j->eps);
    for (size_t i = 0; i < n; i++)
        out[i] = j->gamma[i] * ((out[i] - mean) * scale) + j->beta[i];
}

static void layernorm_body(void *arg, size_t first, size_t last) {
    const norm_job *j = arg;
    for (size_t r = first; r < last; r++)
        layernorm_row(j->out + r * j->width, j->x + r * j->width, j->residual ? j->residual + r * j->width : NULL, j);
}

void kf_cpu_layernorm(kf_stream *s, void *out, const void *x, const void *residual, const void *gamma, const void *beta,
                      float eps, size_t n_rows, size_t hidden) {
    if (!kf_cpu_runs(s)) return;
    norm_job j = {.out = out, .x = x, .residual = residual, .gamma = gamma, .beta = beta, .eps = eps, .width = hidden};
    kf_cpu_parallel_for(s, n_rows, 8, layernorm_body, &j);
}

static void rmsnorm_row(float *out, const float *x, const norm_job *j) {
    size_t n = j->width;
    float squares = 0;
    for (size_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    float scale = 1 / sqrtf(squares / (float)n + j->eps);
    for (size_t i = 0; i < n; i++)
        out[i] = j->gamma[i] * (x[i] * scale);
}

/* Groups first .. last, counted over all rows. */
static void rmsnorm_body(void *arg, size_t first, size_t last) {
    const norm_job *j = arg;
    for (size_t i = first; i < last; i++) {
        size_t at = i / j->n_groups * j->stride + i % j->n_groups * j->width;
        rmsnorm_row(j->out + at, j->x + at, j);
    }
}

void kf_cpu_rmsnorm(kf_stream *s, void *out, const void *x, size_t x_stride, const void *gamma, float eps,
                    size_t n_rows, size_t n_groups, size_t width) {
    if (!kf_cpu_runs(s)) return;
    norm_job j = {
        .out = out, .x = x, .gamma = gamma, .eps = eps, .width = width, .stride = x_stride, .n_groups = n_groups};
    kf_cpu_parallel_for(s, n_rows * n_groups, 8, rmsnorm_body, &j);
}
