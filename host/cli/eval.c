/* kefu eval: what the worker's own understanding says of a labelled file, and how often that is right. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/eval_data.h"
#include "cli/eval_plot.h"
#include "cli/eval_print.h"
#include "cli/local.h"
#include "cli/term.h"
#include "serve/understand.h"

enum { PATH_BYTES = 4096, BATCH_SEQS = 32, BATCH_TOKENS = 2048, ARENA_BYTES = 4 << 20 };

typedef struct settings {
    kf_cli_common common;
    kf_local_opts local;
    const char *models, *plot;
} settings;

static const kf_option table[] = {
    KF_OPTION("models", KF_OPTION_TEXT, offsetof(settings, models), "DIR", NULL,
              "folder with encoder/, or an encoder's own [the demo's]"),
    KF_OPTION("plot", KF_OPTION_TEXT, offsetof(settings, plot), "FILE.svg", NULL, "draw the intents' confusions",
              .once = true),
    KF_DEVICE_OPTIONS(settings, local),
    KF_CLI_OPTIONS(settings),
};

/* The encoder and all that one batch of texts needs. */
typedef struct evaluation {
    kf_local local;
    kf_tokenizer *tokenizer;
    kf_bert *encoder;
    kf_bert_pass *pass;
    kf_understander understander;
    bool has_understander;
    size_t max_seqlen, batch_tokens;
    int32_t *ids, *start, *end; /* [batch_tokens] */
    kf_arena arena;             /* what was said of one text */
    kf_eval_tallies tallies;
} evaluation;

/* ---- finding and opening the model ---- */

static bool has_config(const char *dir) {
    char path[PATH_BYTES];
    return snprintf(path, sizeof path, "%s/config.json", dir) < (int)sizeof path && access(path, R_OK) == 0;
}

/* The demo's models lie in the working directory's models/, or where this program was built or installed. */
static void demo_models(char out[PATH_BYTES]) {
    char exe[PATH_BYTES / 2];
    static const char *const beside[] = {"../../../models", "../share/kefu/models"};
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    snprintf(out, PATH_BYTES, "models");
    if (access("models/encoder", R_OK) == 0 || n <= 0) return;
    exe[n] = 0;
    *strrchr(exe, '/') = 0;
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        char dir[PATH_BYTES];
        snprintf(dir, sizeof dir, "%s/%s/encoder", exe, beside[i]);
        if (!has_config(dir)) continue;
        snprintf(out, PATH_BYTES, "%s/%s", exe, beside[i]);
        return;
    }
}

static void encoder_dir(const settings *s, char out[PATH_BYTES]) {
    char models[PATH_BYTES];
    if (s->models)
        snprintf(models, sizeof models, "%s", s->models);
    else
        demo_models(models);
    if (snprintf(out, PATH_BYTES, "%s/encoder", models) >= PATH_BYTES || (!has_config(out) && has_config(models)))
        snprintf(out, PATH_BYTES, "%s", models);
}

static kf_status open_encoder(evaluation *e, const char *dir) {
    kf_config config;
    KF_TRY(kf_config_read(dir, &config));
    e->max_seqlen = config.max_positions;
    kf_config_free(&config);
    e->batch_tokens = e->max_seqlen > BATCH_TOKENS ? e->max_seqlen : BATCH_TOKENS;
    kf_bert_opts opts = {.max_tokens = e->batch_tokens, .max_seqs = BATCH_SEQS};
    KF_TRY(kf_bert_open(e->local.device, dir, &opts, &e->encoder));
    KF_TRY(kf_tokenizer_open(dir, &e->tokenizer));
    KF_TRY(kf_bert_pass_new(e->encoder, &e->pass));
    KF_TRY(kf_understander_init(&e->understander, e->encoder, e->tokenizer));
    e->has_understander = true;
    e->ids = calloc(e->batch_tokens, sizeof *e->ids);
    e->start = calloc(e->batch_tokens, sizeof *e->start);
    e->end = calloc(e->batch_tokens, sizeof *e->end);
    if (!e->ids || !e->start || !e->end) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu tokens", e->batch_tokens);
    return kf_arena_init(&e->arena, ARENA_BYTES);
}

static void evaluation_close(evaluation *e) {
    kf_arena_free(&e->arena);
    free(e->ids);
    free(e->start);
    free(e->end);
    if (e->has_understander) kf_understander_free(&e->understander);
    if (e->pass) kf_bert_pass_free(e->pass);
    if (e->encoder) kf_bert_close(e->encoder);
    if (e->tokenizer) kf_tokenizer_close(e->tokenizer);
    kf_local_close(&e->local);
    kf_eval_tallies_free(&e->tallies);
}

/* ---- what the model can say at all ---- */

/* The label, or a token head's B-label. */
static bool head_knows(const kf_head *head, const char *label) {
    for (size_t i = 0; i < head->n_labels; i++) {
        const char *known = head->labels[i];
        if (head->kind == KF_HEAD_SEQUENCE ? !strcmp(known, label)
                                           : !strncmp(known, "B-", 2) && !strcmp(known + 2, label))
            return true;
    }
    return false;
}

/* "a, b, c", cut off where it is longer than cap. */
static void list_labels(const kf_head *head, char *out, size_t cap) {
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < head->n_labels && n < cap; i++) {
        const char *known = head->labels[i];
        if (head->kind == KF_HEAD_TOKEN && strncmp(known, "B-", 2) != 0) continue;
        n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? ", " : "", head->kind == KF_HEAD_TOKEN ? known + 2 : known);
    }
}

/* head_idx -1: the model has no such head, so nothing of it is scored. label NULL: the line does not say. */
static kf_status check_label(const evaluation *e, const char *path, size_t line_no, int head_idx, const char *field,
                             const char *label) {
    char known[320];
    if (head_idx < 0 || !label) return KF_OK;
    const kf_head *head = kf_bert_head(e->encoder, (size_t)head_idx);
    if (head_knows(head, label)) return KF_OK;
    list_labels(head, known, sizeof known);
    return KF_FAIL(KF_ERR_INVALID, "%s, line %zu: %s \"%.64s\" is none of the model's: %s", path, line_no, field, label,
                   known);
}

static kf_status check_gold(const evaluation *e, const char *path, const kf_gold_set *set) {
    const kf_understander *u = &e->understander;
    bool any = false;
    for (size_t i = 0; i < set->n; i++) {
        const kf_gold *g = &set->items[i];
        KF_TRY(check_label(e, path, g->line_no, u->intent, "intent", g->intent));
        for (size_t k = 0; k < g->n_also; k++)
            KF_TRY(check_label(e, path, g->line_no, u->intent, "also", g->also[k]));
        KF_TRY(check_label(e, path, g->line_no, u->sentiment, "sentiment", g->sentiment));
        for (size_t k = 0; k < g->n_entities; k++)
            KF_TRY(check_label(e, path, g->line_no, u->entities, "entity type", g->entities[k].label));
        any = any || g->intent || g->sentiment || g->has_entities || g->n_words;
    }
    if (any) return KF_OK;
    return KF_FAIL(KF_ERR_INVALID, "%s: nothing to score in %zu lines: give them intent, sentiment, entities or words",
                   path, set->n);
}

/* ---- one batch ---- */

typedef struct batch {
    size_t n_seqs;
    int32_t cu_seqlens[BATCH_SEQS + 1];
} batch;

/* Tokenises as many messages as one pass takes, from `items` on. */
static kf_status fill(evaluation *e, const char *path, const kf_gold *items, size_t n, batch *b) {
    *b = (batch){0};
    for (size_t at = 0; b->n_seqs < n && b->n_seqs < BATCH_SEQS; b->n_seqs++) {
        const kf_gold *g = &items[b->n_seqs];
        size_t room = e->batch_tokens - at, cap = room < e->max_seqlen ? room : e->max_seqlen;
        kf_encoding enc = {.cap = cap, .ids = e->ids + at, .start = e->start + at, .end = e->end + at};
        KF_TRY(kf_tokenizer_encode(e->tokenizer, g->text, g->n_bytes, KF_SPECIAL_ADD, &enc));
        if (enc.n_total > e->max_seqlen)
            return KF_FAIL(KF_ERR_TOO_LARGE, "%s, line %zu: the text has %zu tokens, the model takes %zu", path,
                           g->line_no, enc.n_total, e->max_seqlen);
        if (enc.n_total > enc.n) return KF_OK; /* it begins the next batch */
        at += enc.n;
        b->cu_seqlens[b->n_seqs + 1] = (int32_t)at;
    }
    return KF_OK;
}

static kf_status run_pass(evaluation *e, const batch *b) {
    KF_TRY(kf_bert_begin(e->pass, e->local.stream, &(kf_bert_input){e->ids, b->cu_seqlens, b->n_seqs}));
    kf_bert_layers(e->pass, e->local.stream, 0, kf_bert_config(e->encoder)->n_layers);
    KF_TRY(kf_bert_finish(e->pass, e->local.stream));
    return kf_bert_wait(e->pass);
}

static kf_status score_batch(evaluation *e, const batch *b, const char *path, const kf_gold *items) {
    for (size_t i = 0; i < b->n_seqs; i++) {
        size_t first = (size_t)b->cu_seqlens[i];
        kf_understanding said = {0};
        kf_understand_in in = {.pass = e->pass,
                               .seq_idx = i,
                               .first_row = first,
                               .text = {items[i].text, items[i].n_bytes},
                               .ids = e->ids + first,
                               .start = e->start + first,
                               .end = e->end + first,
                               .n_tokens = (size_t)b->cu_seqlens[i + 1] - first};
        kf_arena_reset(&e->arena);
        if (kf_understand(&e->understander, &in, &e->arena, &said) != KF_OK)
            return KF_FAIL(KF_ERR_CORRUPT, "%s, line %zu: the model says nothing of this text", path, items[i].line_no);
        KF_TRY(kf_eval_add(&e->tallies, &items[i], &said));
    }
    return KF_OK;
}

static kf_status score_all(evaluation *e, const char *path, const kf_gold_set *set, double *seconds) {
    int64_t start = kf_clock_now_ns();
    kf_progress progress = {.label = "eval", .total = set->n};
    kf_status s = KF_OK;
    for (size_t at = 0; s == KF_OK && at < set->n;) {
        batch b;
        char note[64];
        s = fill(e, path, set->items + at, set->n - at, &b);
        KF_STEP(s, run_pass(e, &b));
        KF_STEP(s, score_batch(e, &b, path, set->items + at));
        at += b.n_seqs;
        snprintf(note, sizeof note, "%zu of %zu messages", at, set->n);
        kf_progress_show(&progress, at, kf_clock_now_ns(), note);
    }
    kf_progress_clear(&progress);
    *seconds = (double)(kf_clock_now_ns() - start) / 1e9;
    return s;
}

/* ---- the command ---- */

static kf_status eval(const settings *s, const char *path) {
    char dir[PATH_BYTES];
    evaluation e = {0};
    kf_gold_set set;
    double seconds = 0;
    KF_TRY(kf_gold_read(path, &set));
    encoder_dir(s, dir);
    kf_status st = kf_local_open(&s->local, &e.local);
    KF_STEP(st, open_encoder(&e, dir));
    KF_STEP(st, check_gold(&e, path, &set));
    KF_STEP(st, score_all(&e, path, &set, &seconds));
    if (st == KF_OK) {
        kf_eval_about about = {kf_bert_id(e.encoder), set.n, seconds};
        st = s->common.json ? kf_eval_print_json(&e.tallies, &about) : kf_eval_print(&e.tallies, &about);
        if (s->plot) KF_STEP(st, kf_eval_plot(s->plot, "intent", &e.tallies.intent));
    }
    evaluation_close(&e);
    kf_gold_free(&set);
    return st;
}

int kf_cmd_eval(int argc, char **argv) {
    kf_options o = {
        .program = "kefu eval",
        .usage = "[--models DIR] FILE.jsonl   (- is standard input)",
        .about =
            "Scores intent, sentiment, entities, words and parts of speech on lines with \"text\" and any of "
            "\"intent\",\n"
            "\"also\" (labels that count as right too), \"sentiment\", \"entities\" [{type, start, end}], \"words\" + "
            "\"pos\".\nAn entity is right where type, start and end are; a word where both its borders are; 一件 and "
            "一/件 both count.\npos: of the words cut right, how many have the right tag; its F1: words cut and tagged "
            "right.\n95 % intervals: Wilson's for accuracies over messages, else 1,000 bootstrap resamples of messages "
            "(fixed seed).\n\n"
            "--json: {\"n\":…,\"intent\":{\"accuracy\":…,\"macro_f1\":…,\"ci95\":[…],…},\"sentiment\":{…},"
            "\"entities\":{\"f1\":…,…},\n\"segmentation\":{\"f1\":…,…},\"pos\":{\"accuracy\":…,…}}; ci95 belongs to "
            "the first figure of its object.\n",
        .table = table,
        .n_table = sizeof table / sizeof *table};
    settings s = {0};
    int code;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    if (o.n_rest != 1) return kf_cli_usage(&o, "one labelled file is wanted");
    kf_status st = eval(&s, o.rest[0]);
    return kf_cli_end(&o, st, KF_EXIT_OK);
}
