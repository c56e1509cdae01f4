/* What work costs on this device: timed at start, on real passes over made-up tokens. Each size runs once to warm up
 * (caches, packed weights, clocks) and then until a tenth of a second or five times are spent; the second best counts:
 * a busy machine makes it slower now and then, nothing makes it faster. The plan promises an upper bound, so the texts
 * are as long as they may be: attention costs most there. Sizes that take longer than any run will are not tried; the
 * curve goes on by its last slope. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/server_internal.h"

enum { MAX_RUNS = 5, MAX_CONTEXT = 256 }; /* tokens before a decoder row */
enum { TYPICAL_TEXT = 16, TYPICAL_PROMPT = 48, TYPICAL_REPLY = 32 };
#define ENOUGH_NS INT64_C(100000000)

typedef struct bench {
    kf_server *s;
    int32_t *ids;         /* [n_ids] */
    int32_t *cu_seqlens;  /* [encode_max_seqs + 1] */
    kf_decoder_seq *seqs; /* [max_running] */
    size_t size;          /* of what is timed now */
    size_t context;       /* tokens in the cache of each sequence, for decoder rows */
} bench;

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The second best time of run(b), in *ns; where there is one alone, that. */
static kf_status time_it(bench *b, kf_status (*run)(bench *b), int64_t *ns) {
    int64_t best = INT64_MAX, second = INT64_MAX, spent = 0;
    KF_TRY(run(b));
    for (size_t n = 0; n < MAX_RUNS && (n == 0 || spent < ENOUGH_NS); n++) {
        int64_t begin = kf_clock_now_ns();
        KF_TRY(run(b));
        int64_t t = kf_clock_now_ns() - begin;
        spent += t;
        second = t < best ? best : t < second ? t : second;
        best = t < best ? t : best;
    }
    *ns = second < INT64_MAX ? second : best;
    return KF_OK;
}

/* A pass of b->size tokens in as few texts as they fit in. */
static kf_status run_encoder(bench *b) {
    const kf_models *m = &b->s->models;
    size_t n_seqs = (b->size + m->encoder_max_seqlen - 1) / m->encoder_max_seqlen;
    for (size_t i = 0; i <= n_seqs; i++)
        b->cu_seqlens[i] = (int32_t)(b->size * i / n_seqs);
    kf_bert_pass *p = m->pass[0];
    KF_TRY(kf_bert_begin(p, b->s->encoder_stream, &(kf_bert_input){b->ids, b->cu_seqlens, n_seqs}));
    kf_bert_layers(p, b->s->encoder_stream, 0, b->s->limits.n_layers);
    KF_TRY(kf_bert_finish(p, b->s->encoder_stream));
    return kf_bert_wait(p);
}

static kf_status run_step(bench *b, size_t n_seqs) {
    kf_decoder_step *step = b->s->models.step[0];
    KF_TRY(kf_decoder_run(step, b->s->stream, b->seqs, n_seqs));
    return kf_decoder_wait(step);
}

static kf_decoder_seq part(const bench *b, size_t slot, size_t n_computed, size_t n_tokens, bool drawn) {
    return (kf_decoder_seq){
        .slot = (int32_t)slot,
        .input_ids = drawn ? NULL : b->ids,
        .n_tokens = n_tokens,
        .n_computed = n_computed,
        .sample = true,
        .params = {.top_p = 1, .repetition_penalty = 1},
    };
}

/* Prompts of b->size tokens in all, in as few slots as they fit in. */
static kf_status run_prefill(bench *b) {
    const kf_models *m = &b->s->models;
    size_t n = 0;
    kf_status status = KF_OK;
    for (size_t left = b->size; left && status == KF_OK; n++) {
        size_t n_tokens = min_size(left, m->decoder_max_seqlen);
        status = kf_kv_cache_reserve(m->kv, n, n_tokens);
        b->seqs[n] = part(b, n, 0, n_tokens, false);
        left -= n_tokens;
    }
    KF_STEP(status, run_step(b, n));
    for (size_t i = 0; i < n; i++)
        kf_kv_cache_release(m->kv, i);
    return status;
}

/* A row for each of b->size sequences. */
static kf_status run_decode(bench *b) {
    for (size_t i = 0; i < b->size; i++)
        b->seqs[i] = part(b, i, b->context, 1, true);
    return run_step(b, b->size);
}

/* Times run at the sizes first, 2 first, 4 first, … and most, as long as they take at most `enough` ns. */
static kf_status curve(bench *b, kf_status (*run)(bench *b), size_t first, size_t most, int64_t enough,
                       kf_cost_curve *out) {
    for (size_t size = min_size(first, most);; size = min_size(size * 2, most)) {
        int64_t ns = 0;
        b->size = size;
        KF_TRY(time_it(b, run, &ns));
        kf_cost_add(out, size, ns);
        if (size == most || ns > enough) return KF_OK;
    }
}

/* b->context tokens in the cache for each of the slots 0 … n - 1. */
static kf_status lay_contexts(bench *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        KF_TRY(kf_kv_cache_reserve(b->s->models.kv, i, b->context + 1));
        b->seqs[0] = part(b, i, 0, b->context, false);
        KF_TRY(run_step(b, 1));
    }
    return KF_OK;
}

static kf_status measure_decoder(bench *b) {
    kf_server *s = b->s;
    const kf_plan_limits *l = &s->limits;
    size_t max_seqlen = s->models.decoder_max_seqlen, cache = l->n_blocks * l->block_size;
    size_t most = min_size(l->step_max_tokens, min_size(l->max_running * max_seqlen, cache));
    KF_TRY(curve(b, run_prefill, 1, most, l->max_gap_ns, &s->cost.prefill));

    b->context = min_size(MAX_CONTEXT, max_seqlen / 2);
    size_t n = min_size(l->max_running, l->n_blocks / (b->context / l->block_size + 1));
    kf_status status = lay_contexts(b, n);
    KF_STEP(status, curve(b, run_decode, 1, n, l->max_gap_ns, &s->cost.decode));
    for (size_t i = 0; i < n; i++)
        kf_kv_cache_release(s->models.kv, i);
    return status;
}

static kf_status measure_encoder(bench *b) {
    kf_server *s = b->s;
    kf_cost_curve pass = {0};
    int64_t n_layers = (int64_t)s->limits.n_layers;
    int64_t enough = s->limits.max_gap_ns / 4 * n_layers; /* a layer is never given more than a quarter of a run */
    size_t most = min_size(s->models.encode_max_tokens, s->models.encode_max_seqs * s->models.encoder_max_seqlen);
    KF_TRY(curve(b, run_encoder, 8, most, enough, &pass));
    for (size_t i = 0; i < pass.n; i++)
        kf_cost_add(&s->cost.layer, (size_t)pass.size[i], (pass.ns[i] + n_layers - 1) / n_layers);
    return KF_OK;
}

/* The limit is a promise only where the smallest pieces keep it. */
static void warn_where_too_slow(const kf_server *s) {
    int64_t layer_ns = kf_cost_at(&s->cost.layer, s->models.encoder_max_seqlen);
    int64_t step_ns = kf_cost_at(&s->cost.decode, 1) + kf_cost_at(&s->cost.prefill, KF_PLAN_MIN_CHUNK);
    int64_t smallest_ns = layer_ns > step_ns ? layer_ns : step_ns;
    if (smallest_ns > s->limits.max_gap_ns)
        kf_log(KF_WARN, "smallest_step_over_max_gap", KF_F64("smallest_step_ms", (double)smallest_ns / 1e6),
               KF_F64("max_gap_ms", (double)s->limits.max_gap_ns / 1e6),
               KF_STR("what", layer_ns > step_ns ? "one encoder layer of the longest text" : "one decoder step"),
               KF_END);
}

kf_status kf_measure(kf_server *s) {
    const kf_models *m = &s->models;
    size_t n_ids = m->encode_max_tokens + m->step_max_tokens + m->decoder_max_seqlen;
    bench b = {
        .s = s,
        .ids = calloc(n_ids, sizeof *b.ids),
        .cu_seqlens = calloc(m->encode_max_seqs + 1, sizeof *b.cu_seqlens),
        .seqs = calloc(s->limits.max_running, sizeof *b.seqs),
    };
    kf_status status = KF_OK;
    if (!b.ids || !b.cu_seqlens || !b.seqs) status = KF_FAIL(KF_ERR_NO_MEMORY, "measuring: no memory");
    KF_STEP(status, measure_encoder(&b));
    if (m->decoder) KF_STEP(status, measure_decoder(&b));
    free(b.ids);
    free(b.cu_seqlens);
    free(b.seqs);
    if (status == KF_OK) warn_where_too_slow(s);
    return status;
}

int64_t kf_measured_ns_per_job(const kf_server *s) {
    enum { BATCH = 8 };
    int64_t encode = kf_cost_at(&s->cost.layer, BATCH * TYPICAL_TEXT) * (int64_t)s->limits.n_layers / BATCH;
    int64_t prefill = kf_cost_at(&s->cost.prefill, BATCH * TYPICAL_PROMPT) / BATCH;
    int64_t rows = (int64_t)s->limits.max_running;
    int64_t decode = TYPICAL_REPLY * kf_cost_at(&s->cost.decode, (size_t)rows) / rows;
    int64_t ns = encode + prefill + decode;
    return ns > 0 ? ns : 1;
}
