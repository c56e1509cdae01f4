/* Aim: spans are those of the best legal path of labels, and their scores are what the header says.
 * Method: small random cases, drawn from a seed, against all paths one by one; and a few that are read by eye.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "text/spans.h"

enum { TOKENS = 5, LABELS = 6 };

static const char *const labels[LABELS] = {"I-b", "O", "B-a", "I-a", "B-b", "B-c"};
static uint64_t seed;

static uint32_t below(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static bool legal(const int *path, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *now = labels[path[i]];
        if (now[0] != 'I') continue;
        if (i == 0 || labels[path[i - 1]][0] == 'O' || strcmp(labels[path[i - 1]] + 2, now + 2) != 0) return false;
    }
    return true;
}

/* The best of all legal paths, in out. Logits are drawn so that no two paths are equal. */
static void best_path(const float *logits, size_t n, int *out) {
    double best = -INFINITY;
    int path[TOKENS] = {0};
    size_t n_paths = (size_t)pow(LABELS, (double)n);
    for (size_t k = 0; k < n_paths; k++) {
        double score = 0;
        for (size_t i = 0, rest = k; i < n; i++, rest /= LABELS) {
            path[i] = (int)(rest % LABELS);
            score += logits[i * LABELS + (size_t)path[i]];
        }
        if (!legal(path, n) || score <= best) continue;
        best = score;
        memcpy(out, path, sizeof path);
    }
    assert_true(best > -INFINITY);
}

static void test_against_all_paths(void **state) {
    (void)state;
    kf_tag_set tags;
    assert_int_equal(kf_tag_set_init(&tags, labels, LABELS), KF_OK);
    int32_t start[TOKENS], end[TOKENS];
    for (int32_t i = 0; i < TOKENS; i++) {
        start[i] = 3 * i;
        end[i] = 3 * i + 2;
    }
    seed = 1;
    for (int round = 0; round < 400; round++) {
        size_t n_tokens = 1 + below(TOKENS), n, at = 0;
        float logits[TOKENS * LABELS];
        for (size_t i = 0; i < n_tokens * LABELS; i++)
            logits[i] = (float)below(1u << 20) / (1 << 17) - 4;
        int path[TOKENS];
        best_path(logits, n_tokens, path);

        kf_span spans[TOKENS];
        unsigned char scratch[TOKENS * LABELS + TOKENS];
        assert_true(kf_spans_scratch_bytes(&tags, n_tokens) <= sizeof scratch);
        kf_span_input in = {logits, n_tokens, start, end};
        assert_int_equal(kf_spans_find(&tags, &in, scratch, spans, TOKENS, &n), KF_OK);
        for (size_t i = 0; i < n_tokens; i++) {
            const char *label = labels[path[i]];
            if (label[0] == 'O') continue;
            if (label[0] == 'B') {
                assert_true(at < n);
                assert_int_equal(spans[at].first_token, i);
                assert_string_equal(spans[at].type, label + 2);
                assert_int_equal(spans[at++].start, start[i]);
            }
            if (i + 1 == n_tokens || labels[path[i + 1]][0] != 'I') {
                assert_int_equal(spans[at - 1].last_token, i);
                assert_int_equal(spans[at - 1].end, end[i]);
            }
        }
        assert_int_equal(at, n);
    }
}

static void test_score_is_the_mean_probability(void **state) {
    (void)state;
    const char *const two[] = {"O", "B-x", "I-x"};
    kf_tag_set tags;
    assert_int_equal(kf_tag_set_init(&tags, two, 3), KF_OK);
    /* e^0 : e^ln2 : e^0 = 1 : 2 : 1, then 1 : 1 : 6 */
    float logits[] = {0, logf(2), 0, 0, 0, logf(6)};
    int32_t start[] = {0, 1}, end[] = {1, 2};
    kf_span span;
    unsigned char scratch[8];
    size_t n;
    assert_int_equal(kf_spans_find(&tags, &(kf_span_input){logits, 2, start, end}, scratch, &span, 1, &n), KF_OK);
    assert_int_equal(n, 1);
    assert_float_equal(span.score, (0.5 + 0.75) / 2, 1e-6);
}

static void test_not_a_number_and_infinity(void **state) {
    (void)state;
    kf_tag_set tags;
    assert_int_equal(kf_tag_set_init(&tags, labels, LABELS), KF_OK);
    float logits[TOKENS * LABELS];
    const float odd[] = {NAN, INFINITY, -INFINITY, 0};
    int32_t place[TOKENS] = {0, 1, 2, 3, 4};
    seed = 2;
    for (int round = 0; round < 2000; round++) {
        for (size_t i = 0; i < TOKENS * LABELS; i++)
            logits[i] = odd[below(4)];
        kf_span spans[TOKENS];
        unsigned char scratch[TOKENS * LABELS + TOKENS];
        size_t n;
        kf_span_input in = {logits, TOKENS, place, place};
        assert_int_equal(kf_spans_find(&tags, &in, scratch, spans, TOKENS, &n), KF_OK);
        for (size_t i = 0; i < n; i++)
            assert_true(spans[i].score >= 0 && spans[i].score <= 1);
    }
}

static void test_limits(void **state) {
    (void)state;
    const char *const words[] = {"B-n", "I-n"};
    kf_tag_set tags;
    assert_int_equal(kf_tag_set_init(&tags, words, 2), KF_OK);
    float logits[] = {1, 0, 1, 0, 1, 0};
    int32_t place[] = {0, 1, 2};
    kf_span spans[3] = {{.type = NULL}, {.type = NULL}, {.type = NULL}};
    unsigned char scratch[16];
    size_t n;
    assert_int_equal(kf_spans_find(&tags, &(kf_span_input){logits, 3, place, place}, scratch, spans, 2, &n),
                     KF_ERR_TOO_LARGE);
    assert_int_equal(n, 3);
    assert_string_equal(spans[1].type, "n");
    assert_null(spans[2].type);
    assert_int_equal(kf_spans_find(&tags, &(kf_span_input){logits, 0, place, place}, scratch, spans, 2, &n), KF_OK);
    assert_int_equal(n, 0);
}

static void test_labels_refused(void **state) {
    (void)state;
    kf_tag_set tags;
    const char *const bad[][2] = {{"O", "X-a"}, {"O", "I-a"}, {"B-a", "B-a"}, {"O", "B-"}, {"O", ""}, {"O", "b-a"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(kf_tag_set_init(&tags, bad[i], 2), KF_ERR_UNSUPPORTED);
    assert_int_equal(kf_tag_set_init(&tags, bad[0], 0), KF_ERR_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_all_paths),
        cmocka_unit_test(test_score_is_the_mean_probability),
        cmocka_unit_test(test_not_a_number_and_infinity),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_labels_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
