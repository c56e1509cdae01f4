/* Tensors of a checkpoint into device memory. One tensor (or the parts of one stack) is on the host at a time. */
#include "model/loader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/bf16.h"

kf_status kf_loader_open(kf_device *d, kf_checkpoint *ckpt, kf_loader *out) {
    kf_loader l = {.d = d, .ckpt = ckpt};
    kf_status s = kf_stream_open(d, &l.s);
    KF_STEP(s, kf_event_new(d, &l.e));
    if (s == KF_OK)
        *out = l;
    else
        kf_loader_close(&l);
    return s;
}

void kf_loader_close(kf_loader *l) {
    if (!l->d) return;
    kf_event_free(l->d, l->e);
    kf_stream_close(l->s);
    *l = (kf_loader){0};
}

void kf_loader_at(kf_loader *l, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l->at, sizeof l->at, fmt, ap);
    va_end(ap);
}

static void full_name(const char *at, const char *name, const char *suffix, char out[KF_TENSOR_NAME_MAX]) {
    snprintf(out, KF_TENSOR_NAME_MAX, "%s%s%s", at, name, suffix);
}

bool kf_loader_has(const kf_loader *l, const char *name) {
    char full[KF_TENSOR_NAME_MAX];
    full_name(l->at, name, "", full);
    return kf_checkpoint_find(l->ckpt, full) != NULL;
}

/* ---- a tensor on the host ---- */

typedef struct host_tensor {
    void *data;     /* malloc'd */
    kf_dtype dtype; /* F32 or BF16 */
} host_tensor;

static kf_status widen_f16(const char *name, size_t n, host_tensor *t) {
    float *wide = malloc(n * sizeof *wide + 1);
    if (!wide)
        return KF_FAIL(KF_ERR_NO_MEMORY, "tensor %s: no memory for %zu bytes on the host", name, n * sizeof *wide);
    for (size_t i = 0; i < n; i++)
        wide[i] = kf_f16_to_f32(((const uint16_t *)t->data)[i]);
    free(t->data);
    *t = (host_tensor){wide, KF_F32};
    return KF_OK;
}

/* The whole check: it is there, it is a weight's format, it has the shape that the config wants. */
static kf_status find(const kf_checkpoint *c, const char *name, const size_t *shape, size_t n_dims,
                      const kf_tensor **out) {
    const kf_tensor *t = kf_checkpoint_find(c, name);
    char want[96], found[96];
    kf_shape_text(shape, n_dims, want);
    if (!t)
        return KF_FAIL(KF_ERR_NOT_FOUND, "%s: no tensor %s, wanted with shape %s", kf_checkpoint_path(c, NULL), name,
                       want);
    const char *path = kf_checkpoint_path(c, t);
    if (t->n_dims != n_dims || memcmp(t->shape, shape, n_dims * sizeof *shape) != 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: tensor %s has shape %s, its config wants %s", path, name,
                       kf_shape_text(t->shape, t->n_dims, found), want);
    if (t->dtype != KF_F32 && t->dtype != KF_BF16 && t->dtype != KF_F16)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: tensor %s is %s, a weight must be F32, BF16 or F16", path, name,
                       t->dtype_name);
    *out = t;
    return KF_OK;
}

static kf_status read_host(kf_checkpoint *c, const char *name, const size_t *shape, size_t n_dims, host_tensor *out) {
    const kf_tensor *tensor = NULL;
    KF_TRY(find(c, name, shape, n_dims, &tensor));
    host_tensor t = {malloc(tensor->bytes + 1), tensor->dtype};
    if (!t.data)
        return KF_FAIL(KF_ERR_NO_MEMORY, "tensor %s: no memory for %zu bytes on the host", name, tensor->bytes);
    kf_status s = kf_checkpoint_read(c, tensor, t.data);
    if (t.dtype == KF_F16) KF_STEP(s, widen_f16(name, tensor->bytes / 2, &t));
    if (s == KF_OK)
        *out = t;
    else
        free(t.data);
    return s;
}

/* The first n elements of t as `to`, which is F32 or BF16, in t itself. */
static kf_status convert(const char *name, host_tensor *t, size_t n, kf_dtype to) {
    if (t->dtype == to) return KF_OK;
    void *data = malloc(n * kf_dtype_bytes(to) + 1);
    if (!data) return KF_FAIL(KF_ERR_NO_MEMORY, "tensor %s: no memory for %zu elements on the host", name, n);
    for (size_t i = 0; i < n; i++) {
        if (to == KF_F32)
            ((float *)data)[i] = kf_bf16_to_f32(((const uint16_t *)t->data)[i]);
        else
            ((uint16_t *)data)[i] = kf_bf16_from_f32(((const float *)t->data)[i]);
    }
    free(t->data);
    *t = (host_tensor){data, to};
    return KF_OK;
}

/* ---- into device memory ---- */

static kf_status upload(kf_loader *l, const void *data, size_t bytes, const char *what, void **out) {
    void *p = NULL;
    KF_TRY(kf_device_alloc(l->d, bytes, what, &p));
    kf_copy_in(l->s, p, data, bytes);
    kf_status s = kf_event_record(l->s, l->e);
    KF_STEP(s, kf_event_wait(l->d, l->e));
    if (s == KF_OK)
        *out = p;
    else
        kf_device_free(l->d, p);
    return s;
}

static kf_status load(kf_loader *l, const char *name, const size_t *shape, size_t n_dims, size_t n_keep, kf_dtype to,
                      void **out) {
    char full[KF_TENSOR_NAME_MAX];
    host_tensor t = {0};
    full_name(l->at, name, "", full);
    KF_TRY(read_host(l->ckpt, full, shape, n_dims, &t));
    kf_status s = convert(full, &t, n_keep, to);
    KF_STEP(s, upload(l, t.data, n_keep * kf_dtype_bytes(to), full, out));
    free(t.data);
    return s;
}

kf_status kf_load_vector(kf_loader *l, const char *name, size_t n, float **out) {
    void *p = NULL;
    KF_TRY(load(l, name, &n, 1, n, KF_F32, &p));
    *out = p;
    return KF_OK;
}

kf_status kf_load_table(kf_loader *l, const char *name, size_t n_rows, size_t n_keep, size_t width, void **out) {
    const size_t shape[] = {n_rows, width};
    return load(l, name, shape, 2, n_keep * width, l->d->act, out);
}

kf_status kf_load_host(kf_loader *l, const char *name, const size_t *shape, size_t n_dims, float **out) {
    char full[KF_TENSOR_NAME_MAX];
    host_tensor t = {0};
    size_t n = 1;
    full_name(l->at, name, "", full);
    KF_TRY(read_host(l->ckpt, full, shape, n_dims, &t));
    for (size_t i = 0; i < n_dims; i++)
        n *= shape[i];
    kf_status s = convert(full, &t, n, KF_F32);
    if (s == KF_OK)
        *out = t.data;
    else
        free(t.data);
    return s;
}

kf_status kf_load_f32(kf_loader *l, const float *x, size_t n, const char *what, float **out) {
    void *p = NULL;
    KF_TRY(upload(l, x, n * sizeof *x, what, &p));
    *out = p;
    return KF_OK;
}

/* ---- packed weights ---- */

/* The parts' tensors on the host, from reading to packing. */
typedef struct stack {
    host_tensor weights[KF_LINEAR_PARTS_MAX], biases[KF_LINEAR_PARTS_MAX];
    kf_weight_part parts[KF_LINEAR_PARTS_MAX];
} stack;

/* [n_rows, n_columns] to [n_columns, n_rows]. */
static kf_status transpose(const char *name, host_tensor *t, size_t n_rows, size_t n_columns) {
    const size_t bytes = kf_dtype_bytes(t->dtype);
    char *turned = malloc(n_rows * n_columns * bytes + 1);
    if (!turned)
        return KF_FAIL(KF_ERR_NO_MEMORY, "tensor %s: no memory for %zu bytes on the host", name,
                       n_rows * n_columns * bytes);
    for (size_t c = 0; c < n_columns; c++)
        for (size_t r = 0; r < n_rows; r++)
            memcpy(turned + (c * n_rows + r) * bytes, (const char *)t->data + (r * n_columns + c) * bytes, bytes);
    free(t->data);
    t->data = turned;
    return KF_OK;
}

static kf_status read_part(kf_loader *l, const kf_linear_part *p, size_t n_in, stack *st, size_t i) {
    char weight[KF_TENSOR_NAME_MAX], bias[KF_TENSOR_NAME_MAX];
    kf_checkpoint *c = p->ckpt ? p->ckpt : l->ckpt;
    const char *at = p->ckpt ? "" : l->at;
    full_name(at, p->name, ".weight", weight);
    full_name(at, p->name, ".bias", bias);
    const size_t shape[] = {p->n_out, n_in}, turned[] = {n_in, p->n_out};
    KF_TRY(read_host(c, weight, p->transposed ? turned : shape, 2, &st->weights[i]));
    if (p->transposed) KF_TRY(transpose(weight, &st->weights[i], n_in, p->n_out));
    if (p->bias) KF_TRY(read_host(c, bias, shape, 1, &st->biases[i]));
    return KF_OK;
}

/* One product has one format: where the parts' differ, all become f32. */
static kf_status pack(kf_loader *l, const kf_linear_part *parts, size_t n_parts, size_t n_in, stack *st,
                      kf_weight **out) {
    kf_dtype dtype = st->weights[0].dtype;
    for (size_t i = 1; i < n_parts; i++)
        if (st->weights[i].dtype != dtype) dtype = KF_F32;
    for (size_t i = 0; i < n_parts; i++) {
        KF_TRY(convert(parts[i].name, &st->weights[i], parts[i].n_out * n_in, dtype));
        st->parts[i] = (kf_weight_part){.data = st->weights[i].data,
                                        .bias = st->biases[i].data,
                                        .bias_dtype = st->biases[i].dtype,
                                        .n_out = parts[i].n_out};
    }
    const kf_weight_desc desc = {
        .name = parts[0].name, .parts = st->parts, .n_parts = n_parts, .n_in = n_in, .dtype = dtype};
    return kf_weight_pack(l->d, &desc, out);
}

kf_status kf_load_stack(kf_loader *l, const kf_linear_part *parts, size_t n_parts, size_t n_in, kf_weight **out) {
    KF_REQUIRE(n_parts >= 1 && n_parts <= KF_LINEAR_PARTS_MAX);
    stack *st = calloc(1, sizeof *st);
    if (!st) return KF_FAIL(KF_ERR_NO_MEMORY, "weight %s: no memory for its parts", parts[0].name);
    kf_status s = KF_OK;
    for (size_t i = 0; i < n_parts; i++)
        KF_STEP(s, read_part(l, &parts[i], n_in, st, i));
    KF_STEP(s, pack(l, parts, n_parts, n_in, st, out));
    for (size_t i = 0; i < n_parts; i++) {
        free(st->weights[i].data);
        free(st->biases[i].data);
    }
    free(st);
    return s;
}

kf_status kf_load_linear(kf_loader *l, const char *name, size_t n_out, size_t n_in, bool bias, kf_weight **out) {
    return kf_load_stack(l, &(kf_linear_part){.name = name, .n_out = n_out, .bias = bias}, 1, n_in, out);
}

kf_status kf_load_matrix(kf_loader *l, const char *tensor, size_t n_out, size_t n_in, kf_weight **out) {
    char full[KF_TENSOR_NAME_MAX];
    const size_t shape[] = {n_out, n_in};
    host_tensor t = {0};
    full_name(l->at, tensor, "", full);
    KF_TRY(read_host(l->ckpt, full, shape, 2, &t));
    const kf_weight_part part = {.data = t.data, .n_out = n_out};
    const kf_weight_desc desc = {.name = full, .parts = &part, .n_parts = 1, .n_in = n_in, .dtype = t.dtype};
    kf_status s = kf_weight_pack(l->d, &desc, out);
    free(t.data);
    return s;
}
