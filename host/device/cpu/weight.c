/* Packing: a weight's parts, in the file's format, become one matrix in the device's. */
#include "device/cpu/cpu.h"
#include "device/bf16.h"

static float element(const void *data, kf_dtype t, size_t i) {
    return t == KF_F32 ? ((const float *)data)[i] : kf_bf16_to_f32(((const uint16_t *)data)[i]);
}

static void convert(void *dst, kf_dtype to, const void *src, kf_dtype from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float v = element(src, from, i);
        if (to == KF_F32)
            ((float *)dst)[i] = v;
        else
            ((uint16_t *)dst)[i] = kf_bf16_from_f32(v);
    }
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

kf_status kf_cpu_weight_pack(kf_device *d, const kf_weight_desc *desc, kf_weight **out) {
    size_t n_out = 0;
    bool has_bias = false;
    KF_TRY(check(desc, &n_out, &has_bias));
    kf_weight *w;
    KF_TRY(kf_cpu_alloc(d, sizeof *w, desc->name, (void **)&w));
    *w = (kf_weight){.n_in = desc->n_in, .n_out = n_out, .dtype = d->weights};
    kf_status s = kf_cpu_alloc(d, n_out * w->n_in * kf_dtype_bytes(w->dtype), desc->name, &w->data);
    if (has_bias) KF_STEP(s, kf_cpu_alloc(d, n_out * sizeof(float), desc->name, (void **)&w->bias));
    if (s != KF_OK) {
        kf_cpu_weight_free(d, w);
        return s;
    }
    size_t row = 0;
    for (size_t i = 0; i < desc->n_parts; row += desc->parts[i].n_out, i++) {
        const kf_weight_part *p = &desc->parts[i];
        convert((char *)w->data + row * w->n_in * kf_dtype_bytes(w->dtype), w->dtype, p->data, desc->dtype,
                p->n_out * w->n_in);
        if (p->bias)
            convert(w->bias + row, KF_F32, p->bias, p->bias_dtype, p->n_out);
        else if (has_bias)
            memset(w->bias + row, 0, p->n_out * sizeof(float));
    }
    *out = w;
    return KF_OK;
}

void kf_cpu_weight_free(kf_device *d, kf_weight *w) {
    kf_cpu_free(d, w->data);
    kf_cpu_free(d, w->bias);
    kf_cpu_free(d, w);
}
