/* kefu diff: the first tensor of a forward pass that departs from a reference.
 *
 * A dump is what KEFU_DUMP=dir writes: encoder.0.safetensors, decoder.0.safetensors, … one file a pass, its tensors in
 * the order of computing. Anything that writes such a file (transformers, say) can be the reference. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/local.h"
#include "cli/term.h"
#include "model/bert.h"
#include "model/decoder.h"
#include "model/safetensors.h"

enum { PATH_BYTES = 4096, NAME_COLUMNS = 36 };

typedef struct settings {
    kf_cli_common common;
    kf_local_opts local;
    double tolerance;
} settings;

static const kf_option table[] = {
    KF_OPTION("tolerance", KF_OPTION_REAL, offsetof(settings, tolerance), "X", "1e-5",
              "largest difference, over the reference's largest value", .max = 1e9, .once = true),
    KF_MODEL_OPTION(settings, local),
    KF_INPUT_OPTIONS(settings, local),
    KF_DEVICE_OPTIONS(settings, local),
    KF_CLI_OPTIONS(settings),
};

/* The comparison as it goes: one line a tensor, shown at once. */
typedef struct comparing {
    const settings *s;
    kf_checkpoint *reference;
    char first[128]; /* the first that departs; "" */
    size_t n_compared;
    bool has_heading;
    char pass[32]; /* of the rows to come, not yet printed; "" */
    json_t *tensors;
    kf_status status; /* of reading the reference inside a hook */
} comparing;

/* Largest absolute difference; infinite where one side is not finite and the other differs. *scale: the reference's
 * largest value. */
static double largest_difference(const float *ref, const float *x, size_t n, double *scale) {
    double worst = 0;
    *scale = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)ref[i] - (double)x[i]);
        bool same = ref[i] == x[i] || (isnan(ref[i]) && isnan(x[i]));
        if (same) d = 0;
        if (isnan(d)) d = INFINITY;
        if (d > worst) worst = d;
        if (isfinite(ref[i]) && fabs((double)ref[i]) > *scale) *scale = fabs((double)ref[i]);
    }
    return worst;
}

/* What stands above a row: the table's heading once, and each pass's name. */
static void begin_row(comparing *c) {
    if (!c->has_heading)
        printf("%s%-*s %-16s %10s %10s%s\n", kf_style(stdout, KF_BOLD), NAME_COLUMNS, "tensor", "shape", "largest",
               "relative", kf_style(stdout, KF_PLAIN));
    if (*c->pass) printf("%s%s%s\n", kf_style(stdout, KF_BOLD), c->pass, kf_style(stdout, KF_PLAIN));
    c->has_heading = true;
    *c->pass = 0;
}

static void report(comparing *c, const char *name, const char *shape, double worst, double scale) {
    double relative = worst == 0 ? 0 : worst / scale;
    bool departs = !(relative <= c->s->tolerance);
    c->n_compared++;
    if (departs && !*c->first) snprintf(c->first, sizeof c->first, "%s", name);
    if (c->s->common.json) {
        json_t *value = isfinite(worst) ? json_real(worst) : json_null();
        json_t *part = isfinite(relative) ? json_real(relative) : json_null();
        json_array_append_new(c->tensors, json_pack("{s:s, s:s, s:o, s:o, s:b}", "name", name, "shape", shape,
                                                    "max_abs", value, "relative", part, "departs", departs));
        return;
    }
    begin_row(c);
    kf_term_pad(stdout, name, NAME_COLUMNS);
    printf(" %-16s %10.3g %10.3g  %s%s%s\n", shape, worst, relative, departs ? kf_style(stdout, KF_RED) : "",
           departs ? "departs" : "ok", departs ? kf_style(stdout, KF_PLAIN) : "");
}

static void report_missing(comparing *c, const char *name, const char *what) {
    if (!*c->first) snprintf(c->first, sizeof c->first, "%s", name);
    if (c->s->common.json) {
        json_array_append_new(c->tensors, json_pack("{s:s, s:s, s:b}", "name", name, "why", what, "departs", 1));
        return;
    }
    begin_row(c);
    kf_term_pad(stdout, name, NAME_COLUMNS);
    printf(" %s%s%s\n", kf_style(stdout, KF_RED), what, kf_style(stdout, KF_PLAIN));
}

static kf_status read_f32(kf_checkpoint *c, const kf_tensor *t, float **out) {
    if (t->dtype != KF_F32)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: tensor %s is %s; a dump holds F32", kf_checkpoint_path(c, t), t->name,
                       t->dtype_name);
    float *data = malloc(t->bytes + 1);
    if (!data) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %zu bytes", t->name, t->bytes);
    kf_status s = kf_checkpoint_read(c, t, data);
    if (s == KF_OK)
        *out = data;
    else
        free(data);
    return s;
}

/* ---- a dump against a dump ---- */

static int by_offset(const void *a, const void *b) {
    const kf_tensor *x = *(const kf_tensor *const *)a, *y = *(const kf_tensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static bool same_shape(const kf_tensor *a, const kf_tensor *b) {
    return a->n_dims == b->n_dims && !memcmp(a->shape, b->shape, a->n_dims * sizeof *a->shape);
}

static kf_status compare_tensor(comparing *c, const kf_tensor *ref, kf_checkpoint *other) {
    char shape[96];
    float *a = NULL, *b = NULL;
    double scale;
    const kf_tensor *t = kf_checkpoint_find(other, ref->name);
    if (!t) {
        report_missing(c, ref->name, "not there");
        return KF_OK;
    }
    if (!same_shape(ref, t)) {
        report_missing(c, ref->name, "of another shape");
        return KF_OK;
    }
    kf_status s = read_f32(c->reference, ref, &a);
    KF_STEP(s, read_f32(other, t, &b));
    if (s == KF_OK) {
        double worst = largest_difference(a, b, ref->bytes / sizeof *a, &scale);
        report(c, ref->name, kf_shape_text(ref->shape, ref->n_dims, shape), worst, scale);
    }
    free(a);
    free(b);
    return s;
}

static kf_status compare_files(comparing *c, const char *reference, const char *other_path) {
    kf_checkpoint *other = NULL;
    KF_TRY(kf_checkpoint_open_file(reference, &c->reference));
    kf_status s = kf_checkpoint_open_file(other_path, &other);
    size_t n = kf_checkpoint_n_tensors(c->reference);
    const kf_tensor **order = calloc(n + 1, sizeof *order);
    if (s == KF_OK && !order) s = KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu tensors", n);
    for (size_t i = 0; s == KF_OK && i < n; i++)
        order[i] = kf_checkpoint_tensor(c->reference, i);
    if (s == KF_OK) qsort(order, n, sizeof *order, by_offset);
    for (size_t i = 0; s == KF_OK && i < n; i++)
        s = compare_tensor(c, order[i], other);
    free(order);
    if (other) kf_checkpoint_close(other);
    kf_checkpoint_close(c->reference);
    return s;
}

static bool exists(const char *path) {
    return access(path, R_OK) == 0;
}

static bool is_folder(const char *path) {
    char inside[PATH_BYTES];
    return snprintf(inside, sizeof inside, "%s/.", path) < (int)sizeof inside && exists(inside);
}

/* Every pass of the reference against the pass of the same name. */
static kf_status compare_folders(comparing *c, const char *reference, const char *other) {
    static const char *const models[] = {"encoder", "decoder"};
    size_t n_files = 0;
    for (size_t m = 0; m < 2; m++) {
        for (size_t pass = 0;; pass++, n_files++) {
            char a[PATH_BYTES], b[PATH_BYTES];
            snprintf(a, sizeof a, "%s/%s.%zu.safetensors", reference, models[m], pass);
            snprintf(b, sizeof b, "%s/%s.%zu.safetensors", other, models[m], pass);
            if (!exists(a)) break;
            snprintf(c->pass, sizeof c->pass, "%s.%zu", models[m], pass);
            KF_TRY(compare_files(c, a, b));
        }
    }
    return n_files ? KF_OK
                   : KF_FAIL(KF_ERR_NOT_FOUND, "%s: no encoder.0.safetensors and no decoder.0.safetensors in it",
                             reference);
}

/* ---- a dump against a model ---- */

static void on_tensor(void *user, const char *name, const float *x, size_t n_rows, size_t width) {
    comparing *c = user;
    const kf_tensor *ref = kf_checkpoint_find(c->reference, name);
    size_t shape[2] = {n_rows, width};
    char text[96];
    float *want;
    double scale;
    if (!ref || c->status != KF_OK) return; /* the reference may show less than we do */
    if (ref->bytes != n_rows * width * sizeof *x) {
        report_missing(c, name, "of another shape");
        return;
    }
    c->status = read_f32(c->reference, ref, &want);
    if (c->status != KF_OK) return;
    double worst = largest_difference(want, x, n_rows * width, &scale);
    report(c, name, kf_shape_text(shape, 2, text), worst, scale);
    free(want);
}

/* What the model reads: --text or --ids as one sequence, else the reference's own input_ids and cu_seqlens. */
typedef struct input {
    int32_t *ids;        /* [n_tokens] */
    int32_t *cu_seqlens; /* [n_seqs + 1] */
    size_t n_tokens, n_seqs;
} input;

/* A list of integers of the reference, the caller's to free. */
static kf_status read_i32(kf_checkpoint *c, const char *name, int32_t **out, size_t *n) {
    const kf_tensor *t = kf_checkpoint_find(c, name);
    if (!t)
        return KF_FAIL(
            KF_ERR_INVALID,
            "%s: no %s in it (a dump of KEFU_DUMP has none); say with --text or --ids what the reference read",
            kf_checkpoint_path(c, NULL), name);
    if (t->dtype != KF_I32 || t->n_dims != 1 || t->shape[0] == 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %s must be a list of I32", kf_checkpoint_path(c, t), name);
    int32_t *data = malloc(t->bytes);
    if (!data) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %zu bytes", name, t->bytes);
    kf_status s = kf_checkpoint_read(c, t, data);
    if (s == KF_OK) {
        *out = data;
        *n = t->shape[0];
    } else {
        free(data);
    }
    return s;
}

static kf_status input_of_reference(kf_checkpoint *c, input *in) {
    size_t n_borders = 0;
    KF_TRY(read_i32(c, "input_ids", &in->ids, &in->n_tokens));
    KF_TRY(read_i32(c, "cu_seqlens", &in->cu_seqlens, &n_borders));
    in->n_seqs = n_borders - 1;
    bool fits = in->n_seqs > 0 && in->cu_seqlens[0] == 0 && (size_t)in->cu_seqlens[in->n_seqs] == in->n_tokens;
    for (size_t i = 0; fits && i < in->n_seqs; i++)
        fits = in->cu_seqlens[i] < in->cu_seqlens[i + 1];
    if (fits) return KF_OK;
    return KF_FAIL(KF_ERR_CORRUPT, "%s: cu_seqlens must rise from 0 to the %zu input_ids", kf_checkpoint_path(c, NULL),
                   in->n_tokens);
}

static kf_status input_of_options(const kf_local_opts *o, input *in) {
    kf_ids ids;
    KF_TRY(kf_ids_read_some(o, &ids));
    in->n_tokens = ids.n;
    in->n_seqs = 1;
    in->ids = malloc(ids.n * sizeof *in->ids);
    in->cu_seqlens = calloc(2, sizeof *in->cu_seqlens);
    bool have = in->ids && in->cu_seqlens;
    if (have) {
        memcpy(in->ids, ids.ids, ids.n * sizeof *in->ids);
        in->cu_seqlens[1] = (int32_t)ids.n;
    }
    kf_ids_free(&ids);
    return have ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu tokens", in->n_tokens);
}

static kf_status run_encoder(comparing *c, kf_local *l, const input *in) {
    kf_bert *m = NULL;
    kf_bert_pass *p = NULL;
    kf_bert_opts opts = {.max_tokens = in->n_tokens, .max_seqs = in->n_seqs, .dump = {.tensor = on_tensor, .user = c}};
    KF_TRY(kf_bert_open(l->device, c->s->local.model, &opts, &m));
    kf_status s = kf_bert_pass_new(m, &p);
    KF_STEP(s, kf_bert_begin(p, l->stream, &(kf_bert_input){in->ids, in->cu_seqlens, in->n_seqs}));
    if (s == KF_OK) kf_bert_layers(p, l->stream, 0, kf_bert_config(m)->n_layers);
    KF_STEP(s, kf_bert_finish(p, l->stream));
    KF_STEP(s, kf_bert_wait(p));
    if (p) kf_bert_pass_free(p);
    kf_bert_close(m);
    return s;
}

static kf_status run_decoder(comparing *c, kf_local *l, const input *in) {
    kf_decoder *m = NULL;
    kf_decoder_step *step = NULL;
    kf_decoder_opts opts = {.max_tokens = in->n_tokens,
                            .max_seqs = in->n_seqs,
                            .max_seqlen = in->n_tokens,
                            .dump = {.tensor = on_tensor, .user = c}};
    kf_decoder_seq *seqs = calloc(in->n_seqs, sizeof *seqs);
    kf_status s = seqs ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu sequences", in->n_seqs);
    KF_STEP(s, kf_decoder_open(l->device, c->s->local.model, &opts, &m));
    KF_STEP(s, kf_decoder_step_new(m, &step));
    for (size_t i = 0; s == KF_OK && i < in->n_seqs; i++) {
        seqs[i] = (kf_decoder_seq){.slot = (int32_t)i,
                                   .input_ids = in->ids + in->cu_seqlens[i],
                                   .n_tokens = (size_t)(in->cu_seqlens[i + 1] - in->cu_seqlens[i]),
                                   .sample = true,
                                   .params = {.top_p = 1, .repetition_penalty = 1}};
        s = kf_kv_cache_reserve(kf_decoder_kv_cache(m), i, seqs[i].n_tokens);
    }
    KF_STEP(s, kf_decoder_run(step, l->stream, seqs, in->n_seqs));
    KF_STEP(s, kf_decoder_wait(step));
    if (step) kf_decoder_step_free(step);
    if (m) kf_decoder_close(m);
    free(seqs);
    return s;
}

static kf_status compare_model(comparing *c, const char *reference) {
    const kf_local_opts *o = &c->s->local;
    char path[PATH_BYTES];
    kf_config config;
    kf_local l = {0};
    input in = {0};
    KF_TRY(kf_config_read(o->model, &config));
    kf_family family = config.family;
    kf_config_free(&config);
    snprintf(path, sizeof path, "%s/%s.0.safetensors", reference, family == KF_FAMILY_BERT ? "encoder" : "decoder");
    KF_TRY(kf_checkpoint_open_file(is_folder(reference) ? path : reference, &c->reference));
    kf_status s = o->text || o->ids ? input_of_options(o, &in) : input_of_reference(c->reference, &in);
    KF_STEP(s, kf_local_open(o, &l));
    KF_STEP(s, family == KF_FAMILY_BERT ? run_encoder(c, &l, &in) : run_decoder(c, &l, &in));
    KF_STEP(s, c->status);
    kf_local_close(&l);
    free(in.ids);
    free(in.cu_seqlens);
    kf_checkpoint_close(c->reference);
    return s;
}

/* ---- the command ---- */

static kf_status end(comparing *c) {
    if (!c->n_compared && !*c->first)
        return KF_FAIL(KF_ERR_INVALID, "no tensor of the reference has a name that the other side knows");
    if (c->s->common.json)
        return kf_cli_print_json(json_pack("{s:s?, s:f, s:O}", "first", *c->first ? c->first : NULL, "tolerance",
                                           c->s->tolerance, "tensors", c->tensors));
    if (*c->first)
        printf("%sfirst to depart: %s%s\n", kf_style(stdout, KF_RED), c->first, kf_style(stdout, KF_PLAIN));
    else
        printf("%s%zu tensors, none departs by more than %g%s\n", kf_style(stdout, KF_GREEN), c->n_compared,
               c->s->tolerance, kf_style(stdout, KF_PLAIN));
    return KF_OK;
}

static kf_status diff(const settings *s, const kf_options *o, int *code) {
    comparing c = {.s = s, .tensors = json_array()};
    kf_status st = s->local.model          ? compare_model(&c, o->rest[0])
                   : is_folder(o->rest[0]) ? compare_folders(&c, o->rest[0], o->rest[1])
                                           : compare_files(&c, o->rest[0], o->rest[1]);
    KF_STEP(st, end(&c));
    json_decref(c.tensors);
    *code = *c.first ? KF_EXIT_FAILED : KF_EXIT_OK;
    return st;
}

int kf_cmd_diff(int argc, char **argv) {
    kf_options o = {
        .program = "kefu diff",
        .usage = "REFERENCE OTHER | REFERENCE --model DIR [--text TEXT | --ids 1,2,3]",
        .about = "Compares the named tensors of a forward pass with a reference, in the order of computing, and says "
                 "which departs first.\nREFERENCE and OTHER are dumps: folders that KEFU_DUMP=dir filled, or "
                 "safetensors files of one pass.\nWith --model the pass is run here, on --text, on --ids or "
                 "on the reference's own input_ids and cu_seqlens\n(a KEFU_DUMP folder has none: give "
                 "--text or --ids).\nExit code 1 where something departs.\n\n"
                 "--json: {\"first\":NAME|null,\"tolerance\":X,\"tensors\":[…]}\n",
        .table = table,
        .n_table = sizeof table / sizeof *table};
    settings s = {0};
    int code;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    if (o.n_rest != (s.local.model ? 1 : 2))
        return kf_cli_usage(&o, s.local.model ? "one reference is wanted" : "a reference and what to compare with it");
    if (s.local.text && s.local.ids) return kf_cli_usage(&o, "--text or --ids, not both");
    if (kf_ids_lacks(s.local.ids)) return kf_cli_usage(&o, "%s", kf_ids_lacks(s.local.ids));
    kf_status st = diff(&s, &o, &code);
    return kf_cli_end(&o, st, code);
}
