/* kefu logits: one forward pass over one text, on any model and device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/local.h"
#include "cli/term.h"
#include "model/bert.h"
#include "model/decoder.h"

enum { TOP_SHOWN = 10, PIECE_COLUMNS = 16 };

typedef struct settings {
    kf_cli_common common;
    kf_local_opts local;
    const char *head;
} settings;

static const kf_option table[] = {
    KF_MODEL_OPTION(settings, local),
    KF_INPUT_OPTIONS(settings, local),
    KF_OPTION("head", KF_OPTION_TEXT, offsetof(settings, head), "NAME", NULL, "which of an encoder's heads",
              .once = true),
    KF_DEVICE_OPTIONS(settings, local),
    KF_CLI_OPTIONS(settings),
};

/* Logits of one pass: rows of n_labels. A tagger has a row a token, everything else one row. */
typedef struct result {
    const float *(*row)(const void *ctx, size_t row);
    const void *ctx;
    size_t n_rows, n_labels;
    bool per_token;
    char **labels; /* [n_labels]; NULL: they are token ids */
} result;

/* ---- printing ---- */

static json_t *row_json(const float *z, size_t n) {
    json_t *row = json_array();
    for (size_t i = 0; i < n; i++) /* JSON has no NaN and no infinity */
        json_array_append_new(row, isfinite(z[i]) ? json_real((double)z[i]) : json_null());
    return row;
}

static kf_status print_json(const result *r) {
    json_t *logits = r->per_token ? json_array() : row_json(r->row(r->ctx, 0), r->n_labels), *labels = json_array();
    for (size_t i = 0; r->per_token && i < r->n_rows; i++)
        json_array_append_new(logits, row_json(r->row(r->ctx, i), r->n_labels));
    for (size_t i = 0; r->labels && i < r->n_labels; i++)
        json_array_append_new(labels, json_string(r->labels[i]));
    return kf_cli_print_json(json_pack("{s:o, s:o}", "logits", logits, "labels", labels));
}

/* Softmax's probability of label i. */
static double probability(const float *z, size_t n, size_t i) {
    double sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += exp((double)z[k] - (double)z[i]);
    return 1 / sum;
}

/* The best label that is worse than `after` (n: none yet); equal logits go by number. */
static size_t next_best(const float *z, size_t n, size_t after) {
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        bool below = after == n || z[i] < z[after] || (z[i] == z[after] && i > after);
        if (below && (best == n || z[i] > z[best])) best = i;
    }
    return best;
}

static const char *label_text(const result *r, const kf_ids *in, size_t label) {
    return r->labels ? r->labels[label] : kf_ids_text(in->tokenizer, (int32_t)label);
}

static void print_best(const result *r, const kf_ids *in) {
    const float *z = r->row(r->ctx, 0);
    size_t n_shown = r->labels ? r->n_labels : TOP_SHOWN, at = r->n_labels;
    printf("%s%10s  %11s  %s%s\n", kf_style(stdout, KF_BOLD), "logit", "probability", r->labels ? "label" : "token",
           kf_style(stdout, KF_PLAIN));
    for (size_t i = 0; i < n_shown && (at = next_best(z, r->n_labels, at)) < r->n_labels; i++) {
        printf("%10.4f  %11.4f  ", (double)z[at], probability(z, r->n_labels, at));
        kf_term_text(stdout, label_text(r, in, at));
        if (!r->labels && in->tokenizer) printf("  (%zu)", at);
        putchar('\n');
    }
}

static void print_tags(const result *r, const kf_ids *in) {
    printf("%s%-*s%10s  %11s  %s%s\n", kf_style(stdout, KF_BOLD), PIECE_COLUMNS, "piece", "logit", "probability",
           "best label", kf_style(stdout, KF_PLAIN));
    for (size_t i = 0; i < r->n_rows; i++) {
        const float *z = r->row(r->ctx, i);
        size_t best = next_best(z, r->n_labels, r->n_labels);
        if (best == r->n_labels) best = 0; /* NaN all over */
        kf_term_pad(stdout, kf_ids_piece(in->tokenizer, in->ids[i]), PIECE_COLUMNS);
        printf("%10.4f  %11.4f  ", (double)z[best], probability(z, r->n_labels, best));
        kf_term_text(stdout, label_text(r, in, best));
        putchar('\n');
    }
}

static kf_status print(const settings *s, const result *r, const kf_ids *in) {
    if (s->common.json) return print_json(r);
    if (r->per_token)
        print_tags(r, in);
    else
        print_best(r, in);
    return KF_OK;
}

/* ---- encoders ---- */

/* Without --head: the checkpoint's own classifier, else the first by name that labels the whole text (the demo's
 * "intent"), else the only one. */
static int default_head(const kf_bert *m) {
    size_t n = kf_bert_n_heads(m);
    int own = kf_bert_head_find(m, "classifier");
    if (own >= 0) return own;
    for (size_t i = 0; i < n; i++)
        if (kf_bert_head(m, i)->kind == KF_HEAD_SEQUENCE) return (int)i;
    return n == 1 ? 0 : -1;
}

static kf_status choose_head(const kf_bert *m, const char *dir, const char *name, size_t *out) {
    char names[512] = "";
    size_t n = kf_bert_n_heads(m), used = 0;
    for (size_t i = 0; i < n && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", kf_bert_head(m, i)->name);
    if (n == 0) return KF_FAIL(KF_ERR_NOT_FOUND, "%s has no head: neither a classifier of its own nor heads/", dir);
    int found = name ? kf_bert_head_find(m, name) : default_head(m);
    if (found < 0)
        return name ? KF_FAIL(KF_ERR_NOT_FOUND, "%s has no head \"%s\", but these: %s", dir, name, names)
                    : KF_FAIL(KF_ERR_INVALID, "%s has several heads; choose one with --head: %s", dir, names);
    if (!name && n > 1)
        fprintf(stderr, "kefu logits: head \"%s\"; --head chooses another of %s\n",
                kf_bert_head(m, (size_t)found)->name, names);
    *out = (size_t)found;
    return KF_OK;
}

typedef struct bert_row {
    const kf_bert_pass *pass;
    size_t head_idx;
} bert_row;

static const float *bert_logits(const void *ctx, size_t row) {
    const bert_row *b = ctx;
    return kf_bert_logits(b->pass, b->head_idx, row);
}

static kf_status encoder_pass(const settings *s, kf_local *l, const kf_ids *in, kf_bert *m, kf_bert_pass *p) {
    size_t head_idx = 0;
    int32_t cu_seqlens[2] = {0, (int32_t)in->n};
    KF_TRY(choose_head(m, s->local.model, s->head, &head_idx));
    KF_TRY(kf_bert_begin(p, l->stream, &(kf_bert_input){in->ids, cu_seqlens, 1}));
    kf_bert_layers(p, l->stream, 0, kf_bert_config(m)->n_layers);
    KF_TRY(kf_bert_finish(p, l->stream));
    KF_TRY(kf_bert_wait(p));
    const kf_head *head = kf_bert_head(m, head_idx);
    bool per_token = head->kind == KF_HEAD_TOKEN;
    return print(s,
                 &(result){.row = bert_logits,
                           .ctx = &(bert_row){p, head_idx},
                           .n_rows = per_token ? in->n : 1,
                           .n_labels = head->n_labels,
                           .per_token = per_token,
                           .labels = head->labels},
                 in);
}

static kf_status encoder_logits(const settings *s, kf_local *l, const kf_ids *in) {
    kf_bert *m = NULL;
    kf_bert_pass *p = NULL;
    KF_TRY(kf_bert_open(l->device, s->local.model, &(kf_bert_opts){.max_tokens = in->n, .max_seqs = 1}, &m));
    kf_status st = kf_bert_pass_new(m, &p);
    KF_STEP(st, encoder_pass(s, l, in, m, p));
    if (p) kf_bert_pass_free(p);
    kf_bert_close(m);
    return st;
}

/* ---- decoders ---- */

static const float *decoder_logits_row(const void *ctx, size_t row) {
    return kf_decoder_logits(ctx, row);
}

static kf_status decoder_pass(const settings *s, kf_local *l, const kf_ids *in, kf_decoder *m, kf_decoder_step *step) {
    kf_decoder_seq seq = {
        .input_ids = in->ids, .n_tokens = in->n, .sample = true, .params = {.top_p = 1, .repetition_penalty = 1}};
    KF_TRY(kf_kv_cache_reserve(kf_decoder_kv_cache(m), 0, in->n));
    KF_TRY(kf_decoder_run(step, l->stream, &seq, 1));
    KF_TRY(kf_decoder_wait(step));
    return print(
        s, &(result){.row = decoder_logits_row, .ctx = step, .n_rows = 1, .n_labels = kf_decoder_config(m)->vocab_size},
        in);
}

static kf_status decoder_logits(const settings *s, kf_local *l, const kf_ids *in) {
    kf_decoder *m = NULL;
    kf_decoder_step *step = NULL;
    kf_decoder_opts opts = {.max_tokens = in->n, .max_seqs = 1, .max_seqlen = in->n, .keep_logits = true};
    KF_TRY(kf_decoder_open(l->device, s->local.model, &opts, &m));
    kf_status st = kf_decoder_step_new(m, &step);
    KF_STEP(st, decoder_pass(s, l, in, m, step));
    if (step) kf_decoder_step_free(step);
    kf_decoder_close(m);
    return st;
}

static kf_status logits(const settings *s) {
    kf_config config;
    kf_local l = {0};
    kf_ids ids = {0};
    KF_TRY(kf_config_read(s->local.model, &config));
    kf_family family = config.family;
    kf_config_free(&config);
    kf_status st = kf_ids_read_some(&s->local, &ids);
    KF_STEP(st, kf_local_open(&s->local, &l));
    KF_STEP(st, family == KF_FAMILY_BERT ? encoder_logits(s, &l, &ids) : decoder_logits(s, &l, &ids));
    kf_local_close(&l);
    kf_ids_free(&ids);
    return st;
}

int kf_cmd_logits(int argc, char **argv) {
    kf_options o = {.program = "kefu logits",
                    .usage = "--model DIR (--text TEXT | --ids 1,2,3)",
                    .about = "One forward pass: a classifier's logits, a tagger's for every token (special ones "
                             "included), or a decoder's for the next token.\n\n--json: {\"logits\":[…],\"labels\":"
                             "[…]}; a tagger's logits are a list of lists, a decoder's labels are empty.\n",
                    .table = table,
                    .n_table = sizeof table / sizeof *table};
    settings s = {0};
    int code;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    const char *lacks = kf_local_lacks(&s.local);
    if (lacks) return kf_cli_usage(&o, "%s", lacks);
    return kf_cli_end(&o, logits(&s), KF_EXIT_OK);
}
