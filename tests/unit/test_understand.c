/* Aim: what is said to be understood is what the heads' logits say: probabilities, their order, words that cover the
 * text, spans and texts that agree, values in normal form, confidence lowered by what the model does not know; and a
 * checkpoint that lacks a head lacks that part alone.
 * Method: the tiny random encoder; heads whose biases alone decide, so that the right answer can be written down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "serve/understand.h"
#include "sim/tiny.h"
#include "text/utf8.h"

static char *models, encoder[256];
static kf_device *device;
static kf_stream *stream;
static kf_arena arena;

typedef struct rig {
    kf_tokenizer *tokenizer;
    kf_bert *model;
    kf_bert_pass *pass;
    kf_understander understander;
    kf_understanding result;
} rig;

/* A token head without weights: every token gets the label of the largest bias. */
static void decided_head(const char *name, const char *labels, const float *bias, size_t n_labels) {
    char file[96], text[512];
    snprintf(file, sizeof file, "heads/%s.json", name);
    snprintf(text, sizeof text, "{\"name\":\"%s\",\"kind\":\"token\",\"pooling\":null,\"labels\":%s}", name, labels);
    tiny_write(encoder, file, text);
    tiny_file f = tiny_begin(1);
    tiny_tensor(&f, "classifier.weight", n_labels, TINY_HIDDEN, 0, 0);
    tiny_tensor(&f, "classifier.bias", n_labels, 0, 0, 0);
    memcpy(f.data + n_labels * TINY_HIDDEN, bias, n_labels * sizeof *bias);
    snprintf(file, sizeof file, "heads/%s.safetensors", name);
    tiny_end(&f, encoder, file);
}

static void remove_head(const char *name) {
    char path[400];
    snprintf(path, sizeof path, "%s/heads/%s.json", encoder, name);
    unlink(path);
    snprintf(path, sizeof path, "%s/heads/%s.safetensors", encoder, name);
    unlink(path);
}

static void begin(rig *r) {
    *r = (rig){0};
    kf_bert_opts o = {.max_tokens = 256, .max_seqs = 4};
    kf_status s = kf_tokenizer_open(encoder, &r->tokenizer);
    KF_STEP(s, kf_bert_open(device, encoder, &o, &r->model));
    KF_STEP(s, kf_bert_pass_new(r->model, &r->pass));
    KF_STEP(s, kf_understander_init(&r->understander, r->model, r->tokenizer));
    if (s != KF_OK) fail_msg("%s", kf_error_text());
}

static void end(rig *r) {
    kf_understander_free(&r->understander);
    kf_bert_pass_free(r->pass);
    kf_bert_close(r->model);
    kf_tokenizer_close(r->tokenizer);
}

/* The text as the second sequence of a pass, so that rows have an offset. */
static const kf_understanding *understand(rig *r, const char *text) {
    int32_t ids[128], start[128], stop[128], cu_seqlens[3] = {0};
    kf_encoding first = {.cap = 64, .ids = ids};
    assert_int_equal(kf_tokenizer_encode(r->tokenizer, "在吗", strlen("在吗"), KF_SPECIAL_ADD, &first), KF_OK);
    kf_encoding e = {.cap = 64, .ids = ids + first.n, .start = start, .end = stop};
    assert_int_equal(kf_tokenizer_encode(r->tokenizer, text, strlen(text), KF_SPECIAL_ADD, &e), KF_OK);
    cu_seqlens[1] = (int32_t)first.n;
    cu_seqlens[2] = (int32_t)(first.n + e.n);
    assert_int_equal(kf_bert_begin(r->pass, stream, &(kf_bert_input){ids, cu_seqlens, 2}), KF_OK);
    kf_bert_layers(r->pass, stream, 0, TINY_LAYERS);
    assert_int_equal(kf_bert_finish(r->pass, stream), KF_OK);
    assert_int_equal(kf_bert_wait(r->pass), KF_OK);
    kf_arena_reset(&arena);
    kf_understand_in in = {r->pass, 1, first.n, {text, strlen(text)}, e.ids, e.start, e.end, e.n};
    assert_int_equal(kf_understand(&r->understander, &in, &arena, &r->result), KF_OK);
    return &r->result;
}

static void agrees_with_text(const char *text, kf_str s, int32_t start, int32_t stop) {
    size_t n = strlen(text), from = kf_utf8_offset(text, n, (size_t)start), to = kf_utf8_offset(text, n, (size_t)stop);
    assert_int_equal(s.n, to - from);
    assert_memory_equal(s.s, text + from, s.n);
    assert_int_equal(s.s[s.n], 0);
}

static void random_heads(void **state) {
    (void)state;
    static const char *const texts[] = {"我想要一件红色的羽绒服", "多少钱", "我", "红色 羽绒服， 在吗？",
                                        "要 \xF0\x9F\x98\x80 吗"};
    rig r;
    begin(&r);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const kf_understanding *u = understand(&r, texts[i]);
        float sum = 0;
        assert_int_equal(u->n_intents, 4);
        for (size_t k = 0; k < u->n_intents; k++) {
            sum += u->intents[k].score;
            assert_true(k == 0 || u->intents[k].score <= u->intents[k - 1].score);
        }
        assert_true(fabsf(sum - 1) < 1e-5f);
        assert_true(u->sentiment.score >= 1.0f / 3);
        int32_t at = 0;
        assert_true(u->n_words > 0);
        for (size_t k = 0; k < u->n_words; k++) {
            const kf_word *w = &u->words[k];
            assert_true(w->start >= at && w->end > w->start);
            agrees_with_text(texts[i], w->text, w->start, w->end);
            at = w->end;
        }
        for (size_t k = 0; k < u->n_entities; k++)
            agrees_with_text(texts[i], u->entities[k].text, u->entities[k].start, u->entities[k].end);
    }
    end(&r);
}

static void unknown_characters_lower_confidence(void **state) {
    (void)state;
    rig r;
    begin(&r);
    const kf_understanding *u = understand(&r, "我想要");
    assert_true(u->confidence == u->intents[0].score);
    u = understand(&r, "我龘"); /* one of two is not in the vocabulary */
    assert_true(fabsf(u->confidence - u->intents[0].score / 2) < 1e-6f);
    u = understand(&r, "龘龘龘");
    assert_true(u->confidence == 0);
    end(&r);
}

static void stop_words_are_marked(void **state) {
    (void)state;
    rig r;
    decided_head("words", "[\"B-u\",\"I-u\"]", (float[]){5, 0}, 2); /* every character a word */
    begin(&r);
    const kf_understanding *u = understand(&r, "红的");
    assert_int_equal(u->n_words, 2);
    assert_string_equal(u->words[1].text.s, "的");
    assert_string_equal(u->words[1].pos, "u");
    assert_true(u->words[1].stop_word);
    assert_false(u->words[0].stop_word);
    end(&r);
}

/* The whole text is one quantity. */
static void values_in_normal_form(void **state) {
    (void)state;
    static const struct {
        const char *text, *value;
    } cases[] = {{"两件", "2件"}, {"三", ""},   {"一百块", ""}, {"２３０", "230"},
                 {"230元", ""},   {"五十", ""}, {"一二三", ""}, {"九Ａ", "9A"}};
    rig r;
    decided_head("entities", "[\"O\",\"B-quantity\",\"I-quantity\"]", (float[]){0, 1, 9}, 3);
    begin(&r);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const kf_understanding *u = understand(&r, cases[i].text);
        assert_int_equal(u->n_entities, 1);
        assert_string_equal(u->entities[0].text.s, cases[i].text);
        assert_string_equal(u->entities[0].value.s, cases[i].value);
        assert_int_equal(u->entities[0].value.n, strlen(cases[i].value));
    }
    end(&r);
}

static void without_heads(void **state) {
    (void)state;
    rig r;
    remove_head("words");
    remove_head("sentiment");
    begin(&r);
    const kf_understanding *u = understand(&r, "我想要");
    assert_int_equal(u->n_words, 0);
    assert_null(u->sentiment.label);
    assert_int_equal(u->n_intents, 4);
    end(&r);
    remove_head("intent");
    remove_head("entities");
    begin(&r);
    u = understand(&r, "我想要");
    assert_int_equal(u->n_intents + u->n_entities, 0);
    end(&r);
}

static void labels_of_another_form(void **state) {
    (void)state;
    rig r = {0};
    decided_head("words", "[\"NOUN\",\"VERB\"]", (float[]){0, 1}, 2);
    assert_int_equal(kf_tokenizer_open(encoder, &r.tokenizer), KF_OK);
    assert_int_equal(kf_bert_open(device, encoder, &(kf_bert_opts){.max_tokens = 64, .max_seqs = 2}, &r.model), KF_OK);
    assert_int_equal(kf_understander_init(&r.understander, r.model, r.tokenizer), KF_ERR_UNSUPPORTED);
    end(&r);
}

int main(void) {
    models = tiny_models();
    snprintf(encoder, sizeof encoder, "%s/encoder", models);
    if (kf_cpu_open(&(kf_device_opts){.dtype = KF_F32, .n_threads = 1}, &device) != KF_OK ||
        kf_stream_open(device, &stream) != KF_OK || kf_arena_init(&arena, 64 << 10) != KF_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_heads),           cmocka_unit_test(unknown_characters_lower_confidence),
        cmocka_unit_test(stop_words_are_marked),  cmocka_unit_test(values_in_normal_form),
        cmocka_unit_test(without_heads), /* takes heads away: from here on there are fewer */
        cmocka_unit_test(labels_of_another_form),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kf_arena_free(&arena);
    kf_stream_close(stream);
    kf_device_close(device);
    tiny_remove(models);
    return failed;
}
