/* Samples, quantiles, arrivals. Test: tests/unit/test_cli_bench.c. */
#include "cli/bench_stats.h"

#include <math.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/sort.h"

kf_status kf_samples_add(kf_samples *s, double value) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 1024;
        double *grown = realloc(s->values, cap * sizeof *grown);
        if (!grown) return KF_FAIL(KF_ERR_NO_MEMORY, "bench: no memory for %zu samples", cap);
        s->values = grown;
        s->cap = cap;
    }
    s->values[s->n++] = value;
    return KF_OK;
}

void kf_samples_free(kf_samples *s) {
    free(s->values);
    *s = (kf_samples){0};
}

/* Nearest rank: the smallest value that at least q of the sorted samples do not exceed. */
static double quantile(const kf_samples *s, double q) {
    size_t rank = (size_t)ceil(q * (double)s->n - 1e-9);
    return s->values[rank ? rank - 1 : 0];
}

kf_quantiles kf_samples_quantiles(kf_samples *s) {
    if (s->n == 0) return (kf_quantiles){0};
    double sum = 0;
    kf_sort_f64(s->values, s->n);
    for (size_t i = 0; i < s->n; i++)
        sum += s->values[i];
    return (kf_quantiles){.n = s->n,
                          .mean = sum / (double)s->n,
                          .p50 = quantile(s, 0.5),
                          .p90 = quantile(s, 0.9),
                          .p99 = quantile(s, 0.99),
                          .p999 = quantile(s, 0.999),
                          .max = s->values[s->n - 1]};
}

double kf_poisson_gap(uint64_t *state, double rate) {
    double u = ((double)(kf_random_next(state) >> 11) + 0.5) * 0x1p-53; /* in (0, 1) */
    return -log(u) / rate;
}
