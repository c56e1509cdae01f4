/* Vectors of VW floats (4, 8 or 16) as gcc and clang have them, and what the language lacks for them. Included by
 * loops_*.c after VW is defined. */
#ifdef __x86_64__
#include <immintrin.h>
#endif
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float vec __attribute__((vector_size(VW * 4)));
typedef int32_t ivec __attribute__((vector_size(VW * 4)));
typedef uint32_t uvec __attribute__((vector_size(VW * 4)));
typedef float vec_mem __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef uint32_t uvec_mem __attribute__((vector_size(VW * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE vec load(const float *p) {
    return *(const vec_mem *)p;
}

INLINE void store(float *p, vec v) {
    *(vec_mem *)p = v;
}

INLINE vec splat(float x) {
    return x - (vec){0};
}

/* The first n < VW floats, `rest` behind them. */
INLINE vec load_part(const float *p, size_t n, float rest) {
    float buffer[VW];
    for (size_t i = 0; i < VW; i++)
        buffer[i] = i < n ? p[i] : rest;
    return load(buffer);
}

INLINE void store_part(float *p, vec v, size_t n) {
    float buffer[VW];
    store(buffer, v);
    memcpy(p, buffer, n * sizeof *p);
}

/* a b + c, fused where the processor can. */
INLINE vec fma_v(vec a, vec b, vec c) {
#if VW == 16 && defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif VW == 8 && defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

INLINE float fma_s(float a, float b, float c) {
#ifdef __FMA__
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* mask ? a : b, the mask being a comparison's. */
INLINE vec pick(ivec mask, vec a, vec b) {
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

INLINE vec max_v(vec a, vec b) {
    return pick(a > b, a, b);
}

/* Lanes are added as a tree: i and i + VW / 2 first. */
INLINE float sum_of(vec v) {
#if VW == 16 && defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float lanes[VW];
    store(lanes, v);
    for (size_t half = VW / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
#endif
}

INLINE float max_of(vec v) {
#if VW == 16 && defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float lanes[VW];
    store(lanes, v);
    for (size_t half = VW / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
    return lanes[0];
#endif
}

/* e^x within 2 ulp: 2^n e^r, |r| <= ln 2 / 2, e^r as Cephes' expf has it. 0 below -87.3, infinity above 88.7. */
INLINE vec exp_v(vec x) {
    const vec low = splat(-87.33654f), high = splat(88.72283f), magic = splat(12582912.0f); /* 1.5 2^23: rounds */
    vec c = pick(x < low, low, pick(x > high, high, x));
    vec n = fma_v(c, splat(1.44269504f), magic) - magic;
    vec r = fma_v(n, splat(-0.693359375f), c);
    r = fma_v(n, splat(2.12194440e-4f), r);
    vec p = splat(1.9875691500e-4f);
    p = fma_v(p, r, splat(1.3981999507e-3f));
    p = fma_v(p, r, splat(8.3334519073e-3f));
    p = fma_v(p, r, splat(4.1665795894e-2f));
    p = fma_v(p, r, splat(1.6666665459e-1f));
    p = fma_v(p, r, splat(5.0000001201e-1f));
    p = fma_v(p, r * r, r) + splat(1);
    /* 2^n in two factors, since n = 128 has no float of its own */
    ivec i = __builtin_convertvector(n, ivec), half = i >> 1;
    vec y = p * (vec)((half + 127) << 23) * (vec)((i - half + 127) << 23);
    y = pick(x < low, splat(0), pick(x > high, splat(INFINITY), y));
    return pick(x != x, x, y);
}

/* erf(x) within 3.2e-7: an odd rational function (Eigen's and XLA's coefficients) up to where f32 has reached 1. */
INLINE vec erf_v(vec x) {
    const vec end = splat(3.7439211627767994f);
    vec z = x * x;
    vec p = splat(2.2905065861350646e-4f);
    p = fma_v(p, z, splat(3.4082910107109506e-3f));
    p = fma_v(p, z, splat(5.0955695062380861e-2f));
    p = fma_v(p, z, splat(1.8520832239976145e-1f));
    p = fma_v(p, z, splat(1.128379143519084f));
    vec q = splat(-1.1791602954361697e-7f);
    q = fma_v(q, z, splat(2.3547966471313185e-5f));
    q = fma_v(q, z, splat(1.0179625278914885e-3f));
    q = fma_v(q, z, splat(1.4070470171167667e-2f));
    q = fma_v(q, z, splat(1.1098505178285362e-1f));
    q = fma_v(q, z, splat(4.9746925110067538e-1f));
    q = fma_v(q, z, splat(1));
    return pick(x < -end, splat(-1), pick(x > end, splat(1), x * p / q));
}

/* tanh(x): Cephes' polynomial below 0.625, 1 - 2 / (e^2x + 1) above. */
INLINE vec tanh_v(vec x) {
    vec z = x * x, p = splat(-5.70498872745e-3f);
    p = fma_v(p, z, splat(2.06390887954e-2f));
    p = fma_v(p, z, splat(-5.37397155531e-2f));
    p = fma_v(p, z, splat(1.33314422036e-1f));
    p = fma_v(p, z, splat(-3.33332819422e-1f));
    vec small = fma_v(p * z, x, x), large = 1 - 2 / (exp_v(x + x) + 1);
    return pick(z < splat(0.625f * 0.625f), small, large);
}

INLINE vec sigmoid_v(vec x) {
    return 1 / (1 + exp_v(-x));
}
