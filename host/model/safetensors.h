/* A checkpoint's tensors: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
 *
 *     kf_checkpoint *c;
 *     KF_TRY(kf_checkpoint_open("models/encoder", &c));
 *     const kf_tensor *t = kf_checkpoint_find(c, "bert.pooler.dense.weight");    // NULL: there is none
 *     KF_TRY(kf_checkpoint_read(c, t, bytes));                                  // t->bytes of them
 *     kf_checkpoint_close(c);
 *
 * Opening reads the headers and believes nothing: sizes, offsets, overlaps, and that dtype x shape = bytes are all
 * checked against the file. Tensors are read with pread(2) and never mapped, so that a file which shrinks under us
 * is an error with a text and not a SIGBUS. One thread at a time. (Format: huggingface/safetensors, README.)
 */
#ifndef KF_MODEL_SAFETENSORS_H
#define KF_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "device/device.h"

enum { KF_TENSOR_MAX_DIMS = 8 };

typedef struct kf_tensor {
    const char *name;       /* the checkpoint's */
    const char *dtype_name; /* as the file spells it: "F32", "BF16", "I64", … */
    kf_dtype dtype;         /* KF_N_DTYPES for a format that no model of ours reads: listed, not readable as a weight */
    size_t n_dims;
    size_t shape[KF_TENSOR_MAX_DIMS];
    size_t bytes;
    uint64_t offset; /* in its file */
    size_t file_idx;
} kf_tensor;

typedef struct kf_checkpoint kf_checkpoint;

/* Opens the checkpoint in a folder. The descriptors stay open until kf_checkpoint_close.
 * KF_ERR_NOT_FOUND: no such folder, neither file in it, or a shard or a tensor of the index is missing;
 * KF_ERR_CORRUPT: the text names the file, the tensor, what was wanted and what was found;
 * KF_ERR_UNSUPPORTED: a dtype that safetensors does not have; KF_ERR_IO; KF_ERR_NO_MEMORY. */
kf_status kf_checkpoint_open(const char *dir, kf_checkpoint **out);

/* The same for one file. */
kf_status kf_checkpoint_open_file(const char *path, kf_checkpoint **out);
void kf_checkpoint_close(kf_checkpoint *c);

/* NULL where there is none. */
const kf_tensor *kf_checkpoint_find(const kf_checkpoint *c, const char *name);

/* All of them, sorted by name. */
size_t kf_checkpoint_n_tensors(const kf_checkpoint *c);
const kf_tensor *kf_checkpoint_tensor(const kf_checkpoint *c, size_t idx);

/* The path of the file that holds t; of the first file where t is NULL. For messages. */
const char *kf_checkpoint_path(const kf_checkpoint *c, const kf_tensor *t);

/* t's bytes as the file has them (little-endian, row-major) into dst, and into the checkpoint's hash.
 * KF_ERR_CORRUPT: the file has become shorter since it was opened; KF_ERR_IO. */
kf_status kf_checkpoint_read(kf_checkpoint *c, const kf_tensor *t, void *dst);

/* Of every tensor read so far: the sum of kf_fnv64_words over (name, dtype, shape, bytes), each tensor once. So it
 * depends on what a model computes with, and not on the order of reading, on shards or on unused tensors. */
uint64_t kf_checkpoint_hash(const kf_checkpoint *c);

/* "[3, 128]" into out, for messages. Returns out. */
const char *kf_shape_text(const size_t *shape, size_t n_dims, char out[96]);

#endif
