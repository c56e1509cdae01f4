/* Memory of the CUDA device: counted, aligned to 256 bytes, refused with both figures where it does not fit. Made at
 * start and freed at the end; the ledger is a list that is searched from its end. */
#include "cuda.h"

#include <stdlib.h>

/* Room for one more entry in the ledger. */
static kf_status ledger_grow(kf_cuda_device *d) {
    if (d->n_allocations < d->max_allocations) return KF_OK;
    size_t n = d->max_allocations ? 2 * d->max_allocations : 256;
    void *p = realloc(d->allocations, n * sizeof *d->allocations);
    if (!p) return KF_FAIL(KF_ERR_NO_MEMORY, "device cuda: list of %zu allocations, the system has no memory", n);
    d->allocations = (kf_cuda_allocation *)p;
    d->max_allocations = n;
    return KF_OK;
}

kf_status kf_cuda_alloc(kf_device *base, size_t bytes, const char *what, void **out) {
    kf_cuda_device *d = (kf_cuda_device *)base;
    KF_TRY(ledger_grow(d));
    size_t left = base->memory_bytes > base->memory_bytes_used ? base->memory_bytes - base->memory_bytes_used : 0;
    void *p = NULL;
    cudaError_t e = cudaErrorMemoryAllocation;
    if (bytes <= left) e = cudaMalloc(&p, bytes ? bytes : 1);
    if (e != cudaSuccess) {
        size_t free_bytes = 0, all = 0;
        (void)cudaGetLastError(); /* a refusal is dealt with here: it must not show at a later launch */
        (void)cudaMemGetInfo(&free_bytes, &all);
        return KF_FAIL(e == cudaErrorMemoryAllocation ? KF_ERR_NO_MEMORY : KF_ERR_DEVICE,
                       "%s: %zu bytes asked for, %zu of %zu bytes are left on device cuda (%zu free on the card): %s",
                       what, bytes, left, base->memory_bytes, free_bytes, cudaGetErrorString(e));
    }
    d->allocations[d->n_allocations++] = kf_cuda_allocation{p, bytes};
    base->memory_bytes_used += bytes;
    *out = p;
    return KF_OK;
}

void kf_cuda_free(kf_device *base, void *p) {
    kf_cuda_device *d = (kf_cuda_device *)base;
    for (size_t i = d->n_allocations; p && i-- > 0;) {
        if (d->allocations[i].p != p) continue;
        base->memory_bytes_used -= d->allocations[i].bytes;
        d->allocations[i] = d->allocations[--d->n_allocations];
        (void)cudaFree(p); /* what it can report is an earlier failure, which its stream has */
        return;
    }
}

kf_status kf_cuda_alloc_pinned(kf_device *d, size_t bytes, void **out) {
    (void)d;
    void *p = NULL;
    cudaError_t e = cudaMallocHost(&p, bytes ? bytes : 1);
    if (e != cudaSuccess) {
        (void)cudaGetLastError();
        return KF_FAIL(KF_ERR_NO_MEMORY, "pinned host buffer: %zu bytes asked for: %s", bytes, cudaGetErrorString(e));
    }
    *out = p;
    return KF_OK;
}

void kf_cuda_free_pinned(kf_device *d, void *p) {
    (void)d;
    if (p) (void)cudaFreeHost(p);
}
