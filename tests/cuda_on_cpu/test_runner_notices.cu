/* Aim: each mistake of a kernel that the runner promises to notice (README.md) is noticed, by a text that names what,
 * the kernel and the place. Method: a kernel with the mistake runs in a child process; what that says is read. What
 * only a sanitizer's build or another schedule notices is expected there. */
#include "runner_test.h"

static const char *const FILE_NAME = "test_runner_notices.cu";

/* ---- barriers and warps ---- */

__global__ static void half_at_barrier() {
    if (threadIdx.x < 32) __syncthreads();
}
static void barrier_not_reached() {
    RUN(1, 64, half_at_barrier);
}

__global__ static void two_barriers() {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}
static void barriers_at_two_places() {
    RUN(1, 64, two_barriers);
}

__global__ static void two_shuffles(int *out) {
    if (threadIdx.x % 2)
        out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
    else
        out[threadIdx.x] = __shfl_sync(0xffffffffu, 2, 1);
}
static void warp_diverges() {
    device_array<int> out(32);
    RUN(1, 32, two_shuffles, out.p);
}

__global__ static void foreign_mask(int *out) {
    out[threadIdx.x] = (int)__ballot_sync(0xffff0000u, 1);
}
static void caller_not_in_mask() {
    device_array<int> out(32);
    RUN(1, 32, foreign_mask, out.p);
}

__global__ static void early_return() {
    if (threadIdx.x == 7) return;
    __syncwarp();
}
static void mask_names_exited_lane() {
    RUN(1, 32, early_return);
}

__global__ static void reads_outside_mask(int *out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}
static void shuffle_from_lane_not_in_mask() {
    device_array<int> out(32);
    RUN(1, 32, reads_outside_mask, out.p);
}

static void divergence(void **) {
    expect_noticed(barrier_not_reached, "barrier divergence", "in kernel half_at_barrier");
    expect_noticed(barrier_not_reached, "waiting at __syncthreads", FILE_NAME);
    expect_noticed(barriers_at_two_places, "barrier divergence: thread at __syncthreads", FILE_NAME);
    expect_noticed(warp_diverges, "warp divergence", FILE_NAME);
    expect_noticed(caller_not_in_mask, "not in its own mask ffff0000", "in kernel foreign_mask");
    expect_noticed(mask_names_exited_lane, oncpu::schedule == oncpu::order::forward ? "exited lanes" : "exited",
                   "in kernel early_return");
    expect_noticed(shuffle_from_lane_not_in_mask, "reads lane 20, which is not in mask", FILE_NAME);
}

/* ---- memory ---- */

__global__ static void shared_overrun(int last) {
    SHARED_ARRAY(int, row, [64]);
    int *at = row; /* or UndefinedBehaviorSanitizer knows the bound */
    at[(int)threadIdx.x == last ? 64 : threadIdx.x] = 1;
}
static void write_past_shared() {
    RUN(1, 64, shared_overrun, 63);
}

__global__ static void device_write(float *p, long at) {
    p[at] = 1;
}
static void write_past_device() {
    device_array<float> a(100);
    RUN(1, 1, device_write, a.p, 100L);
}
static void write_far_past_device() {
    device_array<float> a(100);
    RUN(1, 1, device_write, a.p, 2000L);
}
static void write_before_device() {
    device_array<float> a(100);
    RUN(1, 1, device_write, a.p, -1L);
}
static void use_of_freed_memory() {
    float *p = nullptr;
    assert_cuda(cudaMalloc((void **)&p, 400));
    assert_cuda(cudaFree(p));
    RUN(1, 1, device_write, p, 3L);
}
static void copy_to_freed_memory() {
    float *p = nullptr, v = 0;
    assert_cuda(cudaMalloc((void **)&p, 400));
    assert_cuda(cudaFree(p));
    (void)cudaMemcpy(p, &v, sizeof v, cudaMemcpyHostToDevice);
}
static void copy_too_much() {
    device_array<float> a(10);
    std::vector<float> v(11);
    (void)cudaMemcpy(a.p, v.data(), 44, cudaMemcpyHostToDevice);
}
static void host_reads_device() {
    device_array<float> a(100);
    volatile float *p = a.p;
    fprintf(stderr, "%f\n", (double)p[2]);
}

static void memory(void **) {
    if (!ASAN && !TSAN)
        expect_noticed(write_past_shared, "1 bytes past the end of \"row\"", "in kernel shared_overrun");
    if (ASAN) expect_noticed(write_past_shared, "AddressSanitizer: use-after-poison", "in kernel shared_overrun");
    if (!ASAN)
        expect_noticed(write_past_device, "at offset 400 of a device allocation of 400", "in kernel device_write");
    if (ASAN) expect_noticed(write_past_device, "AddressSanitizer: use-after-poison", "in kernel device_write");
    expect_noticed(write_far_past_device, "out of bounds", "in kernel device_write");
    expect_noticed(write_before_device, ASAN ? "AddressSanitizer" : "4 bytes before a device allocation",
                   "in kernel device_write");
    expect_noticed(use_of_freed_memory, "(freed)", "in kernel device_write");
    expect_noticed(copy_to_freed_memory, "is not device memory", "cudaMemcpy");
    expect_noticed(copy_too_much, "44 bytes at offset 0 overrun a device allocation of 40", "cudaMemcpy");
    expect_noticed(host_reads_device, "device memory touched by host code", "outside of any kernel");
}

__global__ static void reads_unwritten(float *out) {
    SHARED_ARRAY(float, row, [32]);
    const float x = row[threadIdx.x];
    if (x > 0) /* a branch: a choice of values would be no decision yet */
        atomicAdd(out + threadIdx.x, 1.f);
    else
        out[threadIdx.x] = x;
}
static void unwritten_shared() {
    device_array<float> out(32);
    RUN(1, 32, reads_unwritten, out.p);
}

static void unwritten(void **) {
    if (MSAN) {
        expect_noticed(unwritten_shared, "use-of-uninitialized-value", "in kernel reads_unwritten");
        return;
    }
    device_array<float> out(32);
    RUN(1, 32, reads_unwritten, out.p);
    for (float x : out.host())
        assert_true(x != x); /* NaN, which no comparison of results lets pass */
}

/* ---- cp.async ---- */

__global__ static void copies(float *out, const float *in, int wait, int shift) {
    SHARED_ARRAY(float, row, [36]);
    cp_async16(row + 4 * threadIdx.x + shift, in, true);
    cp_async_commit();
    if (wait) cp_async_wait<0>();
    __syncthreads();
    if (wait == 1) out[threadIdx.x] = row[4 * threadIdx.x];
}
__global__ static void reads_before_wait(float *out, const float *in) {
    SHARED_ARRAY(float, row, [32]);
    cp_async16(row + 4 * threadIdx.x, in, true);
    cp_async_commit();
    __syncthreads();
    out[threadIdx.x] = row[4 * threadIdx.x];
    cp_async_wait<0>();
}
static void never_waits() {
    device_array<float> in(4), out(8);
    RUN(1, 8, copies, out.p, in.p, 0, 0);
}
static void misaligned_copy() {
    device_array<float> in(4), out(8);
    RUN(1, 8, copies, out.p, in.p, 1, 1);
}

static void asynchronous_copies(void **) {
    expect_noticed(never_waits, "exits with a cp_async16 not waited for", FILE_NAME);
    expect_noticed(misaligned_copy, "misaligned address", FILE_NAME);
    device_array<float> in(std::vector<float>{1, 2, 3, 4}), out(8);
    RUN(1, 8, copies, out.p, in.p, 1, 0);
    for (float x : out.host())
        assert_true(x == 1);
    RUN(1, 8, reads_before_wait, out.p, in.p);
    for (float x : out.host())
        assert_true(x != x);
}

__global__ static void loads_vector(float *out, const float *in) {
    const float4 v = *(const float4 *)(in + 1);
    out[0] = v.x;
}
static void misaligned_vector() {
    device_array<float> in(8), out(1);
    RUN(1, 1, loads_vector, out.p, in.p);
}

static void misaligned(void **) {
    if (!ASAN) skip(); /* UndefinedBehaviorSanitizer's */
    expect_noticed(misaligned_vector, "misaligned address", FILE_NAME);
}

/* ---- races ---- */

__global__ static void no_barrier(int *out) {
    SHARED_ARRAY(int, row, [64]);
    row[threadIdx.x] = (int)threadIdx.x;
    out[threadIdx.x] = row[63 - threadIdx.x];
}
static void race_of_warps() {
    device_array<int> out(64);
    RUN(1, 64, no_barrier, out.p);
}

__global__ static void all_blocks_write(int *out) {
    out[0] = (int)blockIdx.x;
}
static void race_of_blocks() {
    device_array<int> out(1);
    RUN(4, 32, all_blocks_write, out.p);
}

static std::vector<int> under(oncpu::order o, void (*kernel)(int *), int grid, int shape, size_t n) {
    const oncpu::order before = oncpu::schedule;
    device_array<int> out(n);
    oncpu::schedule = o;
    RUN((unsigned)grid, (unsigned)shape, kernel, out.p);
    oncpu::schedule = before;
    return out.host();
}

static void races(void **) {
    if (TSAN) {
        expect_noticed(race_of_warps, "ThreadSanitizer: data race", "in kernel no_barrier");
        expect_noticed(race_of_blocks, "ThreadSanitizer: data race", "in kernel all_blocks_write");
        return;
    }
    if (MSAN) skip(); /* it ends at the value that is not written yet */
    assert_true(under(oncpu::order::forward, no_barrier, 1, 64, 64) !=
                under(oncpu::order::reverse, no_barrier, 1, 64, 64));
    assert_true(under(oncpu::order::forward, all_blocks_write, 4, 32, 1) !=
                under(oncpu::order::reverse, all_blocks_write, 4, 32, 1));
}

/* ---- launches ---- */

__global__ static void nothing() {
}

static cudaError_t launch_of(dim3 grid, dim3 shape, size_t dynamic_bytes) {
    cudaLaunchConfig_t c = {};
    c.gridDim = grid;
    c.blockDim = shape;
    c.dynamicSmemBytes = dynamic_bytes;
    const cudaError_t e = cudaLaunchKernelEx(&c, nothing);
    assert_int_equal(e, cudaGetLastError());
    return e;
}

static void launches(void **) {
    assert_int_equal(launch_of(dim3(0), dim3(32), 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_of(dim3(1), dim3(1025), 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_of(dim3(1), dim3(64, 32), 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_of(dim3(1), dim3(1, 1, 65), 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_of(dim3(1, 65536), dim3(32), 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_of(dim3(1), dim3(32), 48 * 1024 + 1), cudaErrorInvalidValue);
    assert_int_equal(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 20),
                     cudaErrorInvalidValue);
    (void)cudaGetLastError();
    assert_cuda(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 * 1024));
    assert_cuda(launch_of(dim3(1), dim3(32), 100 * 1024));
    assert_int_equal(launch_of(dim3(1), dim3(32), 100 * 1024 + 1), cudaErrorInvalidValue);
    assert_cuda(cudaDeviceSynchronize());
    (void)cudaGetLastError();
}

int main() {
    /* Those first that run kernels in children alone: forked from a process with fibers, ThreadSanitizer sees nothing.
     */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divergence), cmocka_unit_test(memory),
        cmocka_unit_test(races),      cmocka_unit_test(asynchronous_copies),
        cmocka_unit_test(unwritten),  cmocka_unit_test(misaligned),
        cmocka_unit_test(launches),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
