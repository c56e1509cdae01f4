/* Aim: ids and offsets are those of Hugging Face's tokenizers, on real vocabularies, over texts made to be nasty.
 * Method: tests/golden/make_tokenizer_golden.py has written what its library gives for each text of a corpus
 * (NAME.expected), and hashes of what it gives for a million characters more that script and test both make from one
 * seed (random.json). Special tokens that stand in a text are text.
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

#include "text/tokenizer.h"
#include "text/utf8.h"

#define DATA KF_SOURCE_DIR "/tests/golden/tokenizers/"

enum { TEXTS_MAX = 2000, TOKENS_MAX = 4096 };

typedef struct text {
    char *bytes;
    size_t n;
} text;

static struct {
    text texts[TEXTS_MAX];
    size_t n_texts;
    json_t *random;
    char dir[64]; /* where the tokenizers are laid out */
} data;

/* ---- the tokenizers, each in a folder as a user has it ---- */

static void shell(const char *command) {
    if (system(command) != 0) fail_msg("failed: %s", command);
}

/* Unpacks NAME.tar.xz, or takes FOLDER/vocab.txt with the given tokenizer_config.json. */
static kf_tokenizer *open_tokenizer(const char *name, const char *folder, const char *config) {
    char command[512], dir[128];
    snprintf(dir, sizeof dir, "%s/%s", data.dir, name);
    if (folder)
        snprintf(command, sizeof command, "mkdir %s && cp %s%s/vocab.txt %s && echo '%s' > %s/tokenizer_config.json",
                 dir, DATA, folder, dir, config, dir);
    else
        snprintf(command, sizeof command, "mkdir %s && tar -xJf %s%s.tar.xz -C %s", dir, DATA, name, dir);
    shell(command);
    kf_tokenizer *t;
    if (kf_tokenizer_open(dir, &t) != KF_OK) fail_msg("%s: %s", name, kf_error_text());
    return t;
}

/* ---- the corpus ---- */

static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot be read", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*n + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    fclose(f);
    bytes[*n] = 0;
    return bytes;
}

static int set_up(void **state) {
    (void)state;
    size_t n;
    char *bytes = read_file(DATA "corpus.jsonl", &n);
    for (char *line = bytes, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *j = json_loadb(line, (size_t)(end - line), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_true(json_is_string(j) && data.n_texts < TEXTS_MAX);
        text *t = &data.texts[data.n_texts++];
        t->n = json_string_length(j);
        t->bytes = malloc(t->n + 1);
        assert_non_null(t->bytes);
        memcpy(t->bytes, json_string_value(j), t->n + 1);
        json_decref(j);
    }
    free(bytes);
    data.random = json_load_file(DATA "random.json", 0, NULL);
    assert_non_null(data.random);
    strcpy(data.dir, "/tmp/kefu-tokenizers-XXXXXX");
    assert_non_null(mkdtemp(data.dir));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", data.dir);
    shell(command);
    for (size_t i = 0; i < data.n_texts; i++)
        free(data.texts[i].bytes);
    json_decref(data.random);
    return 0;
}

/* ---- each text of the corpus, token by token ---- */

typedef struct tokens {
    int32_t ids[TOKENS_MAX], start[TOKENS_MAX], end[TOKENS_MAX];
    kf_encoding e;
} tokens;

static void encode(const kf_tokenizer *t, const text *x, tokens *out) {
    out->e = (kf_encoding){.cap = TOKENS_MAX, .ids = out->ids, .start = out->start, .end = out->end};
    if (kf_tokenizer_encode(t, x->bytes, x->n, KF_SPECIAL_NONE, &out->e) != KF_OK) fail_msg("%s", kf_error_text());
    assert_int_equal(out->e.n, out->e.n_total);
}

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

/* ---- a million characters from one seed, by hash: the generator of class Random in the script ---- */

static uint64_t seed;

static uint32_t below(uint32_t n) {
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)((seed * 0x2545F4914F6CDD1Du) >> 33) % n;
}

static void random_text(text *x) {
    json_t *ranges = json_object_get(data.random, "ranges");
    x->n = 0;
    for (uint32_t runs = 1 + below(12); runs > 0; runs--) {
        if (below(4) < 3) {
            const text *of = &data.texts[below((uint32_t)data.n_texts)];
            size_t start = below((uint32_t)kf_utf8_length(of->bytes, of->n) + 1), n = below(24);
            size_t from = kf_utf8_offset(of->bytes, of->n, start), to = kf_utf8_offset(of->bytes, of->n, start + n);
            memcpy(x->bytes + x->n, of->bytes + from, to - from);
            x->n += to - from;
        } else {
            json_t *range = json_array_get(ranges, below((uint32_t)json_array_size(ranges)));
            uint32_t first = (uint32_t)json_integer_value(json_array_get(range, 0));
            uint32_t last = (uint32_t)json_integer_value(json_array_get(range, 1));
            for (uint32_t n = 1 + below(6); n > 0; n--)
                x->n += kf_utf8_put(first + below(last - first + 1), x->bytes + x->n);
        }
    }
}

static uint64_t fnv(uint64_t h, const int32_t *n, size_t count) {
    for (size_t i = 0; i < count; i++)
        for (int shift = 0; shift < 32; shift += 8)
            h = (h ^ ((uint32_t)n[i] >> shift & 0xFF)) * 0x100000001B3u;
    return h;
}

static uint64_t hash_text(uint64_t h, const kf_tokenizer *t, const text *x, tokens *got) {
    encode(t, x, got);
    int32_t n = (int32_t)got->e.n;
    return fnv(fnv(fnv(fnv(h, &n, 1), got->ids, got->e.n), got->start, got->e.n), got->end, got->e.n);
}

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
    seed = (uint64_t)json_integer_value(json_object_get(data.random, "seed"));
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

static void check(const char *name, const char *folder, const char *config) {
    kf_tokenizer *t = open_tokenizer(name, folder, config);
    check_corpus(name, t);
    check_every(name, t);
    check_random(name, t);
    kf_tokenizer_close(t);
}

static void test_chinese_wordpiece(void **state) {
    (void)state;
    check("cn-clip", "cn-clip", "{}");
}

static void test_chinese_wordpiece_cased(void **state) {
    (void)state;
    check("cn-clip-cased", "cn-clip", "{\"do_lower_case\": false}");
}

static void test_english_wordpiece(void **state) {
    (void)state;
    check("minilm", "minilm", "{\"do_lower_case\": true}");
}

static void test_gpt2(void **state) {
    (void)state;
    check("gpt2", NULL, NULL);
}

static void test_qwen2_5(void **state) {
    (void)state;
    check("qwen2_5", NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chinese_wordpiece), cmocka_unit_test(test_chinese_wordpiece_cased),
        cmocka_unit_test(test_english_wordpiece), cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_qwen2_5),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
