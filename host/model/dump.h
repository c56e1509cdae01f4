/* Looking at a forward pass from inside: each named tensor, as f32, in the order of computing.
 *
 * A hook (tests) or a folder (KEFU_DUMP=dir, for `kefu diff`) sees every step's result. Off by default, at the cost
 * of one untaken branch a step; on, every tensor is waited for and copied out, so it is slow.
 */
#ifndef KF_MODEL_DUMP_H
#define KF_MODEL_DUMP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "device/device.h"

/* x: host f32 [n_rows, width], valid during the call. On the device thread. */
typedef void (*kf_dump_fn)(void *user, const char *name, const float *x, size_t n_rows, size_t width);

typedef struct kf_dump {
    kf_dump_fn fn; /* NULL: off */
    void *user;
} kf_dump;

/* A dump that writes DIR/<model>-<pass>.safetensors for every pass, each tensor F32 [n_rows, width]; `pass` counts from
 * 0. KEFU_DUMP names the folder, which must exist. out->fn stays NULL where the variable is not set. KF_ERR_IO: the
 * folder cannot be written; KF_ERR_NO_MEMORY. */
kf_status kf_dump_from_env(const char *model, kf_dump *out);
void kf_dump_free(kf_dump *d);

/* Shows rows of x, `stride` elements apart, d->act or f32; name is a format for one index. Nothing when it is off. */
void kf_dump_rows(const kf_dump *d, kf_stream *s, const char *name, size_t idx, const void *x, kf_dtype dtype,
                  size_t n_rows, size_t width, size_t stride);

/* The pass is over: a folder's file is written. */
void kf_dump_end(const kf_dump *d);

#endif
