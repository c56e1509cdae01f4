/* The table of metrics, their atomics, and the text format (prometheus.io/docs/instrumenting/exposition_formats). */
#include "observe/metrics.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LABELS = 12, MAX_BUCKETS = 20 };

typedef enum kind { GAUGE, COUNTER, TIME, COUNT } kind;

static const double time_bounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                     0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30,    60};
static const double count_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

enum { N_TIME = sizeof time_bounds / sizeof *time_bounds, N_COUNT = sizeof count_bounds / sizeof *count_bounds };

/* kefu.proto's numbers, and beside each its name. */
enum { INTERNAL = 13 };
static const int codes[] = {0, 1, 3, 4, 5, 8, 12, INTERNAL, 14};
enum { N_CODES = sizeof codes / sizeof *codes };
static const char *const code_names[] = {"OK",
                                         "CANCELLED",
                                         "INVALID_ARGUMENT",
                                         "DEADLINE_EXCEEDED",
                                         "NOT_FOUND",
                                         "RESOURCE_EXHAUSTED",
                                         "UNIMPLEMENTED",
                                         "INTERNAL",
                                         "UNAVAILABLE",
                                         NULL};
static const char *const memory_names[] = {"weights", "kv_cache", "activations", "jobs", NULL};
static const char *const work_names[] = {"encode", "prefill", "decode", NULL};
static const char *const finished_names[] = {"stop", "length", "cancelled", "failed", NULL};
static const char *const handoff_names[] = {"asked", "complaint", "low_confidence", "other", NULL};
static const char *const dropped_names[] = {"no_reply_subject", "unreadable_cancel", NULL};

static const struct metric {
    const char *name;
    kind kind;
    const char *help;
    const char *label; /* NULL: none */
    const char *const *values;
} table[KF_N_METRICS] = {
    [KF_M_RUNNING] = {"kefu_num_requests_running", GAUGE, "Sequences being prefilled or decoded."},
    [KF_M_WAITING] = {"kefu_num_requests_waiting", GAUGE, "Requests in hand that are not running yet."},
    [KF_M_KV_USAGE] = {"kefu_kv_cache_usage_perc", GAUGE, "Share of the KV cache's blocks in use, 0 to 1."},
    [KF_M_OLDEST_AGE] = {"kefu_oldest_request_age_seconds", GAUGE, "Age of the oldest request in hand."},
    [KF_M_DEVICE_AGE] = {"kefu_device_idle_age_seconds", GAUGE, "Time since the device last finished something."},
    [KF_M_RETRY_AFTER] = {"kefu_retry_after_seconds", GAUGE, "What a refused client is told to wait."},
    [KF_M_INTER_TOKEN_MAX] = {"kefu_inter_token_latency_max_seconds", GAUGE,
                              "Longest gap between two tokens of one sequence since the start."},
    [KF_M_MEMORY] = {"kefu_memory_bytes", GAUGE, "The ledger: memory taken at start.", "part", memory_names},
    [KF_M_COST] = {"kefu_cost_ratio", GAUGE, "What work is expected to take, over what was measured at start.", "work",
                   work_names},
    [KF_M_REQUESTS] = {"kefu_requests_total", COUNTER, "Final replies by status code.", "code", code_names},
    [KF_M_RECEIVED] = {"kefu_received_total", COUNTER, "Messages received."},
    [KF_M_INPUT_TOKENS] = {"kefu_encoder_tokens_total", COUNTER, "Tokens understood by the encoder."},
    [KF_M_PROMPT_TOKENS] = {"kefu_prompt_tokens_total", COUNTER, "Tokens prefilled by the decoder."},
    [KF_M_GENERATION_TOKENS] = {"kefu_generation_tokens_total", COUNTER, "Tokens written by the decoder."},
    [KF_M_WASTED_TOKENS] = {"kefu_wasted_tokens_total", COUNTER,
                            "Tokens computed for requests that had ended: stopped, cancelled or late."},
    [KF_M_DEADLINE_MISSES] = {"kefu_deadline_misses_total", COUNTER, "Requests whose deadline passed."},
    [KF_M_PREEMPTIONS] = {"kefu_num_preemptions_total", COUNTER, "Sequences set back because blocks ran out."},
    [KF_M_NON_FINITE] = {"kefu_non_finite_total", COUNTER, "Sequences ended by NaN or Inf in their logits."},
    [KF_M_FINISHED] = {"kefu_request_success_total", COUNTER, "Replies written, by why they ended.", "finished_reason",
                       finished_names},
    [KF_M_HANDOFFS] = {"kefu_handoffs_total", COUNTER, "Requests given to a person.", "reason", handoff_names},
    [KF_M_RECONNECTS] = {"kefu_nats_reconnects_total", COUNTER, "Times the connection to NATS came back."},
    [KF_M_DROPPED] = {"kefu_messages_dropped_total", COUNTER, "Messages that could not be answered.", "reason",
                      dropped_names},
    [KF_M_TTFT] = {"kefu_time_to_first_token_seconds", TIME, "From receipt to the first token of the reply."},
    [KF_M_INTER_TOKEN] = {"kefu_inter_token_latency_seconds", TIME, "Between two tokens of one sequence."},
    [KF_M_E2E] = {"kefu_e2e_request_latency_seconds", TIME, "From receipt to the final reply."},
    [KF_M_QUEUE_TIME] = {"kefu_request_queue_time_seconds", TIME, "From receipt to the encoder's start."},
    [KF_M_ENCODE_TIME] = {"kefu_request_encode_time_seconds", TIME, "In the encoder."},
    [KF_M_PREFILL_TIME] = {"kefu_request_prefill_time_seconds", TIME, "From the decoder's start to the first token."},
    [KF_M_DECODE_TIME] = {"kefu_request_decode_time_seconds", TIME, "From the first token to the last."},
    [KF_M_STEP_TIME] = {"kefu_step_seconds", TIME, "One planned run of the device."},
    [KF_M_INPUT_LENGTH] = {"kefu_request_input_length", COUNT, "Tokens of a message, special ones counted."},
    [KF_M_ENCODE_BATCH_SEQS] = {"kefu_batch_next_size", COUNT, "Messages in an encoder batch."},
    [KF_M_ENCODE_BATCH_TOKENS] = {"kefu_batch_next_tokens", COUNT, "Tokens in an encoder batch."},
    [KF_M_STEP_ROWS] = {"kefu_decode_batch_size", COUNT, "Sequences in a decoder step."},
};

static struct {
    _Atomic uint64_t count[MAX_LABELS]; /* counters; gauges as the bits of a double */
    _Atomic uint64_t bucket[MAX_BUCKETS];
    _Atomic uint64_t sum; /* of samples: nanoseconds or counts */
} values[KF_N_METRICS];

unsigned kf_metric_code_label(int code) {
    for (unsigned i = 0; i < N_CODES; i++)
        if (codes[i] == code) return i;
    return kf_metric_code_label(INTERNAL);
}

void kf_metric_add_label(kf_metric m, unsigned label, uint64_t n) {
    atomic_fetch_add_explicit(&values[m].count[label % MAX_LABELS], n, memory_order_relaxed);
}

void kf_metric_add(kf_metric m, uint64_t n) {
    kf_metric_add_label(m, 0, n);
}

void kf_metric_set_label(kf_metric m, unsigned label, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    atomic_store_explicit(&values[m].count[label % MAX_LABELS], bits, memory_order_relaxed);
}

void kf_metric_set(kf_metric m, double value) {
    kf_metric_set_label(m, 0, value);
}

static size_t bounds_of(kf_metric m, const double **bounds) {
    *bounds = table[m].kind == TIME ? time_bounds : count_bounds;
    return table[m].kind == TIME ? N_TIME : N_COUNT;
}

/* What a sample's unit is worth in the unit that is exported. */
static double unit_of(kf_metric m) {
    return table[m].kind == TIME ? 1e-9 : 1;
}

void kf_metric_observe(kf_metric m, int64_t sample) {
    const double *bounds;
    size_t n = bounds_of(m, &bounds), i = 0;
    if (sample < 0) sample = 0;
    double value = (double)sample * unit_of(m);
    while (i < n && value > bounds[i])
        i++;
    atomic_fetch_add_explicit(&values[m].bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&values[m].sum, (uint64_t)sample, memory_order_relaxed);
}

double kf_metric_read(kf_metric m, unsigned label) {
    if (table[m].kind == TIME || table[m].kind == COUNT) {
        uint64_t n = 0;
        for (size_t i = 0; i < MAX_BUCKETS; i++)
            n += atomic_load_explicit(&values[m].bucket[i], memory_order_relaxed);
        return (double)n;
    }
    uint64_t bits = atomic_load_explicit(&values[m].count[label % MAX_LABELS], memory_order_relaxed);
    if (table[m].kind == COUNTER) return (double)bits;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- the text format ---- */

typedef struct text {
    char *out;
    size_t cap, n; /* n counts what the whole needs, as snprintf does */
} text;

__attribute__((format(printf, 2, 3))) static void put(text *t, const char *fmt, ...) {
    char line[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    size_t bytes = n < 0 ? 0 : (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    if (t->n + bytes <= t->cap) memcpy(t->out + t->n, line, bytes);
    t->n += bytes;
}

static void put_values(text *t, kf_metric m) {
    const struct metric *d = &table[m];
    if (!d->label) {
        put(t, "%s %.17g\n", d->name, kf_metric_read(m, 0));
        return;
    }
    for (unsigned i = 0; d->values[i]; i++)
        put(t, "%s{%s=\"%s\"} %.17g\n", d->name, d->label, d->values[i], kf_metric_read(m, i));
}

static void put_histogram(text *t, kf_metric m) {
    const double *bounds;
    size_t n = bounds_of(m, &bounds);
    uint64_t below = 0;
    for (size_t i = 0; i < n; i++) {
        below += atomic_load_explicit(&values[m].bucket[i], memory_order_relaxed);
        put(t, "%s_bucket{le=\"%g\"} %llu\n", table[m].name, bounds[i], (unsigned long long)below);
    }
    below += atomic_load_explicit(&values[m].bucket[n], memory_order_relaxed);
    put(t, "%s_bucket{le=\"+Inf\"} %llu\n", table[m].name, (unsigned long long)below);
    double sum = (double)atomic_load_explicit(&values[m].sum, memory_order_relaxed) * unit_of(m);
    put(t, "%s_sum %.9g\n%s_count %llu\n", table[m].name, sum, table[m].name, (unsigned long long)below);
}

size_t kf_metrics_write(char *out, size_t cap) {
    static const char *const types[] = {"gauge", "counter", "histogram", "histogram"};
    text t = {.out = out, .cap = cap};
    for (kf_metric m = 0; m < KF_N_METRICS; m++) {
        put(&t, "# HELP %s %s\n", table[m].name, table[m].help);
        put(&t, "# TYPE %s %s\n", table[m].name, types[table[m].kind]);
        if (table[m].kind == TIME || table[m].kind == COUNT) {
            put_histogram(&t, m);
        } else {
            put_values(&t, m);
        }
    }
    return t.n;
}
