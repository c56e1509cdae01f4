/* What a kf_tokenizer is: load_vocab.c and load_json.c fill it from files, tokenizer.c uses it. Internal to host/text.
 */
#ifndef KF_TEXT_TOKENIZER_IMPL_H
#define KF_TEXT_TOKENIZER_IMPL_H

#include "text/tokenizer.h"
#include "text/vocab.h"
#include "text/wordpiece.h"

enum { KF_TEMPLATE_MAX = 8 };

struct kf_tokenizer {
    kf_vocab vocab; /* pieces as the file spells them */
    bool *special;  /* [n_special] by id: the file's special tokens */
    size_t n_special;
    int32_t before[KF_TEMPLATE_MAX], after[KF_TEMPLATE_MAX]; /* what KF_SPECIAL_ADD puts round a text */
    size_t n_before, n_after;
    char *text;                  /* what each id stands for in a decoded text, one after another */
    uint32_t *text_at;           /* [vocab.n_ids + 1] where it starts in text */
    bool text_starts_with_space; /* a decoded text's first space is not its own */
    kf_wordpiece wordpiece;
};

/* Fill *t, which holds an empty vocabulary; on failure the caller frees what is there.
 * config_path: tokenizer_config.json, NULL for none. */
kf_status kf_tokenizer_load_vocab(kf_tokenizer *t, const char *vocab_path, const char *config_path);

/* Marks id, which is in the vocabulary, as special. KF_ERR_NO_MEMORY. */
kf_status kf_tokenizer_set_special(kf_tokenizer *t, int32_t id);

/* Makes the table of texts: render appends what the piece of id stands for to out (room for 2 bytes more than the
 * piece has) and returns its bytes. KF_ERR_NO_MEMORY. */
typedef size_t (*kf_render)(const kf_tokenizer *t, int32_t id, const char *piece, size_t n, char *out);
kf_status kf_tokenizer_make_texts(kf_tokenizer *t, kf_render render);

/* A kf_render of WordPiece: a space before each piece, none before one that continues a word. */
size_t kf_wordpiece_render(const kf_tokenizer *t, int32_t id, const char *piece, size_t n, char *out);

#endif
