/* Byte-pair encoding (Sennrich et al., arXiv 1508.07909) of one word. Internal to host/text.
 *
 * A word starts as symbols: its bytes, as GPT-2 introduced it (the vocabulary spells them with one printable character
 * each, "Ġ" is the space; merging never looks at the spelling), or its characters, as SentencePiece has it. Of all
 * neighbours that some merge joins, the pair of the lowest rank goes first, the leftmost of equals; short words do
 * that by looking at every pair, long ones with a heap.
 */
#ifndef KF_TEXT_BPE_H
#define KF_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "text/vocab.h"

typedef struct kf_merge {
    int32_t left, right; /* left -1: an empty slot */
    int32_t rank, id;    /* its place in the file; the piece that it makes */
} kf_merge;

typedef struct kf_bpe {
    int32_t byte_id[256];  /* the piece of one byte; -1: none, the byte is left out */
    const kf_vocab *chars; /* not NULL: symbols are characters, and these are their pieces; outlives the bpe */
    bool byte_fallback;    /* a character without a piece becomes its bytes' … */
    int32_t unk_id;        /* … or else this one; -1: left out */
    bool fuse_unk;         /* unk in a row is one */
    kf_merge *merges;      /* [n_slots], a power of two, at most half full */
    size_t n_slots;
    kf_vocab whole; /* by bytes: the words that end as one piece, so that common words need no merging */
} kf_bpe;

/* Called for each token of a word: its id, and its bytes' place in the word. */
typedef void (*kf_bpe_emit)(void *user, int32_t id, size_t from, size_t to);

/* Room for n_merges merges. KF_ERR_NO_MEMORY. kf_bpe_free also frees a bpe that is all zero. */
kf_status kf_bpe_init(kf_bpe *b, size_t n_merges);
void kf_bpe_free(kf_bpe *b);

/* A pair that is there already takes the later rank. At most n_merges times. */
void kf_bpe_add_merge(kf_bpe *b, int32_t left, int32_t right, int32_t rank, int32_t id);

/* Puts `word` (a piece's bytes) among the whole words if merging makes it one piece, or if `always`. */
kf_status kf_bpe_add_whole(kf_bpe *b, const char *word, size_t n, int32_t id, bool always);

/* Cuts a word. Allocates only for one longer than KF_BPE_STACK_BYTES. KF_ERR_NO_MEMORY. */
enum { KF_BPE_STACK_BYTES = 4096 };
kf_status kf_bpe_encode(const kf_bpe *b, const char *word, size_t n, kf_bpe_emit emit, void *user);

/* The printable character of a byte, and back; -1 for a character that stands for no byte. */
uint32_t kf_byte_level_char(unsigned char byte);
int kf_byte_level_byte(uint32_t cp);

/* The bytes that a piece spells, in out [n]; 0 where one of its characters stands for no byte. */
size_t kf_byte_level_bytes(const char *piece, size_t n, char *out);

#endif
