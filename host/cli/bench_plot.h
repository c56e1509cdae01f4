/* A load test as a picture: how long answers took, and how many came when. */
#ifndef KF_CLI_BENCH_PLOT_H
#define KF_CLI_BENCH_PLOT_H

#include "cli/bench_load.h"

enum { KF_PLOT_POINTS = 200, KF_PLOT_BINS = 60 };

/* Left: the share of replies within a time, for ttft, tpot and total, through at most KF_PLOT_POINTS quantiles each.
 * Right: OK replies a second by when they came, in KF_PLOT_BINS bars. Sorts the samples. KF_ERR_IO. */
kf_status kf_bench_plot(const char *path, kf_load_result *r);

#endif
