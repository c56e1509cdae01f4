/* Activations, and the gate of a gated feed-forward (SwiGLU, arXiv 2002.05202). */
#include "device/cpu/cpu.h"

#include <math.h>

static float sigmoid(float x) {
    return 1 / (1 + expf(-x));
}

static float gelu(float x) {
    return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
}

static float clamp(float x, float least, float most) {
    return x < least ? least : x > most ? most : x; /* NaN stays NaN */
}

float kf_cpu_act(kf_activation act, float x) {
    switch (act) {
    case KF_ACT_GELU: return gelu(x);
    case KF_ACT_GELU_TANH: return 0.5f * x * (1 + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case KF_ACT_QUICK_GELU: return x * sigmoid(1.702f * x);
    case KF_ACT_GELU_10: return clamp(gelu(x), -10, 10);
    case KF_ACT_RELU: return x < 0 ? 0 : x;
    case KF_ACT_RELU6: return clamp(x, 0, 6);
    case KF_ACT_RELU2: return x < 0 ? 0 : x * x;
    case KF_ACT_LEAKY_RELU: return x < 0 ? 0.01f * x : x;
    case KF_ACT_SILU: return x * sigmoid(x);
    case KF_ACT_MISH: return x * tanhf(x > 20 ? x : log1pf(expf(x)));
    case KF_ACT_TANH: return tanhf(x);
    case KF_ACT_SIGMOID: return sigmoid(x);
    case KF_ACT_LAPLACE: return 0.5f * (1 + erff((x - 0.707107f) / (0.282095f * 1.41421356237309505f)));
    default: return x;
    }
}

typedef struct act_job {
    float *out;
    const float *x;
    kf_activation act;
    size_t width;
} act_job;

static void activate_body(void *arg, size_t first, size_t last) {
    const act_job *j = arg;
    for (size_t i = first; i < last; i++)
        j->out[i] = kf_cpu_act(j->act, j->x[i]);
}

void kf_cpu_activate(kf_stream *s, void *out, const void *x, kf_activation act, size_t n) {
    if (!kf_cpu_runs(s)) return;
    act_job j = {.out = out, .x = x, .act = act};
    kf_cpu_parallel_for(s, n, 4096, activate_body, &j);
}

static void gated_body(void *arg, size_t first, size_t last) {
    const act_job *j = arg;
    for (size_t r = first; r < last; r++) {
        const float *gate = j->x + r * 2 * j->width, *up = gate + j->width;
        for (size_t i = 0; i < j->width; i++)
            j->out[r * j->width + i] = kf_cpu_act(j->act, gate[i]) * up[i];
    }
}

void kf_cpu_gated(kf_stream *s, void *out, const void *gate_up, kf_activation act, size_t n_rows, size_t width) {
    if (!kf_cpu_runs(s)) return;
    act_job j = {.out = out, .x = gate_up, .act = act, .width = width};
    kf_cpu_parallel_for(s, n_rows, 1 + 4096 / (width + 1), gated_body, &j);
}
