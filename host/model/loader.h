/* From a checkpoint's tensors to what a device computes with: every shape is checked against what the config wants,
 * every format turned into the device's.
 *
 *     kf_loader l;
 *     KF_TRY(kf_loader_open(d, ckpt, &l));
 *     kf_loader_at(&l, "%sencoder.layer.%zu.", prefix, i);
 *     KF_STEP(s, kf_load_linear(&l, "output.dense", hidden, intermediate, true, &layer->w_down));
 *     kf_loader_close(&l);
 *
 * The statuses of the kf_load functions: KF_ERR_NOT_FOUND: no such tensor; KF_ERR_CORRUPT: another shape (the text has
 * the file, the tensor, the shape wanted and the shape found), or the file has become shorter; KF_ERR_UNSUPPORTED: a
 * format that is no weight's; KF_ERR_IO; KF_ERR_NO_MEMORY.
 */
#ifndef KF_MODEL_LOADER_H
#define KF_MODEL_LOADER_H

#include <stdbool.h>

#include "device/device.h"
#include "model/safetensors.h"

enum { KF_TENSOR_NAME_MAX = 256 };

typedef struct kf_loader {
    kf_device *d;
    kf_stream *s; /* its own */
    kf_event *e;
    kf_checkpoint *ckpt;             /* the caller's */
    char at[KF_TENSOR_NAME_MAX / 2]; /* goes before every name */
} kf_loader;

/* KF_ERR_NO_MEMORY; KF_ERR_DEVICE. */
kf_status kf_loader_open(kf_device *d, kf_checkpoint *ckpt, kf_loader *out);
void kf_loader_close(kf_loader *l);
void kf_loader_at(kf_loader *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

bool kf_loader_has(const kf_loader *l, const char *name);

/* NAME [n], as f32 in device memory: norms. The caller's to kf_device_free, as all that follow. */
kf_status kf_load_vector(kf_loader *l, const char *name, size_t n, float **out);

/* The first n_keep rows of NAME [n_rows, width], as d->act in device memory: embeddings. */
kf_status kf_load_table(kf_loader *l, const char *name, size_t n_rows, size_t n_keep, size_t width, void **out);

/* NAME with this shape as f32 on the host, the caller's to free. */
kf_status kf_load_host(kf_loader *l, const char *name, const size_t *shape, size_t n_dims, float **out);

/* n f32 from the host in device memory. */
kf_status kf_load_f32(kf_loader *l, const float *x, size_t n, const char *what, float **out);

/* One matrix of a stack: NAME.weight [n_out, n_in], or transposed [n_in, n_out] (GPT-2's Conv1D), and, with bias,
 * NAME.bias [n_out]. */
typedef struct kf_linear_part {
    const char *name;
    size_t n_out;
    bool bias, transposed;
    kf_checkpoint *ckpt; /* NULL: the loader's, after `at`; else NAME alone in that one */
} kf_linear_part;

enum { KF_LINEAR_PARTS_MAX = 64 };

/* Packs the parts as one weight [sum of n_out, n_in]; kf_weight_free frees it. */
kf_status kf_load_stack(kf_loader *l, const kf_linear_part *parts, size_t n_parts, size_t n_in, kf_weight **out);
kf_status kf_load_linear(kf_loader *l, const char *name, size_t n_out, size_t n_in, bool bias, kf_weight **out);

/* A matrix whose tensor has a name of its own and no bias: a tied head is its embedding table. */
kf_status kf_load_matrix(kf_loader *l, const char *tensor, size_t n_out, size_t n_in, kf_weight **out);

#endif
