/* kefu generate: a decoder goes on from a prompt, in this process. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cli/cli.h"
#include "cli/local.h"
#include "cli/term.h"
#include "model/decoder.h"

enum { PREFILL_CHUNK = 512, TOKEN_BYTES_MAX = 1024 };

typedef struct settings {
    kf_cli_common common;
    kf_local_opts local;
    int64_t max_tokens, top_k, seed;
    double temperature, top_p, min_p, repetition_penalty;
} settings;

#define FIELD(f) offsetof(settings, f)
static const kf_option table[] = {
    KF_MODEL_OPTION(settings, local),
    KF_INPUT_OPTIONS(settings, local),
    KF_CHAT_OPTIONS(settings, local),
    KF_OPTION("max-tokens", KF_OPTION_INT, FIELD(max_tokens), "N", "64", "longest continuation", .min = 1,
              .max = 1 << 20, .once = true),
    KF_OPTION("temperature", KF_OPTION_REAL, FIELD(temperature), "T", "0", "0 is greedy", .max = 2, .once = true),
    KF_OPTION("top-k", KF_OPTION_INT, FIELD(top_k), "K", "0", "0 is off", .max = 1 << 20, .once = true),
    KF_OPTION("top-p", KF_OPTION_REAL, FIELD(top_p), "P", "1", "1 is off", .min = 1e-6, .max = 1, .once = true),
    KF_OPTION("min-p", KF_OPTION_REAL, FIELD(min_p), "P", "0", "0 is off", .max = 1, .once = true),
    KF_OPTION("repetition-penalty", KF_OPTION_REAL, FIELD(repetition_penalty), "X", "1", "1 is off", .min = 1e-6,
              .max = 10, .once = true),
    KF_OPTION("seed", KF_OPTION_INT, FIELD(seed), "N", NULL, "the same seed, the same text; else one is drawn",
              .max = 9007199254740991.0, .once = true),
    KF_DEVICE_OPTIONS(settings, local),
    KF_CLI_OPTIONS(settings),
};

/* What is being written. */
typedef struct writing {
    const settings *s;
    const kf_ids *prompt;
    int32_t *ids; /* [max_tokens] drawn, an end-of-text token included */
    size_t n;
    char *text; /* [text_cap], n_text bytes so far */
    size_t n_text, text_cap;
    kf_detokenizer detokenizer;
    const char *finish_reason;
    kf_sample_params params;
} writing;

static kf_sample_params sample_params(const settings *s, const kf_options *o) {
    uint64_t seed = (uint64_t)s->seed;
    if (!kf_options_given(o, "seed") && getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = 0;
    return (kf_sample_params){.temperature = (float)s->temperature,
                              .top_p = (float)s->top_p,
                              .min_p = (float)s->min_p,
                              .repetition_penalty = (float)s->repetition_penalty,
                              .top_k = (int32_t)s->top_k,
                              .seed_lo = (uint32_t)seed,
                              .seed_hi = (uint32_t)(seed >> 32)};
}

/* Takes one drawn token: its text is shown at once where somebody reads along. */
static kf_status take(writing *w, const kf_config *c, int32_t id) {
    size_t before = w->n_text;
    w->ids[w->n++] = id;
    for (size_t i = 0; i < c->n_eos; i++)
        if (id == c->eos_ids[i]) w->finish_reason = "stop";
    if (!w->finish_reason && w->n == (size_t)w->s->max_tokens) w->finish_reason = "length";
    if (!w->prompt->tokenizer) return KF_OK;
    KF_TRY(kf_detokenizer_push(&w->detokenizer, w->prompt->tokenizer, id, w->text, w->text_cap - 1, &w->n_text));
    if (w->finish_reason) KF_TRY(kf_detokenizer_finish(&w->detokenizer, w->text, w->text_cap - 1, &w->n_text));
    w->text[w->n_text] = 0;
    if (!w->s->common.json) {
        kf_term_text(stdout, w->text + before);
        fflush(stdout);
    }
    return KF_OK;
}

/* Runs one step of slot 0 and waits for it. */
static kf_status run_step(kf_local *l, kf_decoder *m, kf_decoder_step *step, const kf_decoder_seq *seq) {
    KF_TRY(kf_kv_cache_reserve(kf_decoder_kv_cache(m), 0, seq->n_computed + seq->n_tokens));
    KF_TRY(kf_decoder_run(step, l->stream, seq, 1));
    return kf_decoder_wait(step);
}

static kf_status write_on(writing *w, kf_local *l, kf_decoder *m, kf_decoder_step *step) {
    kf_decoder_seq seq = {.input_ids = w->prompt->ids, .params = w->params};
    while (!w->finish_reason) {
        size_t left = w->prompt->n > seq.n_computed ? w->prompt->n - seq.n_computed : 0;
        seq.n_tokens = left > PREFILL_CHUNK ? PREFILL_CHUNK : left ? left : 1;
        seq.sample = left <= PREFILL_CHUNK;
        seq.input_ids = left ? w->prompt->ids + seq.n_computed : NULL; /* NULL: the token drawn last */
        KF_TRY(run_step(l, m, step, &seq));
        seq.n_computed += seq.n_tokens;
        if (!seq.sample) continue;
        const kf_sample_out *out = kf_decoder_results(step);
        if (!out->finite) return KF_FAIL(KF_ERR_CORRUPT, "the logits of token %zu hold NaN or infinity", w->n + 1);
        KF_TRY(take(w, kf_decoder_config(m), out->token));
    }
    return KF_OK;
}

static kf_status print_json(const writing *w) {
    json_t *ids = json_array();
    for (size_t i = 0; i < w->n; i++)
        json_array_append_new(ids, json_integer(w->ids[i]));
    return kf_cli_print_json(
        json_pack("{s:o, s:s#, s:s}", "ids", ids, "text", w->text, (int)w->n_text, "finish_reason", w->finish_reason));
}

static void print_end(const writing *w) {
    if (!w->prompt->tokenizer)
        for (size_t i = 0; i < w->n; i++)
            printf("%s%d", i ? "," : "", w->ids[i]);
    putchar('\n');
    fprintf(stderr, "%zu tokens, %s\n", w->n, w->finish_reason);
}

static kf_status open_and_write(writing *w, kf_local *l) {
    size_t n_prompt = w->prompt->n;
    kf_decoder *m = NULL;
    kf_decoder_step *step = NULL;
    kf_decoder_opts opts = {.max_tokens = n_prompt < PREFILL_CHUNK ? n_prompt : PREFILL_CHUNK,
                            .max_seqs = 1,
                            .max_seqlen = n_prompt + (size_t)w->s->max_tokens};
    KF_TRY(kf_decoder_open(l->device, w->s->local.model, &opts, &m));
    kf_status s = KF_OK;
    if (kf_decoder_max_seqlen(m) < opts.max_seqlen)
        s = KF_FAIL(KF_ERR_TOO_LARGE, "%zu prompt tokens and --max-tokens %lld are more than the model's %zu positions",
                    n_prompt, (long long)w->s->max_tokens, kf_decoder_max_seqlen(m));
    KF_STEP(s, kf_decoder_step_new(m, &step));
    KF_STEP(s, write_on(w, l, m, step));
    if (step) kf_decoder_step_free(step);
    kf_decoder_close(m);
    if (s != KF_OK) return s;
    if (w->s->common.json) return print_json(w);
    print_end(w);
    return KF_OK;
}

static kf_status generate(const settings *s, const kf_options *o) {
    kf_ids prompt = {0};
    kf_local l = {0};
    writing w = {.s = s, .prompt = &prompt, .params = sample_params(s, o)};
    KF_TRY(kf_ids_read_some(&s->local, &prompt));
    w.text_cap = (size_t)s->max_tokens * 16 + TOKEN_BYTES_MAX;
    w.ids = malloc((size_t)s->max_tokens * sizeof *w.ids);
    w.text = calloc(w.text_cap, 1);
    kf_status st =
        w.ids && w.text ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %lld tokens", (long long)s->max_tokens);
    KF_STEP(st, kf_local_open(&s->local, &l));
    KF_STEP(st, open_and_write(&w, &l));
    kf_local_close(&l);
    kf_ids_free(&prompt);
    free(w.ids);
    free(w.text);
    return st;
}

int kf_cmd_generate(int argc, char **argv) {
    kf_options o = {.program = "kefu generate",
                    .usage = "--model DIR (--text TEXT | --ids 1,2,3)",
                    .about = "A decoder goes on from a prompt until it ends its text or --max-tokens are drawn.\n\n"
                             "--json: {\"ids\":[…],\"text\":\"…\",\"finish_reason\":\"stop\"|\"length\"}; ids are "
                             "what was drawn, an end-of-text token included.\n",
                    .table = table,
                    .n_table = sizeof table / sizeof *table};
    settings s = {0};
    int code;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    const char *lacks = kf_local_lacks(&s.local);
    if (lacks) return kf_cli_usage(&o, "%s", lacks);
    return kf_cli_end(&o, generate(&s, &o), KF_EXIT_OK);
}
