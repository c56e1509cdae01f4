/* What the worker counts and says of itself: each request's usage and metrics, the rate that it holds, the gauges that
 * other threads read, and the ledger in the log. The device thread's, but for the ledger, which is logged at start. */
#ifndef KF_SERVE_ACCOUNT_H
#define KF_SERVE_ACCOUNT_H

#include "serve/server_internal.h"

typedef struct kf_account {
    int64_t busy_ns, turned_ns; /* for the rate: time in which the worker was full; when it was last added to */
    double n_ended;             /* jobs ended in it */
    int64_t gauges_ns;          /* when the oldest request was last looked for */
    int64_t longest_gap_ns;     /* between two tokens of a sequence, since the start */
} kf_account;

/* A token was drawn for j. */
void kf_account_token(kf_account *a, kf_job_impl *j, int64_t now_ns);

/* Into j->final.usage, from j's times and counts. */
void kf_account_usage(kf_job_impl *j);

/* j has been answered as its dialogue says; j has ended, whatever the reason. */
void kf_account_answered(const kf_job_impl *j);
void kf_account_ended(kf_account *a, const kf_job_impl *j);

/* Once a turn. full: a further request would have had to wait in it. Sets what a client is told to wait by. */
void kf_account_rate(kf_account *a, kf_server *s, int64_t now_ns, bool full);

/* Once a turn: what kf_server_state_get reads. active: [n_active] job_idx of every job in hand. */
void kf_account_gauges(kf_account *a, kf_server *s, const kf_plan *plan, const uint32_t *active, size_t n_active,
                       int64_t now_ns);

/* At start: where the memory went and what it buys, in the log. */
void kf_account_ledger(const kf_server *s, int64_t ns_per_job);

#endif
