/* Times the engine's models on one device: a forward pass of BERT over given lengths, a decoder's step of n sequences,
 * a prompt's prefill. tests/gpu/run makes the models, calls it, and holds its figures against PyTorch's.
 *
 *     build/gpu/tests/gpu_bench --device cuda --model build/gpu/models/llama-3.2-1b 'decode:decode 8:8:512'
 *
 * A case is bert:NAME:LENGTH,LENGTH,… or decode:NAME:N_SEQS:CONTEXT or prefill:NAME:N_TOKENS; one line of JSON each.
 * `us` is the time of a run while the next is enqueued already, as the worker does it; `us_alone` from one run's
 * enqueueing to its results on the host. Both are medians over ROUNDS rounds after a warm-up, on the steady clock,
 * copies to and from the host and the draw of a token included. `hash` is of the first run's results: another hash is
 * another answer. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/options.h"
#include "base/sort.h"
#include "model/bert.h"
#include "model/decoder.h"

enum { ROUNDS = 7, WARM_UP = 3, CASES_MAX = 32 };

typedef struct settings {
    int device, dtype;
    const char *model;
    bool not_invariant, no_graphs, once;
    int64_t threads;
    double seconds;
    bool help;
} settings;

static const char *const dtypes[] = {"bf16", "f32", NULL};
static const kf_option table[] = {
    KF_OPTION("device", KF_OPTION_CHOICE, offsetof(settings, device), "NAME", "cuda", "cpu, cuda or null",
              .choices = kf_device_names),
    KF_OPTION("dtype", KF_OPTION_CHOICE, offsetof(settings, dtype), "TYPE", "bf16", "bf16 or f32", .choices = dtypes),
    KF_OPTION("model", KF_OPTION_TEXT, offsetof(settings, model), "DIR", NULL, "the checkpoint"),
    KF_OPTION("not-invariant", KF_OPTION_FLAG, offsetof(settings, not_invariant), NULL, NULL,
              "--batch-invariant=off: bits may depend on the batch"),
    KF_OPTION("no-graphs", KF_OPTION_FLAG, offsetof(settings, no_graphs), NULL, NULL,
              "kernels are launched one by one"),
    KF_OPTION("once", KF_OPTION_FLAG, offsetof(settings, once), NULL, NULL, "the first run alone, for a profiler"),
    KF_OPTION("threads", KF_OPTION_INT, offsetof(settings, threads), "N", "0", "cpu: 0 takes all", .max = 1024),
    KF_OPTION("seconds", KF_OPTION_REAL, offsetof(settings, seconds), "S", "1", "of measuring, a case", .max = 600),
    KF_OPTION("help", KF_OPTION_FLAG, offsetof(settings, help), NULL, NULL, "this text", .once = true),
};

typedef enum case_kind { CASE_BERT, CASE_DECODE, CASE_PREFILL } case_kind;

typedef struct bench_case {
    case_kind kind;
    char name[64];
    int32_t *cu_seqlens; /* bert: [n_seqs + 1] */
    size_t n_seqs, n_tokens, context;
} bench_case;

/* What is measured: two runs that may be enqueued at once. */
typedef struct runs {
    const bench_case *c;
    kf_device *d;
    kf_stream *s;
    kf_bert *bert;
    kf_bert_pass *pass[2];
    kf_decoder *decoder;
    kf_decoder_step *step[2];
    kf_decoder_seq *seqs; /* [n_seqs] of a step */
    int32_t *ids;         /* [largest case's tokens] */
    bool no_graphs;
    int64_t min_ns; /* of measuring */
    bool once;      /* nothing is measured */
} runs;

/* ---- cases ---- */

static kf_status lengths_parse(const char *list, bench_case *c) {
    size_t n = 1;
    for (const char *p = list; *p; p++)
        n += *p == ',';
    c->cu_seqlens = calloc(n + 1, sizeof *c->cu_seqlens);
    if (!c->cu_seqlens) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu lengths", n);
    for (const char *p = list; c->n_seqs < n; p++) {
        char *end;
        long length = strtol(p, &end, 10);
        if (length < 1 || length > 1 << 20 || (*end && *end != ','))
            return KF_FAIL(KF_ERR_INVALID, "%s: lengths like 7,12,3 wanted, found \"%.20s\"", c->name, p);
        c->cu_seqlens[c->n_seqs + 1] = c->cu_seqlens[c->n_seqs] + (int32_t)length;
        c->n_seqs++;
        p = end;
    }
    c->n_tokens = (size_t)c->cu_seqlens[n];
    return KF_OK;
}

static kf_status case_parse(const char *text, bench_case *c) {
    static const char *const kinds[] = {"bert", "decode", "prefill"};
    char kind[16];
    int at = 0;
    if (sscanf(text, "%15[^:]:%63[^:]:%n", kind, c->name, &at) == 2 && at > 0) {
        for (c->kind = CASE_BERT; c->kind <= CASE_PREFILL; c->kind++)
            if (strcmp(kind, kinds[c->kind]) == 0) break;
        if (c->kind == CASE_BERT) return lengths_parse(text + at, c);
        c->n_seqs = 1;
        if (c->kind == CASE_DECODE && sscanf(text + at, "%zu:%zu", &c->n_seqs, &c->context) == 2 && c->n_seqs > 0 &&
            c->context > 0)
            return KF_OK;
        if (c->kind == CASE_PREFILL && sscanf(text + at, "%zu", &c->n_tokens) == 1 && c->n_tokens > 0) return KF_OK;
    }
    return KF_FAIL(KF_ERR_INVALID, "case \"%.40s\": bert:NAME:7,12,…, decode:NAME:N_SEQS:CONTEXT or prefill:NAME:N",
                   text);
}

/* ---- one run, enqueued and waited for ---- */

static kf_status enqueue(runs *r, size_t i) {
    const bench_case *c = r->c;
    if (c->kind != CASE_BERT) return kf_decoder_run(r->step[i], r->s, r->seqs, c->n_seqs);
    KF_TRY(kf_bert_begin(r->pass[i], r->s, &(kf_bert_input){r->ids, c->cu_seqlens, c->n_seqs}));
    kf_bert_layers(r->pass[i], r->s, 0, kf_bert_config(r->bert)->n_layers);
    return kf_bert_finish(r->pass[i], r->s);
}

static kf_status wait(runs *r, size_t i) {
    return r->c->kind == CASE_BERT ? kf_bert_wait(r->pass[i]) : kf_decoder_wait(r->step[i]);
}

/* n runs, two enqueued at a time (or one), in nanoseconds. */
static kf_status time_runs(runs *r, size_t n, bool alone, int64_t *ns) {
    int64_t begin = kf_clock_now_ns();
    for (size_t i = 0; i < n; i++) {
        if (i >= 2 && !alone) KF_TRY(wait(r, i % 2));
        KF_TRY(enqueue(r, i % 2));
        if (alone) KF_TRY(wait(r, i % 2));
    }
    for (size_t i = n < 2 ? 0 : n - 2; i < n && !alone; i++)
        KF_TRY(wait(r, i % 2));
    *ns = kf_clock_now_ns() - begin;
    return KF_OK;
}

typedef struct timing {
    double us[ROUNDS]; /* of a run, sorted */
    size_t n_runs;     /* of a round */
} timing;

static kf_status measure(runs *r, bool alone, timing *t) {
    int64_t ns = 0;
    KF_TRY(time_runs(r, WARM_UP, alone, &ns));
    KF_TRY(time_runs(r, WARM_UP, alone, &ns));
    int64_t round_ns = r->min_ns / ROUNDS;
    t->n_runs = WARM_UP * (size_t)(round_ns / (ns > 0 ? ns : 1)) + WARM_UP;
    for (size_t i = 0; i < ROUNDS; i++) {
        KF_TRY(time_runs(r, t->n_runs, alone, &ns));
        t->us[i] = (double)ns / 1e3 / (double)t->n_runs;
    }
    kf_sort_f64(t->us, ROUNDS);
    return KF_OK;
}

/* The first run's results. */
static uint64_t results_hash(const runs *r) {
    uint64_t h = KF_FNV64_START;
    if (r->c->kind != CASE_BERT)
        return kf_fnv64_words(h, kf_decoder_results(r->step[0]), r->c->n_seqs * sizeof(kf_sample_out));
    for (size_t i = 0; i < r->c->n_seqs; i++)
        h = kf_fnv64_words(h, kf_bert_logits(r->pass[0], 0, i), kf_bert_head(r->bert, 0)->n_labels * sizeof(float));
    return h;
}

static kf_status run_case(runs *r) {
    timing t, alone;
    KF_TRY(enqueue(r, 0));
    KF_TRY(wait(r, 0));
    uint64_t hash = results_hash(r);
    for (size_t i = 0; r->c->kind != CASE_BERT && i < r->c->n_seqs; i++)
        if (!kf_decoder_results(r->step[0])[i].finite)
            return KF_FAIL(KF_ERR_CORRUPT, "%s: the logits of sequence %zu hold NaN or infinity", r->c->name, i);
    if (r->once) {
        printf("{\"case\": \"%s\", \"hash\": \"%016" PRIx64 "\"}\n", r->c->name, hash);
        return KF_OK;
    }
    KF_TRY(measure(r, false, &t));
    KF_TRY(measure(r, true, &alone));
    printf("{\"case\": \"%s\", \"us\": %.3f, \"us_min\": %.3f, \"us_max\": %.3f, \"us_alone\": %.3f, \"runs\": %zu, "
           "\"hash\": \"%016" PRIx64 "\"}\n",
           r->c->name, t.us[ROUNDS / 2], t.us[0], t.us[ROUNDS - 1], alone.us[ROUNDS / 2], ROUNDS * t.n_runs, hash);
    fflush(stdout);
    return KF_OK;
}

/* ---- what a case's first run needs ---- */

static void fill_ids(runs *r, size_t n, size_t vocab_size) {
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        r->ids[i] = (int32_t)((x >> 8) % vocab_size);
    }
}

static kf_decoder_seq seq_of(size_t slot, const int32_t *ids, size_t n_tokens, size_t n_computed) {
    return (kf_decoder_seq){.slot = (int32_t)slot,
                            .input_ids = ids,
                            .n_tokens = n_tokens,
                            .n_computed = n_computed,
                            .sample = true,
                            .params = {.top_p = 1, .repetition_penalty = 1}};
}

/* Every sequence's context into the cache. */
static kf_status fill_cache(runs *r) {
    for (size_t i = 0; i < r->c->n_seqs; i++) {
        kf_decoder_seq seq = seq_of(i, r->ids, r->c->context, 0);
        KF_TRY(kf_decoder_run(r->step[0], r->s, &seq, 1));
        KF_TRY(kf_decoder_wait(r->step[0]));
        r->seqs[i] = seq_of(i, NULL, 1, r->c->context); /* from now on the token that was drawn last */
    }
    return KF_OK;
}

static kf_status decoder_case(runs *r) {
    const bench_case *c = r->c;
    kf_kv_cache *kv = kf_decoder_kv_cache(r->decoder);
    for (size_t i = 0; i < c->n_seqs; i++)
        KF_TRY(kf_kv_cache_reserve(kv, i, c->context + c->n_tokens + 1));
    if (c->kind == CASE_DECODE)
        KF_TRY(fill_cache(r));
    else
        r->seqs[0] = seq_of(0, r->ids, c->n_tokens, 0);
    KF_TRY(run_case(r));
    for (size_t i = 0; i < c->n_seqs; i++)
        kf_kv_cache_release(kv, i);
    return KF_OK;
}

/* ---- models ---- */

/* The largest of the cases, so that one model serves all. */
static bench_case largest(const bench_case *cases, size_t n, size_t *cache_tokens) {
    bench_case all = {0};
    *cache_tokens = 0;
    for (size_t i = 0; i < n; i++) {
        const bench_case *c = &cases[i];
        size_t a_seq = (c->context + c->n_tokens + KF_KV_BLOCK_SIZE) / KF_KV_BLOCK_SIZE * KF_KV_BLOCK_SIZE;
        size_t rows = c->kind == CASE_DECODE ? (c->context > c->n_seqs ? c->context : c->n_seqs) : c->n_tokens;
        if (c->n_seqs > all.n_seqs) all.n_seqs = c->n_seqs;
        if (rows > all.n_tokens) all.n_tokens = rows;
        if (a_seq > all.context) all.context = a_seq;
        if (c->n_seqs * a_seq > *cache_tokens) *cache_tokens = c->n_seqs * a_seq;
    }
    return all;
}

static kf_status bert_open(runs *r, const char *dir, const bench_case *all) {
    KF_TRY(kf_bert_open(r->d, dir, &(kf_bert_opts){.max_tokens = all->n_tokens, .max_seqs = all->n_seqs}, &r->bert));
    for (size_t i = 0; i < 2; i++)
        KF_TRY(kf_bert_pass_new(r->bert, &r->pass[i]));
    fill_ids(r, all->n_tokens, kf_bert_config(r->bert)->vocab_size);
    return kf_bert_n_heads(r->bert) ? KF_OK : KF_FAIL(KF_ERR_INVALID, "%s: a model with a head is wanted", dir);
}

static kf_status decoder_open(runs *r, const char *dir, const kf_config *c, const bench_case *all,
                              size_t cache_tokens) {
    const kf_kv_shape shape = {.n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim};
    const kf_decoder_opts opts = {.max_tokens = all->n_tokens,
                                  .max_seqs = all->n_seqs,
                                  .max_seqlen = all->context,
                                  .cache_bytes = cache_tokens / KF_KV_BLOCK_SIZE * kf_kv_block_bytes(r->d, &shape)};
    KF_TRY(kf_decoder_open(r->d, dir, &opts, &r->decoder));
    if (!r->no_graphs) KF_TRY(kf_decoder_capture(r->decoder, r->s));
    for (size_t i = 0; i < 2; i++)
        KF_TRY(kf_decoder_step_new(r->decoder, &r->step[i]));
    fill_ids(r, all->n_tokens, c->vocab_size);
    return KF_OK;
}

static kf_status run_cases(runs *r, const char *dir, const bench_case *cases, size_t n) {
    kf_config c = {0};
    size_t cache_tokens;
    const bench_case all = largest(cases, n, &cache_tokens);
    KF_TRY(kf_config_read(dir, &c));
    for (size_t i = 0; i < n; i++)
        if ((cases[i].kind == CASE_BERT) != (c.family == KF_FAMILY_BERT)) {
            kf_config_free(&c);
            return KF_FAIL(KF_ERR_INVALID, "%s: case %s is not for this kind of model", dir, cases[i].name);
        }
    r->seqs = calloc(all.n_seqs, sizeof *r->seqs);
    r->ids = calloc(all.n_tokens, sizeof *r->ids);
    kf_status s = r->seqs && r->ids ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu tokens", all.n_tokens);
    KF_STEP(s, kf_stream_open(r->d, &r->s));
    KF_STEP(s, c.family == KF_FAMILY_BERT ? bert_open(r, dir, &all) : decoder_open(r, dir, &c, &all, cache_tokens));
    for (size_t i = 0; i < n; i++) {
        r->c = &cases[i];
        KF_STEP(s, r->bert ? run_case(r) : decoder_case(r));
    }
    kf_config_free(&c);
    return s;
}

static void runs_close(runs *r) {
    for (size_t i = 0; i < 2; i++) {
        kf_bert_pass_free(r->pass[i]);
        kf_decoder_step_free(r->step[i]);
    }
    kf_bert_close(r->bert);
    kf_decoder_close(r->decoder);
    kf_stream_close(r->s);
    kf_device_close(r->d);
    free(r->seqs);
    free(r->ids);
}

static kf_status bench(const settings *o, char **texts, size_t n) {
    bench_case cases[CASES_MAX] = {0};
    kf_status s = KF_OK;
    if (!o->model || n == 0 || n > CASES_MAX)
        return KF_FAIL(KF_ERR_INVALID, "--model DIR and 1 to %d cases are wanted; see --help", CASES_MAX);
    for (size_t i = 0; i < n; i++)
        KF_STEP(s, case_parse(texts[i], &cases[i]));
    const kf_device_opts opts = {
        .dtype = o->dtype ? KF_F32 : KF_BF16, .n_threads = (int)o->threads, .batch_invariant_off = o->not_invariant};
    runs r = {.min_ns = (int64_t)(o->seconds * 1e9), .once = o->once, .no_graphs = o->no_graphs};
    KF_STEP(s, kf_device_open(kf_device_names[o->device], &opts, &r.d));
    KF_STEP(s, run_cases(&r, o->model, cases, n));
    runs_close(&r);
    for (size_t i = 0; i < n; i++)
        free(cases[i].cu_seqlens);
    return s;
}

int main(int argc, char **argv) {
    settings s = {0};
    kf_options o = {.program = "gpu_bench",
                    .usage = "--model DIR CASE…",
                    .about = "\nbert:NAME:7,12,…   decode:NAME:N_SEQS:CONTEXT   prefill:NAME:N_TOKENS\n",
                    .table = table,
                    .n_table = sizeof table / sizeof *table};
    kf_status st = kf_options_parse(&o, argc, argv, &s);
    if (st == KF_OK && s.help)
        kf_options_help(&o, stdout);
    else
        KF_STEP(st, bench(&s, o.rest, o.n_rest));
    if (st != KF_OK) fprintf(stderr, "gpu_bench: %s\n", kf_error_text());
    kf_options_free(&o);
    return st == KF_OK ? 0 : 1;
}
