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
            if (!c->s->common.json)
                printf("%s%s.%zu%s\n", kf_style(stdout, KF_BOLD), models[m], pass, kf_style(stdout, KF_PLAIN));
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

static kf_status run_encoder(comparing *c, kf_local *l, const kf_ids *in) {
    kf_bert *m = NULL;
    kf_bert_pass *p = NULL;
    int32_t cu_seqlens[2] = {0, (int32_t)in->n};
    kf_bert_opts opts = {.max_tokens = in->n, .max_seqs = 1, .dump = {.tensor = on_tensor, .user = c}};
    KF_TRY(kf_bert_open(l->device, c->s->local.model, &opts, &m));
    kf_status s = kf_bert_pass_new(m, &p);
    KF_STEP(s, kf_bert_begin(p, l->stream, &(kf_bert_input){in->ids, cu_seqlens, 1}));
    if (s == KF_OK) kf_bert_layers(p, l->stream, 0, kf_bert_config(m)->n_layers);
    KF_STEP(s, kf_bert_finish(p, l->stream));
    KF_STEP(s, kf_bert_wait(p));
    if (p) kf_bert_pass_free(p);
    kf_bert_close(m);
    return s;
}

static kf_status run_decoder(comparing *c, kf_local *l, const kf_ids *in) {
    kf_decoder *m = NULL;
    kf_decoder_step *step = NULL;
    kf_decoder_opts opts = {
        .max_tokens = in->n, .max_seqs = 1, .max_seqlen = in->n, .dump = {.tensor = on_tensor, .user = c}};
    kf_decoder_seq seq = {
        .input_ids = in->ids, .n_tokens = in->n, .sample = true, .params = {.top_p = 1, .repetition_penalty = 1}};
    KF_TRY(kf_decoder_open(l->device, c->s->local.model, &opts, &m));
    kf_status s = kf_decoder_step_new(m, &step);
    KF_STEP(s, kf_kv_cache_reserve(kf_decoder_kv_cache(m), 0, in->n));
    KF_STEP(s, kf_decoder_run(step, l->stream, &seq, 1));
    KF_STEP(s, kf_decoder_wait(step));
    if (step) kf_decoder_step_free(step);
    kf_decoder_close(m);
    return s;
}

static kf_status compare_model(comparing *c, const char *reference) {
    char path[PATH_BYTES];
    kf_config config;
    kf_local l = {0};
    kf_ids ids = {0};
    KF_TRY(kf_config_read(c->s->local.model, &config));
    kf_family family = config.family;
    kf_config_free(&config);
    snprintf(path, sizeof path, "%s/%s.0.safetensors", reference, family == KF_FAMILY_BERT ? "encoder" : "decoder");
    KF_TRY(kf_checkpoint_open_file(is_folder(reference) ? path : reference, &c->reference));
    kf_status s = kf_ids_read(&c->s->local, &ids);
    KF_STEP(s, kf_local_open(&c->s->local, &l));
    KF_STEP(s, family == KF_FAMILY_BERT ? run_encoder(c, &l, &ids) : run_decoder(c, &l, &ids));
    KF_STEP(s, c->status);
    kf_local_close(&l);
    kf_ids_free(&ids);
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
    if (!s->common.json)
        printf("%s%-*s %-16s %10s %10s%s\n", kf_style(stdout, KF_BOLD), NAME_COLUMNS, "tensor", "shape", "largest",
               "relative", kf_style(stdout, KF_PLAIN));
    kf_status st = s->local.model          ? compare_model(&c, o->rest[0])
                   : is_folder(o->rest[0]) ? compare_folders(&c, o->rest[0], o->rest[1])
                                           : compare_files(&c, o->rest[0], o->rest[1]);
    KF_STEP(st, end(&c));
    json_decref(c.tensors);
    *code = *c.first ? KF_EXIT_FAILED : KF_EXIT_OK;
    return st;
}

int kf_cmd_diff(int argc, char **argv) {
    kf_options o = {.program = "kefu diff",
                    .usage = "REFERENCE OTHER | REFERENCE --model DIR (--text TEXT | --ids 1,2,3)",
                    .about =
                        "Compares the named tensors of a forward pass with a reference, in the order of computing, "
                        "and says which departs first.\nREFERENCE and OTHER are dumps: folders that KEFU_DUMP=dir "
                        "filled, or safetensors files of one pass.\nWith --model the pass is run here. Exit code 1 "
                        "where something departs.\n\n--json: {\"first\":NAME|null,\"tolerance\":X,\"tensors\":[…]}\n",
                    .after = KF_EXIT_HELP,
                    .table = table,
                    .n_table = sizeof table / sizeof *table};
    settings s = {0};
    int code;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    if (o.n_rest != (s.local.model ? 1 : 2))
        return kf_cli_usage(&o, s.local.model ? "one reference is wanted" : "a reference and what to compare with it");
    if (s.local.model && !s.local.text == !s.local.ids) return kf_cli_usage(&o, "one of --text and --ids is wanted");
    kf_status st = diff(&s, &o, &code);
    return kf_cli_end(&o, st, code);
}
