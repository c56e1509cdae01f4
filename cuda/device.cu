/* Opening and closing a CUDA device, and its table of operations: is there a driver, a card, and is the card new
 * enough? The text of a refusal names what was found.
 *
 * To try: build/release/bin/kefu generate --device cuda …
 */
#include "cuda.h"

#include <stdlib.h>

enum { MIN_MAJOR = 8 }; /* sm_80: bf16 on tensor cores and cp.async */

static void cuda_close(kf_device *base) {
    kf_cuda_device *d = (kf_cuda_device *)base;
    if (d->cublas) (void)cublasLtDestroy(d->cublas);
    free(d->allocations);
    free(d);
}

static const struct kf_device_ops cuda_ops = {
    .close = cuda_close,
    .alloc = kf_cuda_alloc,
    .free = kf_cuda_free,
    .alloc_pinned = kf_cuda_alloc_pinned,
    .free_pinned = kf_cuda_free_pinned,
    .copy_in = kf_cuda_copy_in,
    .copy_out = kf_cuda_copy_out,
    .fill_zero = kf_cuda_fill_zero,
    .weight_pack = kf_cuda_weight_pack,
    .weight_free = kf_cuda_weight_free,
    .stream_open = kf_cuda_stream_open,
    .stream_close = kf_cuda_stream_close,
    .event_new = kf_cuda_event_new,
    .event_free = kf_cuda_event_free,
    .event_record = kf_cuda_event_record,
    .event_wait = kf_cuda_event_wait,
    .event_done = kf_cuda_event_done,
    .stream_wait = kf_cuda_stream_wait,
    .capture_begin = kf_cuda_capture_begin,
    .capture_end = kf_cuda_capture_end,
    .graph_launch = kf_cuda_graph_launch,
    .graph_free = kf_cuda_graph_free,
    .embed = kf_cuda_embed,
    .embed_bert = kf_cuda_embed_bert,
    .linear = kf_cuda_linear,
    .layernorm = kf_cuda_layernorm,
    .rmsnorm = kf_cuda_rmsnorm,
    .rope_kv_write = kf_cuda_rope_kv_write,
    .attention = kf_cuda_attention,
    .attention_paged = kf_cuda_attention_paged,
    .gated = kf_cuda_gated,
    .activate = kf_cuda_activate,
    .add = kf_cuda_add,
    .gather_rows = kf_cuda_gather_rows,
    .mean_rows = kf_cuda_mean_rows,
    .mark_seen = kf_cuda_mark_seen,
    .sample = kf_cuda_sample,
};

/* Whether there is a driver and a card that the kernels are built for. */
static kf_status card_check(void) {
    int driver = 0, n_cards = 0;
    cudaError_t e = cudaDriverGetVersion(&driver);
    if (e == cudaSuccess && driver == 0)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "device cuda: no driver here; install NVIDIA's, or take --device cpu");
    if (e == cudaSuccess) e = cudaGetDeviceCount(&n_cards);
    if (e == cudaErrorInsufficientDriver) /* any release of the runtime's major version would do */
        return KF_FAIL(KF_ERR_UNSUPPORTED,
                       "device cuda: the driver is for CUDA %d.%d, this program wants one for %d.0 or newer; update "
                       "it, or take --device cpu",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
    if (e != cudaSuccess || n_cards == 0)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "device cuda: no usable card here (%s); take --device cpu",
                       e != cudaSuccess ? cudaGetErrorString(e) : "none found");
    cudaDeviceProp card;
    e = cudaGetDeviceProperties(&card, 0);
    if (e == cudaSuccess) e = cudaSetDevice(0);
    if (e != cudaSuccess) return KF_FAIL(KF_ERR_DEVICE, "device cuda: card 0: %s", cudaGetErrorString(e));
    if (card.major < MIN_MAJOR)
        return KF_FAIL(KF_ERR_UNSUPPORTED,
                       "device cuda: card 0 is %s, sm_%d%d; sm_%d0 or newer is wanted; take --device cpu", card.name,
                       card.major, card.minor, MIN_MAJOR);
    return KF_OK;
}

extern "C" kf_status kf_cuda_open(const kf_device_opts *o, kf_device **out) {
    if (o->dtype != KF_F32 && o->dtype != KF_BF16)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "device cuda: dtype %s; change --dtype to f32 or bf16",
                       kf_dtype_name(o->dtype));
    KF_TRY(card_check());
    size_t free_bytes = 0, all = 0;
    cudaError_t e = cudaMemGetInfo(&free_bytes, &all);
    if (e != cudaSuccess) return KF_FAIL(KF_ERR_DEVICE, "device cuda: card 0: %s", cudaGetErrorString(e));
    kf_cuda_device *d = (kf_cuda_device *)calloc(1, sizeof *d);
    if (!d) return KF_FAIL(KF_ERR_NO_MEMORY, "device cuda: %zu bytes asked for, the system has none", sizeof *d);
    d->base = kf_device{
        .ops = &cuda_ops,
        .name = "cuda",
        .act = o->dtype,
        .weights = o->dtype,
        .batch_invariant = !o->batch_invariant_off,
        .memory_bytes = all,
        .memory_bytes_used = 0,
    };
    cublasStatus_t status = cublasLtCreate(&d->cublas);
    if (status != CUBLAS_STATUS_SUCCESS) {
        cuda_close(&d->base);
        return KF_FAIL(KF_ERR_DEVICE, "device cuda: cublasLt: %s", cublasLtGetStatusName(status));
    }
    *out = &d->base;
    return KF_OK;
}
