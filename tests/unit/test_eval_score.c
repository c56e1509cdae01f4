/* Aim: the figures of `kefu eval` are what the textbook says. Method: small cases counted by hand, one for every rule
 * (also, spans, 一件 and 一/件), Wilson's interval against published values, and a bootstrap whose answer is known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cli/eval_score.h"

static kf_scores scores_of(kf_tally *t) {
    kf_scores s;
    assert_int_equal(kf_tally_scores(t, &s), KF_OK);
    return s;
}

static const kf_label_score *find(const kf_scores *s, const char *label) {
    for (size_t i = 0; i < s->n_labels; i++)
        if (strcmp(s->labels[i].label, label) == 0) return &s->labels[i];
    fail_msg("no label %s", label);
    return NULL;
}

/* Newcombe 1998, table I: 81 of 263 and 1 of 29 by Wilson's method; and the two ends. */
static void test_wilson(void **state) {
    (void)state;
    kf_estimate e = kf_wilson(81, 263);
    assert_true(fabs(e.lo - 0.2553) < 1e-4 && fabs(e.hi - 0.3662) < 1e-4);
    e = kf_wilson(1, 29);
    assert_true(fabs(e.lo - 0.0061) < 1e-4 && fabs(e.hi - 0.1718) < 1e-4);
    e = kf_wilson(20, 20);
    assert_true(e.value == 1 && e.hi == 1 && e.lo > 0.8 && e.lo < 0.9);
    e = kf_wilson(0, 0);
    assert_true(e.lo == 0 && e.hi == 1);
}

/* Five messages: a→a, a→b, b→b, b→a although also [a], c→a. */
static void test_class_counts(void **state) {
    (void)state;
    kf_tally t;
    kf_tally_init(&t);
    const char *also[] = {"x", "a"};
    assert_int_equal(kf_score_class(&t, "a", NULL, 0, "a"), KF_OK);
    assert_int_equal(kf_score_class(&t, "a", NULL, 0, "b"), KF_OK);
    assert_int_equal(kf_score_class(&t, "b", NULL, 0, "b"), KF_OK);
    assert_int_equal(kf_score_class(&t, "b", also, 2, "a"), KF_OK);
    assert_int_equal(kf_score_class(&t, "c", NULL, 0, "a"), KF_OK);
    kf_scores s = scores_of(&t);
    assert_int_equal(s.n_rows, 5);
    assert_true(fabs(s.row_accuracy.value - 0.6) < 1e-12);
    const kf_label_score *a = find(&s, "a"), *b = find(&s, "b"), *c = find(&s, "c");
    assert_int_equal(a->n_hits, 2); /* its own, and the one that b counts as right too */
    assert_int_equal(a->n_gold, 3);
    assert_int_equal(a->n_said, 3);
    assert_true(fabs(a->f1.value - 2.0 / 3) < 1e-12);
    assert_true(fabs(b->f1.value - 2.0 / 3) < 1e-12); /* 1 hit, said twice, once in the gold */
    assert_true(c->f1.value == 0 && c->n_gold == 1 && c->n_said == 0);
    assert_true(fabs(s.macro_f1.value - (2.0 / 3 + 2.0 / 3 + 0) / 3) < 1e-12);
    free(s.labels);

    kf_confusion *list;
    size_t n;
    assert_int_equal(kf_tally_confusions(&t, &list, &n), KF_OK);
    assert_int_equal(n, 2);
    assert_string_equal(t.labels[list[0].gold], "a");
    assert_string_equal(t.labels[list[0].said], "b");
    assert_string_equal(t.labels[list[1].gold], "c");
    assert_string_equal(t.labels[list[1].said], "a");
    free(list);
    kf_tally_free(&t);
}

/* 400 messages, 300 right: the bootstrap's interval of micro F1 must be near the normal approximation,
 * 0.75 ± 1.96 sqrt(0.75 · 0.25 / 400) = 0.75 ± 0.0424, and the same again on the second run. */
static void test_bootstrap(void **state) {
    (void)state;
    kf_tally t;
    kf_tally_init(&t);
    for (int i = 0; i < 400; i++)
        assert_int_equal(kf_score_class(&t, "a", NULL, 0, i % 4 ? "a" : "b"), KF_OK);
    kf_scores s = scores_of(&t), again = scores_of(&t);
    assert_true(fabs(s.micro_f1.value - 0.75) < 1e-12);
    assert_true(fabs(s.micro_f1.lo - 0.7076) < 0.01 && fabs(s.micro_f1.hi - 0.7924) < 0.01);
    assert_true(s.micro_f1.lo == again.micro_f1.lo && s.micro_f1.hi == again.micro_f1.hi);
    free(s.labels);
    free(again.labels);
    kf_tally_free(&t);
}

static void test_empty(void **state) {
    (void)state;
    kf_tally t;
    kf_tally_init(&t);
    kf_scores s = scores_of(&t);
    assert_true(s.n_rows == 0 && s.micro_f1.value == 0);
    free(s.labels);
    kf_tally_free(&t);
}

/* Right only where start, end and type are all equal; equal spans are matched one to one. */
static void test_spans(void **state) {
    (void)state;
    kf_tally t;
    kf_tally_init(&t);
    const kf_eval_span gold[] = {{5, 7, "attribute"}, {8, 11, "product"}, {0, 1, "person"}};
    const kf_eval_span said[] = {{8, 11, "product"}, {5, 8, "attribute"}, {0, 1, "brand"}, {8, 11, "product"}};
    assert_int_equal(kf_score_spans(&t, gold, 3, said, 4), KF_OK);
    assert_int_equal(kf_score_spans(&t, NULL, 0, NULL, 0), KF_OK);
    kf_scores s = scores_of(&t);
    assert_int_equal(find(&s, "product")->n_hits, 1);
    assert_int_equal(find(&s, "product")->n_said, 2);
    assert_int_equal(find(&s, "attribute")->n_hits, 0);
    assert_true(fabs(s.micro_f1.value - 2.0 * 1 / (3 + 4)) < 1e-12);
    assert_true(s.row_accuracy.value == 0.5); /* the message without entities is right */
    free(s.labels);
    kf_tally_free(&t);
}

/* Hits, misses and falses of words, and hits of tags, for one message. */
static void check_words(const kf_eval_span *gold, size_t n_gold, const kf_eval_span *said, size_t n_said,
                        uint64_t n_hits, uint64_t n_tag_hits) {
    kf_word_tallies t = {0};
    assert_int_equal(kf_score_words(&t, true, gold, n_gold, said, n_said), KF_OK);
    kf_scores cuts = scores_of(&t.cuts), tagged = scores_of(&t.tagged), tags = scores_of(&t.tags);
    assert_int_equal(cuts.labels[0].n_hits, n_hits);
    assert_int_equal(tagged.labels[0].n_hits, n_tag_hits);
    assert_int_equal(cuts.labels[0].n_gold, n_gold);
    uint64_t hits = 0, judged = 0;
    for (size_t i = 0; i < tags.n_labels; i++) {
        hits += tags.labels[i].n_hits;
        judged += tags.labels[i].n_gold;
    }
    assert_int_equal(hits, n_tag_hits);
    assert_int_equal(judged, n_hits);
    free(cuts.labels);
    free(tagged.labels);
    free(tags.labels);
    kf_word_tallies_free(&t);
}

static void test_words(void **state) {
    (void)state;
    const kf_eval_span gold[] = {{0, 1, "r"}, {1, 3, "v"}, {3, 4, "m"}, {4, 5, "q"}, {5, 7, "n"}};
    const kf_eval_span joined[] = {{0, 1, "r"}, {1, 3, "v"}, {3, 5, "m"}, {5, 7, "a"}};
    const kf_eval_span wrong[] = {{0, 1, "r"}, {1, 2, "v"}, {2, 3, "v"}, {3, 5, "n"}, {5, 7, "n"}};
    check_words(gold, 5, gold, 5, 5, 5);
    check_words(gold, 5, joined, 4, 5, 4); /* 一件 for 一/件: both words right, and their tags */
    check_words(joined, 4, gold, 5, 4, 3); /* and the reverse: n for a is the only fault */
    check_words(gold, 5, wrong, 5, 4, 2);  /* 一件 as a noun: cut right, tagged wrong */
    const kf_eval_span not_a_measure[] = {{3, 4, "m"}, {4, 5, "n"}}, one[] = {{3, 5, "m"}};
    check_words(not_a_measure, 2, one, 1, 0, 0); /* 二 + noun is no measure: joining it is a fault */
    check_words(gold, 5, NULL, 0, 0, 0);
}

static void test_too_many_labels(void **state) {
    (void)state;
    kf_tally t;
    kf_tally_init(&t);
    uint32_t label;
    char name[16];
    for (int i = 0; i < 1024; i++) {
        snprintf(name, sizeof name, "l%d", i);
        assert_int_equal(kf_tally_label(&t, name, &label), KF_OK);
    }
    assert_int_equal(kf_tally_label(&t, "one more", &label), KF_ERR_TOO_LARGE);
    assert_int_equal(kf_tally_label(&t, "l7", &label), KF_OK);
    assert_int_equal(label, 7);
    kf_tally_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wilson),          cmocka_unit_test(test_class_counts), cmocka_unit_test(test_bootstrap),
        cmocka_unit_test(test_empty),           cmocka_unit_test(test_spans),        cmocka_unit_test(test_words),
        cmocka_unit_test(test_too_many_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
