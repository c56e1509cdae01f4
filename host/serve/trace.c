/* Runs and requests as records of a trace. */
#include "serve/trace.h"

#include <string.h>

#include "base/clock.h"
#include "base/trace.h"
#include "dialogue/redact.h"

void kf_trace_run(const kf_work *w, int64_t cost_ns, int64_t begin_ns, int64_t end_ns, bool timed) {
    kf_trace(&(kf_trace_record){.track = KF_TRACE_RUNS,
                                .name = timed ? "run" : "run, end unknown",
                                .begin_ns = begin_ns,
                                .end_ns = end_ns,
                                .items = {{"decode_rows", (int64_t)w->n_decode_rows},
                                          {"prefill_tokens", (int64_t)w->n_prefill_tokens},
                                          {"encode_tokens", w->n_layers ? (int64_t)w->pass_tokens : 0},
                                          {"encode_layers", (int64_t)w->n_layers},
                                          {"predicted_us", cost_ns / 1000},
                                          {timed ? "taken_us" : NULL, (end_ns - begin_ns) / 1000}}});
}

/* The client's id, masked, and cut between two characters. */
static void set_label(kf_job_impl *j, char out[KF_TRACE_LABEL_BYTES]) {
    kf_str id = {.s = ""};
    if (!kf_redact(&j->job.arena, j->job.request.id, NULL, 0, KF_TRACE_LABEL_BYTES - 1, &id)) return;
    size_t n = id.n < KF_TRACE_LABEL_BYTES ? id.n : KF_TRACE_LABEL_BYTES - 1;
    while (n > 0 && n < id.n && ((unsigned char)id.s[n] & 0xC0) == 0x80)
        n--;
    memcpy(out, id.s, n);
    out[n] = 0;
}

/* Each part of its life ends where the next one begins; the one that was under way when the job ended ends with it. */
void kf_trace_request(kf_server *s, kf_job_impl *j) {
    const kf_job_times *t = &j->times;
    const kf_trace_item parts[] = {
        {"queued", t->encode_ns},       {"understand", t->encoded_ns}, {"wait for a slot", t->prefill_ns},
        {"prefill", t->first_token_ns}, {"decode", t->last_token_ns},
    };
    enum { N_PARTS = sizeof parts / sizeof *parts };
    const size_t n_parts = t->encoded_ns && !j->n_prompt ? 2 : N_PARTS; /* nothing was to be written */
    kf_trace_record r = {
        .track = KF_TRACE_REQUESTS,
        .name = j->job.request.want == KF_WANT_REPLY ? "reply" : "understand only",
        .id = ++s->n_traced,
        .code = j->final.code,
        .begin_ns = j->job.origin.received_ns,
        .end_ns = kf_clock_now_ns(),
    };
    size_t n = 0;
    do {
        r.items[n] = parts[n];
    } while (parts[n].value && ++n < n_parts);
    if (n == n_parts) n--;
    r.items[n++].value = t->ended_ns;
    r.items[n] = (kf_trace_item){"publish", r.end_ns};
    set_label(j, r.label);
    kf_trace(&r);
}
