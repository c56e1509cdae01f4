/* The device thread: take jobs, plan a run, enqueue it, apply the results of the run before. It owns the device, the
 * plan and every job between submit and its end. After its start it allocates nothing and holds no lock over a pass.
 *
 * Depth one: run n + 1 is enqueued before n's results are read, so the device never waits for the host; where n is
 * already done when n + 1 is to be planned (always so on the CPU), its results come first and nothing is planned in
 * vain. Results of a job that has ended meanwhile fall on nobody: a run notes which use of its job it means. The count
 * is this thread's own, since the job itself may by then be the I/O thread's again.
 *
 * Two streams, one for each model, on a device that computes while the host goes on: the step and the encoder's piece
 * of one run may overlap (the step waits for memory, the piece for arithmetic), those of different runs do not: each
 * waits for what the other stream had in the run before. So a run takes at most the sum that was planned, and the
 * encoder cannot pile up work that a later step has to wait for. Copies are on the stream of their model: a step's
 * input is some 10 KB, and goes over before its first kernel. The models share no device memory.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/trace.h"
#include "observe/metrics.h"
#include "serve/account.h"
#include "serve/constrain.h"
#include "serve/server_internal.h"
#include "serve/trace.h"

#define PROBE_NS INT64_C(2000000000)

/* A job as a run knows it. */
typedef struct job_ref {
    uint32_t idx;
    uint64_t epoch;
} job_ref;

/* An encoder pass under way or finished but not read. */
typedef struct pass {
    kf_bert_pass *pass;
    job_ref *jobs;       /* [encode_max_seqs] */
    int32_t *cu_seqlens; /* [encode_max_seqs + 1] */
    size_t n;
    bool live; /* its begin succeeded */
} pass;

/* A run on the device. */
typedef struct flight {
    bool busy;
    kf_event *encoded; /* reached when the run's encoder piece is over */
    pass *finished;    /* the pass whose results it brings; NULL: none */
    kf_decoder_step *step;
    kf_plan_row *rows; /* [max_running] of the step */
    uint64_t *epochs;  /* [max_running] of the rows' jobs */
    size_t n_rows;
    kf_work work;
    int64_t cost_ns;            /* of the work, expected */
    int64_t begin_ns, ended_ns; /* ended_ns 0: not known before it is waited for */
} flight;

struct kf_loop {
    kf_server *s;
    kf_writer writer;
    kf_plan plan;
    kf_run run;
    pass passes[2];
    size_t pass_now; /* index of the pass that layers are enqueued for */
    flight flights[2];
    size_t now; /* index of the flight to fill next; the other one may be on the device */

    int32_t *encode_ids;  /* [encode_max_tokens] */
    kf_decoder_seq *seqs; /* [max_running] */
    uint32_t *allowed;    /* [max_running, allowed_words] masks of theirs */
    size_t allowed_words;

    uint64_t *epochs; /* [n_jobs] how often each job has ended */
    uint32_t *active; /* [n_jobs] job_idx of every job in hand here, in no order */
    size_t n_active;
    unsigned n_cancels;
    bool failed; /* the device: sticky */

    void *probe_memory;
    kf_event *probe;
    int64_t probed_ns;
    int64_t waited_ns; /* when the last wait for a run was over */
    int64_t ended_ns;  /* when the run before had ended */
    bool timed;        /* ended_ns is known: that run ended with something to wait for */
    kf_account account;
};

static kf_job_impl *job_at(struct kf_loop *l, uint32_t idx) {
    return &l->s->jobs[idx];
}

static void moved(struct kf_loop *l, int64_t now_ns) {
    atomic_store_explicit(&l->s->gauges.device_moved_ns, now_ns, memory_order_relaxed);
}

/* ---- ending jobs ---- */

static void drop_active(struct kf_loop *l, kf_job_impl *j) {
    uint32_t last = l->active[--l->n_active];
    l->active[j->active_idx] = last;
    job_at(l, last)->active_idx = j->active_idx;
}

/* Its slot, blocks and place are free, results still on the device are nobody's, the answer is on its way. */
static void leave(struct kf_loop *l, kf_job_impl *j) {
    int32_t slot = kf_plan_remove(&l->plan, j->idx);
    if (slot >= 0) kf_kv_cache_release(l->s->models.kv, (size_t)slot);
    drop_active(l, j);
    l->epochs[j->idx]++;
    kf_account_ended(&l->account, j);
    kf_job_end(j, &l->s->outbox);
}

/* Ended without an answer. text is a constant. */
static void end_refused(struct kf_loop *l, kf_job_impl *j, kf_code code, const char *text, int64_t retry_after_ms) {
    kf_account_usage(j);
    kf_job_set_refusal(j, code, text, retry_after_ms);
    leave(l, j);
}

/* Ended as the dialogue says. */
static void end_answered(struct kf_loop *l, kf_job_impl *j) {
    const kf_dialogue *d = &j->dialogue;
    kf_account_usage(j);
    j->final = (kf_response){
        .message = {.s = ""},
        .has_understanding = true,
        .understanding = j->understanding,
        .reply = {.text = d->reply, .finish = d->finish, .logprobs = j->logprobs},
        .handoff = d->handoff,
        .usage = j->final.usage,
        .model = j->model,
    };
    if (j->logprobs) j->final.reply.n_logprobs = j->n_written;
    if (d->reply.s != j->reply) j->n_reply = j->n_published; /* what was written is not sent */
    kf_account_answered(j);
    leave(l, j);
}

static void end_all(struct kf_loop *l, const char *text) {
    while (l->n_active)
        end_refused(l, job_at(l, l->active[l->n_active - 1]), KF_CODE_UNAVAILABLE, text, KF_STOPPING_RETRY_MS);
}

static void fail_device(struct kf_loop *l) {
    kf_log(KF_ERROR, "device_failed", KF_STR("device", l->s->device->name), KF_STR("text", kf_error_text()), KF_END);
    l->failed = true;
    atomic_store(&l->s->gauges.device_failed, true);
    end_all(l, KF_DEVICE_FAILED_TEXT);
}

/* ---- the dialogue's wants ---- */

/* The prompt takes what the reply leaves of the sequence; a short reply rather than none, unless it would cut
 * a form short. */
static bool begin_reply(struct kf_loop *l, kf_job_impl *j) {
    size_t n = kf_prompt_build(l->s->models.prompt, &j->texts, &j->understanding, j->ids, j->max_ids - j->max_new);
    if (n == 0 && !j->grammar)
        n = kf_prompt_build(l->s->models.prompt, &j->texts, &j->understanding, j->ids, j->max_ids - 1);
    if (n == 0) return false;
    j->n_prompt = n;
    if (j->max_new > j->max_ids - n) j->max_new = j->max_ids - n;
    kf_metric_add(KF_M_PROMPT_TOKENS, n);
    kf_constrain_begin(j);
    kf_plan_decode(&l->plan, j->idx, n, j->max_new);
    if (kf_constrain_waits(j)) kf_plan_wait_for_tokens(&l->plan, j->idx);
    return true;
}

static void step_dialogue(struct kf_loop *l, kf_job_impl *j, const kf_dialogue_event *event);

static void written(struct kf_loop *l, kf_job_impl *j) {
    kf_dialogue_event e = {.kind = KF_EV_WRITTEN};
    e.written.text = (kf_str){.s = j->reply, .n = j->n_reply};
    e.written.finish = j->finish;
    step_dialogue(l, j, &e);
}

static void step_dialogue(struct kf_loop *l, kf_job_impl *j, const kf_dialogue_event *event) {
    kf_str tenant = j->job.request.tenant;
    unsigned wants = kf_dialogue_step(&j->dialogue, event);
    if (wants & KF_DO_ENCODE)
        kf_plan_add(&l->plan, j->idx,
                    &(kf_plan_job){
                        .lane = j->job.request.lane,
                        .tenant = kf_fnv32(KF_FNV32_START, tenant.s, tenant.n),
                        .arrived_ns = j->job.origin.received_ns,
                        .deadline_ns = j->job.request.deadline_ns,
                        .n_encode = j->n_encoder,
                    });
    if (wants & KF_DO_GENERATE && !begin_reply(l, j)) {
        kf_writer_end(j, KF_FINISH_FAILED);
        written(l, j);
    }
    if (wants & KF_DO_FINISH) end_answered(l, j);
}

static void take(struct kf_loop *l, kf_job_impl *j) {
    const kf_request *r = &j->job.request;
    j->active_idx = (uint32_t)l->n_active;
    l->active[l->n_active++] = j->idx;
    if (l->failed) {
        end_refused(l, j, KF_CODE_UNAVAILABLE, KF_DEVICE_FAILED_TEXT, KF_STOPPING_RETRY_MS);
        return;
    }
    kf_dialogue_begin(&j->dialogue, &(kf_dialogue_in){
                                        .policy = &l->s->models.policy,
                                        .arena = &j->job.arena,
                                        .text = r->text,
                                        .history = r->history,
                                        .n_history = r->n_history,
                                        .reply_wanted = r->want == KF_WANT_REPLY,
                                        .can_write = l->s->models.decoder != NULL,
                                    });
    step_dialogue(l, j, &(kf_dialogue_event){.kind = KF_EV_ADMITTED});
}

/* ---- enqueueing a run ---- */

static void log_refused_pass(void) {
    kf_log(KF_ERROR, "encoder_pass_refused", KF_STR("text", kf_error_text()), KF_END);
}

static void begin_pass(struct kf_loop *l, const kf_run *run) {
    pass *p = &l->passes[l->pass_now ^= 1];
    size_t n_tokens = 0;
    int64_t now = kf_clock_now_ns();
    p->n = run->n_encode;
    p->cu_seqlens[0] = 0;
    for (size_t i = 0; i < p->n; i++) {
        kf_job_impl *j = job_at(l, run->encode[i]);
        p->jobs[i] = (job_ref){j->idx, l->epochs[j->idx]};
        memcpy(l->encode_ids + n_tokens, j->encoder_ids, j->n_encoder * sizeof *j->encoder_ids);
        n_tokens += j->n_encoder;
        p->cu_seqlens[i + 1] = (int32_t)n_tokens;
        j->times.encode_ns = now;
        kf_metric_observe(KF_M_QUEUE_TIME, now - j->job.origin.received_ns);
    }
    kf_metric_add(KF_M_INPUT_TOKENS, n_tokens);
    kf_metric_observe(KF_M_ENCODE_BATCH_SEQS, (int64_t)p->n);
    kf_metric_observe(KF_M_ENCODE_BATCH_TOKENS, (int64_t)n_tokens);
    p->live =
        kf_bert_begin(p->pass, l->s->encoder_stream, &(kf_bert_input){l->encode_ids, p->cu_seqlens, p->n}) == KF_OK;
    if (!p->live) log_refused_pass();
}

/* The run's piece of a pass. KF_ERR_DEVICE: the stream takes nothing more. */
static kf_status enqueue_encoder(struct kf_loop *l, const kf_run *run, flight *f) {
    kf_stream *s = l->s->encoder_stream;
    if (run->encode_begin) begin_pass(l, run);
    pass *p = &l->passes[l->pass_now];
    if (p->live) kf_bert_layers(p->pass, s, run->layer_from, run->layer_to);
    if (run->encode_finish) {
        kf_status status = p->live ? kf_bert_finish(p->pass, s) : KF_OK;
        if (status == KF_ERR_DEVICE) return status;
        if (status != KF_OK) {
            p->live = false;
            log_refused_pass();
        }
        f->finished = p;
    }
    return kf_event_record(s, f->encoded);
}

static kf_sample_params sample_params(const kf_generate *g) {
    return (kf_sample_params){
        .temperature = g->temperature,
        .top_p = g->top_p,
        .min_p = g->min_p,
        .repetition_penalty = g->repetition_penalty,
        .top_k = (int32_t)g->top_k,
        .seed_lo = (uint32_t)g->seed,
        .seed_hi = (uint32_t)(g->seed >> 32),
    };
}

static void enqueue_step(struct kf_loop *l, const kf_run *run, flight *f) {
    kf_status status = KF_OK;
    for (size_t i = 0; i < run->n_rows; i++) {
        const kf_plan_row *row = &run->rows[i];
        kf_job_impl *j = job_at(l, row->job_idx);
        f->rows[i] = *row;
        f->epochs[i] = l->epochs[row->job_idx];
        if (!j->times.prefill_ns) j->times.prefill_ns = f->begin_ns;
        l->seqs[i] = (kf_decoder_seq){
            .slot = row->slot,
            .input_ids = row->sampled ? NULL : j->ids + row->n_computed,
            .n_tokens = row->n_tokens,
            .n_computed = row->n_computed,
            .sample = row->sample,
            .params = sample_params(&j->job.request.generate),
        };
        if (row->sample) kf_constrain_seq(&l->s->models, j, l->allowed + i * l->allowed_words, &l->seqs[i]);
        KF_STEP(status, kf_kv_cache_reserve(l->s->models.kv, (size_t)row->slot, row->n_computed + row->n_tokens));
    }
    KF_STEP(status, kf_decoder_run(f->step, l->s->stream, l->seqs, run->n_rows));
    if (status == KF_OK) {
        f->n_rows = run->n_rows;
        kf_metric_observe(KF_M_STEP_ROWS, (int64_t)run->n_rows);
        return;
    }
    if (status == KF_ERR_DEVICE) {
        fail_device(l);
        return;
    }
    kf_log(KF_ERROR, "decoder_step_refused", KF_STR("status", kf_status_name(status)), KF_STR("text", kf_error_text()),
           KF_END);
    for (size_t i = 0; i < run->n_rows; i++)
        end_refused(l, job_at(l, run->rows[i].job_idx), KF_CODE_INTERNAL, "this worker could not write a reply", 0);
}

/* ---- applying results ---- */

static void cannot_understand(struct kf_loop *l, kf_job_impl *j, kf_status status) {
    if (status == KF_ERR_CORRUPT) kf_metric_add(KF_M_NON_FINITE, 1);
    if (status == KF_ERR_NO_MEMORY) {
        end_refused(l, j, KF_CODE_RESOURCE_EXHAUSTED,
                    "the text has more words than fit in this worker's memory for one request: shorten it", 0);
    } else {
        kf_log(KF_ERROR, "not_understood", KF_STR("status", kf_status_name(status)), KF_STR("text", kf_error_text()),
               KF_END);
        end_refused(l, j, KF_CODE_INTERNAL, "this worker could not understand the text", 0);
    }
}

static void understood(struct kf_loop *l, pass *p, size_t seq_idx, int64_t now_ns) {
    job_ref ref = p->jobs[seq_idx];
    if (l->epochs[ref.idx] != ref.epoch) return;
    kf_job_impl *j = job_at(l, ref.idx);
    j->times.encoded_ns = now_ns;
    kf_metric_observe(KF_M_ENCODE_TIME, now_ns - j->times.encode_ns);
    kf_understand_in in = {
        .pass = p->pass,
        .seq_idx = seq_idx,
        .first_row = (size_t)p->cu_seqlens[seq_idx],
        .text = j->job.request.text,
        .ids = j->encoder_ids,
        .start = j->start,
        .end = j->end,
        .n_tokens = j->n_encoder,
    };
    kf_status status =
        p->live ? kf_understand(&l->s->models.understander, &in, &j->job.arena, &j->understanding) : KF_ERR_BUG;
    if (status != KF_OK) {
        cannot_understand(l, j, status);
        return;
    }
    step_dialogue(l, j, &(kf_dialogue_event){.kind = KF_EV_UNDERSTOOD, .understood = &j->understanding});
}

/* The token goes to the reply's constraints and into its text. True: the reply is over. */
static bool take_token(struct kf_loop *l, kf_job_impl *j, const kf_sample_out *out, int64_t now_ns) {
    if (!out->finite) {
        kf_metric_add(KF_M_NON_FINITE, 1);
    } else if (kf_constrain_drawn(&l->s->models, j, out->token) != KF_OK) {
        kf_log(KF_ERROR, "token_not_allowed", KF_STR("text", kf_error_text()), KF_END);
    } else {
        kf_account_token(&l->account, j, now_ns);
        kf_plan_drawn(&l->plan, j->idx);
        if (kf_writer_add(&l->writer, j, out->token, out->logprob)) return true;
        if (!kf_constrain_over(j)) return false;
        kf_writer_end(j, KF_FINISH_STOP);
        return true;
    }
    kf_writer_end(j, KF_FINISH_FAILED);
    return true;
}

static void drawn(struct kf_loop *l, kf_job_impl *j, const kf_sample_out *out, int64_t now_ns) {
    if (take_token(l, j, out, now_ns)) {
        kf_metric_observe(KF_M_DECODE_TIME, j->times.last_token_ns - j->times.first_token_ns);
        written(l, j);
    } else if (j->job.request.stream && j->n_sendable > j->n_published) {
        j->n_published = j->n_sendable;
        kf_job_publish(j, &l->s->outbox, j->n_sendable);
    }
}

static void apply_step(struct kf_loop *l, flight *f, int64_t now_ns) {
    const kf_sample_out *out = kf_decoder_results(f->step);
    for (size_t i = 0; i < f->n_rows; i++) {
        uint32_t idx = f->rows[i].job_idx;
        if (l->epochs[idx] != f->epochs[i]) {
            kf_metric_add(KF_M_WASTED_TOKENS, f->rows[i].n_tokens);
        } else if (f->rows[i].sample) {
            drawn(l, job_at(l, idx), out, now_ns);
        }
        out += f->rows[i].sample;
    }
}

static bool is_done(const flight *f) {
    return (!f->n_rows || kf_decoder_done(f->step)) && (!f->finished || kf_bert_done(f->finished->pass));
}

/* Waits for the run's step and gives everybody the token that it drew. */
static void apply_rows(struct kf_loop *l, flight *f) {
    if (f->n_rows == 0) return;
    if (kf_decoder_wait(f->step) != KF_OK) {
        fail_device(l);
        return;
    }
    int64_t now = l->waited_ns = kf_clock_now_ns();
    moved(l, now);
    apply_step(l, f, now);
    f->n_rows = 0;
}

/* Waits for the run's pass, where one ended with it, and goes on with every text that it understood. */
static void apply_pass(struct kf_loop *l, flight *f) {
    pass *p = f->finished;
    if (!p) return;
    if (p->live && kf_bert_wait(p->pass) != KF_OK) {
        fail_device(l);
        return;
    }
    int64_t now = l->waited_ns = kf_clock_now_ns();
    moved(l, now);
    for (size_t i = 0; i < p->n; i++)
        understood(l, p, i, now);
}

/* What the run took of the device, from the end of the one before where that was later than its own begin. Layers that
 * are not a pass's last bring nothing to wait for: when such a run ends is not known, nor when the next one begins. */
static void note_time(struct kf_loop *l, const flight *f) {
    int64_t begin = f->begin_ns > l->ended_ns ? f->begin_ns : l->ended_ns;
    int64_t end = f->ended_ns ? f->ended_ns : l->waited_ns;
    bool timed = f->work.n_decode_rows || f->work.n_prefill_tokens || f->finished;
    if (timed) kf_metric_observe(KF_M_STEP_TIME, end - begin);
    if (timed && l->timed) kf_plan_took(&l->plan, &f->work, end - begin);
    if (kf_trace_on()) kf_trace_run(&f->work, f->cost_ns, begin, end, timed);
    l->timed = timed;
    l->ended_ns = end;
}

static void apply(struct kf_loop *l, flight *f) {
    if (!f->busy) return;
    f->busy = false;
    if (!l->failed) apply_rows(l, f);
    if (!l->failed) apply_pass(l, f);
    if (!l->failed) note_time(l, f);
}

/* The step goes first. On a device that has done it by the time the call returns (the CPU), its tokens go out before
 * the encoder's piece is begun, unless the run before still has to be applied. */
static void enqueue(struct kf_loop *l, const kf_run *run, flight *f, const flight *before) {
    f->busy = true;
    f->finished = NULL;
    f->n_rows = 0;
    f->work = run->work;
    f->cost_ns = run->cost_ns;
    f->ended_ns = 0;
    f->begin_ns = kf_clock_now_ns();
    if (run->n_rows) {
        kf_stream_wait(l->s->stream, before->encoded);
        enqueue_step(l, run, f);
    }
    if (!before->busy && f->n_rows && kf_decoder_done(f->step)) apply_rows(l, f);
    if (!l->failed && run->layer_to > run->layer_from) {
        if (l->s->models.decoder) kf_decoder_order(before->step, l->s->encoder_stream);
        if (enqueue_encoder(l, run, f) != KF_OK) fail_device(l);
    }
    if (is_done(f)) f->ended_ns = kf_clock_now_ns();
}

/* ---- between runs ---- */

/* An idle device proves every PROBE_NS that it still moves (promise 9). */
static void probe(struct kf_loop *l) {
    int64_t now = kf_clock_now_ns();
    if (l->failed || now - l->probed_ns < PROBE_NS) return;
    l->probed_ns = now;
    kf_fill_zero(l->s->stream, l->probe_memory, 64);
    kf_status status = kf_event_record(l->s->stream, l->probe);
    KF_STEP(status, kf_event_wait(l->s->device, l->probe));
    if (status == KF_OK) {
        moved(l, kf_clock_now_ns());
    } else {
        fail_device(l);
    }
}

/* Everything that has come; with nothing in hand it waits for the next job, or for the next probe. */
static void take_jobs(struct kf_loop *l) {
    void *item;
    int64_t wait_ns = l->n_active ? 0 : PROBE_NS;
    while (kf_queue_pop(&l->s->inbox, &item, wait_ns) == KF_OK) {
        take(l, item);
        wait_ns = 0;
    }
}

static void end_cancelled(struct kf_loop *l) {
    unsigned n = atomic_load_explicit(&l->s->n_cancels, memory_order_acquire);
    if (n == l->n_cancels) return;
    l->n_cancels = n;
    for (size_t i = l->n_active; i-- > 0;) {
        kf_job_impl *j = job_at(l, l->active[i]);
        if (atomic_load_explicit(&j->cancelled, memory_order_relaxed))
            end_refused(l, j, KF_CODE_CANCELLED, "cancelled", 0);
    }
}

/* Jobs past their deadline have left the plan; sequences set back have lost their slot. */
static void clear_out(struct kf_loop *l, const kf_run *run) {
    kf_kv_cache *kv = l->s->models.kv;
    for (size_t i = 0; i < run->n_set_back; i++)
        kf_kv_cache_release(kv, (size_t)run->set_back_slot[i]);
    kf_metric_add(KF_M_PREEMPTIONS, run->n_set_back);
    for (size_t i = 0; i < run->n_expired; i++) {
        if (run->expired_slot[i] >= 0) kf_kv_cache_release(kv, (size_t)run->expired_slot[i]);
        kf_metric_add(KF_M_DEADLINE_MISSES, 1);
        end_refused(l, job_at(l, run->expired[i]), KF_CODE_DEADLINE_EXCEEDED,
                    "deadline_ms has passed before the answer was ready", 0);
    }
}

/* Jobs in hand, and neither a run to plan nor one on the device: a broken invariant of ours. They are answered all the
 * same. */
static void end_wedged(struct kf_loop *l) {
    KF_ASSERT(l->n_active == 0);
    kf_log(KF_ERROR, "plan_wedged", KF_INT("jobs", l->n_active), KF_END);
    while (l->n_active)
        end_refused(l, job_at(l, l->active[l->n_active - 1]), KF_CODE_INTERNAL, "this worker lost its plan", 0);
}

static void turn(struct kf_loop *l) {
    flight *next = &l->flights[l->now], *before = &l->flights[l->now ^ 1];
    bool full = l->n_active >= l->s->opts.max_running;
    take_jobs(l);
    end_cancelled(l);
    if (before->busy && is_done(before)) apply(l, before);
    bool anything = !l->failed && kf_plan_next(&l->plan, kf_clock_now_ns(), &l->run);
    if (!l->failed) clear_out(l, &l->run);
    if (anything) {
        enqueue(l, &l->run, next, before);
        l->now ^= 1;
    } else if (!before->busy && l->n_active) {
        end_wedged(l);
    }
    apply(l, before);
    if (!l->n_active) probe(l);
    int64_t now = kf_clock_now_ns();
    kf_account_rate(&l->account, l->s, now, full);
    kf_account_gauges(&l->account, l->s, &l->plan, l->active, l->n_active, now);
}

void *kf_loop_run(void *server) {
    kf_server *s = server;
    struct kf_loop *l = s->loop;
    l->account.turned_ns = l->probed_ns = kf_clock_now_ns();
    while (!atomic_load_explicit(&s->stopping, memory_order_acquire))
        turn(l);
    apply(l, &l->flights[l->now]);
    apply(l, &l->flights[l->now ^ 1]);
    void *item;
    while (kf_queue_pop(&s->inbox, &item, 0) == KF_OK)
        take(l, item);
    end_all(l, KF_STOPPING_TEXT);
    kf_account_gauges(&l->account, s, &l->plan, l->active, l->n_active, kf_clock_now_ns());
    return NULL;
}

/* ---- memory ---- */

static kf_status make_flights(struct kf_loop *l, const kf_plan_limits *lim) {
    for (int i = 0; i < 2; i++) {
        pass *p = &l->passes[i];
        flight *f = &l->flights[i];
        p->pass = l->s->models.pass[i];
        f->step = l->s->models.step[i];
        p->jobs = calloc(lim->encode_max_seqs, sizeof *p->jobs);
        p->cu_seqlens = calloc(lim->encode_max_seqs + 1, sizeof *p->cu_seqlens);
        f->rows = calloc(lim->max_running, sizeof *f->rows);
        f->epochs = calloc(lim->max_running, sizeof *f->epochs);
        if (!p->jobs || !p->cu_seqlens || !f->rows || !f->epochs)
            return KF_FAIL(KF_ERR_NO_MEMORY, "device thread: no memory for a run of %zu sequences", lim->max_running);
        KF_TRY(kf_event_new(l->s->device, &f->encoded));
    }
    return KF_OK;
}

kf_status kf_loop_new(kf_server *s, struct kf_loop **out) {
    const kf_plan_limits *lim = &s->limits;
    struct kf_loop *l = calloc(1, sizeof *l);
    if (!l) return KF_FAIL(KF_ERR_NO_MEMORY, "device thread: no memory");
    *out = l; /* the server's from here on: kf_server_free frees what was made */
    l->s = s;
    l->writer = (kf_writer){
        .tokenizer = s->models.decoder_tokenizer,
        .prompt = s->models.prompt,
        .config = s->models.decoder ? kf_decoder_config(s->models.decoder) : NULL,
    };
    KF_TRY(kf_plan_init(&l->plan, lim, &s->cost));
    KF_TRY(kf_run_init(&l->run, lim));
    l->encode_ids = calloc(lim->encode_max_tokens, sizeof *l->encode_ids);
    l->seqs = calloc(lim->max_running, sizeof *l->seqs);
    l->active = calloc(lim->n_jobs, sizeof *l->active);
    l->epochs = calloc(lim->n_jobs, sizeof *l->epochs);
    l->allowed_words = s->models.grammars ? kf_grammars_words(s->models.grammars) : 1;
    l->allowed = calloc(lim->max_running * l->allowed_words, sizeof *l->allowed);
    if (!l->allowed || !l->encode_ids || !l->seqs || !l->active || !l->epochs)
        return KF_FAIL(KF_ERR_NO_MEMORY, "device thread: no memory for %zu jobs", lim->n_jobs);
    KF_TRY(make_flights(l, lim));
    KF_TRY(kf_device_alloc(s->device, 64, "probe", &l->probe_memory));
    return kf_event_new(s->device, &l->probe);
}

void kf_loop_free(struct kf_loop *l) {
    if (!l) return;
    kf_event_free(l->s->device, l->probe);
    if (l->probe_memory) kf_device_free(l->s->device, l->probe_memory);
    for (int i = 0; i < 2; i++) {
        free(l->passes[i].jobs);
        free(l->passes[i].cu_seqlens);
        free(l->flights[i].rows);
        free(l->flights[i].epochs);
        kf_event_free(l->s->device, l->flights[i].encoded);
    }
    kf_plan_free(&l->plan);
    kf_run_free(&l->run);
    free(l->encode_ids);
    free(l->seqs);
    free(l->allowed);
    free(l->active);
    free(l->epochs);
    free(l);
}
