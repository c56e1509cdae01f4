/* What the golden tests of tokenizers share: the corpus, the generator of random texts, a folder of their own, and the
 * hash of encodings. Written by make_tokenizer_golden.py, whose class Random and fnv() these follow. */
#ifndef TESTS_GOLDEN_TOKENIZER_DATA_H
#define TESTS_GOLDEN_TOKENIZER_DATA_H

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

#include "base/file.h"
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

static void shell(const char *command) {
    if (system(command) != 0) fail_msg("failed: %s", command);
}

static char *read_file(const char *path, size_t *n) {
    char *bytes = NULL;
    if (kf_file_read(path, SIZE_MAX, &bytes, n) != KF_OK) fail_msg("%s", kf_error_text());
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

typedef struct tokens {
    int32_t ids[TOKENS_MAX], start[TOKENS_MAX], end[TOKENS_MAX];
    kf_encoding e;
} tokens;

static void encode(const kf_tokenizer *t, const text *x, tokens *out) {
    out->e = (kf_encoding){.cap = TOKENS_MAX, .ids = out->ids, .start = out->start, .end = out->end};
    if (kf_tokenizer_encode(t, x->bytes, x->n, KF_SPECIAL_NONE, &out->e) != KF_OK) fail_msg("%s", kf_error_text());
    assert_int_equal(out->e.n, out->e.n_total);
}

static uint64_t seed;

static uint32_t below(uint32_t n) {
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)((seed * 0x2545F4914F6CDD1Du) >> 33) % n;
}

static void start_random(void) {
    seed = (uint64_t)json_integer_value(json_object_get(data.random, "seed"));
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

#endif
