/* Answering: parts and the one final, from the thread that writes them to the thread that sends them. */
#include "serve/job_internal.h"

#include <string.h>

#include "base/trace.h"
#include "serve/serve.h"
#include "text/utf8.h"

void kf_job_clear(kf_job_impl *j) {
    kf_arena arena = j->job.arena;
    uint32_t idx = j->idx;
    *j = (kf_job_impl){.job = {.arena = arena}, .idx = idx};
    kf_arena_reset(&j->job.arena);
}

/* The outbox has room for every job, and a job stands in it at most once: this push finds room. */
static void add_news(kf_job_impl *j, kf_queue *outbox, uint64_t news) {
    uint64_t old = atomic_exchange_explicit(&j->news, news | KF_NEWS_QUEUED, memory_order_acq_rel);
    if (old & KF_NEWS_QUEUED) return;
    kf_status s = kf_queue_push(outbox, j);
    KF_ASSERT(s == KF_OK);
    (void)s;
}

void kf_job_publish(kf_job_impl *j, kf_queue *outbox, size_t n_bytes) {
    add_news(j, outbox, n_bytes);
}

void kf_job_end(kf_job_impl *j, kf_queue *outbox) {
    j->final.final = true;
    j->final.attempt = 1;
    j->times.ended_ns = kf_trace_begin();
    add_news(j, outbox, j->n_reply | KF_NEWS_ENDED);
}

void kf_job_set_refusal(kf_job_impl *j, kf_code code, const char *text, int64_t retry_after_ms) {
    j->final = (kf_response){
        .code = code,
        .message = {.s = text, .n = strlen(text)},
        .retry_after_ms = retry_after_ms,
        .reply = {.text = {.s = ""}, .finish = code == KF_CODE_CANCELLED ? KF_FINISH_CANCELLED : KF_FINISH_FAILED},
        .handoff = {.summary = {.s = ""}},
        .understanding = j->understanding,
        .has_understanding = j->understanding.words || j->understanding.intents,
        .model = j->model,
        .usage = j->final.usage,
    };
    j->n_reply = j->n_published;
}

kf_job *kf_outbox_pop(kf_queue *outbox) {
    void *item;
    if (kf_queue_pop(outbox, &item, 0) != KF_OK) return NULL;
    kf_job_impl *j = item;
    j->seen = atomic_fetch_and_explicit(&j->news, ~KF_NEWS_QUEUED, memory_order_acq_rel);
    return &j->job;
}

/* Everything new since the last part, as one part. */
static bool next_part(kf_job_impl *j, kf_response *out) {
    size_t n_bytes = j->seen & KF_NEWS_BYTES;
    if (!j->job.request.stream || n_bytes <= j->n_sent) return false;
    size_t n = n_bytes - j->n_sent;
    char *text = j->parts + j->n_parts_bytes;
    memcpy(text, j->reply + j->n_sent, n);
    text[n] = 0;
    *out = (kf_response){
        .seq = j->seq++,
        .attempt = 1,
        .message = {.s = ""},
        .reply = {.text = {.s = text, .n = n}, .text_offset = j->sent_chars},
        .handoff = {.summary = {.s = ""}},
        .model = j->model,
    };
    j->n_parts_bytes += n + 1;
    j->sent_chars += (uint32_t)kf_utf8_length(text, n);
    j->n_sent = n_bytes;
    return true;
}

bool kf_job_next_response(kf_job *job, kf_response *out) {
    kf_job_impl *j = kf_impl(job);
    if (next_part(j, out)) return true;
    if (!(j->seen & KF_NEWS_ENDED) || j->final_given) return false;
    j->final.seq = j->seq++;
    j->final_given = true;
    *out = j->final;
    return true;
}

kf_code kf_code_of(kf_status s) {
    switch (s) {
    case KF_OK: return KF_CODE_OK;
    case KF_ERR_INVALID:
    case KF_ERR_TOO_LARGE: return KF_CODE_INVALID_ARGUMENT; /* as it stands it will be too large the next time too */
    case KF_ERR_UNSUPPORTED: return KF_CODE_UNIMPLEMENTED;
    case KF_ERR_NO_MEMORY:
    case KF_ERR_OVERLOADED: return KF_CODE_RESOURCE_EXHAUSTED;
    case KF_ERR_DEADLINE: return KF_CODE_DEADLINE_EXCEEDED;
    case KF_ERR_CANCELLED: return KF_CODE_CANCELLED;
    case KF_ERR_DEVICE:
    case KF_ERR_CLOSED: return KF_CODE_UNAVAILABLE;
    default: return KF_CODE_INTERNAL;
    }
}
