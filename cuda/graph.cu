/* CUDA graphs: a stream's operations captured once and launched as one (CUDA C++ Programming Guide, "CUDA Graphs").
 * Launching n kernels costs the host about 2 us each, which small decoder steps cannot hide; a graph's launch is one
 * call, and its kernels follow each other without the host.
 *
 * The capture is of this thread alone: another one may allocate meanwhile. What a graph takes of the card is what
 * cudaMemGetInfo shows to be gone after it was instantiated and uploaded; the ledger counts that. */
#include "cuda.h"

#include <stdlib.h>

struct kf_graph {
    cudaGraphExec_t exec;
    size_t bytes;
};

static size_t free_bytes(void) {
    size_t left = 0, all = 0;
    return cudaMemGetInfo(&left, &all) == cudaSuccess ? left : 0;
}

static kf_status refused(cudaError_t e) {
    (void)cudaGetLastError(); /* dealt with here: it must not show at a later launch */
    return KF_FAIL(e == cudaErrorMemoryAllocation ? KF_ERR_NO_MEMORY : KF_ERR_DEVICE, "device cuda: graph: %s",
                   cudaGetErrorString(e));
}

kf_status kf_cuda_capture_begin(kf_stream *stream) {
    kf_cuda_stream *s = (kf_cuda_stream *)stream;
    if (s->status != KF_OK) return KF_FAIL(s->status, "%s", s->text);
    cudaError_t e = cudaStreamBeginCapture(s->cuda, cudaStreamCaptureModeThreadLocal);
    return e == cudaSuccess ? KF_OK : refused(e);
}

static kf_status instantiate(kf_cuda_stream *s, cudaGraph_t captured, kf_graph **out) {
    kf_graph *g = (kf_graph *)calloc(1, sizeof *g);
    if (!g) return KF_FAIL(KF_ERR_NO_MEMORY, "graph: %zu bytes asked for, the system has none", sizeof *g);
    size_t before = free_bytes();
    cudaError_t e = cudaGraphInstantiate(&g->exec, captured, 0);
    if (e == cudaSuccess) e = cudaGraphUpload(g->exec, s->cuda);
    size_t after = free_bytes();
    if (before > after) g->bytes = before - after;
    s->base.device->memory_bytes_used += g->bytes;
    if (e != cudaSuccess) {
        kf_cuda_graph_free(s->base.device, g);
        return refused(e);
    }
    *out = g;
    return KF_OK;
}

kf_status kf_cuda_capture_end(kf_stream *stream, kf_graph **out) {
    kf_cuda_stream *s = (kf_cuda_stream *)stream;
    cudaGraph_t captured = NULL;
    kf_graph *g = NULL;
    cudaError_t e = cudaStreamEndCapture(s->cuda, &captured);
    kf_status status = e == cudaSuccess ? KF_OK : refused(e);
    if (s->status != KF_OK) status = KF_FAIL(s->status, "%s", s->text); /* an operation's refusal says more */
    KF_STEP(status, instantiate(s, captured, &g));
    if (captured) (void)cudaGraphDestroy(captured);
    if (status == KF_OK) *out = g;
    return status;
}

void kf_cuda_graph_launch(kf_stream *s, kf_graph *g) {
    if (!kf_cuda_runs(s)) return;
    kf_cuda_check(s, "graph", cudaGraphLaunch(g->exec, ((kf_cuda_stream *)s)->cuda));
}

void kf_cuda_graph_free(kf_device *d, kf_graph *g) {
    d->memory_bytes_used -= g->bytes;
    if (g->exec) (void)cudaGraphExecDestroy(g->exec);
    free(g);
}
