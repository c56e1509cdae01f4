/* Loads with cache hints, bits and mathematics of device code. expf and its like are libm's: within an ulp or two of
 * the device's, not equal. */
#ifndef KF_ONCPU_DEVICE_MATH_H
#define KF_ONCPU_DEVICE_MATH_H

#include <cmath>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

template <class T> inline T __ldg(const T *p) {
    return *p;
}
template <class T> inline T __ldcg(const T *p) {
    return *p;
}
template <class T> inline T __ldcs(const T *p) {
    return *p;
}
template <class T> inline void __stcg(T *p, T v) {
    *p = v;
}
template <class T> inline void __stcs(T *p, T v) {
    *p = v;
}
inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
inline int __ffs(int x) {
    return __builtin_ffs(x);
}
inline float __int_as_float(int x) {
    float r;
    memcpy(&r, &x, 4);
    return r;
}
inline int __float_as_int(float x) {
    int r;
    memcpy(&r, &x, 4);
    return r;
}
inline float __uint_as_float(unsigned x) {
    float r;
    memcpy(&r, &x, 4);
    return r;
}
inline unsigned __float_as_uint(float x) {
    unsigned r;
    memcpy(&r, &x, 4);
    return r;
}
inline float __expf(float x) {
    return expf(x);
}
inline float __logf(float x) {
    return logf(x);
}
inline float __fdividef(float a, float b) {
    return a / b;
}
inline float __frcp_rn(float x) {
    return 1.0f / x;
}
inline float __fsqrt_rn(float x) {
    return sqrtf(x);
}
inline float __frsqrt_rn(float x) {
    return 1.0f / sqrtf(x);
}
inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
inline float __saturatef(float x) {
    return x < 0 ? 0.f : x > 1 ? 1.f : x;
}
#define KF_ONCPU_MINMAX(T)                                                                                             \
    inline T min(T a, T b) {                                                                                           \
        return b < a ? b : a;                                                                                          \
    }                                                                                                                  \
    inline T max(T a, T b) {                                                                                           \
        return a < b ? b : a;                                                                                          \
    }                                                                                                                  \
    static_assert(true, "a call ends with a semicolon")
KF_ONCPU_MINMAX(int);
KF_ONCPU_MINMAX(unsigned);
KF_ONCPU_MINMAX(long);
KF_ONCPU_MINMAX(unsigned long);
KF_ONCPU_MINMAX(long long);
KF_ONCPU_MINMAX(unsigned long long);
KF_ONCPU_MINMAX(float);
KF_ONCPU_MINMAX(double);
#undef KF_ONCPU_MINMAX

/* Of cuda_bf16.h and cuda_fp16.h, what is for devices only. */
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
    return __float2bfloat16_rn(fmaf(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c)));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
    return __nv_bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
inline __half __hfma(__half a, __half b, __half c) {
    return __float2half_rn(fmaf(__half2float(a), __half2float(b), __half2float(c)));
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
    return __half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

#endif
