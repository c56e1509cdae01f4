/* The plan of plan.h, in the order of a run: deadlines, decoder rows, prompts, admission, the encoder. */
#include "serve/plan.h"

#include <stdlib.h>
#include <string.h>

static size_t blocks_for(const kf_plan *p, size_t n_tokens) {
    return (n_tokens + p->limits.block_size - 1) / p->limits.block_size;
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* ---- waiting lists ---- */

static bool before(const kf_plan *p, int32_t a, int32_t b) {
    int64_t ka = p->seqs[a].key_ns, kb = p->seqs[b].key_ns;
    return ka < kb || (ka == kb && a < b);
}

/* Inserts from the end: jobs come nearly in order. */
static void list_insert(kf_plan *p, kf_plan_list *l, int32_t idx) {
    int32_t after = l->last;
    while (after >= 0 && before(p, idx, after))
        after = p->seqs[after].prev;
    int32_t next = after >= 0 ? p->seqs[after].next : l->first;
    p->seqs[idx].prev = after;
    p->seqs[idx].next = next;
    *(after >= 0 ? &p->seqs[after].next : &l->first) = idx;
    *(next >= 0 ? &p->seqs[next].prev : &l->last) = idx;
    l->n++;
}

static void list_remove(kf_plan *p, kf_plan_list *l, int32_t idx) {
    int32_t prev = p->seqs[idx].prev, next = p->seqs[idx].next;
    *(prev >= 0 ? &p->seqs[prev].next : &l->first) = next;
    *(next >= 0 ? &p->seqs[next].prev : &l->last) = prev;
    l->n--;
}

/* ---- jobs come and go ---- */

/* When a request counts as come: after what its tenant has in hand, in the order of arrival. */
static int64_t fair_ns(kf_plan_tenant *t, const kf_plan_job *job, int64_t job_ns) {
    size_t n_before = 0;
    for (unsigned lane = 0; lane <= job->lane; lane++)
        n_before += t->n[lane];
    int64_t ns = job->arrived_ns + (int64_t)n_before * job_ns;
    if (t->n[job->lane]++ && ns < t->last_ns[job->lane]) ns = t->last_ns[job->lane];
    t->last_ns[job->lane] = ns;
    return ns;
}

void kf_plan_add(kf_plan *p, uint32_t job_idx, const kf_plan_job *job) {
    KF_ASSERT(p->seqs[job_idx].stage == KF_PLAN_FREE && job->lane < KF_PLAN_LANES);
    unsigned tenant = job->tenant % KF_PLAN_TENANTS;
    int64_t ns = fair_ns(&p->tenants[tenant], job, p->limits.job_ns);
    p->seqs[job_idx] = (kf_plan_seq){
        .stage = KF_PLAN_WAIT_ENCODE,
        .lane = job->lane,
        .tenant = tenant,
        .deadline_ns = job->deadline_ns,
        .key_ns = ns + (int64_t)job->lane * KF_LANE_AGE_NS,
        .n_encode = job->n_encode,
        .slot = -1,
    };
    if (job->deadline_ns && (!p->next_deadline_ns || job->deadline_ns < p->next_deadline_ns))
        p->next_deadline_ns = job->deadline_ns;
    list_insert(p, &p->wait_encode, (int32_t)job_idx);
}

void kf_plan_decode(kf_plan *p, uint32_t job_idx, size_t n_prompt, size_t max_new) {
    kf_plan_seq *q = &p->seqs[job_idx];
    KF_ASSERT(q->stage == KF_PLAN_ENCODE);
    q->stage = KF_PLAN_WAIT_DECODE;
    q->n_prompt = q->n_total = n_prompt;
    q->n_max = n_prompt + max_new;
    list_insert(p, &p->wait_decode, (int32_t)job_idx);
}

void kf_plan_wait_for_tokens(kf_plan *p, uint32_t job_idx) {
    p->seqs[job_idx].waits = true;
}

void kf_plan_drawn(kf_plan *p, uint32_t job_idx) {
    p->seqs[job_idx].in_flight = false;
}

/* Takes slot and blocks from a running sequence. */
static int32_t stop_running(kf_plan *p, uint32_t job_idx) {
    kf_plan_seq *q = &p->seqs[job_idx];
    size_t at = 0;
    while (p->running[at] != job_idx)
        at++;
    memmove(p->running + at, p->running + at + 1, (--p->n_running - at) * sizeof *p->running);
    int32_t slot = q->slot;
    p->free_slots[p->n_free_slots++] = slot;
    p->n_free_blocks += q->n_blocks;
    q->slot = -1;
    q->n_blocks = 0;
    q->n_computed = 0;
    q->drawn_here = false;
    return slot;
}

int32_t kf_plan_remove(kf_plan *p, uint32_t job_idx) {
    kf_plan_seq *q = &p->seqs[job_idx];
    int32_t slot = -1;
    if (q->stage != KF_PLAN_FREE) p->tenants[q->tenant].n[q->lane]--;
    switch (q->stage) {
    case KF_PLAN_WAIT_ENCODE: list_remove(p, &p->wait_encode, (int32_t)job_idx); break;
    case KF_PLAN_WAIT_DECODE: list_remove(p, &p->wait_decode, (int32_t)job_idx); break;
    case KF_PLAN_RUNNING: slot = stop_running(p, job_idx); break;
    case KF_PLAN_ENCODE: /* its pass goes on; the results fall on nobody */
    case KF_PLAN_FREE: break;
    }
    q->stage = KF_PLAN_FREE;
    return slot;
}

/* ---- a run ---- */

static void expire(kf_plan *p, int64_t now_ns, kf_run *run) {
    if (!p->next_deadline_ns || now_ns < p->next_deadline_ns) return;
    p->next_deadline_ns = 0;
    for (uint32_t i = 0; i < p->limits.n_jobs; i++) {
        const kf_plan_seq *q = &p->seqs[i];
        if (q->stage == KF_PLAN_FREE || !q->deadline_ns) continue;
        if (q->deadline_ns <= now_ns) {
            run->expired_slot[run->n_expired] = kf_plan_remove(p, i);
            run->expired[run->n_expired++] = i;
        } else if (!p->next_deadline_ns || q->deadline_ns < p->next_deadline_ns) {
            p->next_deadline_ns = q->deadline_ns;
        }
    }
}

/* Tokens that are known but not in the cache. One, once the prompt is in: the token drawn last. */
static size_t pending(const kf_plan_seq *q) {
    return q->n_total - q->n_computed;
}

static bool is_decoding(const kf_plan_seq *q) {
    return q->drawn_here;
}

/* The last token that a sequence may draw needs no row after it. */
static bool all_drawn(const kf_plan_seq *q) {
    return q->n_total == q->n_max;
}

static void put_row(kf_plan *p, kf_run *run, uint32_t job_idx, size_t n_tokens) {
    kf_plan_seq *q = &p->seqs[job_idx];
    bool sample = n_tokens == pending(q);
    run->rows[run->n_rows++] = (kf_plan_row){
        .job_idx = job_idx,
        .slot = q->slot,
        .n_computed = (uint32_t)q->n_computed,
        .n_tokens = (uint32_t)n_tokens,
        .sampled = is_decoding(q),
        .sample = sample,
    };
    q->n_computed += n_tokens;
    if (!sample) return;
    q->n_total++;
    q->drawn_here = true;
    q->in_flight = q->waits;
}

static void set_back_newest(kf_plan *p, kf_run *run) {
    uint32_t job_idx = p->running[p->n_running - 1];
    run->set_back_slot[run->n_set_back] = stop_running(p, job_idx);
    run->set_back[run->n_set_back++] = job_idx;
    p->seqs[job_idx].stage = KF_PLAN_WAIT_DECODE;
    list_insert(p, &p->wait_decode, (int32_t)job_idx);
}

/* A row for every sequence that is writing, oldest first; a sequence's next block may cost the newest its place. */
static void plan_decode_rows(kf_plan *p, kf_run *run) {
    for (size_t i = 0; i < p->n_running; i++) {
        uint32_t job_idx = p->running[i];
        kf_plan_seq *q = &p->seqs[job_idx];
        if (!is_decoding(q) || all_drawn(q) || q->in_flight) continue;
        size_t more = blocks_for(p, q->n_total) - q->n_blocks; /* 0 or 1 */
        while (more > p->n_free_blocks && p->n_running - 1 > i)
            set_back_newest(p, run);
        if (more > p->n_free_blocks) { /* it is itself the newest */
            set_back_newest(p, run);
            break;
        }
        q->n_blocks += more;
        p->n_free_blocks -= more;
        put_row(p, run, job_idx, 1);
        run->work.n_decode_rows++;
    }
    run->cost_ns += kf_cost_at(&p->cost.decode, run->work.n_decode_rows);
}

/* Tokens of one prompt that still fit in this run: at least KF_PLAN_MIN_CHUNK of them or the prompt's rest; where
 * nobody is decoding, no gap is at stake and one chunk goes in any case. */
static size_t chunk_that_fits(const kf_plan *p, const kf_run *run, const kf_plan_seq *q, int64_t budget_ns) {
    size_t done = run->work.n_prefill_tokens;
    size_t rows_left = p->limits.step_max_tokens - run->work.n_decode_rows - done;
    size_t want = min_size(pending(q), rows_left);
    size_t least = min_size(want, KF_PLAN_MIN_CHUNK);
    size_t fit = kf_cost_fit(&p->cost.prefill, budget_ns, done + want);
    size_t n = fit > done ? fit - done : 0;
    if (n < least) n = run->n_rows == 0 ? least : 0;
    return n;
}

static bool prefill(kf_plan *p, kf_run *run, uint32_t job_idx, int64_t budget_ns) {
    size_t n = chunk_that_fits(p, run, &p->seqs[job_idx], budget_ns);
    if (n == 0) return false;
    put_row(p, run, job_idx, n);
    run->work.n_prefill_tokens += n;
    return true;
}

static int64_t encoder_share_ns(const kf_plan *p) {
    return p->limits.max_gap_ns / 4;
}

size_t kf_plan_rows_that_fit(const kf_plan *p) {
    int64_t left = p->limits.max_gap_ns - encoder_share_ns(p) - kf_cost_at(&p->cost.prefill, KF_PLAN_MIN_CHUNK);
    size_t n = kf_cost_fit(&p->cost.decode, left, p->limits.max_running);
    return n ? n : 1;
}

/* The oldest waiting sequence gets a slot and its prompt's blocks, if with it every step still fits. One free block for
 * each running sequence is left, so that admission does not at once set somebody back. */
static bool admit(kf_plan *p) {
    int32_t idx = p->wait_decode.first;
    if (idx < 0 || p->encoder_stalled || p->n_free_slots == 0 || p->n_running >= kf_plan_rows_that_fit(p)) return false;
    kf_plan_seq *q = &p->seqs[idx];
    size_t need = blocks_for(p, q->n_total);
    if (need + p->n_running > p->n_free_blocks) return false;
    list_remove(p, &p->wait_decode, idx);
    q->stage = KF_PLAN_RUNNING;
    q->slot = p->free_slots[--p->n_free_slots];
    q->n_blocks = need;
    p->n_free_blocks -= need;
    p->running[p->n_running++] = (uint32_t)idx;
    return true;
}

static void plan_prompts(kf_plan *p, kf_run *run, int64_t budget_ns) {
    size_t i = 0;
    for (; i < p->n_running; i++) {
        const kf_plan_seq *q = &p->seqs[p->running[i]];
        if (is_decoding(q) || all_drawn(q)) continue;
        if (!prefill(p, run, p->running[i], budget_ns)) return;
    }
    while (run->n_set_back == 0 && p->wait_decode.n) {
        if (!chunk_that_fits(p, run, &p->seqs[p->wait_decode.first], budget_ns) || !admit(p)) return;
        prefill(p, run, p->running[p->n_running - 1], budget_ns);
    }
}

/* A pass takes the oldest texts of which one layer together takes at most layer_ns: the first in any case. */
static void begin_pass(kf_plan *p, kf_run *run, int64_t layer_ns) {
    size_t n_tokens = 0;
    while (p->wait_encode.n && run->n_encode < p->limits.encode_max_seqs) {
        int32_t idx = p->wait_encode.first;
        size_t with = n_tokens + p->seqs[idx].n_encode;
        if (n_tokens && (with > p->limits.encode_max_tokens || kf_cost_at(&p->cost.layer, with) > layer_ns)) break;
        list_remove(p, &p->wait_encode, idx);
        p->seqs[idx].stage = KF_PLAN_ENCODE;
        run->encode[run->n_encode++] = (uint32_t)idx;
        n_tokens = with;
    }
    run->encode_begin = true;
    p->pass_tokens = n_tokens;
    p->pass_layer = 0;
}

/* As many layers of the pass under way, or of a new one, as fit. One layer of a new pass stays below the encoder's
 * share, so that it can go on beside the decoder. Where nobody is decoding, one layer goes in any case. */
static void plan_encoder(kf_plan *p, kf_run *run, int64_t budget_ns) {
    if (p->pass_tokens == 0 && p->wait_encode.n == 0) {
        p->encoder_stalled = false;
        return;
    }
    size_t n_tokens = p->pass_tokens ? p->pass_tokens : p->seqs[p->wait_encode.first].n_encode;
    if (run->n_rows && kf_cost_at(&p->cost.layer, n_tokens) > budget_ns) {
        p->encoder_stalled = true;
        return;
    }
    if (p->pass_tokens == 0) {
        int64_t share_ns = encoder_share_ns(p);
        begin_pass(p, run, run->n_rows && budget_ns < share_ns ? budget_ns : share_ns);
    }
    int64_t layer_ns = kf_cost_at(&p->cost.layer, p->pass_tokens);
    size_t n_layers = p->limits.n_layers - p->pass_layer;
    if (layer_ns > 0 && budget_ns / layer_ns < (int64_t)n_layers)
        n_layers = budget_ns > layer_ns ? (size_t)(budget_ns / layer_ns) : 1;
    run->layer_from = p->pass_layer;
    run->layer_to = p->pass_layer += n_layers;
    run->work.pass_tokens = p->pass_tokens;
    run->work.n_layers = n_layers;
    run->cost_ns += layer_ns * (int64_t)n_layers;
    if (p->pass_layer < p->limits.n_layers) return;
    run->encode_finish = true;
    p->encoder_stalled = false;
    p->pass_tokens = 0;
}

bool kf_plan_next(kf_plan *p, int64_t now_ns, kf_run *run) {
    run->encode_begin = run->encode_finish = false;
    run->layer_from = run->layer_to = 0;
    run->n_encode = 0;
    run->n_rows = 0;
    run->work = (kf_work){0};
    run->n_set_back = run->n_expired = 0;
    run->cost_ns = 0;

    expire(p, now_ns, run);
    plan_decode_rows(p, run);
    bool encoder_has_work = p->pass_tokens || p->wait_encode.n;
    int64_t left = p->limits.max_gap_ns - run->cost_ns;
    plan_prompts(p, run, left - (encoder_has_work ? encoder_share_ns(p) : 0));
    int64_t prompts_ns = kf_cost_at(&p->cost.prefill, run->work.n_prefill_tokens);
    run->cost_ns += prompts_ns;
    plan_encoder(p, run, left - prompts_ns);
    return run->n_rows || run->layer_to > run->layer_from;
}

void kf_plan_took(kf_plan *p, const kf_work *work, int64_t ns) {
    kf_cost_learn(&p->cost, work, ns);
}

/* ---- memory ---- */

kf_status kf_plan_init(kf_plan *p, const kf_plan_limits *l, const kf_cost *cost) {
    KF_REQUIRE(l->n_jobs && l->max_running && l->block_size && l->n_blocks && l->max_gap_ns > 0);
    KF_REQUIRE(l->step_max_tokens >= l->max_running);
    kf_plan made = {
        .limits = *l,
        .cost = *cost,
        .seqs = calloc(l->n_jobs, sizeof *made.seqs),
        .running = calloc(l->max_running, sizeof *made.running),
        .free_slots = calloc(l->max_running, sizeof *made.free_slots),
        .wait_encode = {.first = -1, .last = -1},
        .wait_decode = {.first = -1, .last = -1},
        .n_free_slots = l->max_running,
        .n_free_blocks = l->n_blocks,
    };
    if (!made.seqs || !made.running || !made.free_slots) {
        kf_plan_free(&made);
        return KF_FAIL(KF_ERR_NO_MEMORY, "plan: no memory for %zu jobs, %zu of them running", l->n_jobs,
                       l->max_running);
    }
    for (size_t i = 0; i < l->max_running; i++)
        made.free_slots[i] = (int32_t)(l->max_running - 1 - i);
    *p = made;
    return KF_OK;
}

void kf_plan_free(kf_plan *p) {
    free(p->seqs);
    free(p->running);
    free(p->free_slots);
    *p = (kf_plan){0};
}

kf_status kf_run_init(kf_run *run, const kf_plan_limits *l) {
    kf_run made = {
        .encode = calloc(l->encode_max_seqs, sizeof *made.encode),
        .rows = calloc(l->max_running, sizeof *made.rows),
        .set_back = calloc(l->max_running, sizeof *made.set_back),
        .set_back_slot = calloc(l->max_running, sizeof *made.set_back_slot),
        .expired = calloc(l->n_jobs, sizeof *made.expired),
        .expired_slot = calloc(l->n_jobs, sizeof *made.expired_slot),
    };
    if (!made.encode || !made.rows || !made.set_back || !made.set_back_slot || !made.expired || !made.expired_slot) {
        kf_run_free(&made);
        return KF_FAIL(KF_ERR_NO_MEMORY, "plan: no memory for a run of %zu jobs", l->n_jobs);
    }
    *run = made;
    return KF_OK;
}

void kf_run_free(kf_run *run) {
    free(run->encode);
    free(run->rows);
    free(run->set_back);
    free(run->set_back_slot);
    free(run->expired);
    free(run->expired_slot);
    *run = (kf_run){0};
}
