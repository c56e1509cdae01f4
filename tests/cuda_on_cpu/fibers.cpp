/* Fibers and the schedule: a stack and a context switch for every CUDA thread of a block, and which one runs next.
 * KF_ONCPU_SCHED orders those that may run: `fwd` by index, `rev` against it, `rand:SEED` drawn. Sanitizers are told of
 * every switch. Under ThreadSanitizer neighbouring blocks have different fibers, so that it sees races between them. */
#include "runtime.h"
#include "sanitizers.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <sys/mman.h>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace oncpu {

#if KF_ONCPU_SANITIZED
constexpr size_t STACK = 512 << 10;
#else
constexpr size_t STACK = 128 << 10;
#endif
constexpr size_t PAGE = 4096;
#ifdef KF_ONCPU_TSAN
constexpr int SETS = 2;
#else
constexpr int SETS = 1;
#endif

fiber *current;
running block;
order schedule;

static std::minstd_rand generator;
static std::unique_ptr<fiber[]> fibers;
#ifdef KF_ONCPU_TSAN
static char launch_sync, end_sync; /* what a block's threads are ordered after and before */
#endif

static struct schedule_from_environment {
    schedule_from_environment() {
        const char *s = getenv("KF_ONCPU_SCHED");
        if (!s || !strcmp(s, "fwd")) return;
        if (!strcmp(s, "rev")) {
            schedule = order::reverse;
        } else if (!strncmp(s, "rand:", 5)) {
            schedule = order::random;
            generator.seed((unsigned)strtoul(s + 5, nullptr, 10) + 1);
        } else {
            fail("KF_ONCPU_SCHED is \"%s\", and should be fwd, rev or rand:SEED", s);
        }
    }
} schedule_from_environment;

unsigned draw(unsigned below) {
    return (unsigned)(generator() % below);
}

/* ---- the switch ---- */

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
constexpr int SAVED = 6; /* registers, below the return address */
#else
#error "a context switch for this processor is wanted here"
#endif

static void switch_to(fiber *from, fiber *to) {
    current = to;
    threadIdx = to->index;
#ifdef KF_ONCPU_ASAN
    __sanitizer_start_switch_fiber(&from->asan_stack, to->stack, to->stack_size);
#endif
#ifdef KF_ONCPU_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 1); /* 1: a switch orders nothing */
#endif
    oncpu_switch(&from->sp, to->sp);
#ifdef KF_ONCPU_ASAN
    __sanitizer_finish_switch_fiber(from->asan_stack, nullptr, nullptr);
#endif
}

/* ---- the schedule ---- */

static fiber *lane_after(const warp &w, uint32_t lane) {
    uint32_t m = w.runnable, above = m & ~((2u << lane) - 1), below = m & ((1u << lane) - 1);
    if (schedule == order::forward) return w.lane[__builtin_ctz(above ? above : m)];
    if (schedule == order::reverse) return w.lane[31 - __builtin_clz(below ? below : m)];
    for (unsigned skip = draw((unsigned)__builtin_popcount(m)); skip--;)
        m &= m - 1;
    return w.lane[__builtin_ctz(m)];
}

[[noreturn]] static void report_deadlock();

/* The next one that may run, from where `from` stands; the host where the block is done. */
static fiber *next_after(const fiber *from) {
    const int n = block.n_warps;
    const bool back = schedule == order::reverse;
    const uint32_t before_first = back ? 0 : WARP - 1;
    int at = from->in_warp ? int(from->in_warp - block.warps) : back ? n - 1 : 0;
    uint32_t lane = from->in_warp ? from->lane : before_first;
    if (schedule == order::random && draw(8) == 0) at = (int)draw((unsigned)n); /* mostly one warp goes on */
    for (int i = 0; i < n; i++) {
        const warp &w = block.warps[back ? (at - i + n) % n : (at + i) % n];
        if (w.runnable) return lane_after(w, i ? before_first : lane);
    }
    if (block.n_alive) report_deadlock();
    return &block.host;
}

void give_way() {
    switch_to(current, next_after(current));
}

void yield() {
    fiber *me = current, *to = next_after(me);
    if (to != me) switch_to(me, to);
}

/* Who waits where, lanes that wait at the same place together. */
[[noreturn]] static void report_deadlock() {
    fprintf(stderr, "cuda on cpu: no thread of the block can run:\n");
    for (int i = 0; i < block.n_warps; i++) {
        const warp &w = block.warps[i];
        for (uint32_t left = w.valid; left;) {
            const fiber *t = w.lane[__builtin_ctz(left)];
            const bool exited = w.exited & t->bit;
            uint32_t same = 0;
            for (uint32_t m = left; m; m &= m - 1) {
                const fiber *u = w.lane[__builtin_ctz(m)];
                if (exited != bool(w.exited & u->bit)) continue;
                if (exited || (u->op.at.line == t->op.at.line && u->op.at.op == t->op.at.op)) same |= u->bit;
            }
            left &= ~same;
            if (exited)
                fprintf(stderr, "cuda on cpu:   warp %d lanes %08x: exited\n", i, same);
            else
                fprintf(stderr, "cuda on cpu:   warp %d lanes %08x: waiting at %s %s:%d\n", i, same, t->op.at.op,
                        t->op.at.file, t->op.at.line);
        }
    }
    fail("barrier divergence: no thread of the block can run");
}

/* ---- a fiber's life ---- */

static void thread_body() {
    fiber *me = current;
#ifdef KF_ONCPU_TSAN
    __tsan_acquire(&launch_sync);
#endif
    (*block.body)();
    if (me->n_copies)
        fail("a thread exits with a %s not waited for (%s:%d)", me->copies[0].at.op, me->copies[0].at.file,
             me->copies[0].at.line);
#ifdef KF_ONCPU_TSAN
    __tsan_release(&end_sync);
#endif
    me->in_warp->runnable &= ~me->bit;
    me->in_warp->exited |= me->bit;
    block.n_alive--;
    give_way();
}

static void fiber_main() {
#ifdef KF_ONCPU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    for (;;) /* a thread of one block after another */
        thread_body();
}

static void fiber_make(fiber *t, int index) {
    void *map = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) fail("no memory for the stack of CUDA thread %d", index);
    mprotect(map, PAGE, PROT_NONE);
    t->stack = (char *)map + PAGE;
    t->stack_size = STACK;
    void **sp = (void **)(t->stack + STACK);
    *--sp = nullptr; /* alignment, and a null return address for unwinders */
    *--sp = (void *)fiber_main;
    for (int i = 0; i < SAVED; i++)
        *--sp = nullptr;
    t->sp = sp;
#ifdef KF_ONCPU_TSAN
    char name[32];
    snprintf(name, sizeof name, "CUDA thread %d", index);
    t->tsan_fiber = __tsan_create_fiber(0);
    __tsan_set_fiber_name(t->tsan_fiber, name);
#endif
}

void fibers_begin(dim3 shape) {
    if (!fibers) fibers.reset(new fiber[BLOCK_MAX * SETS]);
    block.n_threads = int(shape.x * shape.y * shape.z);
    block.n_warps = (block.n_threads + WARP - 1) / WARP;
    for (int i = 0; i < block.n_warps; i++)
        block.warps[i].valid = 0;
    for (unsigned i = 0; i < (unsigned)block.n_threads; i++)
        block.warps[i / WARP].valid |= 1u << i % WARP;
    for (int set = 0; set < SETS; set++)
        for (unsigned i = 0; i < (unsigned)block.n_threads; i++) {
            fiber &t = fibers[set * BLOCK_MAX + i];
            if (!t.stack) fiber_make(&t, (int)i);
            t.index = uint3{i % shape.x, i / shape.x % shape.y, i / shape.x / shape.y};
            t.lane = i % WARP;
            t.bit = 1u << t.lane;
            t.in_warp = &block.warps[i / WARP];
        }
    sanitizers_know_host_stack(&block.host);
#ifdef KF_ONCPU_TSAN
    block.host.tsan_fiber = __tsan_get_current_fiber();
#endif
}

void fibers_run_block(long n_th) {
    fiber *set = &fibers[n_th % SETS * BLOCK_MAX];
    for (int i = 0; i < block.n_threads; i++) {
        block.warps[i / WARP].lane[i % WARP] = &set[i];
        set[i].n_copies = set[i].group = 0;
    }
    for (int i = 0; i < block.n_warps; i++) {
        warp &w = block.warps[i];
        w.runnable = w.valid;
        w.exited = w.waiting = 0;
    }
    block.n_alive = block.n_threads;
    barriers_reset();
#ifdef KF_ONCPU_TSAN
    __tsan_release(&launch_sync); /* after what the host did for the block, shared memory's new mapping too */
#endif
    switch_to(&block.host, next_after(&block.host));
    current = nullptr;
}

void fibers_end() {
#ifdef KF_ONCPU_TSAN
    __tsan_acquire(&end_sync);
#endif
}

} // namespace oncpu
