// cuda on cpu: run CUDA kernels on the CPU, one fiber per CUDA thread. Test only.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <cuda_fp16.h>
#include <cuda_bf16.h>

#if defined(__SANITIZE_ADDRESS__)
#define KF_ONCPU_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define KF_ONCPU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KF_ONCPU_ASAN 1
#elif __has_feature(thread_sanitizer)
#define KF_ONCPU_TSAN 1
#elif __has_feature(memory_sanitizer)
#define KF_ONCPU_MSAN 1
#endif
#endif
#if defined(__clang__)
#define KF_ONCPU_NOSAN __attribute__((noinline, no_sanitize("address", "thread")))
#else
#define KF_ONCPU_NOSAN __attribute__((noinline, no_sanitize_address, no_sanitize_thread))
#endif
#define KF_ONCPU_LOC const char *oncpu_f = __builtin_FILE(), int oncpu_l = __builtin_LINE()
#define KF_ONCPU_HERE(op)                                                                                              \
    ::oncpu::Loc {                                                                                                     \
        op, oncpu_f, oncpu_l                                                                                           \
    }

namespace oncpu {
struct Loc {
    const char *op, *file;
    int line;
};
struct Warp;
struct Block;
typedef void (*WarpFn)(Warp &, uint32_t mask); // run once, by the last lane to arrive
struct LaneOp {
    WarpFn fn;
    uint32_t mask;
    const void *in;
    void *out;
    int arg;
    int aux;
    Loc loc;
};
struct CpAsync {
    void *dst;
    const void *src;
    int bytes, src_bytes, group;
};

struct Thread { // one CUDA thread = one fiber
    void *sp = nullptr;
    uint3 tid{};
    uint32_t lane = 0, bit = 0;
    Warp *warp = nullptr;
    Block *blk = nullptr;
    LaneOp op{};
    char *stack = nullptr;
    size_t stack_size = 0;
    void *fake_stack = nullptr, *tsan_fiber = nullptr;
    CpAsync cp[256];
    int ncp = 0, cpgroup = 0;
};
struct Warp {
    uint32_t valid = 0, runnable = 0, exited = 0, inwarp = 0;
    uint8_t gen[32] = {};
    Thread *lane[32] = {};
};
struct Block {
    uint3 bidx{};
    dim3 bdim, gdim;
};

extern __thread Thread *cur;
void warp_collective(WarpFn fn, uint32_t mask, const void *in, void *out, int arg, Loc loc, int aux = 0);
void block_barrier(int id, int nthreads, Loc loc);
int block_vote(int pred, int what, Loc loc); // what: 0 count, 1 and, 2 or
void *static_smem_get(const void *key, size_t bytes, size_t align, const char *name);
void *dyn_smem();
void cp_async(void *dst, const void *src, int bytes, int src_bytes, Loc loc);
void cp_async_commit();
const CpAsync *cp_async_pop(int n);
void yield_thread();
[[noreturn]] void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
cudaError_t enqueue_kernel(const char *name, const char *file, int line, const void *fn, const cudaLaunchConfig_t *cfg,
                           std::function<void()> body);
void enqueue(cudaStream_t s, std::function<void()> fn); // for cuBLAS
void check_device_range(const void *p, size_t bytes, const char *what);
void device_enter(); // device memory is accessible between the two
void device_leave();

template <class... P, class... A>
cudaError_t launch(const char *name, const char *file, int line, const cudaLaunchConfig_t *cfg, void (*k)(P...),
                   A &&...a) {
    static_assert((!std::is_reference<P>::value && ...), "kernel parameters must be by value");
    std::tuple<std::remove_const_t<P>...> args(static_cast<P>(std::forward<A>(a))...);
    return enqueue_kernel(name, file, line, (const void *)k, cfg, [k, args] { std::apply(k, args); });
}

template <class T, class Tag> T &static_smem(Tag, const char *name) {
    static char key;
    return *reinterpret_cast<T *>(static_smem_get(&key, sizeof(T), alignof(T), name));
}
template <class T> KF_ONCPU_NOSAN void shfl_done(Warp &w, uint32_t mask) {
    for (uint32_t m = mask; m; m &= m - 1) {
        LaneOp &o = w.lane[__builtin_ctz(m)]->op;
        if (!(mask >> o.arg & 1))
            fail("shuffle: lane %d reads lane %d, which is not in mask %08x (%s at %s:%d)", __builtin_ctz(m), o.arg,
                 mask, o.loc.op, o.loc.file, o.loc.line);
        *(T *)o.out = *(const T *)w.lane[o.arg]->op.in;
    }
}
template <class T> inline T shfl(unsigned mask, T v, int src, Loc loc) {
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "shuffle of at most 8 bytes");
    T out;
    warp_collective(&shfl_done<T>, mask, &v, &out, src, loc);
    return out;
}
template <class T, class F> KF_ONCPU_NOSAN void reduce_done(Warp &w, uint32_t mask) {
    T r = *(const T *)w.lane[__builtin_ctz(mask)]->op.in;
    for (uint32_t m = mask & (mask - 1); m; m &= m - 1)
        r = F::f(r, *(const T *)w.lane[__builtin_ctz(m)]->op.in);
    for (uint32_t m = mask; m; m &= m - 1)
        *(T *)w.lane[__builtin_ctz(m)]->op.out = r;
}
template <class F, class T> inline T reduce(unsigned mask, T v, Loc loc) {
    T out;
    warp_collective(&reduce_done<T, F>, mask, &v, &out, 0, loc);
    return out;
}
struct Add {
    template <class T> static T f(T a, T b) {
        return T(a + b);
    }
};
struct Min {
    template <class T> static T f(T a, T b) {
        return b < a ? b : a;
    }
};
struct Max {
    template <class T> static T f(T a, T b) {
        return a < b ? b : a;
    }
};
struct And {
    template <class T> static T f(T a, T b) {
        return a & b;
    }
};
struct Or {
    template <class T> static T f(T a, T b) {
        return a | b;
    }
};
struct Xor {
    template <class T> static T f(T a, T b) {
        return a ^ b;
    }
};
void ballot_done(Warp &, uint32_t);
void syncwarp_done(Warp &, uint32_t);
template <class T> KF_ONCPU_NOSAN void match_done(Warp &w, uint32_t mask) {
    for (uint32_t m = mask; m; m &= m - 1) {
        LaneOp &o = w.lane[__builtin_ctz(m)]->op;
        uint32_t r = 0;
        for (uint32_t k = mask; k; k &= k - 1)
            if (*(const T *)o.in == *(const T *)w.lane[__builtin_ctz(k)]->op.in) r |= k & -k;
        *(uint32_t *)o.out = r;
    }
}
} // namespace oncpu

#undef cudaLaunchKernelEx
#define cudaLaunchKernelEx(cfg, ...) ::oncpu::launch(#__VA_ARGS__, __FILE__, __LINE__, cfg, __VA_ARGS__)

template <class R, class... P> inline cudaError_t cudaFuncSetAttribute(R (*f)(P...), cudaFuncAttribute a, int v) {
    return cudaFuncSetAttribute((const void *)f, a, v);
}

// ---- index built-ins
// (variables, not macros: cudaLaunchConfig_t has members named gridDim and blockDim)
extern __thread uint3 threadIdx, blockIdx;
extern __thread dim3 blockDim, gridDim;
static const int warpSize __attribute__((unused)) = 32;

// ---- barriers, votes, shuffles
inline void __syncthreads(KF_ONCPU_LOC) {
    oncpu::block_barrier(0, 0, KF_ONCPU_HERE("__syncthreads"));
}
inline int __syncthreads_count(int p, KF_ONCPU_LOC) {
    return oncpu::block_vote(p, 0, KF_ONCPU_HERE("__syncthreads_count"));
}
inline int __syncthreads_and(int p, KF_ONCPU_LOC) {
    return oncpu::block_vote(p, 1, KF_ONCPU_HERE("__syncthreads_and"));
}
inline int __syncthreads_or(int p, KF_ONCPU_LOC) {
    return oncpu::block_vote(p, 2, KF_ONCPU_HERE("__syncthreads_or"));
}
inline void __syncwarp(unsigned mask = 0xffffffffu, KF_ONCPU_LOC) {
    oncpu::warp_collective(&oncpu::syncwarp_done, mask, nullptr, nullptr, 0, KF_ONCPU_HERE("__syncwarp"), 1);
}
inline unsigned __ballot_sync(unsigned mask, int p, KF_ONCPU_LOC) {
    unsigned in = p != 0, out;
    oncpu::warp_collective(&oncpu::ballot_done, mask, &in, &out, 0, KF_ONCPU_HERE("__ballot_sync"));
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
    oncpu::warp_collective(&oncpu::match_done<T>, mask, &v, &out, 0, KF_ONCPU_HERE("__match_any_sync"));
    return out;
}
template <class T> inline T __shfl_sync(unsigned mask, T v, int src, int width = 32, KF_ONCPU_LOC) {
    int lane = oncpu::cur->lane;
    return oncpu::shfl(mask, v, (lane & ~(width - 1)) | (src & (width - 1)), KF_ONCPU_HERE("__shfl_sync"));
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int lm, int width = 32, KF_ONCPU_LOC) {
    int lane = oncpu::cur->lane, src = lane ^ lm;
    return oncpu::shfl(mask, v, src >= ((lane & ~(width - 1)) + width) ? lane : src, KF_ONCPU_HERE("__shfl_xor_sync"));
}
template <class T> inline T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32, KF_ONCPU_LOC) {
    int lane = oncpu::cur->lane;
    return oncpu::shfl(mask, v, (lane & (width - 1)) + (int)d >= width ? lane : lane + (int)d,
                       KF_ONCPU_HERE("__shfl_down_sync"));
}
template <class T> inline T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32, KF_ONCPU_LOC) {
    int lane = oncpu::cur->lane;
    return oncpu::shfl(mask, v, (lane & (width - 1)) < (int)d ? lane : lane - (int)d, KF_ONCPU_HERE("__shfl_up_sync"));
}
#define KF_ONCPU_REDUCE(name, F, T)                                                                                    \
    inline T name(unsigned mask, T v, KF_ONCPU_LOC) {                                                                  \
        return oncpu::reduce<oncpu::F>(mask, v, KF_ONCPU_HERE(#name));                                                 \
    }                                                                                                                  \
    static_assert(true, "a call ends with a semicolon")
KF_ONCPU_REDUCE(__reduce_add_sync, Add, unsigned);
KF_ONCPU_REDUCE(__reduce_add_sync, Add, int);
KF_ONCPU_REDUCE(__reduce_min_sync, Min, unsigned);
KF_ONCPU_REDUCE(__reduce_min_sync, Min, int);
KF_ONCPU_REDUCE(__reduce_max_sync, Max, unsigned);
KF_ONCPU_REDUCE(__reduce_max_sync, Max, int);
KF_ONCPU_REDUCE(__reduce_and_sync, And, unsigned);
KF_ONCPU_REDUCE(__reduce_or_sync, Or, unsigned);
KF_ONCPU_REDUCE(__reduce_xor_sync, Xor, unsigned);
#undef KF_ONCPU_REDUCE
inline void __threadfence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __threadfence_block() {
}
inline void __threadfence_system() {
}
inline void __nanosleep(unsigned) {
    oncpu::yield_thread();
}
[[noreturn]] inline void __trap() {
    oncpu::fail("__trap()");
}

// ---- atomics (relaxed, as on the device)
template <class T, class F> inline T oncpu_rmw(T *p, F f) {
    T old, nw;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do
        nw = f(old);
    while (!__atomic_compare_exchange(p, &old, &nw, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
#define KF_ONCPU_ATOMICS(T)                                                                                            \
    inline T atomicAdd(T *p, T v) {                                                                                    \
        return oncpu_rmw(p, [v](T o) { return static_cast<T>(o + v); });                                               \
    }                                                                                                                  \
    inline T atomicMax(T *p, T v) {                                                                                    \
        return oncpu_rmw(p, [v](T o) { return o < v ? v : o; });                                                       \
    }                                                                                                                  \
    inline T atomicMin(T *p, T v) {                                                                                    \
        return oncpu_rmw(p, [v](T o) { return v < o ? v : o; });                                                       \
    }                                                                                                                  \
    inline T atomicExch(T *p, T v) {                                                                                   \
        return oncpu_rmw(p, [v](T) -> T { return v; });                                                                \
    }                                                                                                                  \
    inline T atomicCAS(T *p, T c, T v) {                                                                               \
        return oncpu_rmw(p, [c, v](T o) { return o == c ? v : o; });                                                   \
    }                                                                                                                  \
    static_assert(true, "a call ends with a semicolon")
KF_ONCPU_ATOMICS(int);
KF_ONCPU_ATOMICS(unsigned);
KF_ONCPU_ATOMICS(unsigned long long);
#undef KF_ONCPU_ATOMICS
inline float atomicAdd(float *p, float v) {
    return oncpu_rmw(p, [v](float o) { return o + v; });
}
inline double atomicAdd(double *p, double v) {
    return oncpu_rmw(p, [v](double o) { return o + v; });
}
inline unsigned atomicOr(unsigned *p, unsigned v) {
    return __atomic_fetch_or(p, v, __ATOMIC_RELAXED);
}
inline unsigned atomicAnd(unsigned *p, unsigned v) {
    return __atomic_fetch_and(p, v, __ATOMIC_RELAXED);
}
inline unsigned atomicInc(unsigned *p, unsigned v) {
    return oncpu_rmw(p, [v](unsigned o) { return o >= v ? 0u : o + 1; });
}

// ---- loads, bits, maths
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
// device-only parts of cuda_bf16.h / cuda_fp16.h that kernels commonly want
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

#include "primitives.h"
