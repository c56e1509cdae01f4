/* The server's life, and the calls of the I/O thread; see serve.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/trace.h"
#include "observe/metrics.h"
#include "serve/account.h"
#include "serve/constrain.h"
#include "serve/server_internal.h"
#include "serve/trace.h"

/* ---- jobs ---- */

kf_job *kf_job_get(kf_server *s) {
    if (s->n_free_jobs == 0) return NULL;
    kf_job_impl *j = s->free_jobs[--s->n_free_jobs];
    pthread_mutex_lock(&s->identity_lock);
    kf_job_clear(j);
    pthread_mutex_unlock(&s->identity_lock);
    return &j->job;
}

void kf_job_put(kf_server *s, kf_job *job) {
    kf_job_impl *j = kf_impl(job);
    if (j->final_given && kf_trace_on()) kf_trace_request(s, j);
    pthread_mutex_lock(&s->identity_lock);
    bool submitted = j->in_hand;
    j->in_hand = false;
    pthread_mutex_unlock(&s->identity_lock);
    if (submitted) atomic_fetch_sub_explicit(&s->n_in_hand, 1, memory_order_relaxed);
    kf_constrain_release(&s->models, j);
    s->free_jobs[s->n_free_jobs++] = j;
}

static bool same(kf_str a, kf_str b) {
    return a.n == b.n && !memcmp(a.s, b.s, a.n);
}

void kf_server_cancel(kf_server *s, kf_str tenant, kf_str request_id) {
    pthread_mutex_lock(&s->identity_lock);
    for (size_t i = 0; i < s->opts.n_jobs; i++) {
        kf_job_impl *j = &s->jobs[i];
        if (!j->in_hand || !same(j->job.request.id, request_id) || !same(j->job.request.tenant, tenant)) continue;
        atomic_store_explicit(&j->cancelled, true, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->n_cancels, 1, memory_order_release);
    }
    pthread_mutex_unlock(&s->identity_lock);
}

/* ---- submit ---- */

/* A refusal's text in the job's arena; a constant where that is full. */
static const char *in_arena(kf_job_impl *j, const char *text) {
    const char *copy = kf_arena_strndup(&j->job.arena, text, strlen(text));
    return copy ? copy : "the request does not fit in this worker's memory for one request: shorten it";
}

static void refuse(kf_server *s, kf_job_impl *j, kf_code code, const char *text, int64_t retry_after_ms) {
    kf_job_set_refusal(j, code, text, retry_after_ms);
    kf_job_end(j, &s->outbox);
}

static kf_status tokenise(kf_server *s, kf_job_impl *j) {
    const kf_request *r = &j->job.request;
    size_t most = s->models.encoder_max_seqlen;
    size_t cap = r->text.n + 8 < most ? r->text.n + 8 : most; /* a token has a byte; special ones beside */
    j->encoder_ids = kf_arena_alloc(&j->job.arena, cap * sizeof *j->encoder_ids);
    j->start = kf_arena_alloc(&j->job.arena, cap * sizeof *j->start);
    j->end = kf_arena_alloc(&j->job.arena, cap * sizeof *j->end);
    if (!j->encoder_ids || !j->start || !j->end)
        return KF_FAIL(KF_ERR_NO_MEMORY, "the request does not fit in %zu bytes: shorten text or history",
                       s->opts.job_arena_bytes);
    kf_encoding e = {.cap = cap, .ids = j->encoder_ids, .start = j->start, .end = j->end};
    KF_TRY(kf_tokenizer_encode(s->models.encoder_tokenizer, r->text.s, r->text.n, KF_SPECIAL_ADD, &e));
    if (e.n_total > e.n)
        return KF_FAIL(KF_ERR_TOO_LARGE, "text has %zu tokens, special ones counted; at most %zu are taken: shorten it",
                       e.n_total, most);
    if (e.n == 0) return KF_FAIL(KF_ERR_INVALID, "text has no tokens: send some words");
    j->n_encoder = e.n;
    return KF_OK;
}

/* What the decoder will need: the prompt's texts as ids, and room for ids and text of the longest reply. */
static kf_status prepare_reply(kf_server *s, kf_job_impl *j) {
    const kf_request *r = &j->job.request;
    kf_arena *a = &j->job.arena;
    j->max_ids = s->models.decoder_max_seqlen;
    j->max_new = r->generate.max_tokens < j->max_ids / 2 ? r->generate.max_tokens : j->max_ids / 2;
    if (j->max_new == 0) j->max_new = 1;
    kf_prompt_in in = {.text = r->text,
                       .history = r->history,
                       .n_history = r->n_history,
                       .max_ids = j->max_ids,
                       .n_reply = j->max_new,
                       .now = kf_clock_wall_ns() / 1000000000};
    KF_TRY(kf_prompt_prepare(s->models.prompt, a, &in, &j->texts));
    bool formed = r->generate.format != KF_GRAMMAR_NONE; /* its text has no thoughts, and must not be cut */
    j->hides_thoughts = !formed && kf_prompt_hides_thoughts(s->models.prompt);
    j->in_thought = j->hides_thoughts && j->texts.in_thought;
    j->reply_cap = j->max_new * (formed ? KF_GRAMMAR_TOKEN_BYTES_MAX : KF_REPLY_BYTES_PER_TOKEN);
    j->ids = kf_arena_alloc(a, j->max_ids * sizeof *j->ids);
    j->reply = kf_arena_alloc(a, j->reply_cap + 1);
    if (r->generate.logprobs) j->logprobs = kf_arena_alloc(a, j->max_new * sizeof *j->logprobs);
    if (r->stream) j->parts = kf_arena_alloc(a, 2 * j->reply_cap);
    if (!j->ids || !j->reply || (r->generate.logprobs && !j->logprobs) || (r->stream && !j->parts))
        return KF_FAIL(KF_ERR_NO_MEMORY,
                       "the request and a reply of %zu tokens do not fit in %zu bytes: shorten text or history, or ask "
                       "for fewer max_tokens",
                       j->max_new, s->opts.job_arena_bytes);
    return kf_constrain_prepare(&s->models, j);
}

int64_t kf_retry_after_ms(kf_server *s) {
    int64_t ns = atomic_load_explicit(&s->gauges.ns_per_job, memory_order_relaxed);
    int64_t n = (int64_t)atomic_load_explicit(&s->n_in_hand, memory_order_relaxed);
    return ns * n / 1000000 + 1;
}

/* Late already: what is in hand takes longer than this request has. Answered now, the client can go elsewhere. */
static bool would_be_late(kf_server *s, const kf_job_impl *j, int64_t *wait_ms) {
    *wait_ms = kf_retry_after_ms(s);
    if (!j->job.request.deadline_ns || atomic_load_explicit(&s->n_in_hand, memory_order_relaxed) <= s->opts.max_running)
        return false;
    return kf_clock_now_ns() + *wait_ms * 1000000 > j->job.request.deadline_ns;
}

static kf_status admit(kf_server *s, kf_job_impl *j) {
    KF_TRY(tokenise(s, j));
    if (j->job.request.want == KF_WANT_REPLY && s->models.decoder) KF_TRY(prepare_reply(s, j));
    if (!j->job.request.generate.has_seed) j->job.request.generate.seed = kf_random_next(&s->seed);
    return KF_OK;
}

void kf_server_submit(kf_server *s, kf_job *job) {
    kf_job_impl *j = kf_impl(job);
    j->model = s->models.id;
    kf_metric_add(KF_M_RECEIVED, 1);
    if (!job->origin.received_ns) job->origin.received_ns = kf_clock_now_ns();
    int64_t wait_ms;
    if (job->admitted != KF_OK) {
        refuse(s, j, kf_code_of(job->admitted), job->refusal.s ? job->refusal.s : "", 0);
        return;
    }
    if (atomic_load(&s->draining)) {
        refuse(s, j, KF_CODE_UNAVAILABLE, KF_STOPPING_TEXT, KF_STOPPING_RETRY_MS);
        return;
    }
    if (would_be_late(s, j, &wait_ms)) {
        char text[160];
        snprintf(text, sizeof text, "what is waiting takes about %lld ms, longer than deadline_ms allows: come back",
                 (long long)wait_ms);
        refuse(s, j, KF_CODE_RESOURCE_EXHAUSTED, in_arena(j, text), wait_ms);
        return;
    }
    kf_status status = admit(s, j);
    if (status != KF_OK) {
        refuse(s, j, kf_code_of(status), in_arena(j, kf_error_text()), 0);
        kf_error_clear();
        return;
    }
    kf_metric_observe(KF_M_INPUT_LENGTH, (int64_t)j->n_encoder);
    pthread_mutex_lock(&s->identity_lock);
    j->in_hand = true;
    pthread_mutex_unlock(&s->identity_lock);
    atomic_fetch_add_explicit(&s->n_in_hand, 1, memory_order_relaxed);
    if (kf_queue_push(&s->inbox, j) == KF_OK) return;
    refuse(s, j, KF_CODE_UNAVAILABLE, KF_STOPPING_TEXT, KF_STOPPING_RETRY_MS);
}

int kf_server_outbox_fd(const kf_server *s) {
    return kf_queue_fd(&s->outbox);
}

kf_job *kf_server_outbox_pop(kf_server *s) {
    return kf_outbox_pop(&s->outbox);
}

/* ---- what the outside may know ---- */

void kf_server_state_get(kf_server *s, kf_server_state *out) {
    const kf_server_gauges *g = &s->gauges;
    int64_t oldest = atomic_load_explicit(&g->oldest_ns, memory_order_relaxed);
    bool draining = atomic_load(&s->draining), failed = atomic_load(&g->device_failed);
    *out = (kf_server_state){
        .ready = !draining && !failed,
        .draining = draining,
        .device_failed = failed,
        .device_moved_ns = atomic_load_explicit(&g->device_moved_ns, memory_order_relaxed),
        .n_waiting = atomic_load_explicit(&g->n_waiting, memory_order_relaxed) + kf_queue_length(&s->inbox),
        .n_running = atomic_load_explicit(&g->n_running, memory_order_relaxed),
        .kv_blocks_used = atomic_load_explicit(&g->n_blocks_used, memory_order_relaxed),
        .kv_blocks = s->models.decoder ? s->limits.n_blocks : 0,
        .oldest_age_ns = oldest ? kf_clock_now_ns() - oldest : 0,
        .retry_after_ms = kf_retry_after_ms(s),
    };
}

const char *kf_server_model(const kf_server *s) {
    return s->models.id;
}

size_t kf_server_max_text_tokens(const kf_server *s) {
    return s->models.encoder_max_seqlen;
}

/* ---- life ---- */

static kf_status make_jobs(kf_server *s) {
    size_t n = s->opts.n_jobs;
    s->jobs = calloc(n, sizeof *s->jobs);
    s->free_jobs = calloc(n, sizeof *s->free_jobs);
    if (!s->jobs || !s->free_jobs)
        return KF_FAIL(KF_ERR_NO_MEMORY, "jobs: %zu of %zu bytes asked for; lower --max-jobs", n, sizeof *s->jobs);
    for (size_t i = 0; i < n; i++) {
        s->jobs[i].idx = (uint32_t)i;
        if (kf_arena_init(&s->jobs[i].job.arena, s->opts.job_arena_bytes) != KF_OK)
            return KF_FAIL(KF_ERR_NO_MEMORY, "jobs: %zu of %zu bytes each asked for; lower --max-jobs", n,
                           s->opts.job_arena_bytes);
        s->free_jobs[n - 1 - i] = &s->jobs[i];
    }
    s->n_free_jobs = n;
    KF_TRY(kf_queue_init(&s->inbox, n, false));
    return kf_queue_init(&s->outbox, n, true);
}

static void set_limits(kf_server *s) {
    const kf_models *m = &s->models;
    s->limits = (kf_plan_limits){
        .n_jobs = s->opts.n_jobs,
        .max_running = s->opts.max_running,
        .n_layers = kf_bert_config(m->encoder)->n_layers,
        .encode_max_tokens = m->encode_max_tokens,
        .encode_max_seqs = m->encode_max_seqs,
        .step_max_tokens = m->decoder ? m->step_max_tokens : s->opts.max_running,
        .n_blocks = m->decoder ? kf_kv_cache_n_blocks(m->kv) : 1,
        .block_size = KF_KV_BLOCK_SIZE,
        .max_gap_ns = (int64_t)(s->opts.max_gap_ms * 1e6),
    };
}

static kf_status check_opts(const kf_server_opts *o) {
    if (!o->n_jobs || o->n_jobs > 1 << 20 || !o->max_running || o->max_running > 1 << 16 || !(o->max_gap_ms > 0))
        return KF_FAIL(KF_ERR_INVALID,
                       "server: %zu jobs, %zu running, a gap of %g ms; wanted: 1 to 2^20, 1 to 65536, above 0",
                       o->n_jobs, o->max_running, o->max_gap_ms);
    return KF_OK;
}

static kf_status start(kf_server *s) {
    const kf_server_opts *o = &s->opts;
    KF_TRY(make_jobs(s));
    KF_TRY(kf_stream_open(s->device, &s->stream));
    KF_TRY(kf_stream_open(s->device, &s->encoder_stream));
    KF_TRY(kf_models_open(s->device,
                          &(kf_models_opts){
                              .dir = o->models_dir,
                              .understand_only = o->understand_only,
                              .max_running = o->max_running,
                              .kv_cache_bytes = o->kv_cache_bytes,
                              .graphs_stream = o->no_graphs ? NULL : s->stream,
                          },
                          &s->models));
    set_limits(s);
    KF_TRY(kf_measure(s));
    int64_t ns_per_job = s->limits.job_ns = kf_measured_ns_per_job(s);
    KF_TRY(kf_loop_new(s, &s->loop));
    if (getrandom(&s->seed, sizeof s->seed, 0) != sizeof s->seed) s->seed = (uint64_t)kf_clock_wall_ns();
    atomic_store(&s->gauges.ns_per_job, ns_per_job);
    atomic_store(&s->gauges.device_moved_ns, kf_clock_now_ns());
    kf_account_ledger(s, ns_per_job);
    int err = pthread_create(&s->thread, NULL, kf_loop_run, s);
    if (err) return KF_FAIL(KF_ERR_IO, "device thread: %s", strerror(err));
    s->thread_started = true;
    return KF_OK;
}

kf_status kf_server_start(const kf_server_opts *o, kf_server **out) {
    KF_TRY(check_opts(o));
    kf_server *s = calloc(1, sizeof *s);
    if (!s) return KF_FAIL(KF_ERR_NO_MEMORY, "server: no memory");
    s->opts = *o;
    s->device = o->device;
    pthread_mutex_init(&s->identity_lock, NULL);
    s->inbox.event_fd = s->outbox.event_fd = -1;
    kf_status status = start(s);
    s->opts.models_dir = NULL; /* the caller's */
    if (status != KF_OK) {
        kf_server_free(s);
        return status;
    }
    *out = s;
    return KF_OK;
}

void kf_server_drain(kf_server *s) {
    atomic_store(&s->draining, true);
}

bool kf_server_idle(kf_server *s) {
    return atomic_load(&s->n_in_hand) == 0;
}

void kf_server_stop(kf_server *s) {
    if (!s->thread_started) return;
    atomic_store(&s->draining, true);
    atomic_store(&s->stopping, true);
    kf_queue_close(&s->inbox);
    pthread_join(s->thread, NULL);
    s->thread_started = false;
}

void kf_server_free(kf_server *s) {
    if (!s) return;
    kf_server_stop(s);
    kf_loop_free(s->loop);
    kf_models_close(&s->models);
    kf_stream_close(s->encoder_stream);
    kf_stream_close(s->stream);
    for (size_t i = 0; s->jobs && i < s->opts.n_jobs; i++)
        kf_arena_free(&s->jobs[i].job.arena);
    free(s->jobs);
    free(s->free_jobs);
    kf_queue_free(&s->inbox);
    kf_queue_free(&s->outbox);
    pthread_mutex_destroy(&s->identity_lock);
    free(s);
}
