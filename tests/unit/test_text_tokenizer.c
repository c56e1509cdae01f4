/* Aim: tokenizer folders are read or refused as tokenizer.h says, and encode keeps its promises at the edges: special
 * tokens, small arrays, broken UTF-8, long words. Method: small files written to a folder; exactness against Hugging
 * Face is tests/golden/test_golden_tokenizer*.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>

#include "text/tokenizer.h"

#define SMALL KF_SOURCE_DIR "/tests/golden/tokenizers/small/"

enum { CAP = 256 };

static char dir[64];

static int make_folder(void **state) {
    (void)state;
    strcpy(dir, "/tmp/kefu-tokenizer-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static void path_of(const char *name, char path[128]) {
    snprintf(path, 128, "%s/%s", dir, name);
}

static int remove_folder(void **state) {
    (void)state;
    const char *const names[] = {"tokenizer.json", "vocab.txt", "tokenizer_config.json"};
    char path[128];
    for (size_t i = 0; i < 3; i++) {
        path_of(names[i], path);
        unlink(path);
    }
    return rmdir(dir);
}

static void write_file(const char *name, const char *content) {
    char path[128];
    path_of(name, path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(content, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* Opening fails with this status and a text that holds these words. */
static void refuse(kf_status wanted, const char *words) {
    kf_tokenizer *t = NULL;
    assert_int_equal(kf_tokenizer_open(dir, &t), wanted);
    assert_null(t);
    if (!strstr(kf_error_text(), words)) fail_msg("no \"%s\" in: %s", words, kf_error_text());
}

static kf_tokenizer *open_folder(void) {
    kf_tokenizer *t;
    if (kf_tokenizer_open(dir, &t) != KF_OK) fail_msg("%s", kf_error_text());
    return t;
}

/* The ids of a text, written as "1 2 3". */
static const char *ids_of(const kf_tokenizer *t, const char *text, kf_special special) {
    static char out[4096];
    int32_t ids[CAP];
    kf_encoding e = {.cap = CAP, .ids = ids};
    assert_int_equal(kf_tokenizer_encode(t, text, strlen(text), special, &e), KF_OK);
    size_t n = 0;
    for (size_t i = 0; i < e.n; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, i ? " %d" : "%d", ids[i]);
    out[n] = 0;
    return out;
}

#define VOCAB "[PAD]\n[UNK]\n[CLS]\n[SEP]\n我\n你\na\n##b\nab\n!\nsep\n[\n]\nA\n"

static void test_vocab_file(void **state) {
    (void)state;
    write_file("vocab.txt", VOCAB);
    kf_tokenizer *t = open_folder();
    assert_int_equal(kf_tokenizer_vocab_size(t), 14);
    assert_string_equal(ids_of(t, "我你!", KF_SPECIAL_ADD), "2 4 5 9 3");
    assert_string_equal(ids_of(t, "AB Abb aa", KF_SPECIAL_NONE), "8 8 7 1");
    assert_string_equal(ids_of(t, "[SEP]", KF_SPECIAL_ADD), "2 11 10 12 3"); /* text, not control */
    assert_string_equal(ids_of(t, "", KF_SPECIAL_ADD), "2 3");
    assert_int_equal(kf_tokenizer_id(t, "[SEP]"), 3);
    assert_int_equal(kf_tokenizer_id(t, "[sep]"), -1);
    assert_string_equal(kf_tokenizer_piece(t, 7), "##b");
    assert_null(kf_tokenizer_piece(t, 14));
    assert_null(kf_tokenizer_piece(t, -1));
    assert_true(kf_tokenizer_is_special(t, 0) && kf_tokenizer_is_special(t, 3));
    assert_false(kf_tokenizer_is_special(t, 4) || kf_tokenizer_is_special(t, -1) || kf_tokenizer_is_special(t, 999));
    kf_tokenizer_close(t);

    write_file("tokenizer_config.json", "{\"do_lower_case\": false, \"sep_token\": {\"content\": \"!\"}}");
    t = open_folder();
    assert_string_equal(ids_of(t, "A a", KF_SPECIAL_ADD), "2 13 6 9");
    kf_tokenizer_close(t);
}

static void test_vocab_file_refused(void **state) {
    (void)state;
    refuse(KF_ERR_NOT_FOUND, "neither tokenizer.json nor vocab.txt");
    write_file("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n");
    refuse(KF_ERR_CORRUPT, "[SEP]");
    write_file("vocab.txt", "");
    refuse(KF_ERR_CORRUPT, "there is no piece in it");
    write_file("vocab.txt", VOCAB "\xFF\n");
    refuse(KF_ERR_CORRUPT, "not valid UTF-8");
    write_file("vocab.txt", VOCAB);
    write_file("tokenizer_config.json", "{\"do_lower_case\": ");
    refuse(KF_ERR_CORRUPT, "tokenizer_config.json");
    write_file("tokenizer_config.json", "[]");
    refuse(KF_ERR_CORRUPT, "object");
}

static void test_arrays_that_are_too_small(void **state) {
    (void)state;
    write_file("vocab.txt", VOCAB);
    kf_tokenizer *t = open_folder();
    int32_t ids[4] = {-7, -7, -7, -7};
    kf_encoding e = {.cap = 3, .ids = ids};
    assert_int_equal(kf_tokenizer_encode(t, "我我我我", 12, KF_SPECIAL_ADD, &e), KF_OK);
    assert_int_equal(e.n, 3);
    assert_int_equal(e.n_total, 6);
    assert_int_equal(ids[2], 4);
    assert_int_equal(ids[3], -7);
    e = (kf_encoding){.cap = 0};
    assert_int_equal(kf_tokenizer_encode(t, "我", 3, KF_SPECIAL_NONE, &e), KF_OK);
    assert_int_equal(e.n_total, 1);
    kf_tokenizer_close(t);
}

static void test_broken_utf8(void **state) {
    (void)state;
    write_file("vocab.txt", VOCAB);
    kf_tokenizer *t = open_folder();
    int32_t ids[4];
    kf_encoding e = {.cap = 4, .ids = ids};
    assert_int_equal(kf_tokenizer_encode(t, "abcd\xE6\x88", 6, KF_SPECIAL_NONE, &e), KF_ERR_INVALID);
    assert_non_null(strstr(kf_error_text(), "byte 4 of 6"));
    assert_null(strstr(kf_error_text(), "abcd")); /* a customer's words stay out of texts */
    kf_tokenizer_close(t);
}

/* ---- tokenizer.json ---- */

/* A file under tests/golden/tokenizers/small with one member set to what the JSON says. */
static void write_changed(const char *base, const char *key, const char *value) {
    char path[256];
    snprintf(path, sizeof path, SMALL "%s.json", base);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    json_t *in = root;
    if (strncmp(key, "model.", 6) == 0) {
        in = json_object_get(root, "model");
        key += 6;
    }
    if (*key) assert_int_equal(json_object_set_new(in, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    path_of("tokenizer.json", path);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

static void test_json_refused(void **state) {
    (void)state;
    static const struct {
        const char *base, *key, *value;
        kf_status status;
        const char *words;
    } cases[] = {
        {"byte_level", "model", "{\"type\": \"Unigram\", \"vocab\": {}}", KF_ERR_UNSUPPORTED, "Unigram"},
        {"byte_level", "model", "null", KF_ERR_CORRUPT, "model.vocab"},
        {"byte_level", "model.vocab", "{\"a\": -1}", KF_ERR_CORRUPT, "id -1"},
        {"byte_level", "model.vocab", "{\"a\": 99999999999}", KF_ERR_CORRUPT, "99999999999"},
        {"byte_level", "model.vocab", "{\"a\": 7, \"b\": 7}", KF_ERR_CORRUPT, "two pieces"},
        {"byte_level", "model.vocab", "{\"a\": \"7\"}", KF_ERR_CORRUPT, "no integer"},
        {"byte_level", "model.merges", "7", KF_ERR_CORRUPT, "model.merges"},
        {"byte_level", "model.merges", "[\"ab\"]", KF_ERR_CORRUPT, "merge 0"},
        {"byte_level", "model.merges", "[[\"a\", \"b\", \"c\"]]", KF_ERR_CORRUPT, "merge 0"},
        {"byte_level", "model.merges", "[[\"Q\", \"QQQ\"]]", KF_ERR_CORRUPT, "not in the vocabulary"},
        {"byte_level", "model.end_of_word_suffix", "\"</w>\"", KF_ERR_UNSUPPORTED, "end_of_word_suffix"},
        {"byte_level", "model.dropout", "0.1", KF_ERR_UNSUPPORTED, "dropout"},
        {"byte_level", "model.unk_token", "\"<none>\"", KF_ERR_CORRUPT, "<none>"},
        {"byte_level", "normalizer", "{\"type\": \"NFKC\"}", KF_ERR_UNSUPPORTED, "NFKC"},
        {"byte_level", "normalizer", "{\"type\": \"Lowercase\"}", KF_ERR_UNSUPPORTED, "Lowercase"},
        {"byte_level", "normalizer", "{}", KF_ERR_UNSUPPORTED, "normalizer ?"},
        {"byte_level", "pre_tokenizer", "null", KF_ERR_UNSUPPORTED, "ByteLevel"},
        {"byte_level", "pre_tokenizer", "{\"type\": \"UnicodeScripts\"}", KF_ERR_UNSUPPORTED, "UnicodeScripts"},
        {"byte_level", "pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, {\"type\": \"Digits\"}]}",
         KF_ERR_UNSUPPORTED, "ByteLevel"},
        {"byte_level", "pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
         "\"[a-z&&[^b]]\"}}, "
         "{\"type\": \"ByteLevel\"}]}",
         KF_ERR_UNSUPPORTED, "pattern has &&"},
        {"byte_level", "pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a\"}}, "
         "{\"type\": \"ByteLevel\"}]}",
         KF_ERR_UNSUPPORTED, "pattern, at 2"},
        {"byte_level", "decoder", "{\"type\": \"BPEDecoder\"}", KF_ERR_UNSUPPORTED, "BPEDecoder"},
        {"byte_level", "post_processor", "{\"type\": \"Other\"}", KF_ERR_UNSUPPORTED, "Other"},
        {"byte_level", "post_processor",
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<x>\"}}], \"special_tokens\": "
         "{}}",
         KF_ERR_CORRUPT, "<x>"},
        {"byte_level", "post_processor", "{\"type\": \"BertProcessing\", \"cls\": [\"a\", 77777], \"sep\": [\"b\", 1]}",
         KF_ERR_CORRUPT, "77777"},
        {"byte_level", "added_tokens", "[{\"id\": 5}]", KF_ERR_CORRUPT, "added token"},
        {"byte_level", "added_tokens", "[{\"id\": 9000, \"content\": \"x\", \"rstrip\": true}]", KF_ERR_UNSUPPORTED,
         "rstrip"},
        {"sentencepiece", "decoder", "{\"type\": \"Strip\", \"content\": \" \", \"start\": 2, \"stop\": 0}",
         KF_ERR_UNSUPPORTED, "Strip"},
        {"sentencepiece", "normalizer", "{\"type\": \"NFKC\"}", KF_ERR_UNSUPPORTED, "NFKC"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_changed(cases[i].base, cases[i].key, cases[i].value);
        refuse(cases[i].status, cases[i].words);
    }
    write_file("tokenizer.json", "{\"model\": ");
    refuse(KF_ERR_CORRUPT, "line 1");
    write_file("tokenizer.json", "");
    refuse(KF_ERR_CORRUPT, "tokenizer.json");
}

static void test_template_and_special_tokens(void **state) {
    (void)state;
    write_changed(
        "byte_level", "post_processor",
        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<|bos|>\"}}, {\"Sequence\": "
        "{\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"e\"}}], \"special_tokens\": {\"<|bos|>\": {\"ids\": [0]}, "
        "\"e\": {\"ids\": [1, 1]}}}");
    kf_tokenizer *t = open_folder();
    char with[64];
    snprintf(with, sizeof with, "0 %s 1 1", ids_of(t, "a", KF_SPECIAL_NONE));
    assert_string_equal(ids_of(t, "a", KF_SPECIAL_ADD), with);

    int32_t ids[CAP];
    kf_encoding e = {.cap = CAP, .ids = ids};
    const char *text = "<|bos|>x<|end|>";
    assert_int_equal(kf_tokenizer_encode(t, text, strlen(text), KF_SPECIAL_NONE, &e), KF_OK);
    for (size_t i = 0; i < e.n; i++)
        assert_false(kf_tokenizer_is_special(t, ids[i]));
    char out[64];
    size_t n;
    assert_int_equal(kf_tokenizer_decode(t, ids, e.n, true, out, sizeof out, &n), KF_OK);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(out, text, n);
    assert_int_equal(kf_tokenizer_decode(t, (const int32_t[]){0, 1}, 2, true, out, sizeof out, &n), KF_OK);
    assert_int_equal(n, 0);
    assert_int_equal(kf_tokenizer_decode(t, (const int32_t[]){0, 1}, 2, false, out, sizeof out, &n), KF_OK);
    assert_int_equal(n, strlen("<|bos|><|end|>"));
    kf_tokenizer_close(t);
}

/* Markup that the file adds without calling it special is control in chat templates all the same. */
static void test_markup_is_text(void **state) {
    (void)state;
    write_changed(
        "byte_level", "added_tokens",
        "[{\"id\": 700, \"content\": \"<tool_call>\", \"special\": false}, {\"id\": 701, \"content\": \"  \", "
        "\"special\": false}]");
    kf_tokenizer *t = open_folder();
    assert_null(strstr(ids_of(t, "a<tool_call>b", KF_SPECIAL_NONE), "700"));
    assert_non_null(strstr(ids_of(t, "a  b", KF_SPECIAL_NONE), "701"));
    assert_int_equal(kf_tokenizer_id(t, "<tool_call>"), 700);
    kf_tokenizer_close(t);
}

/* One word of 20,000 bytes, and one text of as many words: both come back whole. */
static void test_long_texts(void **state) {
    (void)state;
    enum { N = 20000 };
    static char text[N], back[N];
    static int32_t ids[N], start[N], end[N];
    const char *const bases[] = {"byte_level", "sentencepiece"};
    for (size_t b = 0; b < 2; b++) {
        write_changed(bases[b], "", "");
        kf_tokenizer *t = open_folder();
        for (size_t k = 0; k < 2; k++) {
            for (size_t i = 0; i < N; i++)
                text[i] = (char)(k && i % 2 ? ' ' : 'a' + i * i % 7);
            kf_encoding e = {.cap = N, .ids = ids, .start = start, .end = end};
            assert_int_equal(kf_tokenizer_encode(t, text, N, KF_SPECIAL_NONE, &e), KF_OK);
            assert_int_equal(e.n, e.n_total);
            assert_int_equal(end[e.n - 1], N);
            size_t n;
            assert_int_equal(kf_tokenizer_decode(t, ids, e.n, true, back, N, &n), KF_OK);
            assert_int_equal(n, N);
            assert_memory_equal(back, text, N);
        }
        kf_tokenizer_close(t);
    }
}

/* ---- one tokenizer, many threads (run under ThreadSanitizer too) ---- */

enum { THREADS = 4, ROUNDS = 300 };

static const char shared_text[] = "我想要 a red cafe\u0301's   123 coat\n\n\n<|end|>";

static int encode_shared(const kf_tokenizer *t, int32_t ids[CAP]) {
    kf_encoding e = {.cap = CAP, .ids = ids};
    return kf_tokenizer_encode(t, shared_text, strlen(shared_text), KF_SPECIAL_ADD, &e) == KF_OK ? (int)e.n : -1;
}

static void *encode_many(void *arg) {
    const kf_tokenizer *t = arg;
    int32_t first[CAP], ids[CAP];
    int n = encode_shared(t, first);
    for (int i = 0; i < ROUNDS; i++)
        if (n <= 0 || encode_shared(t, ids) != n || memcmp(ids, first, (size_t)n * sizeof *ids) != 0) return arg;
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    write_changed("byte_level", "", "");
    kf_tokenizer *t = open_folder();
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many, t), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    kf_tokenizer_close(t);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_vocab_file),     TEST(test_vocab_file_refused), TEST(test_arrays_that_are_too_small),
        TEST(test_broken_utf8),    TEST(test_json_refused),       TEST(test_template_and_special_tokens),
        TEST(test_markup_is_text), TEST(test_long_texts),         TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
