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

bool kf_json_is(const json_t *part, const char *type) {
    return strcmp(kf_json_type(part), type) == 0;
}

const char *kf_json_text(const json_t *object, const char *key, const char *otherwise) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : otherwise;
}

bool kf_json_text_is(const json_t *object, const char *key, const char *wanted) {
    return strcmp(kf_json_text(object, key, ""), wanted) == 0;
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
    kf_pipeline *p = &t->pipeline;
    if (kf_json_flag(token, "lstrip", false) || kf_json_flag(token, "rstrip", false) ||
        kf_json_flag(token, "single_word", false))
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: added token %d has lstrip, rstrip or single_word", id);
    p->added[p->n_added++] = (kf_added){.n = n, .id = id}; /* its text: see load_added */
    return KF_OK;
}

/* Remembers one that only a template's own text may spell. */
static void find_in_templates(kf_tokenizer *t, const json_t *token, int32_t id, size_t n) {
    kf_pipeline *p = &t->pipeline;
    p->control[p->n_control++] = (kf_added){.n = n,
                                            .id = id,
                                            .lstrip = kf_json_flag(token, "lstrip", false),
                                            .rstrip = kf_json_flag(token, "rstrip", false)};
    p->control_single_word = p->control_single_word || kf_json_flag(token, "single_word", false);
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
    if (!is_control(text, n, special)) return find_in_texts(t, token, put, n);
    if (n) find_in_templates(t, token, put, n);
    return KF_OK;
}

/* The vocabulary is whole, its pieces move no more: the list gets its texts, and its order. */
static void finish_added(const kf_tokenizer *t, kf_added *list, size_t n, bool starts[256]) {
    for (size_t i = 0; i < n; i++) {
        list[i].text = kf_vocab_piece(&t->vocab, list[i].id, NULL);
        starts[(unsigned char)list[i].text[0]] = true;
    }
    qsort(list, n, sizeof *list, longer_first);
}

static kf_status load_added(kf_tokenizer *t, const json_t *tokens) {
    kf_pipeline *p = &t->pipeline;
    size_t n = json_array_size(tokens);
    p->added = calloc(n + 1, sizeof *p->added);
    p->control = calloc(n + 1, sizeof *p->control);
    if (!p->added || !p->control) return KF_FAIL(KF_ERR_NO_MEMORY, "tokenizer: no memory for %zu added tokens", n);
    for (size_t i = 0; i < n; i++)
        KF_TRY(load_added_token(t, json_array_get(tokens, i)));
    finish_added(t, p->added, p->n_added, p->starts_added);
    finish_added(t, p->control, p->n_control, p->starts_control);
    return KF_OK;
}

/* ---- what goes round a text ---- */

static kf_status add_to_template(kf_tokenizer *t, bool after, const json_t *number) {
    size_t *n = after ? &t->n_after : &t->n_before;
    json_int_t id = json_is_integer(number) ? json_integer_value(number) : -1;
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
        const char *name = kf_json_text(special, "id", "");
        const json_t *ids = json_object_get(json_object_get(names, name), "ids");
        if (json_array_size(ids) == 0)
            return KF_FAIL(KF_ERR_CORRUPT, "tokenizer.json: post_processor: %.40s is not in special_tokens", name);
        for (size_t k = 0; k < json_array_size(ids); k++)
            KF_TRY(add_to_template(t, after, json_array_get(ids, k)));
    }
    if (!after) return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: post_processor: a template without the text");
    return KF_OK;
}

static kf_status load_post_processor(kf_tokenizer *t, const json_t *p) {
    if (kf_json_is(p, "null")) return KF_OK;
    if (kf_json_is(p, "TemplateProcessing")) return load_template(t, p);
    bool bert = kf_json_is(p, "BertProcessing"), roberta = kf_json_is(p, "RobertaProcessing");
    if (kf_json_is(p, "ByteLevel") || roberta) {
        t->pipeline.trim_offsets = kf_json_flag(p, "trim_offsets", true);
        t->pipeline.trim_keeps_first = kf_json_flag(p, "add_prefix_space", true);
        if (!roberta) return KF_OK;
    }
    if (bert || roberta) { /* "cls": ["[CLS]", 101] */
        KF_TRY(add_to_template(t, false, json_array_get(json_object_get(p, "cls"), 1)));
        return add_to_template(t, true, json_array_get(json_object_get(p, "sep"), 1));
    }
    if (!kf_json_is(p, "Sequence"))
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: post_processor %.40s is not known", kf_json_type(p));
    const json_t *parts = json_object_get(p, "processors");
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        if (kf_json_is(part, "Sequence"))
            return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: post_processor: a Sequence in a Sequence");
        KF_TRY(load_post_processor(t, part));
    }
    return KF_OK;
}

/* ---- WordPiece ---- */

static kf_status load_wordpiece(kf_tokenizer *t, const json_t *root, const json_t *model) {
    const json_t *norm = json_object_get(root, "normalizer"), *pre = json_object_get(root, "pre_tokenizer");
    const json_t *decoder = json_object_get(root, "decoder");
    if (!kf_json_is(norm, "BertNormalizer") || !kf_json_is(pre, "BertPreTokenizer"))
        return KF_FAIL(KF_ERR_UNSUPPORTED,
                       "tokenizer.json: WordPiece with normalizer %.40s and pre_tokenizer %.40s: known "
                       "are BertNormalizer and BertPreTokenizer",
                       kf_json_type(norm), kf_json_type(pre));
    if (t->pipeline.n_added)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: added token %d of a WordPiece model is not special",
                       t->pipeline.added[0].id);
    kf_wordpiece *w = &t->wordpiece;
    *w = kf_wordpiece_default();
    w->clean_text = kf_json_flag(norm, "clean_text", true);
    w->handle_chinese_chars = kf_json_flag(norm, "handle_chinese_chars", true);
    w->lowercase = kf_json_flag(norm, "lowercase", true);
    w->strip_accents = kf_json_flag(norm, "strip_accents", w->lowercase);
    w->cleanup = kf_json_flag(decoder, "cleanup", true);
    const char *unk = kf_json_text(model, "unk_token", "[UNK]");
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
    return kf_wordpiece_set_prefix(w, kf_json_text(model, "continuing_subword_prefix", "##"));
}

kf_status kf_tokenizer_load_json(kf_tokenizer *t, const json_t *root) {
    const json_t *model = json_object_get(root, "model");
    KF_TRY(load_pieces(t, json_object_get(model, "vocab")));
    KF_TRY(load_added(t, json_object_get(root, "added_tokens")));
    KF_TRY(load_post_processor(t, json_object_get(root, "post_processor")));
    if (kf_json_is(model, "WordPiece"))
        KF_TRY(load_wordpiece(t, root, model));
    else if (kf_json_is(model, "BPE"))
        KF_TRY(kf_tokenizer_load_bpe(t, root, model));
    else
        return KF_FAIL(KF_ERR_UNSUPPORTED, "tokenizer.json: model %.40s is not known: WordPiece and BPE are",
                       kf_json_type(model));
    return kf_tokenizer_make_texts(t);
}
