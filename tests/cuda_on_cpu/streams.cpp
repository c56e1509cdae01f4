/* Streams, events and copies. What is enqueued runs some time between its call and the wait for it; which time is the
 * schedule's: at once, KF_ONCPU_LAZY=1 as late as can be, or KF_ONCPU_SCHED=rand: a drawn part of what streams have, in
 * a drawn order, at every call. So a missing event, a result read too early or a pinned buffer written too early shows
 * in one of them. Pageable host memory is as CUDA has it: read before the call returns, written before it returns. */
#include "streams.h"
#include "runner.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace oncpu {

CUstream_st default_stream;
std::vector<cudaStream_t> streams; /* the others, that are alive */
static std::deque<CUstream_st> all_streams;
static std::deque<CUevent_st> all_events;

bool late = getenv("KF_ONCPU_LAZY") && !strcmp(getenv("KF_ONCPU_LAZY"), "1");

cudaStream_t stream_of(cudaStream_t s, const char *call_name) {
    if (s == nullptr || s == cudaStreamLegacy || s == cudaStreamPerThread) return &default_stream;
    return alive(s, call_name, "stream");
}

/* ---- the queues ---- */

static void run_one(cudaStream_t s) {
    if (device_status()) {
        s->queue.clear();
        return;
    }
    work w = std::move(s->queue.front());
    s->queue.pop_front();
    w();
}

void run_all(cudaStream_t s) {
    while (!s->queue.empty())
        run_one(s);
}

/* The default stream waits for blocking streams, and the host for it. */
static void run_default() {
    run_all(&default_stream);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i]->waits_for_default) run_all(streams[i]);
}

void finish_all() {
    run_all(&default_stream);
    for (size_t i = 0; i < streams.size(); i++)
        run_all(streams[i]);
}

static void run_some() {
    std::vector<cudaStream_t> all = streams;
    all.push_back(&default_stream);
    for (unsigned n = draw(4); n--;) {
        cudaStream_t s = all[draw((unsigned)all.size())];
        if (!s->queue.empty()) run_one(s);
    }
}

cudaError_t enqueue(cudaStream_t stream, work w) {
    cudaStream_t s = stream_of(stream, "enqueue");
    if (cudaError_t e = device_status()) return error(e);
    if (s->captured) return capture(s, std::move(w));
    if (s == &default_stream) run_default();
    if (s->waits_for_default) run_all(&default_stream);
    s->queue.push_back(std::move(w));
    if (late) return cudaSuccess;
    if (schedule == order::random)
        run_some();
    else
        run_all(s);
    return cudaSuccess;
}

/* Runs what stands before an event's record; another stream's work may be in between. */
static void run_until(cudaEvent_t e, unsigned n_recorded, cudaStream_t s) {
    while (e->n_reached < n_recorded && !device_status()) {
        if (s->queue.empty()) fail("an event is waited for, and its stream has nothing left to run");
        run_one(s);
    }
}

/* ---- copies ---- */

static void check_copy(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind, const char *what) {
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault || kind == cudaMemcpyHostToHost) fail("%s: a direction is to be named", what);
    if (to_device) check_device_range(to, bytes, what);
    if (from_device) check_device_range(from, bytes, what);
    if (!to_device && is_device(to)) fail("%s: device to host, and %p is device memory", what, to);
    if (!from_device && is_device(from)) fail("%s: host to device, and %p is device memory", what, from);
}

static work copy_work(void *to, const void *from, size_t bytes) {
    return [=] {
        device_open device;
        memcpy(to, from, bytes);
    };
}

} // namespace oncpu

using namespace oncpu;

extern "C" {

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    call lock;
    if (cudaError_t e = device_status()) return error(e);
    cudaStream_t s = stream_of(stream, "cudaMemcpyAsync");
    check_copy(to, from, bytes, kind, "cudaMemcpyAsync");
    const void *host = kind == cudaMemcpyHostToDevice ? from : kind == cudaMemcpyDeviceToHost ? to : nullptr;
    if (!host || is_pinned(host)) return enqueue(s, copy_work(to, from, bytes));
    if (s->captured) return refused_by_capture("cudaMemcpyAsync of pageable host memory");
    if (kind == cudaMemcpyDeviceToHost) {
        cudaError_t e = enqueue(s, copy_work(to, from, bytes));
        run_all(s);
        return e;
    }
    std::vector<char> staged((const char *)from, (const char *)from + bytes);
    return enqueue(s, [to, staged = std::move(staged)] {
        device_open device;
        memcpy(to, staged.data(), staged.size());
    });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    call lock;
    if (cudaError_t e = refused_by_capture("cudaMemcpy")) return e;
    if (cudaError_t e = device_status()) return error(e);
    oncpu_calls.waits++;
    check_copy(to, from, bytes, kind, "cudaMemcpy");
    run_default();
    if (cudaError_t e = device_status()) return error(e);
    copy_work(to, from, bytes)();
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t s) {
    call lock;
    if (cudaError_t e = device_status()) return error(e);
    check_device_range(to, bytes, "cudaMemsetAsync");
    return enqueue(s, [=] {
        device_open device;
        memset(to, byte, bytes);
    });
}

cudaError_t cudaMemset(void *to, int byte, size_t bytes) {
    call lock;
    if (cudaError_t e = refused_by_capture("cudaMemset")) return e;
    return cudaMemsetAsync(to, byte, bytes, nullptr);
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    call lock;
    if (cudaError_t e = device_status()) return error(e);
    oncpu_calls.allocations++;
    cudaStream_t s = &all_streams.emplace_back();
    s->waits_for_default = !(flags & cudaStreamNonBlocking);
    streams.push_back(s);
    *out = s;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out) {
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    call lock;
    cudaStream_t s = alive(stream, "cudaStreamDestroy", "stream");
    if (s->captured) s->captured->lost = true;
    oncpu_calls.allocations++;
    run_all(s);
    s->destroyed = true;
    streams.erase(std::find(streams.begin(), streams.end(), s));
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    call lock;
    cudaStream_t s = stream_of(stream, "cudaStreamSynchronize");
    if (cudaError_t e = refused_by_capture("cudaStreamSynchronize")) return e;
    oncpu_calls.waits++;
    if (s == &default_stream) run_default();
    run_all(s);
    return error(device_status());
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    call lock;
    cudaStream_t s = stream_of(stream, "cudaStreamQuery");
    if (cudaError_t e = refused_by_capture("cudaStreamQuery")) return e;
    if (cudaError_t e = device_status()) return error(e);
    if (!s->queue.empty()) run_one(s); /* time passes: who asks for long is told that it is done */
    if (cudaError_t e = device_status()) return error(e);
    return s->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
    call lock;
    if (cudaError_t e = refused_by_capture("cudaDeviceSynchronize")) return e;
    oncpu_calls.waits++;
    finish_all();
    return error(device_status());
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    call lock;
    if (cudaError_t e = device_status()) return error(e);
    oncpu_calls.allocations++;
    *out = &all_events.emplace_back();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) {
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    call lock;
    oncpu_calls.allocations++;
    alive(event, "cudaEventDestroy", "event")->destroyed = true;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    call lock;
    cudaEvent_t e = alive(event, "cudaEventRecord", "event");
    cudaStream_t s = stream_of(stream, "cudaEventRecord");
    if (cudaError_t status = device_status()) return error(status);
    e->stream = s;
    e->captured = s->captured;
    e->nodes = s->last;
    if (s->captured) return s->captured->lost ? error(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
    const unsigned n = ++e->n_recorded;
    return enqueue(s, [=] { e->n_reached = n; });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    call lock;
    cudaEvent_t e = alive(event, "cudaStreamWaitEvent", "event");
    cudaStream_t s = stream_of(stream, "cudaStreamWaitEvent");
    if (cudaError_t status = device_status()) return error(status);
    if (e->captured) { /* the stream joins the capture */
        if (!e->captured->under_way || (s->captured && s->captured != e->captured)) {
            fprintf(stderr, "cuda on cpu: cudaStreamWaitEvent: the event is of another capture\n");
            return error(cudaErrorStreamCaptureIsolation);
        }
        s->captured = e->captured;
        s->last.insert(s->last.end(), e->nodes.begin(), e->nodes.end());
        return cudaSuccess;
    }
    if (s->captured) {
        fprintf(stderr, "cuda on cpu: cudaStreamWaitEvent: a capture waits for an event from outside of it\n");
        s->captured->lost = true;
        return error(cudaErrorStreamCaptureIsolation);
    }
    const unsigned n = e->n_recorded;
    cudaStream_t from = e->stream;
    return n ? enqueue(s, [=] { run_until(e, n, from); }) : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    call lock;
    cudaEvent_t e = alive(event, "cudaEventSynchronize", "event");
    if (e->captured) return (void)refused_by_capture("cudaEventSynchronize"), error(cudaErrorCapturedEvent);
    if (cudaError_t status = refused_by_capture("cudaEventSynchronize")) return status;
    oncpu_calls.waits++;
    if (e->n_recorded) run_until(e, e->n_recorded, e->stream);
    return error(device_status());
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    call lock;
    cudaEvent_t e = alive(event, "cudaEventQuery", "event");
    if (e->captured) return (void)refused_by_capture("cudaEventQuery"), error(cudaErrorCapturedEvent);
    if (cudaError_t status = refused_by_capture("cudaEventQuery")) return status;
    if (cudaError_t status = device_status()) return error(status);
    if (e->n_reached < e->n_recorded && !e->stream->queue.empty()) run_one(e->stream);
    if (cudaError_t status = device_status()) return error(status);
    return e->n_reached >= e->n_recorded ? cudaSuccess : cudaErrorNotReady;
}
}
