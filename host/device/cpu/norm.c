/* Layer normalisation (arXiv 1607.06450) and RMS normalisation (arXiv 1910.07467), rows shared among threads. */
#include "device/cpu/cpu.h"

typedef struct norm_job {
    const kf_cpu_loops *loops;
    float *out;
    const float *x, *gamma, *beta;
    float eps;
    size_t width;
} norm_job;

static void layernorm_body(void *arg, size_t first, size_t last) {
    const norm_job *j = arg;
    for (size_t r = first; r < last; r++)
        j->loops->layernorm(j->out + r * j->width, j->x + r * j->width, j->gamma, j->beta, j->eps, j->width);
}

void kf_cpu_layernorm(kf_stream *s, void *out, const void *x, const void *gamma, const void *beta, float eps,
                      size_t n_rows, size_t hidden) {
    if (!kf_cpu_runs(s)) return;
    norm_job j = {
        .loops = kf_cpu_loops_of(s), .out = out, .x = x, .gamma = gamma, .beta = beta, .eps = eps, .width = hidden};
    kf_cpu_parallel_for(s, n_rows, 1 + KF_CPU_GRAIN / (hidden + 1), layernorm_body, &j);
}

static void rmsnorm_body(void *arg, size_t first, size_t last) {
    const norm_job *j = arg;
    for (size_t r = first; r < last; r++)
        j->loops->rmsnorm(j->out + r * j->width, j->x + r * j->width, j->gamma, j->eps, j->width);
}

void kf_cpu_rmsnorm(kf_stream *s, void *out, const void *x, const void *gamma, float eps, size_t n_rows,
                    size_t hidden) {
    if (!kf_cpu_runs(s)) return;
    norm_job j = {.loops = kf_cpu_loops_of(s), .out = out, .x = x, .gamma = gamma, .eps = eps, .width = hidden};
    kf_cpu_parallel_for(s, n_rows, 1 + KF_CPU_GRAIN / (hidden + 1), rmsnorm_body, &j);
}
