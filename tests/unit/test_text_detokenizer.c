/* Aim: a stream of tokens never gives half a character, and all its parts together are what decoding at once gives.
 * Method: random ids, most of whose pieces are single bytes, against both promises after every token; texts there and
 * back; arrays that are too small by any number of bytes.
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

#include "text/tokenizer.h"
#include "text/utf8.h"

enum { N_IDS = 64, TEXT_BYTES = 4096 };

static kf_tokenizer *tokenizer;
static uint64_t seed;

static uint32_t below(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static int set_up(void **state) {
    (void)state;
    char dir[] = "/tmp/kefu-detokenizer-XXXXXX", link[64];
    if (!mkdtemp(dir)) return -1;
    snprintf(link, sizeof link, "%s/tokenizer.json", dir);
    if (symlink(KF_SOURCE_DIR "/tests/golden/tokenizers/small/byte_level.json", link) != 0) return -1;
    kf_status s = kf_tokenizer_open(dir, &tokenizer);
    unlink(link);
    rmdir(dir);
    return s == KF_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    kf_tokenizer_close(tokenizer);
    return 0;
}

static void test_random_ids(void **state) {
    (void)state;
    seed = 1;
    size_t n_replaced = 0;
    for (int round = 0; round < 3000; round++) {
        int32_t ids[N_IDS];
        char whole[TEXT_BYTES], parts[TEXT_BYTES];
        size_t n_ids = below(N_IDS), n_whole, n_parts = 0;
        for (size_t i = 0; i < n_ids; i++) /* some past the end of the vocabulary, and one below it */
            ids[i] = (int32_t)below((uint32_t)kf_tokenizer_vocab_size(tokenizer) + 4) - 1;
        kf_detokenizer d = {0};
        for (size_t i = 0; i < n_ids; i++) {
            assert_int_equal(kf_detokenizer_push(&d, tokenizer, ids[i], parts, sizeof parts, &n_parts), KF_OK);
            assert_true(kf_utf8_valid(parts, n_parts, NULL));
        }
        assert_int_equal(kf_detokenizer_finish(&d, parts, sizeof parts, &n_parts), KF_OK);
        assert_int_equal(kf_tokenizer_decode(tokenizer, ids, n_ids, true, whole, sizeof whole, &n_whole), KF_OK);
        assert_int_equal(n_parts, n_whole);
        assert_memory_equal(parts, whole, n_whole);
        n_replaced += memmem(whole, n_whole, "\xEF\xBF\xBD", 3) != NULL;
    }
    assert_in_range(n_replaced, 500, 3000);
}

static void test_there_and_back(void **state) {
    (void)state;
    const char *const texts[] = {"", "我想要一件红色的羽绒服😂", "👨‍👩‍👧‍👦 a\n\n\n    b",
                                 "\xF4\x8F\xBF\xBF", "é à"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t ids[256];
        char out[TEXT_BYTES];
        size_t n = 0;
        kf_encoding e = {.cap = 256, .ids = ids};
        kf_detokenizer d = {0};
        assert_int_equal(kf_tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), KF_SPECIAL_NONE, &e), KF_OK);
        for (size_t k = 0; k < e.n; k++)
            assert_int_equal(kf_detokenizer_push(&d, tokenizer, ids[k], out, sizeof out, &n), KF_OK);
        assert_int_equal(d.n_held, 0);
        assert_int_equal(n, strlen(texts[i]));
        assert_memory_equal(out, texts[i], n);
    }
}

/* A character whose bytes come one by one appears with its last; a byte that cannot follow gives U+FFFD at once. */
static void test_held_back(void **state) {
    (void)state;
    int32_t e6 = kf_tokenizer_id(tokenizer, "æ"), h88 = kf_tokenizer_id(tokenizer, "Ī"); /* bytes E6, 88 */
    int32_t h91 = kf_tokenizer_id(tokenizer, "ĳ"), a = kf_tokenizer_id(tokenizer, "a");  /* bytes 91, 61 */
    assert_true(e6 >= 0 && h88 >= 0 && h91 >= 0 && a >= 0);
    kf_detokenizer d = {0};
    char out[16];
    size_t n = 0;
    assert_int_equal(kf_detokenizer_push(&d, tokenizer, e6, out, sizeof out, &n), KF_OK);
    assert_int_equal(kf_detokenizer_push(&d, tokenizer, h88, out, sizeof out, &n), KF_OK);
    assert_int_equal(n, 0);
    assert_int_equal(kf_detokenizer_push(&d, tokenizer, h91, out, 2, &n), KF_ERR_TOO_LARGE);
    assert_true(n == 0 && d.n_held == 2); /* nothing was changed */
    assert_int_equal(kf_detokenizer_push(&d, tokenizer, h91, out, 3, &n), KF_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(out, "我", 3);
    assert_int_equal(kf_detokenizer_push(&d, tokenizer, e6, out, sizeof out, &n), KF_OK);
    assert_int_equal(kf_detokenizer_push(&d, tokenizer, a, out, sizeof out, &n), KF_OK);
    assert_int_equal(kf_detokenizer_push(&d, tokenizer, e6, out, sizeof out, &n), KF_OK);
    assert_int_equal(kf_detokenizer_finish(&d, out, n, &n), KF_ERR_TOO_LARGE);
    assert_int_equal(kf_detokenizer_finish(&d, out, sizeof out, &n), KF_OK);
    assert_int_equal(n, 10);
    assert_memory_equal(out,
                        "我\xEF\xBF\xBD"
                        "a\xEF\xBF\xBD",
                        10);
}

static void test_decode_counts_what_does_not_fit(void **state) {
    (void)state;
    int32_t ids[64];
    kf_encoding e = {.cap = 64, .ids = ids};
    const char *text = "红色的羽绒服 coat";
    assert_int_equal(kf_tokenizer_encode(tokenizer, text, strlen(text), KF_SPECIAL_NONE, &e), KF_OK);
    for (size_t cap = 0; cap <= strlen(text) + 1; cap++) {
        char out[64];
        size_t n;
        memset(out, '#', sizeof out);
        kf_status s = kf_tokenizer_decode(tokenizer, ids, e.n, true, out, cap, &n);
        assert_int_equal(s, cap < strlen(text) ? KF_ERR_TOO_LARGE : KF_OK);
        assert_int_equal(n, strlen(text));
        assert_int_equal(out[cap], '#');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_ids),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_held_back),
        cmocka_unit_test(test_decode_counts_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
