/* Launching a kernel: its configuration is checked against CUDA's limits, then its blocks run one after the other, in
 * the schedule's order. Also how the runner complains: what was found, and which kernel, block and thread did it. */
#include "runtime.h"
#include "runner.h"

#include <cstdarg>
#include <cstdio>
#include <memory>
#include <numeric>
#include <unistd.h>
#include <vector>

namespace oncpu {

constexpr int ERROR_STATUS = 86;

void say_context() {
    if (!block.body) {
        fprintf(stderr, "cuda on cpu:   outside of any kernel\n");
        return;
    }
    fprintf(stderr, "cuda on cpu:   in kernel %s (launched at %s:%d), block (%u,%u,%u)", block.kernel, block.file,
            block.line, blockIdx.x, blockIdx.y, blockIdx.z);
    if (current && current != &block.host)
        fprintf(stderr, ", thread (%u,%u,%u)", current->index.x, current->index.y, current->index.z);
    fprintf(stderr, "\n");
}

void fail(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "cuda on cpu: ERROR: ");
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n");
    say_context();
    fflush(stderr);
    _exit(ERROR_STATUS);
}

#ifdef KF_ONCPU_TSAN
extern "C" void __tsan_on_report(void *) {
    say_context();
}
#endif

/* ---- running ---- */

/* The order of n blocks. */
static std::vector<long> blocks_in_order(long n) {
    std::vector<long> blocks((size_t)n);
    std::iota(blocks.begin(), blocks.end(), 0L);
    if (schedule == order::reverse)
        for (long i = 0; i < n; i++)
            blocks[(size_t)i] = n - 1 - i;
    if (schedule == order::random)
        for (size_t i = blocks.size(); i > 1; i--)
            std::swap(blocks[i - 1], blocks[draw((unsigned)i)]);
    return blocks;
}

void run_kernel(const char *name, const char *file, int line, dim3 grid, dim3 shape, size_t dynamic_bytes,
                const std::function<void()> &body) {
    device_open device;
    block.kernel = name;
    block.file = file;
    block.line = line;
    block.body = &body;
    blockDim = shape;
    gridDim = grid;
    fibers_begin(shape);
    long n_run = 0;
    for (long k : blocks_in_order((long)grid.x * grid.y * grid.z)) {
        blockIdx = uint3{unsigned(k % grid.x), unsigned(k / grid.x % grid.y), unsigned(k / grid.x / grid.y)};
        shared_reset(dynamic_bytes);
        fibers_run_block(n_run++);
        shared_check();
    }
    fibers_end();
    check_guards(); /* while the context still names this kernel */
    block.body = nullptr;
}

/* ---- launching ---- */

/* Lists, not maps: MemorySanitizer does not see what the C++ library writes out of line. */
struct dynamic_limit { /* by cudaFuncSetAttribute */
    const void *kernel;
    size_t bytes;
};
static std::vector<dynamic_limit> dynamic_limits;

static size_t &limit_of(const void *kernel) {
    for (dynamic_limit &l : dynamic_limits)
        if (l.kernel == kernel) return l.bytes;
    dynamic_limits.push_back({kernel, SHARED_DEFAULT});
    return dynamic_limits.back().bytes;
}

/* "k<1, 2>, a, b" -> "k<1, 2>"; one string for every place that launches, kept for good. */
struct kernel_name {
    const char *call;
    char name[120];
};

static const char *name_of(const char *call) {
    static std::vector<std::unique_ptr<kernel_name>> names;
    for (const auto &n : names)
        if (n->call == call) return n->name;
    names.push_back(std::make_unique<kernel_name>());
    kernel_name &n = *names.back();
    n.call = call;
    size_t at = 0;
    for (int depth = 0; *call && at + 1 < sizeof n.name && (depth || *call != ','); call++) {
        n.name[at++] = *call;
        depth += (*call == '<' || *call == '(') - (*call == '>' || *call == ')');
    }
    return n.name;
}

static cudaError_t check_launch(const char *name, const void *kernel, const cudaLaunchConfig_t *c) {
    const dim3 g = c->gridDim, b = c->blockDim;
    if (!g.x || !g.y || !g.z || g.x > 0x7fffffff || g.y > 65535 || g.z > 65535 || !b.x || !b.y || !b.z || b.x > 1024 ||
        b.y > 1024 || b.z > 64 || (unsigned long)b.x * b.y * b.z > BLOCK_MAX) {
        fprintf(stderr, "cuda on cpu: %s: grid (%u,%u,%u) of blocks (%u,%u,%u)\n", name, g.x, g.y, g.z, b.x, b.y, b.z);
        return cudaErrorInvalidConfiguration;
    }
    const size_t limit = limit_of(kernel);
    if (c->dynamicSmemBytes > limit) {
        fprintf(stderr, "cuda on cpu: %s: %zu bytes of dynamic shared memory, limit %zu\n", name, c->dynamicSmemBytes,
                limit);
        return cudaErrorInvalidValue;
    }
    for (unsigned i = 0; i < c->numAttrs; i++) {
        const cudaLaunchAttributeID id = c->attrs[i].id;
        if (id == cudaLaunchAttributeProgrammaticStreamSerialization || id == cudaLaunchAttributePriority) continue;
        fprintf(stderr, "cuda on cpu: %s: the runner has no launch attribute %d\n", name, (int)id);
        return cudaErrorNotSupported;
    }
    return cudaSuccess;
}

cudaError_t launch_kernel(const char *call_text, const char *file, int line, const void *kernel,
                          const cudaLaunchConfig_t *c, std::function<void()> body) {
    call lock;
    const char *name = name_of(call_text);
    if (cudaError_t e = check_launch(name, kernel, c)) return error(e);
    if (cudaError_t e = device_status()) return error(e);
    oncpu_calls.launches++;
    const dim3 grid = c->gridDim, shape = c->blockDim;
    const size_t dynamic_bytes = c->dynamicSmemBytes;
    return enqueue(c->stream, [=] {
        if (kernel_may_run()) run_kernel(name, file, line, grid, shape, dynamic_bytes, body);
    });
}

} // namespace oncpu

using namespace oncpu;

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute a, int value) {
    call lock;
    if (a == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (a != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > (int)SHARED_MAX)
        return error(cudaErrorInvalidValue);
    limit_of(kernel) = (size_t)value;
    return cudaSuccess;
}
