/* The accounts of account.h. */
#include "serve/account.h"

#include "base/clock.h"
#include "base/log.h"
#include "observe/metrics.h"

#define GAUGES_NS INT64_C(20000000)

/* The rate is measured over at least so many requests; their weight is halved when there are more. */
enum { RATE_JOBS_MIN = 64, RATE_JOBS_MAX = 512 };

/* ---- one request ---- */

void kf_account_token(kf_account *a, kf_job_impl *j, int64_t now_ns) {
    kf_job_times *t = &j->times;
    kf_metric_add(KF_M_GENERATION_TOKENS, 1);
    if (!t->first_token_ns) {
        t->first_token_ns = now_ns;
        kf_metric_observe(KF_M_TTFT, now_ns - j->job.origin.received_ns);
        kf_metric_observe(KF_M_PREFILL_TIME, now_ns - t->prefill_ns);
    } else {
        int64_t gap = now_ns - t->last_token_ns;
        kf_metric_observe(KF_M_INTER_TOKEN, gap);
        if (gap > a->longest_gap_ns) {
            a->longest_gap_ns = gap;
            kf_metric_set(KF_M_INTER_TOKEN_MAX, (double)gap / 1e9);
        }
    }
    t->last_token_ns = now_ns;
}

void kf_account_usage(kf_job_impl *j) {
    const kf_job_times *t = &j->times;
    kf_usage *u = &j->final.usage;
    int64_t begun = t->encode_ns ? t->encode_ns : kf_clock_now_ns();
    u->prompt_tokens = (uint32_t)j->n_prompt;
    u->completion_tokens = (uint32_t)j->n_written;
    u->queue_us = (begun - j->job.origin.received_ns) / 1000;
    if (t->encoded_ns) u->encode_us = (t->encoded_ns - t->encode_ns) / 1000;
    if (t->first_token_ns) u->prefill_us = (t->first_token_ns - t->prefill_ns) / 1000;
    if (t->first_token_ns) u->decode_us = (t->last_token_ns - t->first_token_ns) / 1000;
}

static const kf_handoff_label handoff_labels[KF_N_HANDOFFS] = {
    [KF_HANDOFF_NONE] = KF_HO_OTHER, /* not counted */
    [KF_HANDOFF_ASKED] = KF_HO_ASKED,
    [KF_HANDOFF_COMPLAINT] = KF_HO_COMPLAINT,
    [KF_HANDOFF_LOW_CONFIDENCE] = KF_HO_LOW_CONFIDENCE,
    [KF_HANDOFF_NO_REPLY] = KF_HO_OTHER,
    [KF_HANDOFF_NO_DECODER] = KF_HO_OTHER,
    [KF_HANDOFF_AGENT_HAS_IT] = KF_HO_OTHER,
    [KF_HANDOFF_OTHER] = KF_HO_OTHER,
};

static kf_finished_label finished_label(kf_finish finish) {
    switch (finish) {
    case KF_FINISH_LENGTH: return KF_FIN_LENGTH;
    case KF_FINISH_CANCELLED: return KF_FIN_CANCELLED;
    case KF_FINISH_FAILED: return KF_FIN_FAILED;
    default: return KF_FIN_STOP;
    }
}

void kf_account_answered(const kf_job_impl *j) {
    const kf_dialogue *d = &j->dialogue;
    if (d->handoff.reason) kf_metric_add_label(KF_M_HANDOFFS, handoff_labels[d->handoff.reason], 1);
    if (j->job.request.want == KF_WANT_REPLY) kf_metric_add_label(KF_M_FINISHED, finished_label(d->finish), 1);
}

void kf_account_ended(kf_account *a, const kf_job_impl *j) {
    a->n_ended++;
    kf_metric_observe(KF_M_E2E, kf_clock_now_ns() - j->job.origin.received_ns);
}

/* ---- the worker ---- */

/* Time a job takes of a full worker; until one has been full for a while, what was measured at start stands. */
void kf_account_rate(kf_account *a, kf_server *s, int64_t now_ns, bool full) {
    if (full) {
        a->busy_ns += now_ns - a->turned_ns;
    } else {
        a->n_ended = 0;
        a->busy_ns = 0;
    }
    a->turned_ns = now_ns;
    if (a->n_ended < RATE_JOBS_MIN) return;
    atomic_store_explicit(&s->gauges.ns_per_job, (int64_t)((double)a->busy_ns / a->n_ended) + 1, memory_order_relaxed);
    if (a->n_ended < RATE_JOBS_MAX) return;
    a->n_ended /= 2;
    a->busy_ns /= 2;
}

static double ratio(const kf_cost_curve *c) {
    return 1 + (double)c->slower / KF_COST_ONE;
}

void kf_account_gauges(kf_account *a, kf_server *s, const kf_plan *plan, const uint32_t *active, size_t n_active,
                       int64_t now_ns) {
    kf_server_gauges *g = &s->gauges;
    size_t used = s->models.decoder ? s->limits.n_blocks - plan->n_free_blocks : 0;
    atomic_store_explicit(&g->n_running, plan->n_running, memory_order_relaxed);
    atomic_store_explicit(&g->n_waiting, n_active - plan->n_running, memory_order_relaxed);
    atomic_store_explicit(&g->n_blocks_used, used, memory_order_relaxed);
    if (n_active && now_ns - a->gauges_ns < GAUGES_NS) return;
    a->gauges_ns = now_ns;
    kf_metric_set_label(KF_M_COST, KF_WK_ENCODE, ratio(&plan->cost.layer));
    kf_metric_set_label(KF_M_COST, KF_WK_PREFILL, ratio(&plan->cost.prefill));
    kf_metric_set_label(KF_M_COST, KF_WK_DECODE, ratio(&plan->cost.decode));
    int64_t oldest = 0;
    for (size_t i = 0; i < n_active; i++) {
        int64_t t = s->jobs[active[i]].job.origin.received_ns;
        if (!oldest || t < oldest) oldest = t;
    }
    atomic_store_explicit(&g->oldest_ns, oldest, memory_order_relaxed);
}

void kf_account_ledger(const kf_server *s, int64_t ns_per_job) {
    const kf_models *m = &s->models;
    size_t weights = kf_models_weights_bytes(m), activations = kf_models_activations_bytes(m);
    size_t cache = m->decoder ? kf_kv_cache_bytes(m->kv) : 0;
    size_t queues = 2 * s->opts.n_jobs * sizeof(void *);
    size_t jobs = s->opts.n_jobs * (sizeof *s->jobs + s->opts.job_arena_bytes) + queues;
    kf_metric_set_label(KF_M_MEMORY, KF_MEM_WEIGHTS, (double)weights);
    kf_metric_set_label(KF_M_MEMORY, KF_MEM_KV_CACHE, (double)cache);
    kf_metric_set_label(KF_M_MEMORY, KF_MEM_ACTIVATIONS, (double)activations);
    kf_metric_set_label(KF_M_MEMORY, KF_MEM_JOBS, (double)jobs);
    kf_log(KF_INFO, "ledger", KF_STR("model", m->id), KF_STR("device", s->device->name),
           KF_INT("weights_bytes", weights), KF_INT("kv_cache_bytes", cache), KF_INT("activations_bytes", activations),
           KF_INT("jobs_bytes", jobs), KF_INT("queues_bytes", queues),
           KF_INT("device_bytes_used", s->device->memory_bytes_used), KF_INT("device_bytes", s->device->memory_bytes),
           KF_END);
    kf_log(KF_INFO, "measured", KF_F64("requests_per_second", 1e9 / (double)ns_per_job),
           KF_F64("encode_16_tokens_ms", (double)(kf_cost_at(&s->cost.layer, 16) * (int64_t)s->limits.n_layers) / 1e6),
           KF_F64("prefill_64_tokens_ms", (double)kf_cost_at(&s->cost.prefill, 64) / 1e6),
           KF_F64("decode_1_row_ms", (double)kf_cost_at(&s->cost.decode, 1) / 1e6),
           KF_F64("decode_all_rows_ms", (double)kf_cost_at(&s->cost.decode, s->opts.max_running) / 1e6),
           KF_F64("max_gap_ms", s->opts.max_gap_ms), KF_END);
}
