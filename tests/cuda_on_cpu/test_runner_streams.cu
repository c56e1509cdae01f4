/* Aim: streams, events, graphs and memory follow CUDA's rules, and a host's mistake with them shows. Method: the rule
 * is kept and broken; where a mistake is a matter of time, streams run late (as KF_ONCPU_LAZY=1), which makes its
 * effect sure.
 */
#include "runner_test.h"

static cudaStream_t a, b;
static cudaEvent_t event;

__global__ static void add(int *to, const int *from, int v) {
    to[threadIdx.x] = from[threadIdx.x] + v;
}

static int setup(void **) {
    oncpu::late = true;
    assert_cuda(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    assert_cuda(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    assert_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return 0;
}

static int teardown(void **) {
    assert_cuda(cudaDeviceSynchronize());
    assert_cuda(cudaEventDestroy(event));
    assert_cuda(cudaStreamDestroy(a));
    assert_cuda(cudaStreamDestroy(b));
    return 0;
}

/* ---- order ---- */

/* x + 1 on one stream, read by another one, behind an event or not. */
static int read_by_another_stream(bool waits) {
    device_array<int> x(32);
    int *out = nullptr;
    assert_cuda(cudaMallocHost((void **)&out, 32 * sizeof(int)));
    LAUNCH(a, 1, 32, add, x.p, (const int *)x.p, 1);
    assert_cuda(cudaEventRecord(event, a));
    if (waits) assert_cuda(cudaStreamWaitEvent(b, event, 0));
    assert_cuda(cudaMemcpyAsync(out, x.p, 32 * sizeof(int), cudaMemcpyDeviceToHost, b));
    assert_cuda(cudaStreamSynchronize(b));
    const int got = out[5];
    assert_cuda(cudaFreeHost(out));
    return got;
}

static void events_order_streams(void **) {
    assert_int_equal(read_by_another_stream(true), 1);
    assert_int_equal(read_by_another_stream(false), 0);
}

static void an_event_is_done_when_it_is_reached(void **) {
    device_array<int> x(32);
    LAUNCH(a, 1, 32, add, x.p, (const int *)x.p, 1);
    assert_cuda(cudaEventRecord(event, a));
    assert_int_equal(cudaEventQuery(event), cudaErrorNotReady);
    assert_cuda(cudaEventSynchronize(event));
    assert_cuda(cudaEventQuery(event));
    assert_cuda(cudaStreamQuery(a));
}

/* The host writes a source again before the copy is known to be done. */
static int source_written_again(bool pinned) {
    device_array<int> x(1);
    int pageable = 1, *source = &pageable;
    if (pinned) assert_cuda(cudaMallocHost((void **)&source, sizeof *source));
    *source = 1;
    assert_cuda(cudaMemcpyAsync(x.p, source, sizeof *source, cudaMemcpyHostToDevice, a));
    *source = 2;
    assert_cuda(cudaStreamSynchronize(a));
    if (pinned) assert_cuda(cudaFreeHost(source));
    return x.host()[0];
}

static void pinned_memory_is_read_late(void **) {
    assert_int_equal(source_written_again(true), 2);
    assert_int_equal(source_written_again(false), 1);
}

static void random_order_keeps_a_stream_in_order(void **) {
    const oncpu::order before = oncpu::schedule;
    oncpu::late = false;
    oncpu::schedule = oncpu::order::random;
    device_array<int> x(32), y(32);
    for (int i = 0; i < 50; i++) {
        LAUNCH(a, 1, 32, add, x.p, (const int *)x.p, 1);
        LAUNCH(b, 1, 32, add, y.p, (const int *)y.p, 2);
    }
    assert_cuda(cudaDeviceSynchronize());
    oncpu::schedule = before;
    assert_int_equal(x.host()[31], 50);
    assert_int_equal(y.host()[0], 100);
}

/* ---- graphs ---- */

static cudaGraphExec_t instantiate(cudaGraph_t g) {
    cudaGraphExec_t x = nullptr;
    assert_cuda(cudaGraphInstantiate(&x, g, 0));
    assert_cuda(cudaGraphDestroy(g));
    return x;
}

static void a_graph_has_its_arguments_of_the_capture(void **) {
    device_array<int> x(32);
    cudaGraph_t g = nullptr;
    int v = 3;
    assert_cuda(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    LAUNCH(a, 1, 32, add, x.p, (const int *)x.p, v);
    v = 1000;
    assert_cuda(cudaStreamEndCapture(a, &g));
    assert_int_equal(x.host()[0], 0); /* captured, not run */
    cudaGraphExec_t exec = instantiate(g);
    assert_cuda(cudaGraphLaunch(exec, a));
    assert_cuda(cudaGraphLaunch(exec, a));
    assert_cuda(cudaStreamSynchronize(a));
    assert_int_equal(x.host()[0], 6);
    assert_cuda(cudaGraphExecDestroy(exec));
}

/* y = (x + 1) + 1 over two streams, in any order that the capture's events allow. */
static int forked_graph(bool waits, oncpu::order o) {
    const oncpu::order before = oncpu::schedule;
    device_array<int> x(32), y(32), z(32);
    cudaGraph_t g = nullptr;
    cudaEvent_t joined;
    assert_cuda(cudaEventCreate(&joined));
    assert_cuda(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    assert_cuda(cudaEventRecord(event, a));
    assert_cuda(cudaStreamWaitEvent(b, event, 0)); /* the fork */
    LAUNCH(a, 1, 32, add, x.p, (const int *)x.p, 1);
    assert_cuda(cudaEventRecord(event, a));
    if (waits) assert_cuda(cudaStreamWaitEvent(b, event, 0));
    LAUNCH(b, 1, 32, add, y.p, (const int *)x.p, 1);
    assert_cuda(cudaEventRecord(joined, b));
    assert_cuda(cudaStreamWaitEvent(a, joined, 0));
    LAUNCH(a, 1, 32, add, z.p, (const int *)y.p, 0);
    assert_cuda(cudaStreamEndCapture(a, &g));
    cudaGraphExec_t exec = instantiate(g);
    oncpu::schedule = o;
    assert_cuda(cudaGraphLaunch(exec, a));
    assert_cuda(cudaStreamSynchronize(a));
    oncpu::schedule = before;
    assert_cuda(cudaGraphExecDestroy(exec));
    assert_cuda(cudaEventDestroy(joined));
    return z.host()[7];
}

static void events_order_a_graph(void **) {
    assert_int_equal(forked_graph(true, oncpu::order::forward), 2);
    assert_int_equal(forked_graph(true, oncpu::order::reverse), 2);
    assert_int_equal(forked_graph(false, oncpu::order::reverse), 1); /* the missing wait shows */
}

/* What `call` returns while stream a captures; the capture is then lost. */
template <class F> static cudaError_t during_capture(F call) {
    cudaGraph_t g = nullptr;
    assert_cuda(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    const cudaError_t e = call();
    assert_int_equal(cudaStreamEndCapture(a, &g), cudaErrorStreamCaptureInvalidated);
    assert_null(g);
    (void)cudaGetLastError();
    return e;
}

static void a_capture_forbids(void **) {
    device_array<int> x(32);
    void *p = nullptr;
    int v = 0;
    const cudaError_t no = cudaErrorStreamCaptureUnsupported;
    assert_int_equal(during_capture([&] { return cudaMalloc(&p, 16); }), no);
    assert_int_equal(during_capture([&] { return cudaMallocHost(&p, 16); }), no);
    assert_int_equal(during_capture([&] { return cudaFree(x.p); }), no);
    assert_int_equal(during_capture([&] { return cudaMemcpy(&v, x.p, sizeof v, cudaMemcpyDeviceToHost); }), no);
    assert_int_equal(during_capture([&] { return cudaStreamSynchronize(a); }), no);
    assert_int_equal(during_capture([&] { return cudaDeviceSynchronize(); }), no);
    assert_int_equal(during_capture([&] { return cudaMemcpyAsync(x.p, &v, sizeof v, cudaMemcpyHostToDevice, a); }), no);
    assert_int_equal(during_capture([&] {
                         assert_cuda(cudaEventRecord(event, a));
                         return cudaEventSynchronize(event);
                     }),
                     cudaErrorCapturedEvent);
    assert_int_equal(during_capture([&] {
                         (void)cudaMalloc(&p, 16);
                         return cudaMemsetAsync(x.p, 0, 4, a);
                     }),
                     cudaErrorStreamCaptureInvalidated);
}

static void a_capture_joins_its_streams(void **) {
    device_array<int> x(32);
    cudaGraph_t g = nullptr;
    assert_cuda(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    assert_cuda(cudaEventRecord(event, a));
    assert_cuda(cudaStreamWaitEvent(b, event, 0));
    LAUNCH(b, 1, 32, add, x.p, (const int *)x.p, 1);
    assert_int_equal(cudaStreamEndCapture(a, &g), cudaErrorStreamCaptureUnjoined);
    assert_null(g);
    (void)cudaGetLastError();
}

/* ---- handles, faults, memory ---- */

static void launches_destroyed_graph() {
    cudaGraph_t g = nullptr;
    assert_cuda(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    assert_cuda(cudaStreamEndCapture(a, &g));
    cudaGraphExec_t exec = instantiate(g);
    assert_cuda(cudaGraphExecDestroy(exec));
    (void)cudaGraphLaunch(exec, a);
}
static void records_destroyed_event() {
    cudaEvent_t e;
    assert_cuda(cudaEventCreate(&e));
    assert_cuda(cudaEventDestroy(e));
    (void)cudaEventRecord(e, a);
}
static void uses_destroyed_stream() {
    cudaStream_t s;
    assert_cuda(cudaStreamCreate(&s));
    assert_cuda(cudaStreamDestroy(s));
    (void)cudaStreamSynchronize(s);
}

static void destroyed_handles(void **) {
    expect_noticed(launches_destroyed_graph, "cudaGraphLaunch: the executable graph was destroyed", "");
    expect_noticed(records_destroyed_event, "cudaEventRecord: the event was destroyed", "");
    expect_noticed(uses_destroyed_stream, "cudaStreamSynchronize: the stream was destroyed", "");
}

static void a_lost_device_stays_lost(void **) {
    device_array<int> x(32);
    oncpu_lose_device_after(2, cudaErrorECCUncorrectable);
    LAUNCH(a, 1, 32, add, x.p, (const int *)x.p, 1);
    LAUNCH(a, 1, 32, add, x.p, (const int *)x.p, 1);
    assert_int_equal(cudaStreamSynchronize(a), cudaErrorECCUncorrectable);
    assert_int_equal(cudaMemsetAsync(x.p, 0, 4, a), cudaErrorECCUncorrectable);
    void *p;
    assert_int_equal(cudaMalloc(&p, 16), cudaErrorECCUncorrectable);
    assert_int_equal(cudaGetLastError(), cudaErrorECCUncorrectable);
    assert_int_equal(cudaGetLastError(), cudaErrorECCUncorrectable);
    oncpu_lose_device(0);
    (void)cudaGetLastError();
    assert_int_equal(x.host()[0], 1);
}

static void memory_is_counted_and_refused(void **) {
    size_t before = 0, then = 0, all = 0;
    void *p = nullptr, *q = nullptr;
    assert_cuda(cudaMemGetInfo(&before, &all));
    assert_int_equal(cudaMalloc(&p, all + 1), cudaErrorMemoryAllocation);
    oncpu_refuse_allocation(2);
    assert_cuda(cudaMalloc(&p, 4096));
    assert_int_equal(cudaMallocHost(&q, 16), cudaErrorMemoryAllocation);
    assert_cuda(cudaMallocHost(&q, 16));
    assert_cuda(cudaMemGetInfo(&then, &all));
    assert_int_equal(before - then, 4096);
    const oncpu_counts counts = oncpu_calls;
    assert_cuda(cudaMemsetAsync(p, 0, 16, a));
    assert_int_equal(oncpu_calls.allocations, counts.allocations);
    assert_cuda(cudaFree(p));
    assert_int_equal(oncpu_calls.allocations, counts.allocations + 1);
    assert_int_equal(cudaFree((char *)p + 256), cudaErrorInvalidValue);
    assert_cuda(cudaFreeHost(q));
    (void)cudaGetLastError();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main() {
    const struct CMUnitTest tests[] = {
        TEST(events_order_streams),
        TEST(an_event_is_done_when_it_is_reached),
        TEST(pinned_memory_is_read_late),
        TEST(random_order_keeps_a_stream_in_order),
        TEST(a_graph_has_its_arguments_of_the_capture),
        TEST(events_order_a_graph),
        TEST(a_capture_forbids),
        TEST(a_capture_joins_its_streams),
        TEST(destroyed_handles),
        TEST(a_lost_device_stays_lost),
        TEST(memory_is_counted_and_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
