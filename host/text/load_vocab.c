/* BERT's older form of a tokenizer: vocab.txt, a piece a line, and tokenizer_config.json. */
#include <string.h>

#include "text/tokenizer_impl.h"
#include "text/utf8.h"

/* Every line is a piece, its number the id; of two equal ones the later is found, as in Hugging Face's map. */
static kf_status load_pieces(kf_tokenizer *t, const char *name, const char *bytes, size_t n) {
    size_t bad_at;
    if (!kf_utf8_valid(bytes, n, &bad_at))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: byte %zu is not valid UTF-8", name, bad_at);
    int64_t id = 0;
    for (size_t at = 0; at < n; id++) {
        const char *line = bytes + at, *end = memchr(line, '\n', n - at);
        size_t n_line = end ? (size_t)(end - line) : n - at;
        at += n_line + 1;
        if (n_line && line[n_line - 1] == '\r') n_line--;
        KF_TRY(kf_vocab_put(&t->vocab, line, n_line, id));
    }
    if (id == 0) return KF_FAIL(KF_ERR_CORRUPT, "%s: there is no piece in it, wanted one a line", name);
    return KF_OK;
}

/* key's value in config is a token's name, or an object that holds it as "content". */
static const char *token_name(const json_t *config, const char *key, const char *otherwise) {
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? json_string_value(value) : otherwise;
}

static kf_status special_token(kf_tokenizer *t, const char *name, const char *token, int32_t *id) {
    *id = kf_tokenizer_id(t, token);
    if (*id < 0) return KF_FAIL(KF_ERR_CORRUPT, "%s: the special token %.40s is not there", name, token);
    return kf_tokenizer_set_special(t, *id);
}

static kf_status apply_config(kf_tokenizer *t, const char *name, const json_t *config) {
    kf_wordpiece *w = &t->wordpiece;
    *w = kf_wordpiece_default();
    w->lowercase = kf_json_flag(config, "do_lower_case", true);
    w->strip_accents = kf_json_flag(config, "strip_accents", w->lowercase);
    w->handle_chinese_chars = kf_json_flag(config, "tokenize_chinese_chars", true);
    KF_TRY(special_token(t, name, token_name(config, "unk_token", "[UNK]"), &w->unk_id));
    KF_TRY(special_token(t, name, token_name(config, "cls_token", "[CLS]"), &t->before[0]));
    KF_TRY(special_token(t, name, token_name(config, "sep_token", "[SEP]"), &t->after[0]));
    t->n_before = t->n_after = 1;
    const char *const optional[] = {token_name(config, "pad_token", "[PAD]"),
                                    token_name(config, "mask_token", "[MASK]")};
    for (size_t i = 0; i < 2; i++) {
        int32_t id = kf_tokenizer_id(t, optional[i]);
        if (id >= 0) KF_TRY(kf_tokenizer_set_special(t, id));
    }
    t->kind = KF_TOKENIZER_WORDPIECE;
    t->text_starts_with_space = true;
    return KF_OK;
}

kf_status kf_tokenizer_load_vocab(kf_tokenizer *t, const char *name, const char *bytes, size_t n,
                                  const json_t *config) {
    KF_TRY(load_pieces(t, name, bytes, n));
    KF_TRY(apply_config(t, name, config));
    return kf_tokenizer_make_texts(t);
}
