/* The worker's metrics in Prometheus' text format, in the shapes of vLLM's and TEI's: kefu_…, buckets from 100 µs.
 *
 *     kf_metric_add(KF_M_GENERATION_TOKENS, 1);
 *     kf_metric_observe(KF_M_TTFT, ns);                 // nanoseconds in, seconds out
 *     kf_metric_add_label(KF_M_REQUESTS, code_idx, 1);
 *     kf_metric_set(KF_M_RUNNING, n);
 *     n = kf_metrics_write(buffer, sizeof buffer);
 *
 * One set a process, since a process is one worker. Updates are relaxed atomics: any thread, no lock, no allocation.
 */
#ifndef KF_OBSERVE_METRICS_H
#define KF_OBSERVE_METRICS_H

#include <stddef.h>
#include <stdint.h>

typedef enum kf_metric {
    /* gauges */
    KF_M_RUNNING,
    KF_M_WAITING,
    KF_M_KV_USAGE,
    KF_M_OLDEST_AGE,
    KF_M_DEVICE_AGE,
    KF_M_RETRY_AFTER,
    KF_M_INTER_TOKEN_MAX,
    KF_M_MEMORY, /* by part of the ledger: kf_memory_label */
    KF_M_COST,   /* by kind of work: kf_work_label */
    /* counters */
    KF_M_REQUESTS, /* by code: kf_metric_code_label */
    KF_M_RECEIVED,
    KF_M_INPUT_TOKENS,
    KF_M_PROMPT_TOKENS,
    KF_M_GENERATION_TOKENS,
    KF_M_WASTED_TOKENS,
    KF_M_DEADLINE_MISSES,
    KF_M_PREEMPTIONS,
    KF_M_NON_FINITE,
    KF_M_FINISHED, /* by finish reason */
    KF_M_HANDOFFS, /* by reason */
    KF_M_RECONNECTS,
    KF_M_DROPPED, /* messages that nobody hears of, by reason */
    /* histograms of time */
    KF_M_TTFT,
    KF_M_INTER_TOKEN,
    KF_M_E2E,
    KF_M_QUEUE_TIME,
    KF_M_ENCODE_TIME,
    KF_M_PREFILL_TIME,
    KF_M_DECODE_TIME,
    KF_M_STEP_TIME,
    /* histograms of counts */
    KF_M_INPUT_LENGTH,
    KF_M_ENCODE_BATCH_SEQS,
    KF_M_ENCODE_BATCH_TOKENS,
    KF_M_STEP_ROWS,
    KF_N_METRICS
} kf_metric;

/* Label values, in the order of their index. */
typedef enum kf_memory_label { KF_MEM_WEIGHTS, KF_MEM_KV_CACHE, KF_MEM_ACTIVATIONS, KF_MEM_JOBS } kf_memory_label;
typedef enum kf_work_label { KF_WK_ENCODE, KF_WK_PREFILL, KF_WK_DECODE } kf_work_label;
typedef enum kf_finished_label { KF_FIN_STOP, KF_FIN_LENGTH, KF_FIN_CANCELLED, KF_FIN_FAILED } kf_finished_label;
typedef enum kf_handoff_label { KF_HO_ASKED, KF_HO_COMPLAINT, KF_HO_LOW_CONFIDENCE, KF_HO_OTHER } kf_handoff_label;

typedef enum kf_dropped_label {
    KF_DROP_NO_REPLY_SUBJECT, /* or one of kilobytes */
    KF_DROP_UNREADABLE_CANCEL,
    KF_N_DROPPED
} kf_dropped_label;

/* The label index of a client's code (kefu.proto's numbers). */
unsigned kf_metric_code_label(int code);

void kf_metric_add(kf_metric m, uint64_t n);
void kf_metric_add_label(kf_metric m, unsigned label, uint64_t n);
void kf_metric_set(kf_metric m, double value);
void kf_metric_set_label(kf_metric m, unsigned label, double value);

/* A histogram's sample: nanoseconds for those of time, a count for the others. Negative samples count as 0. */
void kf_metric_observe(kf_metric m, int64_t sample);

/* Writes all metrics to out, at most cap bytes, and returns how many bytes they are; more than cap: nothing was cut
 * into half a line, call again with as much. No NUL. */
size_t kf_metrics_write(char *out, size_t cap);

/* A counter's or gauge's present value, a histogram's number of samples; for tests and service statistics. */
double kf_metric_read(kf_metric m, unsigned label);

#endif
