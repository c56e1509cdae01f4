/* Memory of the card, guarded. Shared memory is an arena of the running block: red zones between its arrays, new and
 * unwritten for each block. Device memory is mapped alone, its end within 255 bytes of inaccessible pages, and may only
 * be touched by what runs on the device: kernels, copies, library products (`device_open`); freed memory stays
 * inaccessible for good. KF_ONCPU_PROTECT=0 leaves the host able to touch it: less sure, and faster. */
#include "runtime.h"
#include "sanitizers.h"
#include "runner.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace oncpu {

/* ---- shared memory ---- */

constexpr size_t ARENA = 512 << 10, RED_ZONE = 64;
constexpr int ARRAYS_MAX = 64;

struct shared_array {
    const void *key; /* NULL: dynamic shared memory */
    const char *name;
    char *p;
    size_t bytes;
};
static char *arena;
static size_t arena_used;
static shared_array arrays[ARRAYS_MAX];
static int n_arrays;

bool is_shared(const void *p) {
    return arena && (const char *)p >= arena && (const char *)p < arena + ARENA;
}

static char *arena_take(size_t bytes, size_t align) {
    const size_t at = (arena_used + RED_ZONE + align - 1) & ~(align - 1);
    if (at + bytes + RED_ZONE > ARENA) fail("no shared memory left for %zu bytes", bytes);
    unpoison(arena + at, bytes);
    forget(arena + at, bytes);
    arena_used = at + bytes;
    return arena + at;
}

void shared_reset(size_t dynamic_bytes) {
    if (!arena) {
        arena = (char *)mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (arena == MAP_FAILED) fail("no memory for shared memory");
        fill(arena, UNWRITTEN, ARENA);
        poison(arena, ARENA);
    }
#ifdef KF_ONCPU_TSAN /* a new mapping: what earlier blocks did is forgotten */
    mmap(arena, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
#endif
    const size_t dirty = std::min(ARENA, arena_used + 2 * RED_ZONE);
    unpoison(arena, dirty);
    fill(arena, UNWRITTEN, dirty);
    poison(arena, dirty);
    arena_used = 0;
    n_arrays = 0;
    if (dynamic_bytes)
        arrays[n_arrays++] = {nullptr, "dynamic shared memory", arena_take(dynamic_bytes, 1024), dynamic_bytes};
}

static void check_red_zone(const shared_array &a, const char *from, const char *end) {
    for (const char *q = from; q < end; q++)
        if ((uint8_t)*q != UNWRITTEN)
            fail("write outside of a shared array: %td bytes %s \"%s\" of %zu bytes",
                 q < a.p ? a.p - q : q - a.p - (ptrdiff_t)a.bytes + 1, q < a.p ? "before" : "past the end of", a.name,
                 a.bytes);
}

/* After a block. AddressSanitizer sees the write itself; under ThreadSanitizer the arena is mapped anew and unfilled.
 */
void shared_check() {
#if defined(KF_ONCPU_ASAN) || defined(KF_ONCPU_TSAN)
    return;
#endif
    for (int i = 0; i < n_arrays; i++) {
        const shared_array &a = arrays[i];
        check_red_zone(a, a.p - RED_ZONE, a.p);
        check_red_zone(a, a.p + a.bytes, a.p + a.bytes + RED_ZONE);
    }
}

void *static_shared(const void *key, size_t bytes, size_t align, const char *name) {
    size_t all = bytes;
    if (!current) fail("shared array %s outside of a kernel", name);
    for (int i = 0; i < n_arrays; i++) {
        if (arrays[i].key == key) return arrays[i].p;
        if (arrays[i].key) all += arrays[i].bytes;
    }
    if (all > SHARED_DEFAULT)
        fail("shared array %s: %zu bytes of static shared memory, limit %zu", name, all, SHARED_DEFAULT);
    if (n_arrays == ARRAYS_MAX) fail("shared array %s: more than %d of them", name, ARRAYS_MAX);
    arrays[n_arrays++] = {key, name, arena_take(bytes, std::max(align, size_t(16))), bytes};
    return arrays[n_arrays - 1].p;
}

void *dynamic_shared() {
    if (!current) fail("dynamic shared memory outside of a kernel");
    if (!n_arrays || arrays[0].key) fail("dynamic shared memory is used, and dynamicSmemBytes is 0");
    return arrays[0].p;
}

/* ---- device memory ---- */

constexpr size_t GUARD = 64 << 10, ALIGN = 256, PAGE = 4096;

struct allocation {
    char *map, *p;
    size_t map_bytes, bytes, rounded;
    char *data() const { /* what is mapped between the guards */
        return map + GUARD;
    }
    size_t data_bytes() const {
        return map_bytes - 2 * GUARD;
    }
};
struct pinned_block {
    char *p;
    size_t bytes;
};
static std::vector<allocation> allocations, freed; /* the first sorted by p */
static std::vector<pinned_block> pinned;
static int open_depth;
static const bool protect = !getenv("KF_ONCPU_PROTECT") || strcmp(getenv("KF_ONCPU_PROTECT"), "0");

static allocation *find(const void *p) {
    auto it = std::upper_bound(allocations.begin(), allocations.end(), (char *)p,
                               [](const char *q, const allocation &x) { return q < x.p; });
    if (it == allocations.begin()) return nullptr;
    allocation &x = *--it;
    return (char *)p <= x.p + x.bytes ? &x : nullptr;
}

bool is_device(const void *p) {
    return find(p) != nullptr;
}

bool is_pinned(const void *p) {
    return std::any_of(pinned.begin(), pinned.end(), [p](const pinned_block &b) {
        return (const char *)p >= b.p && (const char *)p < b.p + b.bytes;
    });
}

void check_device_range(const void *p, size_t bytes, const char *what) {
    if (!bytes) return;
    const allocation *x = find(p);
    if (!x) fail("%s: %p is not device memory%s", what, p, is_pinned(p) ? ", but pinned host memory" : "");
    if ((char *)p + bytes > x->p + x->bytes)
        fail("%s: %zu bytes at offset %td overrun a device allocation of %zu bytes", what, bytes, (char *)p - x->p,
             x->bytes);
}

void check_guards() {
#ifndef KF_ONCPU_ASAN /* it sees the write itself */
    for (const allocation &x : allocations) {
        for (const char *q = x.data(); q < x.p; q++)
            if ((uint8_t)*q != UNWRITTEN)
                fail("write %td bytes before a device allocation of %zu bytes", x.p - q, x.bytes);
        for (const char *q = x.p + x.bytes; q < x.p + x.rounded; q++)
            if ((uint8_t)*q != UNWRITTEN)
                fail("write at offset %td of a device allocation of %zu bytes", q - x.p, x.bytes);
    }
#endif
}

static void protect_all(int access) {
    if (!protect) return;
    for (const allocation &x : allocations)
        mprotect(x.data(), x.data_bytes(), access);
}

/* ---- touched where it may not be ---- */

static void say_where(const char *a, const allocation &x, bool is_freed) {
    if (a < x.map || a >= x.map + x.map_bytes) return;
    fprintf(stderr, ": offset %td of a device allocation of %zu bytes (%s)", a - x.p, x.bytes,
            is_freed                        ? "freed"
            : a >= x.p && a < x.p + x.bytes ? "device memory touched by host code"
                                            : "out of bounds");
}

static void on_bad_access(int sig, siginfo_t *info, void *) {
    const char *a = (const char *)info->si_addr;
    fprintf(stderr, "cuda on cpu: ERROR: signal %d at address %p", sig, (const void *)a);
    for (const allocation &x : allocations)
        say_where(a, x, false);
    for (const allocation &x : freed)
        say_where(a, x, true);
    fprintf(stderr, "\n");
    say_context();
    _exit(86);
}

/* At every way into the device: a test's frame may have put its own handlers in the place of these. */
static void watch_accesses() {
    static char stack[64 << 10];
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    sigaltstack(&alternate, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = on_bad_access;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
#ifdef KF_ONCPU_ASAN
    __asan_set_error_report_callback([](const char *) { say_context(); });
#elif defined(KF_ONCPU_MSAN)
    __msan_set_death_callback(say_context);
#endif
}

device_open::device_open() {
    if (open_depth++) return;
    watch_accesses();
    protect_all(PROT_READ | PROT_WRITE);
}

device_open::~device_open() {
    if (--open_depth) return;
    check_guards();
    protect_all(PROT_NONE);
}

} // namespace oncpu

/* ---- CUDA's calls ---- */

using namespace oncpu;

extern "C" {

cudaError_t cudaMalloc(void **out, size_t bytes) {
    call lock;
    if (cudaError_t e = refused_by_capture("cudaMalloc")) return e;
    if (cudaError_t e = device_status()) return error(e);
    watch_accesses();
    oncpu_calls.allocations++;
    if (!memory_take(bytes)) return error(cudaErrorMemoryAllocation);
    if (!bytes) return *out = nullptr, cudaSuccess;
    const size_t rounded = (bytes + ALIGN - 1) & ~(ALIGN - 1), data = (rounded + PAGE - 1) & ~(PAGE - 1);
    void *map = mmap(nullptr, data + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return memory_give_back(bytes), error(cudaErrorMemoryAllocation);
    allocation x = {(char *)map, nullptr, data + 2 * GUARD, bytes, rounded};
    x.p = x.data() + data - rounded;
    mprotect(x.data(), data, PROT_READ | PROT_WRITE);
    fill(x.data(), UNWRITTEN, data);
    poison(x.data(), data);
    unpoison(x.p, bytes);
    forget(x.p, bytes);
    if (protect && !open_depth) mprotect(x.data(), data, PROT_NONE);
    auto at = std::upper_bound(allocations.begin(), allocations.end(), x.p,
                               [](const char *q, const allocation &y) { return q < y.p; });
    allocations.insert(at, x);
    *out = x.p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    call lock;
    if (!p) return cudaSuccess;
    if (cudaError_t e = refused_by_capture("cudaFree")) return e;
    if (cudaError_t e = device_status()) return error(e);
    oncpu_calls.allocations++;
    finish_all();
    allocation *x = find(p);
    if (!x || x->p != (char *)p) return error(cudaErrorInvalidValue);
    { device_open check_it; }
    memory_give_back(x->bytes);
    unpoison(x->data(), x->data_bytes());
    mmap(x->map, x->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    freed.push_back(*x);
    allocations.erase(allocations.begin() + (x - allocations.data()));
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    call lock;
    if (cudaError_t e = refused_by_capture("cudaMallocHost")) return e;
    if (cudaError_t e = device_status()) return error(e);
    oncpu_calls.allocations++;
    if (!memory_take(0)) return error(cudaErrorMemoryAllocation);
    if (!bytes) return *out = nullptr, cudaSuccess;
    void *p = aligned_alloc(ALIGN, (bytes + ALIGN - 1) & ~(ALIGN - 1));
    if (!p) return error(cudaErrorMemoryAllocation);
    forget(p, bytes);
    pinned.push_back({(char *)p, bytes});
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
    call lock;
    if (!p) return cudaSuccess;
    if (cudaError_t e = refused_by_capture("cudaFreeHost")) return e;
    oncpu_calls.allocations++;
    finish_all();
    auto it = std::find_if(pinned.begin(), pinned.end(), [p](const pinned_block &b) { return b.p == p; });
    if (it == pinned.end()) return error(cudaErrorInvalidValue);
    pinned.erase(it);
    free(p);
    return cudaSuccess;
}
}
