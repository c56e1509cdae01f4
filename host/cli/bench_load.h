/* Requests at a worker, many outstanding, over one connection.
 *
 * Closed loop: `outstanding` clients, each of which asks again as soon as it has its answer. Open loop: requests are
 * due at the times of a Poisson process of `rate` a second, whatever the worker does; their latency counts from when
 * they were due. A request that is due while `outstanding` are unanswered is not sent, and counted.
 */
#ifndef KF_CLI_BENCH_LOAD_H
#define KF_CLI_BENCH_LOAD_H

#include <signal.h>

#include "cli/bench_mix.h"
#include "cli/bench_stats.h"
#include "kefu.pb-c.h"
#include "transport/connect.h"

typedef struct kf_load_opts {
    const kf_nats_opts *nats;
    const Kefu__V1__Request *request; /* what every request has in common; id and text are filled in */
    const char *lane;
    const kf_mix *mix;
    size_t outstanding;
    double rate;                       /* 0: closed loop */
    uint64_t n_requests;               /* ends after so many, or */
    double duration_s;                 /* after so long; 0 each: no such limit. The first to come counts */
    double timeout_s;                  /* without a final for so long, a request is given up */
    double slo_s;                      /* an OK within it is good; 0: none stated */
    uint64_t seed;                     /* of the arrivals */
    const volatile sig_atomic_t *stop; /* becomes 1: send no more, wait for what is outstanding */
    bool progress;                     /* show a line on a terminal */
} kf_load_opts;

enum { KF_LOAD_CODES = 17 }; /* gRPC's codes 0 … 16 */

typedef struct kf_load_result {
    uint64_t n_sent, n_ok, n_good, n_timed_out, n_no_worker, n_not_sent, n_bad; /* n_bad: no Response */
    uint64_t by_code[KF_LOAD_CODES];
    uint64_t n_tokens;            /* of replies that were OK */
    double seconds;               /* from the first request to the last answer */
    kf_samples total, ttft, tpot; /* seconds, of replies that were OK; the caller frees them */
    kf_samples done;              /* when each of these came, seconds from the first request on */
} kf_load_result;

/* KF_ERR_IO: no connection; KF_ERR_NO_MEMORY. A worker's refusals are results. */
kf_status kf_load_run(const kf_load_opts *o, kf_load_result *out);
void kf_load_result_free(kf_load_result *r);

#endif
