/* Opening and closing the CPU device, and its table of operations. */
#include "device/cpu/cpu.h"

#include <stdlib.h>

static void cpu_close(kf_device *base) {
    kf_cpu_device *d = (kf_cpu_device *)base;
#ifdef KF_HAVE_ONEDNN
    kf_onednn_close(d->onednn);
#endif
    kf_cpu_pool_close(d->pool);
    free(d->x.p);
    free(d);
}

static const struct kf_device_ops cpu_ops = {
    .close = cpu_close,
    .alloc = kf_cpu_alloc,
    .free = kf_cpu_free,
    .alloc_pinned = kf_cpu_alloc_pinned,
    .free_pinned = kf_cpu_free_pinned,
    .copy_in = kf_cpu_copy_in,
    .copy_out = kf_cpu_copy_out,
    .fill_zero = kf_cpu_fill_zero,
    .weight_pack = kf_cpu_weight_pack,
    .weight_free = kf_cpu_weight_free,
    .stream_open = kf_cpu_stream_open,
    .stream_close = kf_cpu_stream_close,
    .event_new = kf_cpu_event_new,
    .event_free = kf_cpu_event_free,
    .event_record = kf_cpu_event_record,
    .event_wait = kf_cpu_event_wait,
    .event_done = kf_cpu_event_done,
    .embed = kf_cpu_embed,
    .embed_bert = kf_cpu_embed_bert,
    .linear = kf_cpu_linear,
    .layernorm = kf_cpu_layernorm,
    .rmsnorm = kf_cpu_rmsnorm,
    .rope_kv_write = kf_cpu_rope_kv_write,
    .attention = kf_cpu_attention,
    .attention_paged = kf_cpu_attention_paged,
    .gated = kf_cpu_gated,
    .activate = kf_cpu_activate,
    .add = kf_cpu_add,
    .gather_rows = kf_cpu_gather_rows,
    .mean_rows = kf_cpu_mean_rows,
    .mark_seen = kf_cpu_mark_seen,
    .sample = kf_cpu_sample,
};

kf_status kf_cpu_open(const kf_device_opts *o, kf_device **out) {
    if (o->dtype != KF_F32 && o->dtype != KF_BF16)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "device cpu: dtype %s; change --dtype to f32 or bf16",
                       kf_dtype_name(o->dtype));
    kf_cpu_device *d = calloc(1, sizeof *d);
    if (!d) return KF_FAIL(KF_ERR_NO_MEMORY, "device cpu: %zu bytes asked for, the system has none", sizeof *d);
    d->base = (kf_device){
        .ops = &cpu_ops,
        .name = "cpu",
        .act = KF_F32,
        .weights = o->dtype,
        .batch_invariant = !o->batch_invariant_off,
        .memory_bytes = kf_cpu_memory_bytes(),
    };
    kf_status s = kf_cpu_loops_choose(o->cpu_isa, &d->loops);
    KF_STEP(s, kf_cpu_pool_open(o->n_threads > 0 ? o->n_threads : kf_cpu_threads_allowed(), &d->pool));
#ifdef KF_HAVE_ONEDNN
    if (!o->plain_products) KF_STEP(s, kf_onednn_open(d, &d->onednn));
#endif
    if (s != KF_OK) {
        cpu_close(&d->base);
        return s;
    }
    *out = &d->base;
    return KF_OK;
}
