/* What a kf_tokenizer is: the load_*.c files fill it, tokenizer.c uses it. Internal to host/text. */
#ifndef KF_TEXT_TOKENIZER_IMPL_H
#define KF_TEXT_TOKENIZER_IMPL_H

#include <jansson.h>

#include "text/pipeline.h"
#include "text/tokenizer.h"
#include "text/vocab.h"
#include "text/wordpiece.h"

enum { KF_TEMPLATE_MAX = 8 };

struct kf_tokenizer {
    enum { KF_TOKENIZER_WORDPIECE, KF_TOKENIZER_BPE } kind;
    kf_wordpiece wordpiece;
    kf_pipeline pipeline;

    kf_vocab vocab; /* pieces as the file spells them */
    bool *special;  /* [n_special] by id: the file's special tokens */
    size_t n_special;
    int32_t before[KF_TEMPLATE_MAX], after[KF_TEMPLATE_MAX]; /* what KF_SPECIAL_ADD puts round a text */
    size_t n_before, n_after;

    char *text;                  /* what each id stands for in a decoded text, one after another */
    uint32_t *text_at;           /* [vocab.n_ids + 1] where it starts in text */
    bool text_starts_with_space; /* a decoded text's first space is not its own */
};

/* Fill *t, which holds an empty vocabulary; on failure the caller frees what is there. `name` is the file's, for texts.
 * config: tokenizer_config.json, NULL for none; root: tokenizer.json. */
kf_status kf_tokenizer_load_vocab(kf_tokenizer *t, const char *name, const char *bytes, size_t n, const json_t *config);
kf_status kf_tokenizer_load_json(kf_tokenizer *t, const json_t *root);

/* An empty tokenizer, for the above. KF_ERR_NO_MEMORY. */
kf_status kf_tokenizer_new(kf_tokenizer **out);

/* tokenizer.json's parts for a BPE model, once the vocabulary is there; NULL or null where the file has none. */
kf_status kf_tokenizer_load_bpe(kf_tokenizer *t, const json_t *root, const json_t *model);
kf_status kf_tokenizer_load_normalizer(kf_pipeline *p, const json_t *normalizer);
kf_status kf_tokenizer_load_pre_tokenizer(kf_pipeline *p, const json_t *pre_tokenizer);

/* Marks id, which is in the vocabulary, as special. KF_ERR_NO_MEMORY. */
kf_status kf_tokenizer_set_special(kf_tokenizer *t, int32_t id);

/* Makes the table of texts, last of all. KF_ERR_NO_MEMORY. */
kf_status kf_tokenizer_make_texts(kf_tokenizer *t);

/* ---- reading JSON ---- */

/* A part's "type"; "null" for NULL and null, "?" where it is no object or has none. */
const char *kf_json_type(const json_t *part);
bool kf_json_is(const json_t *part, const char *type);

/* A member of an object; null, absent and of another kind mean `otherwise`. */
bool kf_json_flag(const json_t *object, const char *key, bool otherwise);
const char *kf_json_text(const json_t *object, const char *key, const char *otherwise);
bool kf_json_text_is(const json_t *object, const char *key, const char *wanted);

#endif
