/* Blocks of the paged cache: a stack of free ones, a table of used ones for each slot.
 * Run its test: ctest -R test_checkpoint_kv_cache. */
#include "model/kv_cache.h"

#include <stdlib.h>
#include <string.h>

struct kf_kv_cache {
    kf_device *d;
    kf_kv_shape shape;
    size_t max_blocks;    /* a table's row length */
    size_t layer_bytes;   /* of K or of V in one layer */
    void *data;           /* device [n_layers, 2, layer_bytes] */
    int32_t *free_blocks; /* [n_blocks], the first n_free of it: a stack */
    size_t n_free;
    int32_t *tables;  /* [n_slots, max_blocks] */
    size_t *n_blocks; /* [n_slots] reserved by each */
};

static size_t blocks_of(size_t n_tokens) {
    return (n_tokens + KF_KV_BLOCK_SIZE - 1) / KF_KV_BLOCK_SIZE;
}

/* K or V of one block in one layer. */
static size_t block_layer_bytes(const kf_device *d, const kf_kv_shape *shape) {
    return shape->n_kv_heads * KF_KV_BLOCK_SIZE * shape->head_dim * kf_dtype_bytes(d->act);
}

size_t kf_kv_block_bytes(const kf_device *d, const kf_kv_shape *shape) {
    return 2 * shape->n_layers * block_layer_bytes(d, shape);
}

static kf_status make_tables(kf_kv_cache *c) {
    c->free_blocks = calloc(c->shape.n_blocks, sizeof *c->free_blocks);
    c->tables = calloc(c->shape.n_slots, c->max_blocks * sizeof *c->tables);
    c->n_blocks = calloc(c->shape.n_slots, sizeof *c->n_blocks);
    if (!c->free_blocks || !c->tables || !c->n_blocks)
        return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for the tables of %zu blocks", c->shape.n_blocks);
    c->n_free = c->shape.n_blocks;
    for (size_t i = 0; i < c->n_free; i++) /* block 0 is given out first */
        c->free_blocks[i] = (int32_t)(c->n_free - 1 - i);
    return KF_OK;
}

kf_status kf_kv_cache_new(kf_device *d, const kf_kv_shape *shape, kf_kv_cache **out) {
    KF_REQUIRE(shape->n_blocks > 0 && shape->n_slots > 0 && shape->max_seqlen > 0);
    kf_kv_cache *c = calloc(1, sizeof *c);
    if (!c) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a cache's tables");
    c->d = d;
    c->shape = *shape;
    c->max_blocks = blocks_of(shape->max_seqlen);
    c->layer_bytes = shape->n_blocks * block_layer_bytes(d, shape);
    kf_status s = kf_device_alloc(d, kf_kv_cache_bytes(c), "kv_cache", &c->data);
    KF_STEP(s, make_tables(c));
    if (s != KF_OK) {
        kf_kv_cache_free(c);
        return s;
    }
    *out = c;
    return KF_OK;
}

void kf_kv_cache_free(kf_kv_cache *c) {
    if (!c) return;
    kf_device_free(c->d, c->data);
    free(c->free_blocks);
    free(c->tables);
    free(c->n_blocks);
    free(c);
}

kf_status kf_kv_cache_reserve(kf_kv_cache *c, size_t slot, size_t n_tokens) {
    KF_REQUIRE(slot < c->shape.n_slots);
    if (n_tokens > c->shape.max_seqlen)
        return KF_FAIL(KF_ERR_TOO_LARGE, "a sequence of %zu tokens, the cache's tables are for %zu", n_tokens,
                       c->shape.max_seqlen);
    size_t want = blocks_of(n_tokens), have = c->n_blocks[slot];
    if (want <= have) return KF_OK;
    if (want - have > c->n_free) return KF_ERR_OVERLOADED;
    for (; have < want; have++)
        c->tables[slot * c->max_blocks + have] = c->free_blocks[--c->n_free];
    c->n_blocks[slot] = have;
    return KF_OK;
}

void kf_kv_cache_release(kf_kv_cache *c, size_t slot) {
    int32_t *table = c->tables + slot * c->max_blocks;
    while (c->n_blocks[slot] > 0) {
        size_t last = --c->n_blocks[slot];
        c->free_blocks[c->n_free++] = table[last];
        table[last] = 0;
    }
}

const int32_t *kf_kv_cache_table(const kf_kv_cache *c, size_t slot) {
    return c->tables + slot * c->max_blocks;
}

kf_kv_layer kf_kv_cache_layer(const kf_kv_cache *c, size_t layer_idx) {
    char *k = (char *)c->data + 2 * layer_idx * c->layer_bytes;
    return (kf_kv_layer){.k = k, .v = k + c->layer_bytes};
}

size_t kf_kv_cache_max_blocks(const kf_kv_cache *c) {
    return c->max_blocks;
}

size_t kf_kv_cache_n_blocks(const kf_kv_cache *c) {
    return c->shape.n_blocks;
}

size_t kf_kv_cache_n_free(const kf_kv_cache *c) {
    return c->n_free;
}

size_t kf_kv_cache_reserved(const kf_kv_cache *c, size_t slot) {
    return c->n_blocks[slot] * KF_KV_BLOCK_SIZE;
}

size_t kf_kv_cache_bytes(const kf_kv_cache *c) {
    return 2 * c->shape.n_layers * c->layer_bytes;
}
