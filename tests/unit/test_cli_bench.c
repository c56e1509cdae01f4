/* Aim: the quantiles and arrivals of `kefu bench` are right. Method: samples whose ranks are known, arrivals whose mean
 * and spread the exponential distribution gives. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/bench_stats.h"

static void test_quantiles(void **state) {
    (void)state;
    kf_samples s = {0};
    for (int i = 1000; i >= 1; i--)
        assert_int_equal(kf_samples_add(&s, i), KF_OK);
    kf_quantiles q = kf_samples_quantiles(&s);
    assert_true(q.n == 1000 && q.p50 == 500 && q.p90 == 900 && q.p99 == 990 && q.p999 == 999 && q.max == 1000);
    assert_true(fabs(q.mean - 500.5) < 1e-9);
    kf_samples_free(&s);
    q = kf_samples_quantiles(&s);
    assert_true(q.n == 0 && q.max == 0);
    assert_int_equal(kf_samples_add(&s, 7), KF_OK);
    q = kf_samples_quantiles(&s);
    assert_true(q.p50 == 7 && q.p999 == 7);
    kf_samples_free(&s);
}

/* 100,000 gaps at 50 a second: mean 1/50 within 1 % (the standard error is 0.3 %), as much spread as mean, 63.2 % of
 * them shorter than the mean; the same seed gives the same arrivals. */
static void test_poisson(void **state) {
    (void)state;
    enum { N = 100000 };
    uint64_t seed = 1, same = 1;
    double sum = 0, squares = 0;
    int n_short = 0;
    for (int i = 0; i < N; i++) {
        double gap = kf_poisson_gap(&seed, 50);
        assert_true(gap > 0 && gap == kf_poisson_gap(&same, 50));
        sum += gap;
        squares += gap * gap;
        n_short += gap < 0.02;
    }
    double mean = sum / N, std = sqrt(squares / N - mean * mean);
    assert_true(fabs(mean - 0.02) < 0.0002);
    assert_true(fabs(std - 0.02) < 0.0005);
    assert_true(fabs((double)n_short / N - 0.6321) < 0.01);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quantiles), cmocka_unit_test(test_poisson)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
