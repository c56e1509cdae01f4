/* The activations of kf_activation in f32, from the accurate functions of the mathematics library. The kind is the same
 * for a whole launch, so the switch costs a uniform branch. Where results become bf16, passes over long rows take the
 * two frequent ones, GELU and SiLU, from the processor's own exponential and reciprocal. */
#ifndef KF_CUDA_ACTIVATION_CUH
#define KF_CUDA_ACTIVATION_CUH

#include "primitives.cuh"

__device__ inline float sigmoid(float x) {
    return 1 / (1 + expf(-x));
}
__device__ inline float gelu(float x) {
    return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
}
/* Comparisons that a NaN passes unchanged. */
__device__ inline float clamp(float x, float least, float most) {
    return x < least ? least : x > most ? most : x;
}
/* x tanh(ln(1 + e^x)) = x (u - 1) / (u + 1), u = (1 + e^x)²; from 20 on it is x. */
__device__ inline float mish(float x) {
    float e = expf(clamp(x, -100, 20)), up = e * (e + 2);
    return x > 20 ? x : x * (up / (up + 2));
}

__device__ inline float activation(kf_activation act, float x) {
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
    case KF_ACT_MISH: return mish(x);
    case KF_ACT_TANH: return tanhf(x);
    case KF_ACT_SIGMOID: return sigmoid(x);
    case KF_ACT_LAPLACE: return 0.5f * (1 + erff((x - 0.707107f) / (0.282095f * 1.41421356237309505f)));
    default: return x;
    }
}

/* GELU to 8e-8 |x|, and to 5e-4 of itself down to -4: Phi(-|x|) = poly(t) exp(-x² / 2) / 2, t = 1 / (1 + p |x| / sqrt
 * 2) (Abramowitz and Stegun, 7.1.26). 20 instructions, by erff 30. |x| is bounded, so that infinities pass. */
__device__ inline float gelu_to_bf16(float x) {
    const float size = fminf(fabsf(x), 14), t = __fdividef(1, fmaf(0.23164189f, size, 1));
    float poly = fmaf(0.53070271f, t, -0.72657601f);
    poly = fmaf(poly, t, 0.71070687f);
    poly = fmaf(poly, t, -0.14224837f);
    poly = fmaf(poly, t, 0.12741479f) * t;
    return (x < 0 ? 0 : x) - size * (poly * exp2_approx(-0.72134752f * size * size));
}
__device__ inline float silu_to_bf16(float x) {
    return __fdividef(x, 1 + exp2_approx(-1.44269504f * x));
}

/* v[i] = act(v[i]), results to be stored as T. */
template <class T, unsigned N> __device__ void activate_all(kf_activation act, float (&v)[N]) {
    if (sizeof(T) == 2 && act == KF_ACT_GELU)
        for (unsigned i = 0; i < N; i++)
            v[i] = gelu_to_bf16(v[i]);
    else if (sizeof(T) == 2 && act == KF_ACT_SILU)
        for (unsigned i = 0; i < N; i++)
            v[i] = silu_to_bf16(v[i]);
    else
        for (unsigned i = 0; i < N; i++)
            v[i] = activation(act, v[i]);
}

#endif
