/* Built-ins of device code as functions: indices, barriers, votes, shuffles, atomics. A built-in takes its caller's
 * file and line as last parameters, for what the runner has to say. Mathematics is in device_math.h. */
#ifndef KF_ONCPU_DEVICE_CODE_H
#define KF_ONCPU_DEVICE_CODE_H

#include "machine.h"

#include <cstring>

namespace oncpu {

template <class T> KF_ONCPU_NOSAN void shuffle_done(warp &w, uint32_t mask) {
    for (uint32_t m = mask; m; m &= m - 1) {
        lane_op &o = w.lane[__builtin_ctz(m)]->op;
        if (!(mask >> o.arg & 1))
            fail("shuffle: lane %d reads lane %d, which is not in mask %08x (%s at %s:%d)", __builtin_ctz(m), o.arg,
                 mask, o.at.op, o.at.file, o.at.line);
        *(T *)o.out = *(const T *)w.lane[o.arg]->op.in;
    }
}
template <class T> T shuffle(unsigned mask, T v, int from, place at) {
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "a shuffle is of 8 bytes at most");
    T out;
    warp_operation(&shuffle_done<T>, mask, &v, &out, from, at);
    return out;
}

template <class T, class F> KF_ONCPU_NOSAN void reduce_done(warp &w, uint32_t mask) {
    T all = *(const T *)w.lane[__builtin_ctz(mask)]->op.in;
    for (uint32_t m = mask & (mask - 1); m; m &= m - 1)
        all = F::of(all, *(const T *)w.lane[__builtin_ctz(m)]->op.in);
    for (uint32_t m = mask; m; m &= m - 1)
        *(T *)w.lane[__builtin_ctz(m)]->op.out = all;
}
template <class F, class T> T reduce(unsigned mask, T v, place at) {
    T out;
    warp_operation(&reduce_done<T, F>, mask, &v, &out, 0, at);
    return out;
}
#define KF_ONCPU_REDUCTION(name, expression)                                                                           \
    struct name {                                                                                                      \
        template <class T> static T of(T a, T b) {                                                                     \
            return expression;                                                                                         \
        }                                                                                                              \
    }
KF_ONCPU_REDUCTION(add, T(a + b));
KF_ONCPU_REDUCTION(least, b < a ? b : a);
KF_ONCPU_REDUCTION(most, a < b ? b : a);
KF_ONCPU_REDUCTION(bits_and, a &b);
KF_ONCPU_REDUCTION(bits_or, a | b);
KF_ONCPU_REDUCTION(bits_xor, a ^ b);
#undef KF_ONCPU_REDUCTION

KF_ONCPU_NOSAN inline void ballot_done(warp &w, uint32_t mask) {
    uint32_t yes = 0;
    for (uint32_t m = mask; m; m &= m - 1)
        if (*(const unsigned *)w.lane[__builtin_ctz(m)]->op.in) yes |= m & -m;
    for (uint32_t m = mask; m; m &= m - 1)
        *(unsigned *)w.lane[__builtin_ctz(m)]->op.out = yes;
}

template <class T> KF_ONCPU_NOSAN void match_done(warp &w, uint32_t mask) {
    for (uint32_t m = mask; m; m &= m - 1) {
        const lane_op &o = w.lane[__builtin_ctz(m)]->op;
        uint32_t same = 0;
        for (uint32_t k = mask; k; k &= k - 1)
            if (*(const T *)o.in == *(const T *)w.lane[__builtin_ctz(k)]->op.in) same |= k & -k;
        *(uint32_t *)o.out = same;
    }
}

inline int lane_index() {
    if (!current) fail("a shuffle outside of a kernel");
    return (int)current->lane;
}

/* Atomics are relaxed, as on the device. */
template <class T, class F> T modify(T *p, F f) {
    T old, then;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do
        then = f(old);
    while (!__atomic_compare_exchange(p, &old, &then, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

} // namespace oncpu

/* ---- barriers, votes, shuffles ---- */

inline void __syncthreads(KF_ONCPU_LOC) {
    oncpu::block_barrier(0, 0, KF_ONCPU_HERE("__syncthreads"));
}
inline int __syncthreads_count(int p, KF_ONCPU_LOC) {
    return oncpu::block_vote(p, oncpu::vote::count, KF_ONCPU_HERE("__syncthreads_count"));
}
inline int __syncthreads_and(int p, KF_ONCPU_LOC) {
    return oncpu::block_vote(p, oncpu::vote::all, KF_ONCPU_HERE("__syncthreads_and"));
}
inline int __syncthreads_or(int p, KF_ONCPU_LOC) {
    return oncpu::block_vote(p, oncpu::vote::any, KF_ONCPU_HERE("__syncthreads_or"));
}
inline void __syncwarp(unsigned mask = 0xffffffffu, KF_ONCPU_LOC) {
    oncpu::warp_operation(nullptr, mask, nullptr, nullptr, 0, KF_ONCPU_HERE("__syncwarp"), true);
}
inline unsigned __ballot_sync(unsigned mask, int p, KF_ONCPU_LOC) {
    unsigned in = p != 0, out;
    oncpu::warp_operation(&oncpu::ballot_done, mask, &in, &out, 0, KF_ONCPU_HERE("__ballot_sync"));
    return out;
}
inline int __any_sync(unsigned mask, int p, KF_ONCPU_LOC) {
    return __ballot_sync(mask, p, oncpu_f, oncpu_l) != 0;
}
inline int __all_sync(unsigned mask, int p, KF_ONCPU_LOC) {
    return __ballot_sync(mask, p, oncpu_f, oncpu_l) == mask;
}
template <class T> inline unsigned __match_any_sync(unsigned mask, T v, KF_ONCPU_LOC) {
    unsigned out;
    oncpu::warp_operation(&oncpu::match_done<T>, mask, &v, &out, 0, KF_ONCPU_HERE("__match_any_sync"));
    return out;
}
template <class T> inline T __shfl_sync(unsigned mask, T v, int src, int width = 32, KF_ONCPU_LOC) {
    int lane = oncpu::lane_index();
    return oncpu::shuffle(mask, v, (lane & ~(width - 1)) | (src & (width - 1)), KF_ONCPU_HERE("__shfl_sync"));
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int lm, int width = 32, KF_ONCPU_LOC) {
    int lane = oncpu::lane_index(), src = lane ^ lm;
    return oncpu::shuffle(mask, v, src >= ((lane & ~(width - 1)) + width) ? lane : src,
                          KF_ONCPU_HERE("__shfl_xor_sync"));
}
template <class T> inline T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32, KF_ONCPU_LOC) {
    int lane = oncpu::lane_index();
    return oncpu::shuffle(mask, v, (lane & (width - 1)) + (int)d >= width ? lane : lane + (int)d,
                          KF_ONCPU_HERE("__shfl_down_sync"));
}
template <class T> inline T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32, KF_ONCPU_LOC) {
    int lane = oncpu::lane_index();
    return oncpu::shuffle(mask, v, (lane & (width - 1)) < (int)d ? lane : lane - (int)d,
                          KF_ONCPU_HERE("__shfl_up_sync"));
}
#define KF_ONCPU_REDUCE(name, F, T)                                                                                    \
    inline T name(unsigned mask, T v, KF_ONCPU_LOC) {                                                                  \
        return oncpu::reduce<oncpu::F>(mask, v, KF_ONCPU_HERE(#name));                                                 \
    }                                                                                                                  \
    static_assert(true, "a call ends with a semicolon")
KF_ONCPU_REDUCE(__reduce_add_sync, add, unsigned);
KF_ONCPU_REDUCE(__reduce_add_sync, add, int);
KF_ONCPU_REDUCE(__reduce_min_sync, least, unsigned);
KF_ONCPU_REDUCE(__reduce_min_sync, least, int);
KF_ONCPU_REDUCE(__reduce_max_sync, most, unsigned);
KF_ONCPU_REDUCE(__reduce_max_sync, most, int);
KF_ONCPU_REDUCE(__reduce_and_sync, bits_and, unsigned);
KF_ONCPU_REDUCE(__reduce_or_sync, bits_or, unsigned);
KF_ONCPU_REDUCE(__reduce_xor_sync, bits_xor, unsigned);
#undef KF_ONCPU_REDUCE
inline void __threadfence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __threadfence_block() {
}
inline void __threadfence_system() {
}
inline void __nanosleep(unsigned) {
    oncpu::yield();
}
[[noreturn]] inline void __trap() {
    oncpu::fail("__trap()");
}

/* ---- atomics ---- */

#define KF_ONCPU_ATOMICS(T)                                                                                            \
    inline T atomicAdd(T *p, T v) {                                                                                    \
        return oncpu::modify(p, [v](T o) { return static_cast<T>(o + v); });                                           \
    }                                                                                                                  \
    inline T atomicMax(T *p, T v) {                                                                                    \
        return oncpu::modify(p, [v](T o) { return o < v ? v : o; });                                                   \
    }                                                                                                                  \
    inline T atomicMin(T *p, T v) {                                                                                    \
        return oncpu::modify(p, [v](T o) { return v < o ? v : o; });                                                   \
    }                                                                                                                  \
    inline T atomicExch(T *p, T v) {                                                                                   \
        return oncpu::modify(p, [v](T) -> T { return v; });                                                            \
    }                                                                                                                  \
    inline T atomicCAS(T *p, T c, T v) {                                                                               \
        return oncpu::modify(p, [c, v](T o) { return o == c ? v : o; });                                               \
    }                                                                                                                  \
    static_assert(true, "a call ends with a semicolon")
KF_ONCPU_ATOMICS(int);
KF_ONCPU_ATOMICS(unsigned);
KF_ONCPU_ATOMICS(unsigned long long);
#undef KF_ONCPU_ATOMICS
inline float atomicAdd(float *p, float v) {
    return oncpu::modify(p, [v](float o) { return o + v; });
}
inline double atomicAdd(double *p, double v) {
    return oncpu::modify(p, [v](double o) { return o + v; });
}
inline unsigned atomicOr(unsigned *p, unsigned v) {
    return __atomic_fetch_or(p, v, __ATOMIC_RELAXED);
}
inline unsigned atomicAnd(unsigned *p, unsigned v) {
    return __atomic_fetch_and(p, v, __ATOMIC_RELAXED);
}
inline unsigned atomicInc(unsigned *p, unsigned v) {
    return oncpu::modify(p, [v](unsigned o) { return o >= v ? 0u : o + 1; });
}

#endif
