/* The paged KV cache (PagedAttention, arXiv 2309.06180): blocks of 16 tokens in device memory, handed out to
 * sequences on the host. device.h has the layout of a layer.
 *
 *     kf_kv_cache *c;
 *     KF_TRY(kf_kv_cache_new(d, &(kf_kv_shape){.n_layers = 4, …}, &c));
 *     if (kf_kv_cache_reserve(c, slot, n_tokens) != KF_OK) …     // no block free: preempt, or wait
 *     const int32_t *table = kf_kv_cache_table(c, slot);         // [max_blocks]
 *     kf_kv_cache_release(c, slot);
 *
 * A slot is a running sequence's place: 0 … n_slots - 1, the caller's to give out. Blocks are freed last in, first
 * out, so a short test soon uses every block again. The device thread only; nothing is allocated after new.
 */
#ifndef KF_MODEL_KV_CACHE_H
#define KF_MODEL_KV_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "device/device.h"

typedef struct kf_kv_cache kf_kv_cache;

typedef struct kf_kv_shape {
    size_t n_layers, n_kv_heads, head_dim;
    size_t n_blocks;   /* of KF_KV_BLOCK_SIZE tokens, in each layer */
    size_t n_slots;    /* running sequences */
    size_t max_seqlen; /* of one of them: the block table's row is ceil(max_seqlen / 16) long */
} kf_kv_shape;

/* KF_ERR_NO_MEMORY: the text has both sizes. */
kf_status kf_kv_cache_new(kf_device *d, const kf_kv_shape *shape, kf_kv_cache **out);
void kf_kv_cache_free(kf_kv_cache *c);

/* Bytes in device memory that one block takes over all layers: what a budget in bytes is divided by. */
size_t kf_kv_block_bytes(const kf_device *d, const kf_kv_shape *shape);

/* Makes room for n_tokens of the slot's sequence in all (what it has already included). All or nothing.
 * KF_ERR_OVERLOADED: not enough free blocks (no error record is set: the plan asks often); KF_ERR_TOO_LARGE:
 * over max_seqlen. */
kf_status kf_kv_cache_reserve(kf_kv_cache *c, size_t slot, size_t n_tokens);

/* The slot's blocks are free again. A step that was enqueued before still reads them safely: blocks change hands on
 * the host, and what is written into them later is enqueued later on the same stream. */
void kf_kv_cache_release(kf_kv_cache *c, size_t slot);

/* Block numbers of the slot's sequence, host [max_blocks]; those past what is reserved are 0. */
const int32_t *kf_kv_cache_table(const kf_kv_cache *c, size_t slot);

kf_kv_layer kf_kv_cache_layer(const kf_kv_cache *c, size_t layer_idx);
size_t kf_kv_cache_max_blocks(const kf_kv_cache *c); /* the table's row length */
size_t kf_kv_cache_n_blocks(const kf_kv_cache *c);
size_t kf_kv_cache_n_free(const kf_kv_cache *c);
size_t kf_kv_cache_reserved(const kf_kv_cache *c, size_t slot); /* tokens that the slot's blocks can hold */
size_t kf_kv_cache_bytes(const kf_kv_cache *c);

#endif
