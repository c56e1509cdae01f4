/* Activations, and the gate of a gated feed-forward (SwiGLU, arXiv 2002.05202): the functions are the inner loops'; and
 * sums. */
#include "device/cpu/cpu.h"

typedef struct act_job {
    const kf_cpu_loops *loops;
    float *out;
    const float *x;
    kf_activation act;
    size_t width;
} act_job;

static void activate_body(void *arg, size_t first, size_t last) {
    const act_job *j = arg;
    j->loops->activate(j->out + first, j->x + first, j->act, last - first);
}

void kf_cpu_activate(kf_stream *s, void *out, const void *x, kf_activation act, size_t n) {
    if (!kf_cpu_runs(s)) return;
    act_job j = {.loops = kf_cpu_loops_of(s), .out = out, .x = x, .act = act};
    kf_cpu_parallel_for(s, n, KF_CPU_GRAIN, activate_body, &j);
}

typedef struct add_job {
    float *out;
    const float *x, *y;
} add_job;

static void add_body(void *arg, size_t first, size_t last) {
    const add_job *j = arg;
    for (size_t i = first; i < last; i++)
        j->out[i] = j->x[i] + j->y[i];
}

void kf_cpu_add(kf_stream *s, void *out, const void *x, const void *y, size_t n) {
    if (!kf_cpu_runs(s)) return;
    add_job j = {.out = out, .x = x, .y = y};
    kf_cpu_parallel_for(s, n, KF_CPU_GRAIN, add_body, &j);
}

static void gated_body(void *arg, size_t first, size_t last) {
    const act_job *j = arg;
    for (size_t r = first; r < last; r++) {
        const float *gate = j->x + r * 2 * j->width;
        j->loops->gated(j->out + r * j->width, gate, gate + j->width, j->act, j->width);
    }
}

void kf_cpu_gated(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows, size_t width) {
    if (!kf_cpu_runs(s)) return;
    act_job j = {.loops = kf_cpu_loops_of(s), .out = out, .x = gate_up, .act = act, .width = width};
    kf_cpu_parallel_for(s, n_rows, 1 + KF_CPU_GRAIN / (width + 1), gated_body, &j);
}
