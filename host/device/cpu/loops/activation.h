/* Activations on a vector, and the loops that apply them: the end of a product, a whole row, a gate. A row's rest is
 * computed as a padded vector, so an element's bits do not depend on its place. */

INLINE vec clamp_v(vec x, float least, float most) {
    vec low = splat(least), high = splat(most);
    return pick(x < low, low, pick(x > high, high, x));
}

INLINE vec gelu_v(vec x) {
    return 0.5f * x * (1 + erf_v(x * 0.70710678118654752f));
}

/* x tanh(ln(1 + e^x)) = x (u - 1) / (u + 1), u = (1 + e^x)^2; from 20 on it is x. */
INLINE vec mish_v(vec x) {
    vec e = exp_v(clamp_v(x, -100, 20));
    vec up = e * (e + 2);
    return pick(x > 20, x, x * (up / (up + 2)));
}

INLINE vec act_v(kf_activation act, vec x) {
    const vec zero = {0};
    switch (act) {
    case KF_ACT_GELU: return gelu_v(x);
    case KF_ACT_GELU_TANH: return 0.5f * x * (1 + tanh_v(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case KF_ACT_QUICK_GELU: return x * sigmoid_v(1.702f * x);
    case KF_ACT_GELU_10: return clamp_v(gelu_v(x), -10, 10);
    case KF_ACT_RELU: return pick(x < zero, zero, x);
    case KF_ACT_RELU6: return clamp_v(x, 0, 6);
    case KF_ACT_RELU2: return pick(x < zero, zero, x * x);
    case KF_ACT_LEAKY_RELU: return pick(x < zero, 0.01f * x, x);
    case KF_ACT_SILU: return x * sigmoid_v(x);
    case KF_ACT_MISH: return mish_v(x);
    case KF_ACT_TANH: return tanh_v(x);
    case KF_ACT_SIGMOID: return sigmoid_v(x);
    case KF_ACT_LAPLACE: return 0.5f * (1 + erf_v((x - 0.707107f) / (0.282095f * 1.41421356237309505f)));
    default: return x;
    }
}

/* One loop for each activation, so that the switch is outside of it. */
INLINE void finish_with(float *out, const float *sums, const float *bias, const float *residual, size_t n,
                        kf_activation act) {
    size_t i = 0;
    for (; i + VW <= n; i += VW) {
        vec v = load(sums + i);
        if (bias) v += load(bias + i);
        v = act_v(act, v);
        if (residual) v += load(residual + i);
        store(out + i, v);
    }
    if (i == n) return;
    vec v = load_part(sums + i, n - i, 0);
    if (bias) v += load_part(bias + i, n - i, 0);
    v = act_v(act, v);
    if (residual) v += load_part(residual + i, n - i, 0);
    store_part(out + i, v, n - i);
}

static void finish(float *out, const float *sums, const float *bias, kf_activation act, const float *residual,
                   size_t n) {
    switch (act) {
#define CASE(a)                                                                                                        \
    case a: finish_with(out, sums, bias, residual, n, a); break;
        CASE(KF_ACT_GELU)
        CASE(KF_ACT_GELU_TANH)
        CASE(KF_ACT_QUICK_GELU)
        CASE(KF_ACT_GELU_10)
        CASE(KF_ACT_RELU)
        CASE(KF_ACT_RELU6)
        CASE(KF_ACT_RELU2)
        CASE(KF_ACT_LEAKY_RELU)
        CASE(KF_ACT_SILU)
        CASE(KF_ACT_MISH)
        CASE(KF_ACT_TANH)
        CASE(KF_ACT_SIGMOID)
        CASE(KF_ACT_LAPLACE)
#undef CASE
    default: finish_with(out, sums, bias, residual, n, KF_ACT_NONE);
    }
}

static void activate(float *out, const float *x, kf_activation act, size_t n) {
    finish(out, x, NULL, act, NULL, n);
}

/* In pieces that stay in the first cache: the activation of the gate, then the product with `up`. */
static void gated(float *out, const float *gate, const float *up, kf_activation act, size_t n) {
    for (size_t first = 0, step; first < n; first += step) {
        step = n - first < 1024 ? n - first : 1024;
        activate(out + first, gate + first, act, step);
        for (size_t i = first; i < first + step; i++)
            out[i] *= up[i];
    }
}
