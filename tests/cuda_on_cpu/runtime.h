/* What the runner's own files offer each other. The device is one: whoever calls CUDA holds its lock (a `call`), so
 * that host threads take turns, and a kernel runs on the thread whose call made it run. */
#ifndef KF_ONCPU_RUNTIME_H
#define KF_ONCPU_RUNTIME_H

#include <cuda_runtime.h>

#include <mutex>

namespace oncpu {

constexpr size_t SHARED_MAX = 227 << 10, SHARED_DEFAULT = 48 << 10;

/* KF_ONCPU_SCHED: the order of threads, blocks, streams and a graph's nodes that nothing else orders. */
enum class order { forward, reverse, random };
extern order schedule;
extern bool late;              /* KF_ONCPU_LAZY: streams run when they are waited for */
unsigned draw(unsigned below); /* the seed's next number */

/* ---- launch.cpp ---- */
void run_kernel(const char *name, const char *file, int line, dim3 grid, dim3 block, size_t dynamic_bytes,
                const std::function<void()> &body);
void say_context(); /* on stderr: the kernel that runs */

/* The block that runs. */
struct running {
    fiber host; /* the host thread that waits for the block */
    warp warps[BLOCK_MAX / WARP];
    int n_threads = 0, n_warps = 0, n_alive = 0;
    const std::function<void()> *body = nullptr; /* NULL: no kernel runs */
    const char *kernel = "", *file = "";
    int line = 0;
};
extern running block;

/* ---- fibers.cpp ---- */
void fibers_begin(dim3 shape);    /* of a launch: blocks of this shape follow */
void fibers_run_block(long n_th); /* blockIdx is set */
void fibers_end();
void give_way(); /* the current fiber cannot run on: another one does, until someone makes it runnable */

/* ---- collectives.cpp ---- */
void barriers_reset(); /* for a block */

/* ---- memory.cpp ---- */
void shared_reset(size_t dynamic_bytes);
void shared_check();
bool is_shared(const void *p);
bool is_pinned(const void *p);
bool is_device(const void *p);
void check_device_range(const void *p, size_t bytes, const char *what);
void check_guards();
struct device_open { /* device memory is accessible inside of one */
    device_open();
    ~device_open();
};

/* ---- streams.cpp ---- */
typedef std::function<void()> work;
/* Behind what the stream has; cudaSuccess, or a refusal. Also into a capture. */
cudaError_t enqueue(cudaStream_t s, work w);
void finish_all(); /* runs all that is enqueued */

/* ---- graphs.cpp ---- */
/* Where the call may not be made while this thread captures: the captures are lost, and so says the status. */
cudaError_t refused_by_capture(const char *call);
cudaError_t capture(cudaStream_t s, work w); /* s is capturing */

/* ---- faults.cpp ---- */
cudaError_t error(cudaError_t e); /* remembers it for cudaGetLastError */
cudaError_t device_status();      /* the sticky error, or cudaSuccess */
bool memory_take(size_t bytes);   /* false: the card has no more, or a test refuses it */
void memory_give_back(size_t bytes);
bool kernel_may_run(); /* false: the device is lost */

extern std::recursive_mutex device_lock;
struct call {
    std::lock_guard<std::recursive_mutex> lock{device_lock};
};

} // namespace oncpu

#endif
