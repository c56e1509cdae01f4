/* From text to the tokens of a BPE model: added tokens, normal form, pre-tokeniser, merges, offsets. Internal to
 * host/text. */
#ifndef KF_TEXT_PIPELINE_H
#define KF_TEXT_PIPELINE_H

#include "text/bpe.h"
#include "text/splitter.h"
#include "text/tokenizer.h"

/* A token that is found in the text before anything else is done to it, such as a run of spaces. */
typedef struct kf_added {
    const char *text; /* the vocabulary's */
    size_t n;
    int32_t id;
    bool lstrip, rstrip; /* white space on that side of a control token goes with it */
} kf_added;

#define KF_METASPACE "\xE2\x96\x81" /* U+2581, SentencePiece's space */

typedef enum kf_prefix { KF_PREFIX_NEVER, KF_PREFIX_UNLESS_THERE, KF_PREFIX_ALWAYS } kf_prefix;

typedef struct kf_pipeline {
    kf_bpe bpe;
    kf_splitter splitter;
    bool nfc;
    bool metaspace;        /* a space is spelled KF_METASPACE; never with nfc */
    kf_prefix prefix;      /* a space in front of the text */
    bool prefix_once;      /* not after an added token */
    bool trim_offsets;     /* spans leave spaces at their ends out … */
    bool trim_keeps_first; /* … but for one at the start of the text */
    kf_added *added;       /* [n_added], longest first */
    size_t n_added;
    bool starts_added[256]; /* bytes that one of them starts with */
    kf_added *control;      /* [n_control] the same for those that a customer's text cannot spell */
    size_t n_control;
    bool starts_control[256];
    bool control_single_word; /* some of them are words of their own only, which kefu does not do */
} kf_pipeline;

/* text: valid UTF-8. marks: NULL, or [n_bytes]: control tokens are found where every byte's mark is 0. Appends to e.
 * Needs about 320 KiB of stack; allocates only for a word longer than KF_BPE_STACK_BYTES (to SentencePiece a whole text
 * is one), and for a text of more than KF_NORMAL_TEXT_BYTES that is not in the form that the model wants.
 * KF_ERR_TOO_LARGE: a pattern of the pre-tokeniser reached its limits; KF_ERR_NO_MEMORY. */
enum { KF_NORMAL_TEXT_BYTES = 8 << 10 };
kf_status kf_pipeline_encode(const kf_pipeline *p, const char *text, const unsigned char *marks, size_t n_bytes,
                             kf_encoding *e);

/* What a piece stands for in a decoded text, in out [n]: the bytes that it spells. */
size_t kf_pipeline_text(const kf_pipeline *p, const char *piece, size_t n, char *out);

void kf_pipeline_free(kf_pipeline *p);

#endif
