/* The machine that kernels run on, as device code sees it: one block at a time, a fiber for each of its CUDA threads,
 * 32 of them a warp. A fiber runs until it waits, at a barrier or a warp operation; then another one of the block does.
 * device_code.h and primitives.h are written against this header; host code is against CUDA's and runner.h. */
#ifndef KF_ONCPU_MACHINE_H
#define KF_ONCPU_MACHINE_H

#include <cstdint>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

/* What reads the operands of other fibers, which lie on their stacks: no race, they wait. */
#if defined(__clang__)
#define KF_ONCPU_NOSAN __attribute__((noinline, no_sanitize("address", "thread")))
#else
#define KF_ONCPU_NOSAN __attribute__((noinline, no_sanitize_address, no_sanitize_thread))
#endif
/* Last parameter of a built-in, and the place that it gives: the caller's. */
#define KF_ONCPU_LOC const char *oncpu_f = __builtin_FILE(), int oncpu_l = __builtin_LINE()
#define KF_ONCPU_HERE(op)                                                                                              \
    ::oncpu::place {                                                                                                   \
        op, oncpu_f, oncpu_l                                                                                           \
    }

namespace oncpu {

constexpr int WARP = 32, BLOCK_MAX = 1024, COPIES_MAX = 256;

struct place { /* where device code called what */
    const char *op, *file;
    int line;
};

struct warp;
typedef void (*warp_fn)(warp &, uint32_t mask); /* the operation, run once, by the last lane to arrive */

struct lane_op { /* what a lane brought to a warp operation, or where it waits */
    warp_fn fn;
    uint32_t mask;
    const void *in;
    void *out;
    int arg;
    place at;
};

struct async_copy {
    void *to;
    const void *from;
    int bytes;
    bool there; /* false: zeros */
    int group;
    place at;
};

struct fiber { /* a CUDA thread */
    void *sp = nullptr;
    char *stack = nullptr;
    size_t stack_size = 0;
    void *asan_stack = nullptr, *tsan_fiber = nullptr;
    uint3 index{};
    uint32_t lane = 0, bit = 0;
    warp *in_warp = nullptr;
    lane_op op{};
    async_copy copies[COPIES_MAX]; /* cp.async not yet waited for */
    int n_copies = 0, group = 0;
};

struct warp { /* masks of lanes */
    uint32_t valid = 0, runnable = 0, exited = 0;
    uint32_t waiting = 0;    /* in a warp operation */
    uint8_t turn[WARP] = {}; /* of the group whose first lane it is: tells one operation's order from the next */
    fiber *lane[WARP] = {};
};

extern fiber *current; /* NULL outside of kernels */

/* Ends the process with status 86, says why on stderr, and which kernel, block and thread it was. */
[[noreturn]] void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- warps and blocks (collectives.cpp) ---- */
/* All lanes of mask bring their operands to `fn`; with `orders` what they wrote before is seen by all behind it. */
void warp_operation(warp_fn fn, uint32_t mask, const void *in, void *out, int arg, place at, bool orders = false);
void block_barrier(int id, int n_threads, place at); /* n_threads 0: the whole block */
enum class vote { count, all, any };
int block_vote(int predicate, vote what, place at);
void yield();

/* ---- memory (memory.cpp, primitives.cpp) ---- */
void *static_shared(const void *key, size_t bytes, size_t align, const char *name);
void *dynamic_shared();
void copy_begin(void *shared, const void *global, int bytes, bool there, place at);
void copy_commit();
const async_copy *copy_next(int n_groups_left); /* the oldest that is to be there now; NULL: all are */

/* ---- launches (launch.cpp, streams.cpp) ---- */
cudaError_t launch_kernel(const char *call, const char *file, int line, const void *kernel, const cudaLaunchConfig_t *c,
                          std::function<void()> body);

/* Arguments are copied at the launch, as CUDA does. */
template <class... P, class... A>
cudaError_t launch(const char *call, const char *file, int line, const cudaLaunchConfig_t *c, void (*kernel)(P...),
                   A &&...a) {
    static_assert((!std::is_reference<P>::value && ...), "kernel parameters must be by value");
    std::tuple<std::remove_const_t<P>...> args(static_cast<P>(std::forward<A>(a))...);
    return launch_kernel(call, file, line, (const void *)kernel, c, [kernel, args] { std::apply(kernel, args); });
}

} // namespace oncpu

#undef cudaLaunchKernelEx
#define cudaLaunchKernelEx(c, ...) ::oncpu::launch(#__VA_ARGS__, __FILE__, __LINE__, c, __VA_ARGS__)

template <class R, class... P> inline cudaError_t cudaFuncSetAttribute(R (*kernel)(P...), cudaFuncAttribute a, int v) {
    return cudaFuncSetAttribute((const void *)kernel, a, v);
}

/* Not macros: cudaLaunchConfig_t has members gridDim and blockDim. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static const int warpSize __attribute__((unused)) = oncpu::WARP;

#endif
