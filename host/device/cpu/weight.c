/* Packing: a weight's parts, in the file's format, become panels in the device's (loops.h has the layout). */
#include "device/cpu/cpu.h"
#include "device/bf16.h"

#include <stdlib.h>

/* Where our products restart K when no other order has to be met: shorter chains round less. */
enum { K_BLOCK = 512 };

static float element(const void *data, kf_dtype t, size_t i) {
    return t == KF_F32 ? ((const float *)data)[i] : kf_bf16_to_f32(((const uint16_t *)data)[i]);
}

static kf_status check(const kf_weight_desc *desc, size_t *n_out, bool *has_bias) {
    if (desc->dtype != KF_F32 && desc->dtype != KF_BF16)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "weight %s: %s, the cpu device packs F32 and BF16", desc->name,
                       kf_dtype_name(desc->dtype));
    for (size_t i = 0; i < desc->n_parts; i++) {
        const kf_weight_part *p = &desc->parts[i];
        *n_out += p->n_out;
        if (!p->bias) continue;
        *has_bias = true;
        if (p->bias_dtype != KF_F32 && p->bias_dtype != KF_BF16)
            return KF_FAIL(KF_ERR_UNSUPPORTED, "weight %s: bias %s, the cpu device packs F32 and BF16", desc->name,
                           kf_dtype_name(p->bias_dtype));
    }
    KF_REQUIRE(*n_out > 0 && desc->n_in > 0);
    return KF_OK;
}

/* Input `in` of output `col`, in its panel. */
static void put(const kf_weight *w, size_t col, size_t in, float v) {
    size_t panel = col / KF_CPU_PANEL, lane = col % KF_CPU_PANEL;
    if (w->dtype == KF_F32)
        ((float *)w->panels)[(panel * w->n_in_padded + in) * KF_CPU_PANEL + lane] = v;
    else
        ((uint16_t *)w->panels)[((panel * w->n_in_padded + in) / 2 * KF_CPU_PANEL + lane) * 2 + in % 2] =
            kf_bf16_from_f32(v);
}

static void fill(kf_weight *w, const kf_weight_desc *desc) {
    size_t first = 0; /* the part's first output */
    for (size_t i = 0; i < desc->n_parts; first += desc->parts[i++].n_out) {
        const kf_weight_part *p = &desc->parts[i];
        for (size_t row = 0; row < p->n_out; row++) {
            for (size_t in = 0; in < w->n_in; in++)
                put(w, first + row, in, element(p->data, desc->dtype, row * w->n_in + in));
            if (p->bias) w->bias[first + row] = element(p->bias, p->bias_dtype, row);
        }
    }
}

kf_status kf_cpu_scratch_grow(kf_cpu_scratch *scratch, size_t bytes) {
    if (bytes <= scratch->bytes) return KF_OK;
    bytes = (bytes + 63) / 64 * 64;
    void *p = aligned_alloc(64, bytes);
    if (!p) return KF_FAIL(KF_ERR_NO_MEMORY, "scratch of products: %zu bytes asked for, the system has none", bytes);
    memset(p, 0, bytes);
    free(scratch->p);
    *scratch = (kf_cpu_scratch){p, bytes};
    return KF_OK;
}

static kf_status alloc_zero(kf_device *d, size_t bytes, const char *what, void **out) {
    KF_TRY(kf_cpu_alloc(d, bytes, what, out));
    memset(*out, 0, bytes);
    return KF_OK;
}

kf_status kf_cpu_weight_pack(kf_device *base, const kf_weight_desc *desc, kf_weight **out) {
    kf_cpu_device *d = (kf_cpu_device *)base;
    size_t n_out = 0;
    bool has_bias = false;
    KF_TRY(check(desc, &n_out, &has_bias));
    kf_weight *w;
    KF_TRY(kf_cpu_alloc(base, sizeof *w, desc->name, (void **)&w));
    size_t n_panels = (n_out + KF_CPU_PANEL - 1) / KF_CPU_PANEL;
    size_t depth = kf_cpu_panel_depth(desc->n_in, base->weights);
    *w = (kf_weight){.n_in = desc->n_in, .n_out = n_out, .n_in_padded = depth, .dtype = base->weights};
    w->plan.product = w->dtype == KF_F32 ? d->loops.product_f32 : d->loops.product_bf16;
    w->plan.k_block = K_BLOCK;
    w->n_rows_ours = SIZE_MAX;
    kf_status s = alloc_zero(base, n_panels * KF_CPU_PANEL * depth * kf_dtype_bytes(w->dtype), desc->name, &w->panels);
    if (has_bias) KF_STEP(s, alloc_zero(base, n_panels * KF_CPU_PANEL * sizeof(float), desc->name, (void **)&w->bias));
    if (s == KF_OK) fill(w, desc);
#ifdef KF_HAVE_ONEDNN
    if (d->onednn) KF_STEP(s, kf_onednn_weight_add(d, w));
#endif
    if (s != KF_OK) {
        kf_cpu_weight_free(base, w);
        return s;
    }
    *out = w;
    return KF_OK;
}

void kf_cpu_weight_free(kf_device *d, kf_weight *w) {
#ifdef KF_HAVE_ONEDNN
    kf_onednn_weight_free(w->onednn);
#endif
    kf_cpu_free(d, w->panels);
    kf_cpu_free(d, w->bias);
    kf_cpu_free(d, w);
}
