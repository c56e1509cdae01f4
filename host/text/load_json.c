/* tokenizer.json, as Hugging Face's tokenizers writes it. What is not known is refused by its name: a tokenizer that
 * is nearly right makes a model quietly wrong. "truncation" and "padding" are left to the caller. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_impl.h"
#include "text/utf8.h"

const char *kf_json_type(const json_t *part) {
    if (!part || json_is_null(part)) return "null";
    const char *type = json_string_value(json_object_get(part, "type"));
    return type ? type : "?";
}

bool kf_json_flag(const json_t *object, const char *key, bool otherwise) {
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static bool is_type(const json_t *part, const char *type) {
    return strcmp(kf_json_type(part), type) == 0;
}

/* A string member, or `otherwise` where it is null or absent. */
static const char *text_of(const json_t *object, const char *key, const char *otherwise) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : otherwise;
}

/* ---- the vocabulary and the added tokens ---- */

static kf_status load_pieces(kf_tokenizer *t, json_t *vocab) {
    const char *piece;
    json_t *id;
    if (!json_is_object(vocab)) return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: model.vocab is not an object");
    json_object_foreach(vocab, piece, id) {
        if (!json_is_integer(id))
            return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: model.vocab has an id that is no integer");
        KF_TRY(kf_vocab_put(&t->vocab, piece, strlen(piece), json_integer_value(id)));
    }
    return KF_OK;
}

/* Markup such as <tool_call> is control in some chat template even where the file does not say "special": a customer's
 * text must not spell it. */
static bool is_control(const char *content, size_t n, bool special) {
    return special || n == 0 || (content[0] == '<' && content[n - 1] == '>') ||
           (content[0] == '[' && content[n - 1] == ']');
}

static int longer_first(const void *a, const void *b) {
    const kf_added *x = a, *y = b;
    return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : (x->id > y->id) - (x->id < y->id);
}

/* Remembers an added token that is found in texts. */
static kf_status find_in_texts(kf_tokenizer *t, const json_t *token, int32_t id, size_t n) {
    kf_byte_level *b = &t->byte_level;
    if (kf_json_flag(token, "lstrip", false) || kf_json_flag(token, "rstrip", false) ||
        kf_json_flag(token, "single_word", false))
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: added token %d has lstrip, rstrip or single_word", id);
    b->added[b->n_added++] = (kf_added){.n = n, .id = id}; /* its text: see load_added */
    return KF_OK;
}

static kf_status load_added_token(kf_tokenizer *t, const json_t *token) {
    const json_t *content = json_object_get(token, "content"), *id = json_object_get(token, "id");
    if (!json_is_string(content) || !json_is_integer(id))
        return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: an added token without content or id");
    const char *text = json_string_value(content);
    size_t n = json_string_length(content);
    bool special = kf_json_flag(token, "special", false);
    KF_TRY(kf_vocab_put(&t->vocab, text, n, json_integer_value(id)));
    int32_t put = (int32_t)json_integer_value(id);
    if (special) KF_TRY(kf_tokenizer_set_special(t, put));
    return is_control(text, n, special) ? KF_OK : find_in_texts(t, token, put, n);
}

static kf_status load_added(kf_tokenizer *t, const json_t *tokens) {
    kf_byte_level *b = &t->byte_level;
    size_t n = json_array_size(tokens);
    b->added = calloc(n + 1, sizeof *b->added);
    if (!b->added) return KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory for %zu added tokens", n);
    for (size_t i = 0; i < n; i++)
        KF_TRY(load_added_token(t, json_array_get(tokens, i)));
    for (size_t i = 0; i < b->n_added; i++) { /* the vocabulary is whole: its pieces move no more */
        b->added[i].text = kf_vocab_piece(&t->vocab, b->added[i].id, NULL);
        b->starts_added[(unsigned char)b->added[i].text[0]] = true;
    }
    qsort(b->added, b->n_added, sizeof *b->added, longer_first);
    return KF_OK;
}

/* ---- what goes round a text ---- */

static kf_status add_to_template(kf_tokenizer *t, bool after, int64_t id) {
    size_t *n = after ? &t->n_after : &t->n_before;
    if (!kf_vocab_piece(&t->vocab, id, NULL))
        return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: post_processor adds id %lld, which has no piece",
                       (long long)id);
    if (*n == KF_TEMPLATE_MAX)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: post_processor adds more than %d tokens", KF_TEMPLATE_MAX);
    (after ? t->after : t->before)[(*n)++] = (int32_t)id;
    return KF_OK;
}

/* "single": a list of {"SpecialToken": {"id": name}} round one {"Sequence": …}; "special_tokens": name → ids. */
static kf_status load_template(kf_tokenizer *t, const json_t *processor) {
    const json_t *single = json_object_get(processor, "single"), *names = json_object_get(processor, "special_tokens");
    bool after = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i), *special = json_object_get(item, "SpecialToken");
        if (!special) {
            if (!json_object_get(item, "Sequence") || after)
                return KF_FAIL(KF_ERR_UNSUPPORTED,
                               "tokenizer.json: post_processor: a template of other than one sequence");
            after = true;
            continue;
        }
        const char *name = text_of(special, "id", "");
        const json_t *ids = json_object_get(json_object_get(names, name), "ids");
        if (json_array_size(ids) == 0)
            return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: post_processor: %.40s is not in special_tokens", name);
        for (size_t k = 0; k < json_array_size(ids); k++)
            KF_TRY(add_to_template(t, after, json_integer_value(json_array_get(ids, k))));
    }
    return KF_OK;
}

static kf_status load_post_processor(kf_tokenizer *t, const json_t *p) {
    if (is_type(p, "null")) return KF_OK;
    if (is_type(p, "TemplateProcessing")) return load_template(t, p);
    bool bert = is_type(p, "BertProcessing"), roberta = is_type(p, "RobertaProcessing");
    if (is_type(p, "ByteLevel") || roberta) {
        t->byte_level.trim_offsets = kf_json_flag(p, "trim_offsets", true);
        t->byte_level.trim_keeps_first = kf_json_flag(p, "add_prefix_space", true);
        if (!roberta) return KF_OK;
    }
    if (bert || roberta) { /* "cls": ["[CLS]", 101] */
        KF_TRY(add_to_template(t, false, json_integer_value(json_array_get(json_object_get(p, "cls"), 1))));
        return add_to_template(t, true, json_integer_value(json_array_get(json_object_get(p, "sep"), 1)));
    }
    if (!is_type(p, "Sequence"))
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: post_processor %.40s is not known", kf_json_type(p));
    const json_t *parts = json_object_get(p, "processors");
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        if (is_type(part, "Sequence"))
            return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: post_processor: a Sequence in a Sequence");
        KF_TRY(load_post_processor(t, part));
    }
    return KF_OK;
}

/* ---- WordPiece ---- */

static kf_status load_wordpiece(kf_tokenizer *t, const json_t *root, const json_t *model) {
    const json_t *norm = json_object_get(root, "normalizer"), *pre = json_object_get(root, "pre_tokenizer");
    const json_t *decoder = json_object_get(root, "decoder");
    if (!is_type(norm, "BertNormalizer") || !is_type(pre, "BertPreTokenizer"))
        return KF_FAIL(KF_ERR_UNSUPPORTED,
                       "tokenizer.json: WordPiece with normalizer %.40s and pre_tokenizer %.40s: known "
                       "are BertNormalizer and BertPreTokenizer",
                       kf_json_type(norm), kf_json_type(pre));
    if (t->byte_level.n_added)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: added token %d of a WordPiece model is not special",
                       t->byte_level.added[0].id);
    kf_wordpiece *w = &t->wordpiece;
    *w = kf_wordpiece_default();
    w->clean_text = kf_json_flag(norm, "clean_text", true);
    w->handle_chinese_chars = kf_json_flag(norm, "handle_chinese_chars", true);
    w->lowercase = kf_json_flag(norm, "lowercase", true);
    w->strip_accents = kf_json_flag(norm, "strip_accents", w->lowercase);
    w->cleanup = kf_json_flag(decoder, "cleanup", true);
    const char *unk = text_of(model, "unk_token", "[UNK]");
    if ((w->unk_id = kf_tokenizer_id(t, unk)) < 0)
        return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: model.unk_token %.40s is not in the vocabulary", unk);
    const json_t *longest = json_object_get(model, "max_input_chars_per_word");
    json_int_t n = longest ? json_integer_value(longest) : 100;
    if (n < 1 || n > KF_WORD_CHARS_MAX)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: max_input_chars_per_word %lld, wanted 1 to %d",
                       (long long)n, KF_WORD_CHARS_MAX);
    w->word_chars_max = (size_t)n;
    t->kind = KF_TOKENIZER_WORDPIECE;
    t->text_starts_with_space = true;
    return kf_wordpiece_set_prefix(w, text_of(model, "continuing_subword_prefix", "##"));
}

/* ---- byte-level BPE ---- */

/* One merge is "left right" or ["left", "right"]. */
static kf_status load_merge(kf_tokenizer *t, const json_t *merge, int32_t rank) {
    char joined[2 * KF_VOCAB_PIECE_BYTES_MAX];
    const char *left, *right;
    size_t n_left, n_right;
    if (json_is_string(merge)) {
        left = json_string_value(merge);
        const char *space = strchr(left, ' ');
        if (!space) return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: merge %d is not two pieces", rank);
        n_left = (size_t)(space - left);
        right = space + 1;
        n_right = json_string_length(merge) - n_left - 1;
    } else {
        const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
        if (json_array_size(merge) != 2 || !json_is_string(a) || !json_is_string(b))
            return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: merge %d is not two pieces", rank);
        left = json_string_value(a);
        right = json_string_value(b);
        n_left = json_string_length(a);
        n_right = json_string_length(b);
    }
    int32_t left_id = kf_vocab_find(&t->vocab, left, n_left), right_id = kf_vocab_find(&t->vocab, right, n_right);
    if (left_id < 0 || right_id < 0)
        return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: merge %d has a piece that is not in the vocabulary", rank);
    memcpy(joined, left, n_left); /* both are pieces: their lengths are within the limit */
    memcpy(joined + n_left, right, n_right);
    int32_t id = kf_vocab_find(&t->vocab, joined, n_left + n_right);
    if (id < 0) return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: what merge %d makes is not in the vocabulary", rank);
    kf_bpe_add_merge(&t->byte_level.bpe, left_id, right_id, rank, id);
    return KF_OK;
}

static kf_status load_bytes(kf_tokenizer *t, const json_t *model) {
    const char *unk = text_of(model, "unk_token", NULL);
    for (int byte = 0; byte < 256; byte++) {
        char spelled[4];
        size_t n = kf_utf8_put(kf_byte_level_char((unsigned char)byte), spelled);
        int32_t id = kf_vocab_find(&t->vocab, spelled, n);
        if (id < 0 && unk)
            return KF_FAIL(KF_ERR_UNSUPPORTED,
                           "tokenizer.json: byte 0x%02X has no piece, and there is a model.unk_token", byte);
        t->byte_level.bpe.byte_id[byte] = id;
    }
    return KF_OK;
}

static kf_status load_whole_words(kf_tokenizer *t, json_t *vocab, bool ignore_merges) {
    static const size_t longest = KF_VOCAB_PIECE_BYTES_MAX;
    const char *piece;
    json_t *id;
    char *bytes = malloc(longest);
    if (!bytes) return KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory for a piece");
    kf_status s = KF_OK;
    json_object_foreach(vocab, piece, id) {
        int32_t i = (int32_t)json_integer_value(id);
        size_t n = kf_byte_level_bytes(piece, strlen(piece), bytes);
        if (n && !kf_tokenizer_is_special(t, i))
            KF_STEP(s, kf_bpe_add_whole(&t->byte_level.bpe, bytes, n, i, ignore_merges));
    }
    free(bytes);
    return s;
}

static kf_status check_bpe(const json_t *root, const json_t *model) {
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++)
        if (text_of(model, empty[i], "")[0])
            return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: model.%s is not empty", empty[i]);
    if (json_number_value(json_object_get(model, "dropout")) != 0)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: model.dropout is not 0");
    const json_t *decoder = json_object_get(root, "decoder");
    if (!is_type(decoder, "ByteLevel"))
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: BPE with decoder %.40s: known is ByteLevel",
                       kf_json_type(decoder));
    return KF_OK;
}

static kf_status load_bpe(kf_tokenizer *t, const json_t *root, const json_t *model) {
    kf_byte_level *b = &t->byte_level;
    const json_t *merges = json_object_get(model, "merges");
    size_t n_merges = json_array_size(merges);
    int32_t rank = 0;
    t->kind = KF_TOKENIZER_BYTE_LEVEL;
    KF_TRY(check_bpe(root, model));
    if (!json_is_array(merges) || n_merges > KF_VOCAB_IDS_MAX)
        return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: model.merges is not a list of at most %d", KF_VOCAB_IDS_MAX);
    KF_TRY(kf_bpe_init(&b->bpe, n_merges));
    KF_TRY(load_bytes(t, model));
    for (size_t i = 0; i < n_merges; i++) {
        const json_t *merge = json_array_get(merges, i);
        const char *line = json_string_value(merge);
        if (line && strncmp(line, "#version", 8) == 0) continue;
        KF_TRY(load_merge(t, merge, rank++));
    }
    KF_TRY(kf_tokenizer_load_normalizer(b, json_object_get(root, "normalizer")));
    KF_TRY(kf_tokenizer_load_pre_tokenizer(b, json_object_get(root, "pre_tokenizer")));
    return load_whole_words(t, json_object_get(model, "vocab"), kf_json_flag(model, "ignore_merges", false));
}

kf_status kf_tokenizer_load_json(kf_tokenizer *t, const json_t *root) {
    const json_t *model = json_object_get(root, "model");
    KF_TRY(load_pieces(t, json_object_get(model, "vocab")));
    KF_TRY(load_added(t, json_object_get(root, "added_tokens")));
    KF_TRY(load_post_processor(t, json_object_get(root, "post_processor")));
    if (is_type(model, "WordPiece"))
        KF_TRY(load_wordpiece(t, root, model));
    else if (is_type(model, "BPE"))
        KF_TRY(load_bpe(t, root, model));
    else
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: model %.40s is not known: WordPiece and BPE are",
                       kf_json_type(model));
    return kf_tokenizer_make_texts(t);
}
