/* A vocabulary: pieces as their file spells them, and ids. Internal to host/text.
 *
 * Pieces lie one after another in one block, each with a NUL behind it; a hash table with open addressing (FNV-1a,
 * linear probing, at most half full) finds an id. Read-only after loading, then any thread.
 */
#ifndef KF_TEXT_VOCAB_H
#define KF_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { KF_VOCAB_IDS_MAX = 1 << 22, KF_VOCAB_PIECE_BYTES_MAX = 1 << 16 };

typedef struct kf_vocab {
    char *bytes; /* [bytes_cap] the pieces */
    size_t bytes_used, bytes_cap;
    uint32_t *at;   /* [n_ids] where a piece starts in bytes; KF_VOCAB_NONE for an id that has none */
    uint32_t *n_of; /* [n_ids] its bytes */
    size_t n_ids;   /* the largest id + 1 */
    size_t ids_cap;
    int32_t *slots; /* [n_slots] ids, -1 empty */
    size_t n_slots; /* a power of two */
    size_t n_used;
    size_t piece_bytes_max; /* the longest */
} kf_vocab;

#define KF_VOCAB_NONE UINT32_MAX

kf_status kf_vocab_init(kf_vocab *v);
void kf_vocab_free(kf_vocab *v);

/* A piece that is there already keeps its place in the list of ids, and is found under the newer id from now on.
 * KF_ERR_CORRUPT: an id below 0, over KF_VOCAB_IDS_MAX or with another piece already; a piece too long.
 * KF_ERR_NO_MEMORY. */
kf_status kf_vocab_put(kf_vocab *v, const char *piece, size_t n, int64_t id);

/* The piece's id, -1 if there is none. hash is kf_fnv32(KF_FNV32_START, piece, n). */
int32_t kf_vocab_find_hashed(const kf_vocab *v, const char *piece, size_t n, uint32_t hash);
int32_t kf_vocab_find(const kf_vocab *v, const char *piece, size_t n);

/* The piece of id and its bytes, NULL where there is none. */
const char *kf_vocab_piece(const kf_vocab *v, int64_t id, size_t *n);

#endif
