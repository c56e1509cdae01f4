/* Looking at a forward pass from inside: each named tensor, as f32, in the order of computing.
 *
 * A hook (tests) or a folder (KEFU_DUMP=dir, for `kefu diff`) sees every step's result. Off by default, at the cost
 * of one untaken branch a step; on, every tensor is waited for and copied out, so it is slow.
 */
#ifndef KF_MODEL_DUMP_H
#define KF_MODEL_DUMP_H

#include <stddef.h>

#include "base/status.h"
#include "device/device.h"

typedef struct kf_dump {
    /* x: host f32 [n_rows, width], valid during the call. On the device thread. NULL: off. */
    void (*tensor)(void *user, const char *name, const float *x, size_t n_rows, size_t width);
    void (*pass_end)(void *user); /* may be NULL */
    void *user;
} kf_dump;

/* A dump that writes DIR/MODEL.PASS.safetensors for every pass, each tensor F32 [n_rows, width]; PASS counts from 0.
 * KEFU_DUMP names DIR; out->tensor is NULL where the variable is not set. KF_ERR_NOT_FOUND: there is no DIR; KF_ERR_IO:
 * it is no folder that may be written to; KF_ERR_NO_MEMORY. */
kf_status kf_dump_from_env(const char *model, kf_dump *out);

/* Frees what kf_dump_from_env made; nothing for other dumps. */
void kf_dump_free(kf_dump *d);

/* What is shown: n_rows rows of `width` elements, `stride` elements apart, in device memory. */
typedef struct kf_dump_view {
    const void *x;
    kf_dtype dtype; /* d->act or F32 */
    size_t n_rows, width, stride;
} kf_dump_view;

/* Shows a tensor under the name that the format makes. Nothing where the dump is off. */
void kf_dump_rows(const kf_dump *d, kf_stream *s, kf_dump_view v, const char *name, ...)
    __attribute__((format(printf, 4, 5)));

/* The same in a model m (its ->dump and ->d) for rows of d->act without gaps; the name and its arguments last. */
#define KF_DUMP_ROWS(m, s, x, n_rows, width, ...)                                                                      \
    kf_dump_rows(&(m)->dump, (s), (kf_dump_view){(x), (m)->d->act, (n_rows), (width), (width)}, __VA_ARGS__)

/* The pass is over. */
void kf_dump_end(const kf_dump *d);

#endif
