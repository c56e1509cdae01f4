// oncpu runtime: fibers, scheduler, checks, and host versions of the CUDA runtime API.
// Link instead of libcudart. Not instrumented by ASan/TSan itself (it is by MSan).
#include <cuda_runtime.h>
#include "primitives.h"
#include "runner.h"
#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <vector>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

extern "C" {
void __sanitizer_start_switch_fiber(void **, const void *, size_t) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void *, const void **, size_t *) __attribute__((weak));
void __asan_poison_memory_region(void const volatile *, size_t) __attribute__((weak));
void __asan_unpoison_memory_region(void const volatile *, size_t) __attribute__((weak));
void *__asan_region_is_poisoned(void *, size_t) __attribute__((weak));
void __asan_set_error_report_callback(void (*)(const char *)) __attribute__((weak));
void *__tsan_create_fiber(unsigned) __attribute__((weak));
void *__tsan_get_current_fiber() __attribute__((weak));
void __tsan_switch_to_fiber(void *, unsigned) __attribute__((weak));
void __tsan_set_fiber_name(void *, const char *) __attribute__((weak));
void __tsan_acquire(void *) __attribute__((weak));
void __tsan_release(void *) __attribute__((weak));
void __msan_poison(const volatile void *, size_t) __attribute__((weak));
void __msan_check_mem_is_initialized(const volatile void *, size_t) __attribute__((weak));
void __msan_set_death_callback(void (*)()) __attribute__((weak));
}

__thread uint3 threadIdx, blockIdx;
__thread dim3 blockDim, gridDim;

namespace oncpu {
#if defined(KF_ONCPU_ASAN) || defined(KF_ONCPU_TSAN) || defined(KF_ONCPU_MSAN)
static const size_t STACK = 512 << 10;
#else
static const size_t STACK = 128 << 10;
#endif
static const size_t SMEM_MAX = 227 << 10, ARENA = 512 << 10, REDZONE = 64;
static const uint8_t CANARY = 0xFF; // read out of bounds: NaN

__thread Thread *cur;

#ifdef KF_ONCPU_TSAN
static const int SETS = 2; // neighbouring blocks use different fibers, so that TSan sees races between them
#else
static const int SETS = 1;
#endif
struct SmemSlot {
    const void *key;
    const char *name;
    char *p;
    size_t bytes;
};
struct Barrier {
    int count, expected;
    Loc loc;
    uint32_t waiters[32];
    unsigned gen;
    int vote_n, vote_and, vote_or, result[2];
};
struct Worker {
    Thread main;
    std::unique_ptr<Thread[]> pool{new Thread[1024 * SETS]};
    Thread *th = pool.get();
    Warp warp[32];
    Block blk;
    Barrier bar[16];
    int nthreads = 0, nwarps = 0, alive = 0, nblock = 0;
    const std::function<void()> *body = nullptr;
    const char *kernel = "", *file = "";
    int line = 0;
    char *arena = nullptr;
    size_t dyn_bytes = 0, top = 0;
    SmemSlot slot[64];
    int nslot = 0;
    char launch_sync = 0, end_sync = 0;
    char *sync = nullptr; // identities of this block's barriers for TSan: 16 x 2, then 32 warps x 32 lanes x 2
    std::minstd_rand rng;
    long switches = 0;
};
static __thread Worker *wk;
static int sched_mode = -1;
static unsigned sched_seed = 1; // 0 forward, 1 reverse, 2 random
static int opt_threads = 1, opt_protect = 1, opt_lazy = 0, opt_stats = 0;
struct Stat {
    const char *name;
    long launches = 0, blocks = 0, threads = 0, switches = 0;
    double sec = 0;
};
static std::vector<Stat> *stats;

static double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void context() {
    if (!wk || !wk->body) {
        fprintf(stderr, "cuda on cpu: (outside any kernel)\n");
        return;
    }
    fprintf(stderr, "cuda on cpu:   in kernel %s (launched at %s:%d), block (%u,%u,%u)", wk->kernel, wk->file, wk->line,
            wk->blk.bidx.x, wk->blk.bidx.y, wk->blk.bidx.z);
    if (cur && cur != &wk->main) fprintf(stderr, ", thread (%u,%u,%u)", cur->tid.x, cur->tid.y, cur->tid.z);
    fprintf(stderr, "\n");
}
void fail(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "cuda on cpu: ERROR: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    context();
    fflush(stderr);
    _exit(86);
}

#ifdef KF_ONCPU_TSAN
extern "C" void __tsan_on_report(void *) {
    context();
}
#endif

// ---------------------------------------------------------------- fibers
extern "C" void oncpu_switch(void **save, void *to);
#if defined(__x86_64__)
asm(R"(.text
.globl oncpu_switch
.type oncpu_switch,@function
oncpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size oncpu_switch,.-oncpu_switch
)");
#else
#error "add a context switch for this architecture"
#endif

static void switch_to(Thread *me, Thread *to) {
    wk->switches++;
    cur = to;
    threadIdx = to->tid;
#ifdef KF_ONCPU_ASAN
    __sanitizer_start_switch_fiber(&me->fake_stack, to->stack, to->stack_size);
#endif
#ifdef KF_ONCPU_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 1);
#endif
    oncpu_switch(&me->sp, to->sp);
#ifdef KF_ONCPU_ASAN
    __sanitizer_finish_switch_fiber(me->fake_stack, nullptr, nullptr);
#endif
}

static void report_deadlock() {
    fprintf(stderr, "cuda on cpu: ERROR: barrier divergence: no thread of the block can run\n");
    context();
    for (int w = 0; w < wk->nwarps; w++) {
        Warp &W = wk->warp[w];
        for (uint32_t left = W.valid; left;) {
            Thread *t = W.lane[__builtin_ctz(left)];
            uint32_t grp = 0;
            bool ex = W.exited & t->bit;
            for (uint32_t m = left; m; m &= m - 1) {
                Thread *u = W.lane[__builtin_ctz(m)];
                bool ux = W.exited & u->bit;
                if (ex == ux && (ex || (u->op.loc.line == t->op.loc.line && u->op.loc.op == t->op.loc.op)))
                    grp |= u->bit;
            }
            left &= ~grp;
            if (ex)
                fprintf(stderr, "cuda on cpu:   warp %d lanes %08x: exited\n", w, grp);
            else
                fprintf(stderr, "cuda on cpu:   warp %d lanes %08x: waiting at %s %s:%d\n", w, grp, t->op.loc.op,
                        t->op.loc.file, t->op.loc.line);
        }
    }
    fflush(stderr);
    _exit(86);
}

static inline int pick_bit(uint32_t m, uint32_t lane) {
    if (sched_mode == 0) {
        uint32_t hi = m & ~((2u << lane) - 1);
        return __builtin_ctz(hi ? hi : m);
    }
    if (sched_mode == 1) {
        uint32_t lo = m & ((1u << lane) - 1);
        return 31 - __builtin_clz(lo ? lo : m);
    }
    int k = wk->rng() % __builtin_popcount(m);
    while (k--)
        m &= m - 1;
    return __builtin_ctz(m);
}
static Thread *pick_next(Thread *me) {
    int n = wk->nwarps, w0 = me->warp ? int(me->warp - wk->warp) : (sched_mode == 1 ? n - 1 : 0);
    if (sched_mode == 2 && wk->rng() % 8 == 0) w0 = wk->rng() % n;
    uint32_t lane = me->warp ? me->lane : (sched_mode == 1 ? 0 : 31);
    for (int i = 0; i < n; i++) {
        int w = sched_mode == 1 ? (w0 - i + n) % n : (w0 + i) % n;
        if (wk->warp[w].runnable)
            return wk->warp[w].lane[pick_bit(wk->warp[w].runnable, i ? (sched_mode == 1 ? 0 : 31) : lane)];
    }
    if (wk->alive) report_deadlock();
    return &wk->main;
}
void yield_thread() {
    Thread *me = cur, *to = pick_next(me);
    if (to != me) switch_to(me, to);
}

// One kernel of a fiber's life. The next one may be run by another host thread: a function of its own, so that no address
// of a thread's variable is kept over the switch.
__attribute__((noinline)) static void fiber_body() {
    Thread *me = cur;
#ifdef KF_ONCPU_TSAN
    __tsan_acquire(&wk->launch_sync);
#endif
    (*wk->body)();
    if (me->ncp) fail("thread exits with a cp.async still not waited for (%s:%d)", me->op.loc.file, me->op.loc.line);
#ifdef KF_ONCPU_TSAN
    __tsan_release(&wk->end_sync);
#endif
    Warp *w = me->warp;
    w->runnable &= ~me->bit;
    w->exited |= me->bit;
    wk->alive--;
    switch_to(me, pick_next(me));
}
static void fiber_main() {
#ifdef KF_ONCPU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    for (;;)
        fiber_body();
}
static void make_fiber(Thread *t) {
    char *p =
        (char *)mmap(nullptr, STACK + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) fail("out of memory for fiber stacks");
    mprotect(p, 4096, PROT_NONE);
    t->stack = p + 4096;
    t->stack_size = STACK;
    void **sp = (void **)(t->stack + STACK);
    *--sp = nullptr; // alignment, and a null return address for unwinders
    *--sp = (void *)fiber_main;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    t->sp = sp;
#ifdef KF_ONCPU_TSAN
    t->tsan_fiber = __tsan_create_fiber(0);
    char name[32];
    snprintf(name, sizeof name, "CUDA thread %d", int(t - wk->pool.get()) % 1024);
    __tsan_set_fiber_name(t->tsan_fiber, name);
#endif
}

// ---------------------------------------------------------------- collectives
void syncwarp_done(Warp &, uint32_t) {
}
void ballot_done(Warp &w, uint32_t mask) {
    uint32_t r = 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        Thread *t = w.lane[__builtin_ctz(m)];
        if (*(const unsigned *)t->op.in) r |= t->bit;
    }
    for (uint32_t m = mask; m; m &= m - 1)
        *(unsigned *)w.lane[__builtin_ctz(m)]->op.out = r;
}
void warp_collective(WarpFn fn, uint32_t mask, const void *in, void *out, int arg, Loc loc, int aux) {
    Thread *me = cur;
    if (!me || me == &wk->main) fail("%s outside a kernel", loc.op);
    Warp &w = *me->warp;
    if (!(mask & me->bit))
        fail("%s (%s:%d): calling lane %u is not in its own mask %08x", loc.op, loc.file, loc.line, me->lane, mask);
    if (mask & ~w.valid)
        fail("%s (%s:%d): mask %08x names lanes outside the block (valid %08x)", loc.op, loc.file, loc.line, mask,
             w.valid);
    if (mask & w.exited)
        fail("%s (%s:%d): mask %08x names exited lanes %08x", loc.op, loc.file, loc.line, mask, mask & w.exited);
    me->op = LaneOp{fn, mask, in, out, arg, aux, loc};
    auto mismatch = [&](const LaneOp &o) {
        return o.fn != fn || o.mask != mask || o.loc.line != loc.line || o.loc.op != loc.op;
    };
    auto diverged = [&](int l) {
        const LaneOp &o = w.lane[l]->op;
        fail("warp divergence: lane %u at %s mask %08x (%s:%d), lane %d waits at %s mask %08x (%s:%d)", me->lane,
             loc.op, mask, loc.file, loc.line, l, o.loc.op, o.mask, o.loc.file, o.loc.line);
    };
    if (uint32_t m = mask & w.inwarp) { // one lane now, all of them on completion
        int l = __builtin_ctz(m);
        if ((w.lane[l]->op.mask & me->bit) && mismatch(w.lane[l]->op)) diverged(l);
    }
    w.inwarp |= me->bit;
#ifdef KF_ONCPU_TSAN
    int lead = __builtin_ctz(mask);
    char *sy = wk->sync + 32 + ((&w - wk->warp) * 32 + lead) * 2 + (w.gen[lead] & 1);
    if (aux) __tsan_release(sy);
#endif
    bool all = (w.inwarp & mask) == mask;
    if (all) {
        for (uint32_t m = mask; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            if (!(w.lane[l]->op.mask & me->bit))
                all = false; // waits for another group first
            else if (mismatch(w.lane[l]->op))
                diverged(l);
        }
    }
    if (all) {
        fn(w, mask);
        w.inwarp &= ~mask;
        w.runnable |= mask;
        w.gen[__builtin_ctz(mask)]++;
    } else {
        w.runnable &= ~me->bit;
        switch_to(me, pick_next(me));
    }
#ifdef KF_ONCPU_TSAN
    if (aux) __tsan_acquire(sy);
#endif
}
static int barrier(int id, int expected, Loc loc, int pred, int what) {
    Thread *me = cur;
    if (!me || me == &wk->main) fail("%s outside a kernel", loc.op);
    Barrier &b = wk->bar[id];
    if (!expected) expected = wk->nthreads;
    if (!b.count) {
        b.loc = loc;
        b.expected = expected;
        b.vote_n = 0;
        b.vote_and = 1;
        b.vote_or = 0;
    } else if ((!id && b.loc.line != loc.line) || b.loc.op != loc.op || b.expected != expected)
        fail("barrier divergence: thread at %s (%s:%d) while others wait at %s (%s:%d)", loc.op, loc.file, loc.line,
             b.loc.op, b.loc.file, b.loc.line);
    me->op.loc = loc;
    unsigned g = b.gen & 1;
    b.count++;
    b.vote_n += pred != 0;
    b.vote_and &= pred != 0;
    b.vote_or |= pred != 0;
#ifdef KF_ONCPU_TSAN
    __tsan_release(wk->sync + id * 2 + g);
#endif
    if (b.count == expected) {
        b.result[g] = what == 0 ? b.vote_n : what == 1 ? b.vote_and : b.vote_or;
        for (int w = 0; w < wk->nwarps; w++) {
            wk->warp[w].runnable |= b.waiters[w];
            b.waiters[w] = 0;
        }
        b.count = 0;
        b.gen++;
    } else {
        b.waiters[me->warp - wk->warp] |= me->bit;
        me->warp->runnable &= ~me->bit;
        switch_to(me, pick_next(me));
    }
#ifdef KF_ONCPU_TSAN
    __tsan_acquire(wk->sync + id * 2 + g);
#endif
    return b.result[g];
}
void block_barrier(int id, int n, Loc loc) {
    barrier(id, n, loc, 0, 0);
}
int block_vote(int p, int what, Loc loc) {
    return barrier(0, 0, loc, p, what);
}

static inline float bf(uint32_t u, int hi) {
    uint32_t x = hi ? u & 0xffff0000u : u << 16;
    float f;
    memcpy(&f, &x, 4);
    return f;
}
void mma_bf16_done(Warp &w, uint32_t) { // PTX ISA, fragments of mma.m16n8k16 for .bf16
    float A[16][16], B[16][8], C[16][8];
    for (int l = 0; l < 32; l++) {
        const MmaIn &in = *(const MmaIn *)w.lane[l]->op.in;
        const float *c = (const float *)w.lane[l]->op.out;
        int g = l >> 2, t = (l & 3) * 2;
        for (int h = 0; h < 2; h++) {
            A[g][t + h] = bf(in.a[0], h);
            A[g + 8][t + h] = bf(in.a[1], h);
            A[g][t + 8 + h] = bf(in.a[2], h);
            A[g + 8][t + 8 + h] = bf(in.a[3], h);
            B[t + h][g] = bf(in.b[0], h);
            B[t + 8 + h][g] = bf(in.b[1], h);
            C[g][t + h] = c[h];
            C[g + 8][t + h] = c[2 + h];
        }
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                C[i][j] += A[i][k] * B[k][j];
    for (int l = 0; l < 32; l++) {
        float *c = (float *)w.lane[l]->op.out;
        int g = l >> 2, t = (l & 3) * 2;
        for (int h = 0; h < 2; h++) {
            c[h] = C[g][t + h];
            c[2 + h] = C[g + 8][t + h];
        }
    }
}
void ldmatrix_done(Warp &w, uint32_t) {
    for (int l = 0; l < 32; l++) {
        LaneOp &o = w.lane[l]->op;
        for (int i = 0; i < 4; i++) {
            uint32_t r;
            if (!o.arg)
                r = ((const LdmIn *)w.lane[i * 8 + l / 4]->op.in)->row[l % 4];
            else { // element (row, col) of the transpose
                int c = l / 4, r0 = (l % 4) * 2;
                uint32_t x = ((const LdmIn *)w.lane[i * 8 + r0]->op.in)->row[c / 2],
                         y = ((const LdmIn *)w.lane[i * 8 + r0 + 1]->op.in)->row[c / 2];
                r = c & 1 ? (x >> 16) | (y & 0xffff0000u) : (x & 0xffffu) | (y << 16);
            }
            ((uint32_t *)o.out)[i] = r;
        }
    }
}
void cp_async(void *dst, const void *src, int bytes, int src_bytes, Loc loc) {
    Thread *me = cur;
    if (((uintptr_t)dst | (src_bytes ? (uintptr_t)src : 0)) & 15)
        fail("%s (%s:%d): misaligned address", loc.op, loc.file, loc.line);
    if ((char *)dst < wk->arena || (char *)dst >= wk->arena + ARENA)
        fail("%s (%s:%d): destination is not shared memory", loc.op, loc.file, loc.line);
    if (me->ncp == 256) fail("%s: too many in flight", loc.op);
    me->op.loc = loc;
    me->cp[me->ncp++] = CpAsync{dst, src, bytes, src_bytes, me->cpgroup};
}
void cp_async_commit() {
    cur->cpgroup++;
}
const CpAsync *cp_async_pop(int n) {
    Thread *me = cur;
    static __thread CpAsync c;
    if (!me->ncp || me->cp[0].group >= me->cpgroup - n) return nullptr;
    c = me->cp[0];
    memmove(me->cp, me->cp + 1, sizeof(CpAsync) * --me->ncp);
    return &c;
}

// ---------------------------------------------------------------- shared memory
static void poison(void *p, size_t n) {
    (void)p;
    (void)n;
#ifdef KF_ONCPU_ASAN
    __asan_poison_memory_region(p, n);
#endif
}
static void unpoison(void *p, size_t n) {
    (void)p;
    (void)n;
#ifdef KF_ONCPU_ASAN
    __asan_unpoison_memory_region(p, n);
#endif
}
static void fill(void *p, int v, size_t n) { // memset that TSan does not intercept
#ifdef KF_ONCPU_TSAN
    asm volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(v) : "memory");
#else
    memset(p, v, n);
#endif
}
static void fresh(void *p, size_t n) { // uninitialised contents
    fill(p, 0xff, n);
#ifdef KF_ONCPU_MSAN
    __msan_poison(p, n);
#endif
}
static char *arena_take(size_t bytes, size_t align) {
    size_t at = (wk->top + REDZONE + align - 1) & ~(align - 1);
    char *p = wk->arena + at;
    if (at + bytes + REDZONE > ARENA) fail("shared memory exhausted");
    unpoison(p, bytes);
    fresh(p, bytes);
    wk->top = at + bytes;
    return p;
}
static void smem_reset(size_t dyn) {
#ifdef KF_ONCPU_TSAN // a new mapping clears the race history
    mmap(wk->arena, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
#endif
    size_t used = std::min(ARENA, wk->top + 2 * REDZONE);
    unpoison(wk->arena, used);
    fill(wk->arena, CANARY, used);
    poison(wk->arena, used);
    wk->top = 0;
    wk->nslot = 0;
    wk->dyn_bytes = dyn;
    if (dyn) wk->slot[wk->nslot++] = SmemSlot{nullptr, "dynamic shared memory", arena_take(dyn, 1024), dyn};
}
static void smem_check() {
#if !defined(KF_ONCPU_ASAN) && !defined(KF_ONCPU_TSAN)
    char *prev = wk->arena;
    auto clean = [&](char *a, char *b, const SmemSlot *s) {
        for (; a < b; a++)
            if ((uint8_t)*a != CANARY)
                fail("write outside shared array: %td bytes %s \"%s\"",
                     a < s->p ? s->p - a : a - s->p - (ptrdiff_t)s->bytes + 1, a < s->p ? "before" : "past the end of",
                     s->name);
    };
    for (int i = 0; i < wk->nslot; i++) {
        clean(i ? wk->slot[i].p - REDZONE : prev, wk->slot[i].p, &wk->slot[i]);
        clean(wk->slot[i].p + wk->slot[i].bytes, wk->slot[i].p + wk->slot[i].bytes + REDZONE, &wk->slot[i]);
    }
#endif
}
void *static_smem_get(const void *key, size_t bytes, size_t align, const char *name) {
    for (int i = 0; i < wk->nslot; i++)
        if (wk->slot[i].key == key) return wk->slot[i].p;
    if (wk->nslot == 64) fail("too many shared arrays");
    SmemSlot s{key, name, arena_take(bytes, align < 16 ? 16 : align), bytes};
    wk->slot[wk->nslot++] = s;
    size_t total = 0;
    for (int i = 0; i < wk->nslot; i++)
        if (wk->slot[i].key) total += wk->slot[i].bytes;
    if (total > 48 << 10) fail("more than 48 KB of static shared memory");
    return s.p;
}
void *dyn_smem() {
    if (!wk->dyn_bytes) fail("DYN_SMEM used but dynamicSmemBytes is 0");
    return wk->slot[0].p;
}

// ---------------------------------------------------------------- device memory
struct Alloc {
    char *map, *p;
    size_t map_bytes, bytes, rounded;
};
static std::vector<Alloc> *allocs; // sorted by p
static int device_depth = 0;
static const size_t GUARD = 64 << 10;

static void segv(int sig, siginfo_t *si, void *) {
    char *a = (char *)si->si_addr;
    fprintf(stderr, "cuda on cpu: ERROR: signal %d at address %p", sig, (void *)a);
    for (auto &x : *allocs) {
        if (a >= x.map && a < x.map + x.map_bytes)
            fprintf(stderr, ": offset %td of a device allocation of %zu bytes%s", a - x.p, x.bytes,
                    a >= x.p && a < x.p + x.bytes ? " (device memory touched by host code)" : " (out of bounds)");
    }
    fprintf(stderr, "\n");
    context();
    _exit(86);
}
static void init() {
    static bool done = false;
    if (done) return;
    done = true;
    allocs = new std::vector<Alloc>;
    stats = new std::vector<Stat>;
    const char *s = getenv("KF_ONCPU_SCHED");
    sched_mode = !s || !strncmp(s, "fwd", 3) ? 0 : !strncmp(s, "rev", 3) ? 1 : 2;
    if (s && sched_mode == 2 && strchr(s, ':')) sched_seed = atoi(strchr(s, ':') + 1);
    if ((s = getenv("KF_ONCPU_THREADS"))) opt_threads = atoi(s);
    if ((s = getenv("KF_ONCPU_PROTECT"))) opt_protect = atoi(s);
    if ((s = getenv("KF_ONCPU_LAZY"))) opt_lazy = atoi(s);
    if ((s = getenv("KF_ONCPU_STATS"))) opt_stats = atoi(s);
#ifdef KF_ONCPU_ASAN
    __asan_set_error_report_callback([](const char *) { context(); });
#elif defined(KF_ONCPU_MSAN)
    __msan_set_death_callback([] { context(); });
#endif
    struct sigaction sa = {};
    sa.sa_sigaction = segv;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
    static char alt[64 << 10];
    stack_t st = {};
    st.ss_sp = alt;
    st.ss_size = sizeof alt;
    sigaltstack(&st, nullptr);
    sigaction(SIGSEGV, &sa, nullptr);
    sigaction(SIGBUS, &sa, nullptr);
    if (opt_stats)
        atexit([] {
            for (auto &s : *stats)
                fprintf(stderr, "cuda on cpu: %-28.28s launches %4ld blocks %6ld threads %8ld switches %10ld  %.3f s\n",
                        s.name, s.launches, s.blocks, s.threads, s.switches, s.sec);
        });
}
struct Init {
    Init() {
        init();
    }
} init_now __attribute__((init_priority(200)));

static void canaries() {
#if !defined(KF_ONCPU_ASAN)
    for (auto &x : *allocs) {
        for (char *q = x.map + GUARD; q < x.p; q++)
            if ((uint8_t)*q != CANARY)
                fail("write %td bytes before a device allocation of %zu bytes", x.p - q, x.bytes);
        for (char *q = x.p + x.bytes; q < x.p + x.rounded; q++)
            if ((uint8_t)*q != CANARY)
                fail("write at offset %td of a device allocation of %zu bytes", q - x.p, x.bytes);
    }
#endif
}
static void protect_all(int prot) {
    if (opt_protect)
        for (auto &x : *allocs)
            mprotect(x.map + GUARD, x.map_bytes - 2 * GUARD, prot);
}
void device_enter();
void device_leave();
struct DeviceOp { // device memory is accessible only inside one
    DeviceOp() {
        device_enter();
    }
    ~DeviceOp() {
        device_leave();
    }
};
static Alloc *find(const void *p) {
    auto it =
        std::upper_bound(allocs->begin(), allocs->end(), (char *)p, [](char *q, const Alloc &x) { return q < x.p; });
    if (it == allocs->begin()) return nullptr;
    Alloc &x = *--it;
    return (char *)p <= x.p + x.bytes ? &x : nullptr;
}
void device_enter() {
    if (!device_depth++) protect_all(PROT_READ | PROT_WRITE);
}
void device_leave() {
    if (!--device_depth) {
        canaries();
        protect_all(PROT_NONE);
    }
}
void check_device_range(const void *p, size_t n, const char *what) {
    if (!n) return;
    Alloc *x = find(p);
    if (!x) fail("%s: %p is not device memory", what, p);
    if ((char *)p + n > x->p + x->bytes)
        fail("%s: %zu bytes at offset %td overrun a device allocation of %zu bytes", what, n, (char *)p - x->p,
             x->bytes);
}

// ---------------------------------------------------------------- running a kernel
static void worker_init(Worker *w) {
    wk = w;
    if (w->arena) return;
    w->arena = (char *)mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(w->arena, CANARY, ARENA);
    poison(w->arena, ARENA);
    w->rng.seed(sched_seed);
}
static void run_block(Worker *w, uint3 b, size_t dyn) {
    w->blk.bidx = blockIdx = b;
    smem_reset(dyn);
    memset(w->bar, 0, sizeof w->bar);
    if (SETS > 1) {
        w->th = w->pool.get() + 1024 * (w->nblock++ & 1);
        for (int i = 0; i < w->nthreads; i++)
            w->warp[i / 32].lane[i & 31] = &w->th[i];
    }
    for (int i = 0; i < w->nwarps; i++) {
        Warp &W = w->warp[i];
        W.runnable = W.valid;
        W.exited = W.inwarp = 0;
    }
    w->alive = w->nthreads;
    for (int i = 0; i < w->nthreads; i++) {
        w->th[i].ncp = w->th[i].cpgroup = 0;
    }
#ifdef KF_ONCPU_ASAN
    static thread_local char *stack = nullptr; // of the host thread that runs this block
    static thread_local size_t stack_size = 0;
    if (!stack) {
        pthread_attr_t at;
        void *sb;
        pthread_getattr_np(pthread_self(), &at);
        pthread_attr_getstack(&at, &sb, &stack_size);
        pthread_attr_destroy(&at);
        stack = (char *)sb;
    }
    w->main.stack = stack;
    w->main.stack_size = stack_size;
#endif
#ifdef KF_ONCPU_TSAN
    w->main.tsan_fiber = __tsan_get_current_fiber();
#endif
#ifdef KF_ONCPU_TSAN // ordered after the launch, not after other blocks
    free(w->sync);
    w->sync = (char *)malloc(32 + 32 * 32 * 2);
    __tsan_release(&w->launch_sync);
#endif
    cur = &w->main;
    switch_to(&w->main, pick_next(&w->main));
    cur = nullptr;
    smem_check();
}
static void run_kernel(const char *name, const char *file, int line, dim3 g, dim3 b, size_t dyn,
                       const std::function<void()> &body) {
    DeviceOp dev;
    double t0 = now();
    long nblocks = (long)g.x * g.y * g.z;
    std::atomic<long> next{0};
    std::atomic<long> sw{0};
    auto work = [&](Worker *w) {
        worker_init(w);
        w->kernel = name;
        w->file = file;
        w->line = line;
        w->body = &body;
        w->blk.bdim = blockDim = b;
        w->blk.gdim = gridDim = g;
        w->nthreads = b.x * b.y * b.z;
        w->nwarps = (w->nthreads + 31) / 32;
        for (int i = 0; i < w->nwarps; i++)
            w->warp[i].valid = 0;
        for (int i = 0; i < w->nthreads; i++)
            w->warp[i / 32].valid |= 1u << (i & 31);
        for (int set = 0; set < SETS; set++)
            for (int i = 0; i < w->nthreads; i++) {
                Thread &t = w->pool[set * 1024 + i];
                if (!t.stack) make_fiber(&t);
                t.tid = uint3{i % b.x, i / b.x % b.y, i / b.x / b.y};
                t.lane = i & 31;
                t.bit = 1u << t.lane;
                t.warp = &w->warp[i / 32];
                t.blk = &w->blk;
                t.warp->lane[t.lane] = &t;
            }
        w->switches = 0;
#ifdef KF_ONCPU_TSAN
        __tsan_release(&w->launch_sync);
#endif
        for (long i; (i = next++) < nblocks;) {
            long k = sched_mode == 1 ? nblocks - 1 - i : i;
            run_block(w, uint3{unsigned(k % g.x), unsigned(k / g.x % g.y), unsigned(k / g.x / g.y)}, dyn);
        }
#ifdef KF_ONCPU_TSAN
        __tsan_acquire(&w->end_sync);
#endif
        sw += w->switches;
    };
    static std::vector<std::unique_ptr<Worker>> workers;
    while ((int)workers.size() < std::max(1, opt_threads))
        workers.emplace_back(new Worker);
    std::vector<std::thread> ts;
    for (int i = 1; i < opt_threads && i < nblocks; i++)
        ts.emplace_back(work, workers[i].get());
    work(workers[0].get());
    for (auto &t : ts)
        t.join();
    cur = nullptr;
    canaries(); // while the context still names this kernel
    wk->body = nullptr;
    size_t si = 0;
    while (si < stats->size() && (*stats)[si].name != name)
        si++;
    if (si == stats->size()) {
        stats->emplace_back();
        stats->back().name = name;
    }
    Stat &s = (*stats)[si];
    s.launches++;
    s.blocks += nblocks;
    s.threads += nblocks * b.x * b.y * b.z;
    s.switches += sw;
    s.sec += now() - t0;
}
} // namespace oncpu

// ---------------------------------------------------------------- streams, events, graphs
using namespace oncpu;
typedef std::function<void()> Fn;
struct CUgraph_st {
    std::vector<Fn> ops;
    cudaStream_t origin;
    bool bad = false;
};
struct CUgraphExec_st {
    std::vector<Fn> ops;
};
struct CUevent_st {
    unsigned rec = 0, done = 0;
    cudaStream_t s = nullptr;
    cudaGraph_t cap = nullptr;
    double t = 0;
};
struct CUstream_st {
    std::deque<Fn> q;
    cudaGraph_t cap = nullptr;
    bool nonblocking = false;
};
static CUstream_st default_stream;
static std::vector<cudaStream_t> *streams;
static cudaError_t last_error = cudaSuccess;
static std::vector<std::pair<const void *, int>> *smem_attr;
static int capturing = 0;

static cudaError_t ret(cudaError_t e) {
    if (e != cudaSuccess) last_error = e;
    return e;
}

// ---------------------------------------------------------------- a device that fails, and counts (runner.h)
static std::atomic<int> lost{0}; // a sticky error
static std::atomic<unsigned long> kernels_left{0};
static int error_then = 0; // when kernels_left comes to 0
static size_t memory_bytes = 8ull << 30, memory_used = 0;
static const char *card = "";
oncpu_counts oncpu_calls;
extern "C" void oncpu_lose_device(int error) {
    lost = error;
}
extern "C" void oncpu_lose_device_after(unsigned long n, int error) {
    error_then = error;
    kernels_left = n;
}
static int error_by_signal = cudaErrorIllegalAddress;
struct Faults {
    Faults() {
        const char *s;
        if ((s = getenv("KF_ONCPU_CARD"))) card = s;
        if ((s = getenv("KF_ONCPU_MEMORY"))) memory_bytes = strtoull(s, nullptr, 10);
        if ((s = getenv("KF_ONCPU_LOST"))) {
            error_by_signal = atoi(s);
            signal(SIGUSR1, [](int) { oncpu_lose_device(error_by_signal); });
        }
    }
} faults_now;
#define RETURN_IF_LOST()                                                                                               \
    if (int lost_ = lost) return ret((cudaError_t)lost_)

static cudaStream_t S(cudaStream_t s) {
    return (uintptr_t)s <= 2 ? &default_stream : s;
}
static void step(cudaStream_t s) {
    if (lost) {
        s->q.clear();
        return;
    }
    if (s->q.empty()) fail("wait on an event whose stream has nothing to run (deadlock)");
    Fn f = std::move(s->q.front());
    s->q.pop_front();
    f();
}
static void flush(cudaStream_t s) {
    while (!s->q.empty())
        step(s);
}
static void flush_all(bool blocking_only) {
    flush(&default_stream);
    if (streams)
        for (auto s : *streams)
            if (!blocking_only || !s->nonblocking) flush(s);
}
static bool in_capture() {
    return capturing > 0;
}
static cudaError_t bad_in_capture(const char *what) {
    fprintf(stderr, "cuda on cpu: %s during stream capture\n", what);
    if (streams)
        for (auto s : *streams)
            if (s->cap) s->cap->bad = true;
    return ret(cudaErrorStreamCaptureUnsupported);
}
namespace oncpu {
void enqueue(cudaStream_t s, Fn fn) {
    s = S(s);
    if (lost) return;
    if (s->cap) {
        s->cap->ops.push_back(std::move(fn));
        return;
    }
    if (s == &default_stream && opt_lazy && streams)
        for (auto t : *streams)
            if (!t->nonblocking) flush(t);
    s->q.push_back(std::move(fn));
    if (!opt_lazy) flush(s);
}
static const char *kernel_name(const char *text) { // "k<1, 2>, a, b" -> "k<1, 2>"
    struct Name {
        const char *text;
        char name[120];
    };
    static std::vector<Name *> names;
    for (Name *n : names)
        if (n->text == text) return n->name;
    Name *n = new Name{text, {}};
    for (int i = 0, depth = 0; text[i] && i < 119 && (depth || text[i] != ','); i++) {
        n->name[i] = text[i];
        depth += (text[i] == '<' || text[i] == '(') - (text[i] == '>' || text[i] == ')');
    }
    names.push_back(n);
    return n->name;
}
cudaError_t enqueue_kernel(const char *name, const char *file, int line, const void *fn, const cudaLaunchConfig_t *c,
                           Fn body) {
    name = kernel_name(name);
    dim3 g = c->gridDim, b = c->blockDim;
    size_t dyn = c->dynamicSmemBytes;
    if (!g.x || !g.y || !g.z || g.y > 65535 || g.z > 65535 || !b.x || !b.y || !b.z || b.z > 64 ||
        b.x * b.y * b.z > 1024)
        return fprintf(stderr, "cuda on cpu: %s: bad launch configuration\n", name), ret(cudaErrorInvalidConfiguration);
    size_t limit = 48 << 10;
    if (smem_attr)
        for (auto &a : *smem_attr)
            if (a.first == fn) limit = a.second;
    if (dyn > limit)
        return fprintf(stderr, "cuda on cpu: %s: %zu bytes of dynamic shared memory, limit %zu\n", name, dyn, limit),
               ret(cudaErrorInvalidValue);
    for (unsigned i = 0; i < c->numAttrs; i++)
        if (c->attrs[i].id != cudaLaunchAttributeProgrammaticStreamSerialization &&
            c->attrs[i].id != cudaLaunchAttributePriority)
            return fprintf(stderr, "cuda on cpu: %s: launch attribute %d not emulated\n", name, (int)c->attrs[i].id),
                   ret(cudaErrorNotSupported);
    RETURN_IF_LOST();
    oncpu_calls.launches++;
    enqueue(c->stream, [=] {
        if (lost) return;
        if (kernels_left && --kernels_left == 0)
            lost = error_then;
        else
            run_kernel(name, file, line, g, b, dyn, body);
    });
    return cudaSuccess;
}
} // namespace oncpu

extern "C" {
cudaError_t cudaMalloc(void **out, size_t n) {
    if (in_capture()) return bad_in_capture("cudaMalloc");
    RETURN_IF_LOST();
    oncpu_calls.allocations++;
    if (n > memory_bytes - memory_used) return ret(cudaErrorMemoryAllocation);
    if (!n) return *out = nullptr, cudaSuccess;
    size_t rounded = (n + 255) & ~size_t(255), data = (rounded + 4095) & ~size_t(4095);
    Alloc x;
    x.map_bytes = data + 2 * GUARD;
    x.map = (char *)mmap(nullptr, x.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (x.map == MAP_FAILED) return ret(cudaErrorMemoryAllocation);
    mprotect(x.map + GUARD, data, PROT_READ | PROT_WRITE);
    x.bytes = n;
    x.rounded = rounded;
    x.p = x.map + GUARD + data - rounded; // the end is within 255 bytes of the guard pages
    memset(x.map + GUARD, CANARY, data);
    poison(x.map + GUARD, data);
    unpoison(x.p, n);
    fresh(x.p, n);
    if (opt_protect && !device_depth) mprotect(x.map + GUARD, data, PROT_NONE);
    memory_used += n;
    allocs->insert(
        std::upper_bound(allocs->begin(), allocs->end(), x.p, [](char *q, const Alloc &y) { return q < y.p; }), x);
    *out = x.p;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    if (!p) return cudaSuccess;
    if (in_capture()) return bad_in_capture("cudaFree");
    RETURN_IF_LOST();
    oncpu_calls.allocations++;
    flush_all(false);
    Alloc *x = find(p);
    if (!x || x->p != (char *)p) return ret(cudaErrorInvalidValue);
    { DeviceOp check; }
    memory_used -= x->bytes;
    // keep the address range, inaccessible: a later use faults
    unpoison(x->map + GUARD, x->map_bytes - 2 * GUARD);
    mmap(x->map, x->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    allocs->erase(allocs->begin() + (x - allocs->data()));
    return cudaSuccess;
}
cudaError_t cudaMallocAsync(void **p, size_t n, cudaStream_t) {
    return cudaMalloc(p, n);
}
cudaError_t cudaFreeAsync(void *p, cudaStream_t s) {
    enqueue(s, [p] { cudaFree(p); });
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t n) {
    RETURN_IF_LOST();
    oncpu_calls.allocations++;
    *p = aligned_alloc(256, (n + 255) & ~size_t(255));
    return *p ? cudaSuccess : ret(cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned) {
    return cudaMallocHost(p, n);
}
cudaError_t cudaFreeHost(void *p) {
    oncpu_calls.allocations++;
    flush_all(false);
    free(p);
    return cudaSuccess;
}

static void check_copy(const void *d, const void *s, size_t n, cudaMemcpyKind k, const char *what) {
    if (k == cudaMemcpyHostToDevice || k == cudaMemcpyDeviceToDevice) check_device_range(d, n, what);
    if (k == cudaMemcpyDeviceToHost || k == cudaMemcpyDeviceToDevice) check_device_range(s, n, what);
    if (k == cudaMemcpyHostToDevice && find(s)) fail("%s: host-to-device copy from device memory", what);
    if (k == cudaMemcpyDeviceToHost && find(d)) fail("%s: device-to-host copy to device memory", what);
}
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind k, cudaStream_t st) {
    RETURN_IF_LOST();
    check_copy(d, s, n, k, "cudaMemcpyAsync");
    enqueue(st, [=] {
        DeviceOp dev;
        memcpy(d, s, n);
    });
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind k) {
    if (in_capture()) return bad_in_capture("cudaMemcpy");
    RETURN_IF_LOST();
    oncpu_calls.waits++;
    flush_all(true);
    check_copy(d, s, n, k, "cudaMemcpy");
    DeviceOp dev;
    memcpy(d, s, n);
    return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h, cudaMemcpyKind k,
                              cudaStream_t st) {
    if (h) check_copy(d, s, 0, k, "cudaMemcpy2DAsync");
    enqueue(st, [=] {
        DeviceOp dev;
        for (size_t i = 0; i < h; i++)
            memcpy((char *)d + i * dp, (const char *)s + i * sp, w);
    });
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *d, int v, size_t n, cudaStream_t st) {
    RETURN_IF_LOST();
    check_device_range(d, n, "cudaMemsetAsync");
    enqueue(st, [=] {
        DeviceOp dev;
        memset(d, v, n);
    });
    return cudaSuccess;
}
cudaError_t cudaMemset(void *d, int v, size_t n) {
    return cudaMemsetAsync(d, v, n, nullptr);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned f) {
    RETURN_IF_LOST();
    oncpu_calls.allocations++;
    *s = new CUstream_st;
    (*s)->nonblocking = f & cudaStreamNonBlocking;
    if (!streams) streams = new std::vector<cudaStream_t>;
    streams->push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) {
    return cudaStreamCreateWithFlags(s, 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    flush(s);
    streams->erase(std::find(streams->begin(), streams->end(), s));
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    if (S(s)->cap) return bad_in_capture("cudaStreamSynchronize");
    oncpu_calls.waits++;
    flush(S(s));
    RETURN_IF_LOST();
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
    s = S(s);
    RETURN_IF_LOST();
    if (s->q.empty()) return cudaSuccess;
    step(s);
    RETURN_IF_LOST();
    return s->q.empty() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize() {
    if (in_capture()) return bad_in_capture("cudaDeviceSynchronize");
    oncpu_calls.waits++;
    flush_all(false);
    RETURN_IF_LOST();
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    RETURN_IF_LOST();
    oncpu_calls.allocations++;
    *e = new CUevent_st;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) {
    return cudaEventCreateWithFlags(e, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    flush_all(false);
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    RETURN_IF_LOST();
    s = S(s);
    e->s = s;
    e->cap = s->cap;
    if (s->cap) return cudaSuccess;
    unsigned g = ++e->rec;
    enqueue(s, [=] {
        e->done = g;
        e->t = now();
    });
    return cudaSuccess;
}
static void event_wait(cudaEvent_t e, unsigned g, cudaStream_t s) {
    while (e->done < g && !lost)
        step(s);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    RETURN_IF_LOST();
    s = S(s);
    if (e->cap) {
        s->cap = e->cap;
        return cudaSuccess;
    } // joins the capture
    unsigned g = e->rec;
    cudaStream_t es = e->s;
    if (g) enqueue(s, [=] { event_wait(e, g, es); });
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    if (e->cap) return bad_in_capture("cudaEventSynchronize");
    oncpu_calls.waits++;
    if (e->rec) event_wait(e, e->rec, e->s);
    RETURN_IF_LOST();
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    RETURN_IF_LOST();
    if (e->done >= e->rec) return cudaSuccess;
    step(e->s);
    RETURN_IF_LOST();
    return e->done >= e->rec ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
    *ms = float(1e3 * (b->t - a->t));
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
    RETURN_IF_LOST();
    oncpu_calls.captures++;
    s = S(s);
    if (s == &default_stream) return ret(cudaErrorStreamCaptureUnsupported);
    if (s->cap) return ret(cudaErrorIllegalState);
    flush(s);
    s->cap = new CUgraph_st;
    s->cap->origin = s;
    capturing++;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) {
    s = S(s);
    *g = nullptr;
    if (!s->cap || s->cap->origin != s) return ret(cudaErrorIllegalState);
    cudaGraph_t c = s->cap;
    for (auto t : *streams)
        if (t->cap == c) t->cap = nullptr;
    capturing--;
    if (c->bad) {
        delete c;
        return ret(cudaErrorStreamCaptureInvalidated);
    }
    *g = c;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *st) {
    *st = S(s)->cap ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long) {
    RETURN_IF_LOST();
    oncpu_calls.allocations++;
    *x = new CUgraphExec_st{g->ops};
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    RETURN_IF_LOST();
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s) {
    RETURN_IF_LOST();
    if (S(s)->cap) return bad_in_capture("cudaGraphLaunch");
    oncpu_calls.graph_launches++;
    for (auto &f : x->ops)
        enqueue(s, f);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    delete g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x) {
    flush_all(false);
    delete x;
    return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *, size_t *n) {
    *n = g->ops.size();
    return cudaSuccess;
}

cudaError_t cudaGetLastError() {
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError() {
    return last_error;
}
const char *cudaGetErrorString(cudaError_t e) {
    switch ((int)e) { // as CUDA has them, for those that tests look for
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorDevicesUnavailable: return "CUDA-capable device(s) is/are busy or unavailable";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorECCUncorrectable: return "uncorrectable ECC error encountered";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    default: return "an error of the runner";
    }
}
const char *cudaGetErrorName(cudaError_t e) {
    return e == cudaSuccess ? "cudaSuccess" : "cudaError";
}
cudaError_t cudaGetDeviceCount(int *n) {
    *n = 0;
    if (!strcmp(card, "no-card") || !strcmp(card, "no-driver")) return ret(cudaErrorNoDevice);
    if (!strcmp(card, "old-driver")) return ret(cudaErrorInsufficientDriver);
    return *n = 1, cudaSuccess;
}
cudaError_t cudaSetDevice(int d) {
    return d ? ret(cudaErrorInvalidDevice) : cudaSuccess;
}
cudaError_t cudaGetDevice(int *d) {
    return *d = 0, cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "oncpu");
    p->major = 9;
    p->minor = 0;
    if (!strcmp(card, "sm_75")) p->major = 7, p->minor = 5;
    p->multiProcessorCount = 4;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = SMEM_MAX;
    p->totalGlobalMem = memory_bytes;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int) {
    *v = a == cudaDevAttrMultiProcessorCount            ? 4
         : a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? (int)SMEM_MAX
         : a == cudaDevAttrComputeCapabilityMajor       ? 9
         : a == cudaDevAttrWarpSize                     ? 32
                                                        : 0;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *f, cudaFuncAttribute a, int v) {
    if (a != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (v > (int)SMEM_MAX) return ret(cudaErrorInvalidValue);
    if (!smem_attr) smem_attr = new std::vector<std::pair<const void *, int>>;
    smem_attr->emplace_back(f, v);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *f, size_t *t) {
    RETURN_IF_LOST();
    return *f = memory_bytes - memory_used, *t = memory_bytes, cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v) {
    return *v = CUDART_VERSION, cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v) {
    return *v = !strcmp(card, "no-driver") ? 0 : !strcmp(card, "old-driver") ? 12020 : CUDART_VERSION, cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *, const void *, void **) {
    return ret(cudaErrorNotSupported);
}
cudaError_t cudaMemcpyToSymbol(const void *sym, const void *src, size_t n, size_t off, cudaMemcpyKind) {
    flush_all(true);
    memcpy((char *)sym + off, src, n);
    return cudaSuccess;
}
}
