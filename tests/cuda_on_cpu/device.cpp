/* The card: what it is, how much memory it has, and its faults, which a test orders (runner.h). A sticky error comes
 * back from every call from then on, and nothing that is enqueued runs. */
#include "runtime.h"
#include "runner.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <signal.h>

oncpu_counts oncpu_calls;

namespace oncpu {

std::recursive_mutex device_lock;

static std::atomic<int> lost{0}; /* the sticky error */
static unsigned long kernels_left, allocations_left;
static int error_then; /* when kernels_left comes to 0 */
static size_t memory_bytes = 8ull << 30, memory_used;
static const char *card = "";
static cudaError_t last_error;

static int error_by_signal = cudaErrorIllegalAddress;

static struct faults_from_environment {
    faults_from_environment() {
        if (const char *s = getenv("KF_ONCPU_CARD")) card = s;
        if (const char *s = getenv("KF_ONCPU_MEMORY")) memory_bytes = strtoull(s, nullptr, 10);
        if (const char *s = getenv("KF_ONCPU_LOST")) {
            error_by_signal = (int)strtol(s, nullptr, 10);
            signal(SIGUSR1, [](int) { lost = error_by_signal; });
        }
    }
} faults_from_environment;

static bool card_is(const char *what) {
    return strcmp(card, what) == 0;
}

cudaError_t error(cudaError_t e) {
    if (e != cudaSuccess) last_error = e;
    return e;
}

cudaError_t device_status() {
    return (cudaError_t)lost.load();
}

bool kernel_may_run() {
    if (lost) return false;
    if (kernels_left && --kernels_left == 0) lost = error_then;
    return !lost;
}

bool memory_take(size_t bytes) {
    if (allocations_left && --allocations_left == 0) return false;
    if (bytes > memory_bytes - memory_used) return false;
    memory_used += bytes;
    return true;
}

void memory_give_back(size_t bytes) {
    memory_used -= bytes;
}

} // namespace oncpu

using namespace oncpu;

extern "C" {

void oncpu_lose_device(int e) {
    lost = e;
}

void oncpu_lose_device_after(unsigned long n_kernels, int e) {
    call lock;
    error_then = e;
    kernels_left = n_kernels;
}

void oncpu_refuse_allocation(unsigned long nth) {
    call lock;
    allocations_left = nth;
}

/* ---- errors ---- */

cudaError_t cudaGetLastError() {
    call lock;
    const cudaError_t e = last_error;
    last_error = device_status();
    return e;
}

cudaError_t cudaPeekAtLastError() {
    call lock;
    return last_error;
}

const char *cudaGetErrorString(cudaError_t e) { /* as CUDA has them, for those that tests look for */
    switch ((int)e) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorDevicesUnavailable: return "CUDA-capable device(s) is/are busy or unavailable";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorECCUncorrectable: return "uncorrectable ECC error encountered";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnjoined: return "capturing stream has unjoined work";
    case cudaErrorCapturedEvent: return "operation not permitted on an event last recorded in a capturing stream";
    default: return "an error that the runner has no text for";
    }
}

/* ---- the card ---- */

cudaError_t cudaDriverGetVersion(int *version) {
    *version = card_is("no-driver") ? 0 : card_is("old-driver") ? 12020 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n) {
    call lock;
    *n = 0;
    if (card_is("no-card") || card_is("no-driver")) return error(cudaErrorNoDevice);
    if (card_is("old-driver")) return error(cudaErrorInsufficientDriver);
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    call lock;
    return device ? error(cudaErrorInvalidDevice) : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    call lock;
    if (device) return error(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    strcpy(p->name, "oncpu");
    p->major = card_is("sm_75") ? 7 : 9;
    p->minor = card_is("sm_75") ? 5 : 0;
    p->multiProcessorCount = 4;
    p->warpSize = WARP;
    p->maxThreadsPerBlock = BLOCK_MAX;
    p->sharedMemPerBlock = SHARED_DEFAULT;
    p->sharedMemPerBlockOptin = SHARED_MAX;
    p->totalGlobalMem = memory_bytes;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr a, int device) {
    call lock;
    if (device) return error(cudaErrorInvalidDevice);
    switch ((int)a) {
    case cudaDevAttrMultiProcessorCount: *value = 4; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)SHARED_MAX; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = card_is("sm_75") ? 7 : 9; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = card_is("sm_75") ? 5 : 0; return cudaSuccess;
    case cudaDevAttrWarpSize: *value = WARP; return cudaSuccess;
    default: return error(cudaErrorInvalidValue);
    }
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *all) {
    call lock;
    if (cudaError_t e = device_status()) return error(e);
    *left = memory_bytes - memory_used;
    *all = memory_bytes;
    return cudaSuccess;
}
}
