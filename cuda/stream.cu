/* Streams, events and copies. A stream's failure has two sources: the host sees a launch or a copy refused, and writes
 * it down (status); a kernel sees a broken rule, and writes it in device memory (fault), which event_record copies
 * behind all that was enqueued. What outlives a step (fill_zero, rope_kv_write, sample, mark_seen) is not touched after
 * either; other kernels read no flag, for their outputs are lost with the stream. Copies still move bytes.
 *
 * fill_zero: a word or a byte a thread. Bytes: n written. Grid: a thread a word, BLOCK_MAX a block. */
#include "kernel.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A stream and an event are small host structs with one small device or pinned block each. */

static kf_status stream_refused(cudaError_t e) {
    size_t free_bytes = 0, all = 0;
    (void)cudaGetLastError(); /* dealt with here: it must not show at a later launch */
    (void)cudaMemGetInfo(&free_bytes, &all);
    return KF_FAIL(e == cudaErrorMemoryAllocation ? KF_ERR_NO_MEMORY : KF_ERR_DEVICE,
                   "stream: %d bytes asked for, %zu of the card's %zu bytes are free: %s", KF_CUDA_SPLIT_BYTES,
                   free_bytes, all, cudaGetErrorString(e));
}

kf_status kf_cuda_stream_open(kf_device *d, kf_stream **out) {
    kf_cuda_stream *s = (kf_cuda_stream *)calloc(1, sizeof *s);
    if (!s) return KF_FAIL(KF_ERR_NO_MEMORY, "stream: %zu bytes asked for, the system has none", sizeof *s);
    s->base = kf_stream{.ops = d->ops, .device = d};
    cudaError_t e = cudaStreamCreateWithFlags(&s->cuda, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = cudaMalloc((void **)&s->fault, sizeof *s->fault);
    if (e == cudaSuccess) e = cudaMemsetAsync(s->fault, 0, sizeof *s->fault, s->cuda);
    if (e == cudaSuccess) e = cudaMalloc((void **)&s->splits, KF_CUDA_SPLIT_BYTES);
    if (e == cudaSuccess) e = cudaMalloc((void **)&s->split_counters, KF_CUDA_SPLIT_COUNTERS * sizeof(int));
    if (e == cudaSuccess) e = cudaMemsetAsync(s->split_counters, 0, KF_CUDA_SPLIT_COUNTERS * sizeof(int), s->cuda);
    if (e != cudaSuccess) {
        kf_cuda_stream_close(&s->base);
        return stream_refused(e);
    }
    *out = &s->base;
    return KF_OK;
}

void kf_cuda_stream_close(kf_stream *stream) {
    kf_cuda_stream *s = (kf_cuda_stream *)stream;
    if (s->cuda) (void)cudaStreamSynchronize(s->cuda);
    if (s->fault) (void)cudaFree(s->fault);
    if (s->splits) (void)cudaFree(s->splits);
    if (s->split_counters) (void)cudaFree(s->split_counters);
    if (s->cuda) (void)cudaStreamDestroy(s->cuda);
    free(s);
}

void kf_cuda_fail(kf_stream *stream, kf_status status, const char *fmt, ...) {
    kf_cuda_stream *s = (kf_cuda_stream *)stream;
    if (s->status != KF_OK) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->text, sizeof s->text, fmt, ap);
    va_end(ap);
    s->status = status;
}

void kf_cuda_check(kf_stream *s, const char *what, cudaError_t e) {
    if (e != cudaSuccess) kf_cuda_fail(s, KF_ERR_DEVICE, "device cuda: %s: %s", what, cudaGetErrorString(e));
}

kf_status kf_cuda_event_new(kf_device *d, kf_event **out) {
    (void)d;
    kf_event *e = (kf_event *)calloc(1, sizeof *e);
    if (!e) return KF_FAIL(KF_ERR_NO_MEMORY, "event: %zu bytes asked for, the system has none", sizeof *e);
    cudaError_t error = cudaEventCreateWithFlags(&e->cuda, cudaEventDisableTiming);
    if (error == cudaSuccess) error = cudaMallocHost((void **)&e->fault, sizeof *e->fault);
    if (error != cudaSuccess) {
        kf_cuda_event_free(e);
        return KF_FAIL(KF_ERR_DEVICE, "device cuda: event: %s", cudaGetErrorString(error));
    }
    memset(e->fault, 0, sizeof *e->fault);
    *out = e;
    return KF_OK;
}

void kf_cuda_event_free(kf_event *e) {
    if (e->cuda) {
        (void)cudaEventSynchronize(e->cuda); /* the copy to `fault` may be under way */
        (void)cudaEventDestroy(e->cuda);
    }
    if (e->fault) (void)cudaFreeHost(e->fault);
    free(e);
}

kf_status kf_cuda_event_record(kf_stream *stream, kf_event *e) {
    kf_cuda_stream *s = (kf_cuda_stream *)stream;
    kf_cuda_check(stream, "fault",
                  cudaMemcpyAsync(e->fault, s->fault, sizeof *s->fault, cudaMemcpyDeviceToHost, s->cuda));
    cudaError_t error = cudaEventRecord(e->cuda, s->cuda);
    kf_cuda_check(stream, "event", error);
    e->status = s->status;
    memcpy(e->text, s->text, sizeof e->text);
    if (error != cudaSuccess) return KF_FAIL(KF_ERR_DEVICE, "%s", e->text);
    return KF_OK;
}

kf_status kf_cuda_event_wait(kf_event *e) {
    cudaError_t error = cudaEventSynchronize(e->cuda);
    if (e->status != KF_OK) return KF_FAIL(e->status, "%s", e->text);
    if (error != cudaSuccess) return KF_FAIL(KF_ERR_DEVICE, "device cuda: %s", cudaGetErrorString(error));
    const kf_cuda_fault *f = e->fault;
    if (f->found)
        return KF_FAIL(KF_ERR_BUG, "attention: sequence %d has %d new tokens and a cache of %d", f->seq, f->n_new,
                       f->kv_len);
    return KF_OK;
}

bool kf_cuda_event_done(kf_event *e) {
    return cudaEventQuery(e->cuda) != cudaErrorNotReady;
}

void kf_cuda_stream_wait(kf_stream *s, kf_event *e) {
    if (!kf_cuda_runs(s)) return;
    kf_cuda_check(s, "wait", cudaStreamWaitEvent(((kf_cuda_stream *)s)->cuda, e->cuda, 0));
}

void kf_cuda_copy_in(kf_stream *s, void *dst_device, const void *src_host, size_t bytes) {
    if (!kf_cuda_runs(s) || bytes == 0) return;
    cudaStream_t cuda = ((kf_cuda_stream *)s)->cuda;
    kf_cuda_check(s, "copy in", cudaMemcpyAsync(dst_device, src_host, bytes, cudaMemcpyHostToDevice, cuda));
}

void kf_cuda_copy_out(kf_stream *s, void *dst_host, const void *src_device, size_t bytes) {
    if (!kf_cuda_runs(s) || bytes == 0) return;
    cudaStream_t cuda = ((kf_cuda_stream *)s)->cuda;
    kf_cuda_check(s, "copy out", cudaMemcpyAsync(dst_host, src_device, bytes, cudaMemcpyDeviceToHost, cuda));
}

template <class T> __global__ void fill_zero(T *dst, size_t n, const kf_cuda_fault *fault) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && !fault->found) dst[i] = 0;
}

void kf_cuda_fill_zero(kf_stream *s, void *dst, size_t bytes) {
    if (!kf_cuda_runs(s) || bytes == 0) return;
    const kf_cuda_fault *fault = ((kf_cuda_stream *)s)->fault;
    bool words = ((uintptr_t)dst | bytes) % sizeof(uint32_t) == 0;
    size_t n = words ? bytes / sizeof(uint32_t) : bytes;
    if (words)
        KF_LAUNCH(s, blocks_for(n, BLOCK_MAX), threads_for(n), fill_zero<uint32_t>, (uint32_t *)dst, n, fault);
    else
        KF_LAUNCH(s, blocks_for(n, BLOCK_MAX), threads_for(n), fill_zero<uint8_t>, (uint8_t *)dst, n, fault);
}
