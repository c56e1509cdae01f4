/* Aim: ids and offsets are those of Hugging Face's tokenizers, on real vocabularies, over texts made to be nasty.
 * Method: tests/golden/make_tokenizer_golden.py has written what its library gives for each text of a corpus
 * (NAME.expected), and hashes of what it gives for a million characters more that script and test both make from one
 * seed (random.json). Special tokens that stand in a text are text.
 */
#include "golden/tokenizer_data.h"

/* Runs a command in the tokenizer's own folder; $DATA is where the test's files are. */
static void shell_in(const char *name, const char *what) {
    char command[1024];
    snprintf(command, sizeof command, "mkdir -p %s/%s && cd %s/%s && DATA='" DATA "' && %s", data.dir, name, data.dir,
             name, what);
    shell(command);
}

/* Opens the tokenizer whose folder the command fills. */
static kf_tokenizer *open_tokenizer(const char *name, const char *lay_out) {
    char dir[128];
    shell_in(name, lay_out);
    snprintf(dir, sizeof dir, "%s/%s", data.dir, name);
    kf_tokenizer *t;
    if (kf_tokenizer_open(dir, &t) != KF_OK) fail_msg("%s: %s", name, kf_error_text());
    return t;
}

/* ---- each text of the corpus, token by token ---- */

static uint32_t varint(const unsigned char **p) {
    uint32_t n = 0;
    for (unsigned shift = 0;; shift += 7) {
        n |= (uint32_t)(**p & 127) << shift;
        if (!(*(*p)++ & 128)) return n;
    }
}

static void check_corpus(const char *name, const kf_tokenizer *t) {
    static tokens got;
    char path[256];
    size_t n_file, n_wrong = 0;
    snprintf(path, sizeof path, "%s%s.expected", DATA, name);
    unsigned char *file = (unsigned char *)read_file(path, &n_file);
    const unsigned char *p = file;
    for (size_t i = 0; i < data.n_texts; i++) {
        encode(t, &data.texts[i], &got);
        size_t n = varint(&p), wrong = n != got.e.n;
        if (wrong) print_error("%s, text %zu: %zu tokens, expected %zu\n", name, i, got.e.n, n);
        int32_t start = 0;
        for (size_t k = 0; k < n; k++) {
            int32_t id = (int32_t)varint(&p);
            uint32_t zigzag = varint(&p);
            start += (int32_t)(zigzag >> 1) ^ -(int32_t)(zigzag & 1);
            int32_t end = start + (int32_t)varint(&p);
            bool same = k < got.e.n && got.ids[k] == id && got.start[k] == start && got.end[k] == end;
            if (!same && !wrong && k < got.e.n)
                print_error("%s, text %zu, token %zu: %d [%d, %d), expected %d [%d, %d)\n", name, i, k, got.ids[k],
                            got.start[k], got.end[k], id, start, end);
            wrong = wrong || !same;
        }
        n_wrong += wrong;
    }
    assert_int_equal(p - file, n_file);
    free(file);
    assert_int_equal(n_wrong, 0);
}

/* ---- every code point, and a million characters from one seed, by hash ---- */

/* Every code point, in the surroundings of the script's around(). */
static void check_every(const char *name, const kf_tokenizer *t) {
    static tokens got;
    enum { BLOCK = 0x2000 };
    json_t *hashes = json_object_get(json_object_get(data.random, "every"), name);
    assert_int_equal(json_array_size(hashes), 0x110000 / BLOCK);
    size_t n_wrong = 0;
    for (uint32_t first = 0; first < 0x110000; first += BLOCK) {
        uint64_t h = 0xCBF29CE484222325u;
        for (uint32_t cp = first; cp < first + BLOCK; cp++) {
            char bytes[16], c[4];
            if (cp >= 0xD800 && cp < 0xE000) continue;
            int n_cp = (int)kf_utf8_put(cp, c);
            text x = {.bytes = bytes, .n = 4 + 2 * (size_t)n_cp};
            memcpy(bytes, "a", 1);
            memcpy(bytes + 1, c, (size_t)n_cp);
            memcpy(bytes + 1 + n_cp, "b ", 2);
            memcpy(bytes + 3 + n_cp, c, (size_t)n_cp);
            memcpy(bytes + 3 + 2 * n_cp, "1", 1);
            h = hash_text(h, t, &x, &got);
        }
        uint64_t want = strtoull(json_string_value(json_array_get(hashes, first / BLOCK)), NULL, 16);
        if (h != want) print_error("%s: some of U+%04X to U+%04X differ\n", name, first, first + BLOCK - 1);
        n_wrong += h != want;
    }
    assert_int_equal(n_wrong, 0);
}

static void check_random(const char *name, const kf_tokenizer *t) {
    static tokens got;
    static char bytes[1 << 16];
    text x = {.bytes = bytes};
    size_t n_texts = (size_t)json_integer_value(json_object_get(data.random, "n_texts"));
    size_t block = (size_t)json_integer_value(json_object_get(data.random, "block")), n_wrong = 0;
    json_t *hashes = json_object_get(json_object_get(data.random, "hashes"), name);
    assert_int_equal(json_array_size(hashes), n_texts / block);
    start_random();
    for (size_t b = 0; b < n_texts / block; b++) {
        uint64_t h = 0xCBF29CE484222325u;
        for (size_t i = 0; i < block; i++) {
            random_text(&x);
            h = hash_text(h, t, &x, &got);
        }
        uint64_t want = strtoull(json_string_value(json_array_get(hashes, b)), NULL, 16);
        if (h != want) print_error("%s: texts %zu to %zu differ\n", name, b * block, (b + 1) * block - 1);
        n_wrong += h != want;
    }
    assert_int_equal(n_wrong, 0);
}

static void check(const char *name, const char *lay_out) {
    kf_tokenizer *t = open_tokenizer(name, lay_out);
    check_corpus(name, t);
    check_every(name, t);
    check_random(name, t);
    kf_tokenizer_close(t);
}

static void test_chinese_wordpiece(void **state) {
    (void)state;
    check("cn-clip", "cp $DATA/cn-clip/vocab.txt .");
}

static void test_chinese_wordpiece_cased(void **state) {
    (void)state;
    check("cn-clip-cased", "cp $DATA/cn-clip/vocab.txt . && echo '{\"do_lower_case\": false}' > tokenizer_config.json");
}

static void test_english_wordpiece(void **state) {
    (void)state;
    check("minilm", "cp $DATA/minilm/vocab.txt .");
}

/* The same vocabulary as a tokenizer.json gives the same. */
static void test_english_wordpiece_json(void **state) {
    (void)state;
    size_t n;
    int64_t id = 0;
    char *pieces = read_file(DATA "minilm/vocab.txt", &n), path[128];
    json_t *vocab = json_object();
    for (char *line = pieces, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        json_object_set_new(vocab, line, json_integer(id++));
    }
    free(pieces);
    json_t *root = json_pack("{s:{s:s, s:b, s:b, s:n, s:b}, s:{s:s}, s:{s:s, s:[s,i], s:[s,i]}, s:{s:s, s:o, s:s}}",
                             "normalizer", "type", "BertNormalizer", "clean_text", 1, "handle_chinese_chars", 1,
                             "strip_accents", "lowercase", 1, "pre_tokenizer", "type", "BertPreTokenizer",
                             "post_processor", "type", "BertProcessing", "sep", "[SEP]", 102, "cls", "[CLS]", 101,
                             "model", "type", "WordPiece", "vocab", vocab, "unk_token", "[UNK]");
    assert_non_null(root);
    shell_in("minilm-json", "true");
    snprintf(path, sizeof path, "%s/minilm-json/tokenizer.json", data.dir);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
    kf_tokenizer *t = open_tokenizer("minilm-json", "true");
    check_corpus("minilm", t);
    int32_t ids[8];
    kf_encoding e = {.cap = 8, .ids = ids};
    assert_int_equal(kf_tokenizer_encode(t, "hello", 5, KF_SPECIAL_ADD, &e), KF_OK);
    assert_int_equal(e.n, 3);
    assert_true(ids[0] == 101 && ids[2] == 102);
    kf_tokenizer_close(t);
}

static void test_gpt2(void **state) {
    (void)state;
    check("gpt2", "cmake -E tar xf $DATA/gpt2.tar.xz");
}

static void test_qwen2_5(void **state) {
    (void)state;
    check("qwen2_5", "cmake -E tar xf $DATA/qwen2_5.tar.xz");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chinese_wordpiece),
        cmocka_unit_test(test_chinese_wordpiece_cased),
        cmocka_unit_test(test_english_wordpiece),
        cmocka_unit_test(test_english_wordpiece_json),
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_qwen2_5),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
