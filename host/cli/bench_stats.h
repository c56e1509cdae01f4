/* The arithmetic of a load test: when requests are due, what their times come to. Pure; times are seconds.
 *
 * Quantiles are exact (nearest rank over all samples), not of a histogram. An open loop's latency counts from the
 * moment a request was due, not from when it could be sent: a stalled worker must not hide the requests that waited
 * for it ("coordinated omission", Tene 2013).
 */
#ifndef KF_CLI_BENCH_STATS_H
#define KF_CLI_BENCH_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct kf_samples {
    double *values; /* [n] */
    size_t n, cap;
} kf_samples;

/* KF_ERR_NO_MEMORY. */
kf_status kf_samples_add(kf_samples *s, double value);
void kf_samples_free(kf_samples *s);

typedef struct kf_quantiles {
    size_t n;
    double mean, p50, p90, p99, p999, max; /* all 0 where n is 0 */
} kf_quantiles;

/* Sorts the samples. */
kf_quantiles kf_samples_quantiles(kf_samples *s);

/* Seconds to the next arrival of a Poisson process of `rate` a second. *state: the seed at first, any number. */
double kf_poisson_gap(uint64_t *state, double rate);

#endif
