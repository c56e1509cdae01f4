/* Packing: a weight's parts, in the file's format, become one row-major matrix [n_out, n_in] in the device's, and its
 * bias f32, and once more in d->act for cublasLt's epilogue. What changes format goes through a host buffer of
 * STAGE_ELEMENTS, so a large matrix needs no second copy of itself. */
#include "cuda.h"

#include <stdlib.h>
#include <string.h>

extern "C" {
#include "device/bf16.h"
}

enum { STAGE_ELEMENTS = 1 << 20 };

static float element(const void *data, kf_dtype t, size_t i) {
    return t == KF_F32 ? ((const float *)data)[i] : kf_bf16_to_f32(((const uint16_t *)data)[i]);
}

static bool known(kf_dtype t) {
    return t == KF_F32 || t == KF_BF16;
}

static kf_status check(const kf_weight_desc *desc, size_t *n_out, bool *has_bias) {
    if (!known(desc->dtype))
        return KF_FAIL(KF_ERR_UNSUPPORTED, "weight %s: %s, the cuda device packs F32 and BF16", desc->name,
                       kf_dtype_name(desc->dtype));
    for (size_t i = 0; i < desc->n_parts; i++) {
        const kf_weight_part *p = &desc->parts[i];
        *n_out += p->n_out;
        if (!p->bias) continue;
        *has_bias = true;
        if (!known(p->bias_dtype))
            return KF_FAIL(KF_ERR_UNSUPPORTED, "weight %s: bias %s, the cuda device packs F32 and BF16", desc->name,
                           kf_dtype_name(p->bias_dtype));
    }
    KF_REQUIRE(*n_out > 0 && desc->n_in > 0);
    return KF_OK;
}

static kf_status upload(void *to, size_t first, const void *from, kf_dtype t, size_t n, const char *name) {
    size_t bytes = kf_dtype_bytes(t);
    cudaError_t e = cudaMemcpy((char *)to + first * bytes, from, n * bytes, cudaMemcpyHostToDevice);
    if (e != cudaSuccess) return KF_FAIL(KF_ERR_DEVICE, "weight %s: copy in: %s", name, cudaGetErrorString(e));
    return KF_OK;
}

/* n elements, in `from_type`, to to[first …] in to_type. stage: STAGE_ELEMENTS floats. */
static kf_status convert(void *to, kf_dtype to_type, size_t first, const void *from, kf_dtype from_type, size_t n,
                         float *stage, const char *name) {
    if (to_type == from_type) return upload(to, first, from, to_type, n, name);
    for (size_t done = 0, step; done < n; done += step) {
        step = n - done < STAGE_ELEMENTS ? n - done : (size_t)STAGE_ELEMENTS;
        for (size_t i = 0; i < step; i++) {
            float v = element(from, from_type, done + i);
            if (to_type == KF_F32)
                stage[i] = v;
            else
                ((uint16_t *)stage)[i] = kf_bf16_from_f32(v);
        }
        KF_TRY(upload(to, first + done, stage, to_type, step, name));
    }
    return KF_OK;
}

static kf_status fill(kf_weight *w, kf_dtype dtype, const kf_weight_desc *desc, float *stage) {
    size_t first = 0; /* the part's first output */
    for (size_t i = 0; i < desc->n_parts; first += desc->parts[i++].n_out) {
        const kf_weight_part *p = &desc->parts[i];
        KF_TRY(convert(w->data, dtype, first * w->n_in, p->data, desc->dtype, p->n_out * w->n_in, stage, desc->name));
        if (!p->bias) continue;
        KF_TRY(convert(w->bias, KF_F32, first, p->bias, p->bias_dtype, p->n_out, stage, desc->name));
        if (dtype != KF_F32)
            KF_TRY(convert(w->bias_act, dtype, first, p->bias, p->bias_dtype, p->n_out, stage, desc->name));
    }
    return KF_OK;
}

/* Zeros: a part without a bias among others that have one. */
static kf_status alloc_zero(kf_device *d, size_t bytes, const char *name, void **out) {
    KF_TRY(kf_cuda_alloc(d, bytes, name, out));
    cudaError_t e = cudaMemset(*out, 0, bytes);
    if (e != cudaSuccess) return KF_FAIL(KF_ERR_DEVICE, "weight %s: %s", name, cudaGetErrorString(e));
    return KF_OK;
}

kf_status kf_cuda_weight_pack(kf_device *d, const kf_weight_desc *desc, kf_weight **out) {
    size_t n_out = 0;
    bool has_bias = false;
    KF_TRY(check(desc, &n_out, &has_bias));
    kf_weight *w = (kf_weight *)calloc(1, sizeof *w);
    float *stage = (float *)malloc(STAGE_ELEMENTS * sizeof *stage);
    kf_status s = KF_OK;
    if (!w || !stage)
        s = KF_FAIL(KF_ERR_NO_MEMORY, "weight %s: a host buffer of %zu bytes, the system has none", desc->name,
                    STAGE_ELEMENTS * sizeof *stage);
    if (s == KF_OK) {
        w->n_in = desc->n_in, w->n_out = n_out;
        s = kf_cuda_alloc(d, n_out * desc->n_in * kf_dtype_bytes(d->weights), desc->name, &w->data);
    }
    if (has_bias) KF_STEP(s, alloc_zero(d, n_out * sizeof(float), desc->name, (void **)&w->bias));
    if (has_bias && d->act != KF_F32)
        KF_STEP(s, alloc_zero(d, n_out * kf_dtype_bytes(d->act), desc->name, &w->bias_act));
    else if (s == KF_OK)
        w->bias_act = w->bias;
    KF_STEP(s, fill(w, d->weights, desc, stage));
    free(stage);
    if (s != KF_OK) {
        if (w) kf_cuda_weight_free(d, w);
        return s;
    }
    kf_cuda_products_choose((kf_cuda_device *)d, w);
    *out = w;
    return KF_OK;
}

void kf_cuda_weight_free(kf_device *d, kf_weight *w) {
    kf_cuda_free(d, w->data);
    if (w->bias_act != w->bias) kf_cuda_free(d, w->bias_act);
    kf_cuda_free(d, w->bias);
    free(w);
}
