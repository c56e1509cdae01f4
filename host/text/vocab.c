/* The vocabulary of vocab.h. */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

kf_status kf_vocab_init(kf_vocab *v) {
    enum { FIRST_SLOTS = 1024 };
    int32_t *slots = malloc(FIRST_SLOTS * sizeof *slots);
    if (!slots) return KF_FAIL(KF_ERR_NO_MEMORY, "vocabulary: no memory for %d slots", FIRST_SLOTS);
    memset(slots, 0xFF, FIRST_SLOTS * sizeof *slots);
    *v = (kf_vocab){.slots = slots, .n_slots = FIRST_SLOTS};
    return KF_OK;
}

void kf_vocab_free(kf_vocab *v) {
    free(v->bytes);
    free(v->at);
    free(v->n_of);
    free(v->slots);
    *v = (kf_vocab){0};
}

/* FNV's low bits are its weak ones: fold the high ones in. */
static size_t first_slot(const kf_vocab *v, uint32_t hash) {
    return (hash ^ hash >> 15) & (v->n_slots - 1);
}

int32_t kf_vocab_find_hashed(const kf_vocab *v, const char *piece, size_t n, uint32_t hash) {
    for (size_t s = first_slot(v, hash);; s = (s + 1) & (v->n_slots - 1)) {
        int32_t id = v->slots[s];
        if (id < 0) return -1;
        if (v->n_of[id] == n && memcmp(v->bytes + v->at[id], piece, n) == 0) return id;
    }
}

int32_t kf_vocab_find(const kf_vocab *v, const char *piece, size_t n) {
    return kf_vocab_find_hashed(v, piece, n, kf_fnv32(KF_FNV32_START, piece, n));
}

const char *kf_vocab_piece(const kf_vocab *v, int64_t id, size_t *n) {
    if (id < 0 || (uint64_t)id >= v->n_ids || v->at[id] == KF_VOCAB_NONE) return NULL;
    if (n) *n = v->n_of[id];
    return v->bytes + v->at[id];
}

static kf_status grow_ids(kf_vocab *v, size_t n_ids) {
    size_t cap = v->ids_cap ? v->ids_cap : 1024;
    while (cap < n_ids)
        cap *= 2;
    if (cap > v->ids_cap) {
        uint32_t *at = realloc(v->at, cap * sizeof *at);
        if (at) v->at = at;
        uint32_t *n_of = realloc(v->n_of, cap * sizeof *n_of);
        if (n_of) v->n_of = n_of;
        if (!at || !n_of) return KF_FAIL(KF_ERR_NO_MEMORY, "vocabulary: no memory for %zu ids", cap);
        v->ids_cap = cap;
    }
    for (; v->n_ids < n_ids; v->n_ids++) {
        v->at[v->n_ids] = KF_VOCAB_NONE;
        v->n_of[v->n_ids] = 0;
    }
    return KF_OK;
}

static kf_status grow_bytes(kf_vocab *v, size_t more) {
    size_t cap = v->bytes_cap ? v->bytes_cap : 1 << 14;
    while (cap - v->bytes_used < more)
        cap *= 2;
    if (cap == v->bytes_cap) return KF_OK;
    if (cap >= KF_VOCAB_NONE) return KF_FAIL(KF_ERR_CORRUPT, "vocabulary: its pieces have more than 4 GiB");
    char *bytes = realloc(v->bytes, cap);
    if (!bytes) return KF_FAIL(KF_ERR_NO_MEMORY, "vocabulary: no memory for %zu bytes of pieces", cap);
    v->bytes = bytes;
    v->bytes_cap = cap;
    return KF_OK;
}

/* Puts id in the slot of its piece, or in the first empty one. */
static void fill_slot(kf_vocab *v, int32_t id) {
    const char *piece = v->bytes + v->at[id];
    size_t n = v->n_of[id], s = first_slot(v, kf_fnv32(KF_FNV32_START, piece, n));
    for (;; s = (s + 1) & (v->n_slots - 1)) {
        int32_t there = v->slots[s];
        if (there < 0) break;
        if (v->n_of[there] == n && memcmp(v->bytes + v->at[there], piece, n) == 0) {
            v->slots[s] = id;
            return;
        }
    }
    v->slots[s] = id;
    v->n_used++;
}

static kf_status grow_slots(kf_vocab *v) {
    int32_t *old = v->slots;
    size_t n_old = v->n_slots;
    int32_t *slots = malloc(n_old * 2 * sizeof *slots);
    if (!slots) return KF_FAIL(KF_ERR_NO_MEMORY, "vocabulary: no memory for %zu slots", n_old * 2);
    memset(slots, 0xFF, n_old * 2 * sizeof *slots);
    v->slots = slots;
    v->n_slots = n_old * 2;
    v->n_used = 0;
    for (size_t i = 0; i < n_old; i++)
        if (old[i] >= 0) fill_slot(v, old[i]);
    free(old);
    return KF_OK;
}

kf_status kf_vocab_put(kf_vocab *v, const char *piece, size_t n, int64_t id) {
    if (id < 0 || id >= KF_VOCAB_IDS_MAX)
        return KF_FAIL(KF_ERR_CORRUPT, "vocabulary: id %lld, wanted 0 to %d", (long long)id, KF_VOCAB_IDS_MAX - 1);
    if (n > KF_VOCAB_PIECE_BYTES_MAX)
        return KF_FAIL(KF_ERR_CORRUPT, "vocabulary: the piece of id %lld has %zu bytes, the limit is %d", (long long)id,
                       n, KF_VOCAB_PIECE_BYTES_MAX);
    if ((size_t)id < v->n_ids && v->at[id] != KF_VOCAB_NONE) {
        if (v->n_of[id] == n && memcmp(v->bytes + v->at[id], piece, n) == 0) return KF_OK;
        return KF_FAIL(KF_ERR_CORRUPT, "vocabulary: id %lld has two pieces", (long long)id);
    }
    KF_TRY(grow_ids(v, (size_t)id + 1));
    KF_TRY(grow_bytes(v, n + 1));
    if ((v->n_used + 1) * 2 > v->n_slots) KF_TRY(grow_slots(v));
    v->at[id] = (uint32_t)v->bytes_used;
    v->n_of[id] = (uint32_t)n;
    if (n) memcpy(v->bytes + v->bytes_used, piece, n);
    v->bytes[v->bytes_used + n] = 0;
    v->bytes_used += n + 1;
    if (n > v->piece_bytes_max) v->piece_bytes_max = n;
    fill_slot(v, (int32_t)id);
    return KF_OK;
}
