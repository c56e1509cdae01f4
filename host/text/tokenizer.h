/* Text to ids and back, exactly as Hugging Face's tokenizers do it: WordPiece (vocab.txt or tokenizer.json) for the
 * BERT family, byte-level BPE (tokenizer.json) for decoders.
 *
 *     kf_tokenizer *t;
 *     KF_TRY(kf_tokenizer_open("models/encoder", &t));
 *     kf_encoding e = {.cap = 512, .ids = ids, .start = start, .end = end};
 *     KF_TRY(kf_tokenizer_encode(t, text, n_bytes, KF_SPECIAL_ADD, &e));   // [CLS] 我 想 … [SEP]
 *     kf_tokenizer_close(t);
 *
 * A tokenizer is read-only after open and may be used by any number of threads at once. WordPiece allocates nothing;
 * BPE only for texts far longer than a message: more than 4 KiB in one word (to the SentencePiece kind a whole text is
 * one), or more than 8 KiB that are not in the normal form that the model wants. A thread that encodes needs 320 KiB of
 * stack.
 */
#ifndef KF_TEXT_TOKENIZER_H
#define KF_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct kf_tokenizer kf_tokenizer;

typedef enum kf_special {
    KF_SPECIAL_NONE, /* the text's own pieces only; special tokens written in the text are text */
    KF_SPECIAL_ADD,  /* with what the model's template adds: [CLS] … [SEP], or a decoder's bos if it has one */
} kf_special;

/* The caller's arrays, each of `cap` entries; start and end may be NULL. */
typedef struct kf_encoding {
    size_t cap;
    size_t n;       /* out: tokens written */
    size_t n_total; /* out: tokens that the text has; > n when cap was too small */
    int32_t *ids;
    int32_t *start; /* out: half-open span in code points of the original text; 0, 0 for added special tokens */
    int32_t *end;
} kf_encoding;

/* Reads tokenizer.json where there is one it knows, else vocab.txt (+ tokenizer_config.json: do_lower_case,
 * strip_accents, tokenize_chinese_chars). The tokenizer owns all it needs; dir may go away.
 * KF_ERR_NOT_FOUND: neither file; KF_ERR_CORRUPT; KF_ERR_UNSUPPORTED names the part of tokenizer.json not known. */
kf_status kf_tokenizer_open(const char *dir, kf_tokenizer **out);
void kf_tokenizer_close(kf_tokenizer *t);

/* text: UTF-8, n_bytes, not NUL-terminated. KF_ERR_INVALID: not valid UTF-8 (the text says at which byte; never the
 * words). KF_ERR_TOO_LARGE: over 256 MiB, or a word that a pattern of the file gave up on; KF_ERR_NO_MEMORY.
 * On failure e holds no token. A text with more tokens than cap is not an error: n == cap, n_total says how many it
 * has. */
kf_status kf_tokenizer_encode(const kf_tokenizer *t, const char *text, size_t n_bytes, kf_special special,
                              kf_encoding *e);

/* The same for a prompt that holds both a template's text and customers' words: marks [n_bytes] are 0 for bytes of the
 * template, 1 for the others. Control tokens are found where they are spelled in bytes of the template alone; else the
 * text is encoded as one, as Hugging Face does it. Nothing is added. KF_ERR_UNSUPPORTED: not for WordPiece. */
kf_status kf_tokenizer_encode_marked(const kf_tokenizer *t, const char *text, const unsigned char *marks,
                                     size_t n_bytes, kf_encoding *e);

/* Bytes of the ids' text into out (cap bytes, no NUL), *n_bytes as many as it has even where cap was too small
 * (then KF_ERR_TOO_LARGE). skip_special leaves special tokens out. For streaming use kf_detokenizer. */
kf_status kf_tokenizer_decode(const kf_tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special, char *out,
                              size_t cap, size_t *n_bytes);

size_t kf_tokenizer_vocab_size(const kf_tokenizer *t);

/* The piece as the file spells it ("##ing", "Ġthe"), valid while t is open; NULL for an id that has none. */
const char *kf_tokenizer_piece(const kf_tokenizer *t, int32_t id);

/* The id of a piece as the file spells it, special tokens included ("[CLS]", "<|end|>"); -1 if there is none. */
int32_t kf_tokenizer_id(const kf_tokenizer *t, const char *piece);
bool kf_tokenizer_is_special(const kf_tokenizer *t, int32_t id);

/* The bytes that id stands for in a decoded text, *n of them, maybe none; no NUL follows. Valid while t is open. */
const char *kf_tokenizer_bytes(const kf_tokenizer *t, int32_t id, size_t *n);

/* Whether a decoded text's first space, if it begins with one, is left out (the SentencePiece kind). */
bool kf_tokenizer_drops_first_space(const kf_tokenizer *t);

/* Streaming decode: bytes of a character that is not whole yet are held back, so no half character is ever sent.
 * Starts as {0}. */
typedef struct kf_detokenizer {
    unsigned char held[4];
    size_t n_held;
    bool begun; /* some token's text is out: WordPiece puts a space before the next word */
} kf_detokenizer;

/* Appends the text that is complete after `id` to out (*n_bytes of cap used so far; grows). Special tokens give no
 * text. KF_ERR_TOO_LARGE: it does not fit, nothing was changed. A byte that can start no character becomes U+FFFD. */
kf_status kf_detokenizer_push(kf_detokenizer *d, const kf_tokenizer *t, int32_t id, char *out, size_t cap,
                              size_t *n_bytes);

/* At the end: what is still held becomes U+FFFD. */
kf_status kf_detokenizer_finish(kf_detokenizer *d, char *out, size_t cap, size_t *n_bytes);

#endif
