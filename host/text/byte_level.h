/* Byte-level BPE from text to tokens: added tokens, normal form, pre-tokeniser, merges, offsets. Internal to host/text.
 */
#ifndef KF_TEXT_BYTE_LEVEL_H
#define KF_TEXT_BYTE_LEVEL_H

#include "text/bpe.h"
#include "text/splitter.h"
#include "text/tokenizer.h"

/* A token that is found in the text before anything else is done to it, such as a run of spaces. */
typedef struct kf_added {
    const char *text; /* the vocabulary's */
    size_t n;
    int32_t id;
} kf_added;

typedef struct kf_byte_level {
    kf_bpe bpe;
    kf_splitter splitter;
    bool nfc;
    bool add_prefix_space; /* a text that does not start with a space gets one */
    bool trim_offsets;     /* spans leave spaces at their ends out … */
    bool trim_keeps_first; /* … but for one at the start of the text */
    kf_added *added;       /* [n_added], longest first */
    size_t n_added;
    bool starts_added[256]; /* bytes that one of them starts with */
} kf_byte_level;

/* text: valid UTF-8. Appends to e. Needs about 100 KiB of stack; allocates only for a word longer than
 * KF_BPE_STACK_BYTES, and for a text that has to be normalised and is longer than KF_NORMAL_STACK_BYTES / 15.
 * KF_ERR_TOO_LARGE: a pattern of the pre-tokeniser reached its limits; KF_ERR_NO_MEMORY. */
enum { KF_NORMAL_STACK_BYTES = 60 << 10 };
kf_status kf_byte_level_encode(const kf_byte_level *b, const char *text, size_t n_bytes, kf_encoding *e);

/* The bytes that a piece spells, in out [n]; 0 where one of its characters stands for no byte. */
size_t kf_byte_level_bytes(const char *piece, size_t n, char *out);

void kf_byte_level_free(kf_byte_level *b);

#endif
