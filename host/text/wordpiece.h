/* BERT's tokenizer: BasicTokenizer (cleaning, Chinese characters, accents, case, punctuation), then WordPiece
 * (Devlin et al., arXiv 1810.04805; greedy longest match first). Internal to host/text. */
#ifndef KF_TEXT_WORDPIECE_H
#define KF_TEXT_WORDPIECE_H

#include "text/tokenizer.h"
#include "text/vocab.h"

enum { KF_WORD_CHARS_MAX = 512, KF_WORD_PREFIX_MAX = 15 };

typedef struct kf_wordpiece {
    bool clean_text, handle_chinese_chars, strip_accents, lowercase;
    char prefix[KF_WORD_PREFIX_MAX + 1]; /* of a piece that continues a word, "##" */
    size_t n_prefix;
    uint32_t prefix_hash; /* kf_fnv32 of it */
    int32_t unk_id;
    size_t word_chars_max; /* a longer word is unk; at most KF_WORD_CHARS_MAX */
    bool cleanup;          /* decoding: no space before . ? ! , n't 'm 's 've 're */
} kf_wordpiece;

/* BERT's defaults for a vocabulary without settings: uncased, "##", 100 characters. */
kf_wordpiece kf_wordpiece_default(void);

/* Sets the prefix of continuing pieces. KF_ERR_UNSUPPORTED: longer than KF_WORD_PREFIX_MAX bytes. */
kf_status kf_wordpiece_set_prefix(kf_wordpiece *w, const char *prefix);

/* What a piece stands for in a decoded text, in out [n + 1]: a space before it, or none where it continues a word. */
size_t kf_wordpiece_text(const kf_wordpiece *w, const char *piece, size_t n, char *out);

/* text: valid UTF-8. Appends to e. About 10 KiB of stack, nothing allocated, any length of text. */
void kf_wordpiece_encode(const kf_wordpiece *w, const kf_vocab *v, const char *text, size_t n_bytes, kf_encoding *e);

#endif
