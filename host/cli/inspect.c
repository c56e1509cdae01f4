/* kefu inspect: what is in a checkpoint. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/term.h"
#include "device/bf16.h"
#include "model/config.h"
#include "model/safetensors.h"

typedef struct settings {
    kf_cli_common common;
    bool stats;
} settings;

static const kf_option table[] = {
    KF_OPTION("stats", KF_OPTION_FLAG, offsetof(settings, stats), NULL, NULL,
              "also read every tensor: mean, deviation, least, largest", .once = true),
    KF_CLI_OPTIONS(settings),
};

/* Of the finite elements. */
typedef struct stats {
    double mean, std, min, max;
    size_t n_not_finite;
    bool known;
} stats;

static double element(const void *data, kf_dtype dtype, size_t i) {
    switch (dtype) {
    case KF_F32: return (double)((const float *)data)[i];
    case KF_BF16: return (double)kf_bf16_to_f32(((const uint16_t *)data)[i]);
    case KF_F16: return (double)kf_f16_to_f32(((const uint16_t *)data)[i]);
    default: return (double)((const int32_t *)data)[i];
    }
}

/* Welford's running mean and variance. */
static stats stats_of(const void *data, kf_dtype dtype, size_t n) {
    stats s = {.min = INFINITY, .max = -INFINITY, .known = true};
    double squares = 0;
    size_t n_finite = 0;
    for (size_t i = 0; i < n; i++) {
        double x = element(data, dtype, i), before = s.mean;
        if (!isfinite(x)) {
            s.n_not_finite++;
            continue;
        }
        s.mean += (x - before) / (double)++n_finite;
        squares += (x - before) * (x - s.mean);
        if (x < s.min) s.min = x;
        if (x > s.max) s.max = x;
    }
    if (n_finite == 0) return (stats){.n_not_finite = n};
    s.std = sqrt(squares / (double)n_finite);
    return s;
}

static kf_status read_stats(kf_checkpoint *c, const kf_tensor *t, stats *out) {
    *out = (stats){0};
    if (t->dtype == KF_N_DTYPES || t->bytes == 0) return KF_OK;
    void *data = malloc(t->bytes);
    if (!data) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for its %zu bytes", t->name, t->bytes);
    kf_status s = kf_checkpoint_read(c, t, data);
    if (s == KF_OK) *out = stats_of(data, t->dtype, t->bytes / kf_dtype_bytes(t->dtype));
    free(data);
    return s;
}

static size_t n_elements(const kf_tensor *t) {
    size_t n = 1;
    for (size_t i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}

/* ---- people ---- */

static kf_status print_row(kf_checkpoint *c, const kf_tensor *t, size_t name_columns, bool with_stats) {
    char shape[96];
    stats s = {0};
    if (with_stats) KF_TRY(read_stats(c, t, &s));
    kf_term_pad(stdout, t->name, name_columns + 2);
    printf("%-5s %-18s %12zu", t->dtype_name, kf_shape_text(t->shape, t->n_dims, shape), t->bytes);
    if (s.known) printf("  %11.4g %10.4g %11.4g %11.4g", s.mean, s.std, s.min, s.max);
    if (s.n_not_finite)
        printf("  %s%zu not finite%s", kf_style(stdout, KF_RED), s.n_not_finite, kf_style(stdout, KF_PLAIN));
    putchar('\n');
    return KF_OK;
}

static kf_status print_table(kf_checkpoint *c, bool with_stats) {
    size_t n = kf_checkpoint_n_tensors(c), columns = strlen("tensor"), bytes = 0, elements = 0;
    for (size_t i = 0; i < n; i++) {
        const kf_tensor *t = kf_checkpoint_tensor(c, i);
        size_t width = kf_term_width(t->name);
        if (width > columns) columns = width;
        bytes += t->bytes;
        elements += n_elements(t);
    }
    if (columns > 80) columns = 80;
    printf("%s", kf_style(stdout, KF_BOLD));
    kf_term_pad(stdout, "tensor", columns + 2);
    printf("%-5s %-18s %12s", "dtype", "shape", "bytes");
    if (with_stats) printf("  %11s %10s %11s %11s", "mean", "std", "min", "max");
    printf("%s\n", kf_style(stdout, KF_PLAIN));
    for (size_t i = 0; i < n; i++)
        KF_TRY(print_row(c, kf_checkpoint_tensor(c, i), columns, with_stats));
    printf("%zu tensors, %.2f M elements, %.1f MB\n", n, (double)elements / 1e6, (double)bytes / 1e6);
    return KF_OK;
}

static void print_config(const char *dir) {
    kf_config c;
    if (kf_config_read(dir, &c) != KF_OK) { /* the tensors can be looked at all the same */
        fprintf(stderr, "kefu inspect: %s\n", kf_error_text());
        kf_error_clear();
        return;
    }
    printf("%s%s%s: %zu layers, hidden %zu, %zu heads, vocabulary %zu\n", kf_style(stdout, KF_CYAN), c.architecture,
           kf_style(stdout, KF_PLAIN), c.n_layers, c.hidden, c.n_heads, c.vocab_size);
    kf_config_free(&c);
}

/* ---- programs ---- */

static kf_status tensor_json(kf_checkpoint *c, const kf_tensor *t, bool with_stats, json_t **out) {
    json_t *shape = json_array();
    stats s = {0};
    kf_status st = with_stats ? read_stats(c, t, &s) : KF_OK;
    for (size_t i = 0; i < t->n_dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    *out = json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "dtype", t->dtype_name, "shape", shape, "bytes",
                     (json_int_t)t->bytes);
    if (s.known)
        json_object_update_new(*out, json_pack("{s:f, s:f, s:f, s:f, s:I}", "mean", s.mean, "std", s.std, "min", s.min,
                                               "max", s.max, "not_finite", (json_int_t)s.n_not_finite));
    return st;
}

static kf_status print_json(kf_checkpoint *c, bool with_stats) {
    json_t *tensors = json_array();
    kf_status s = KF_OK;
    for (size_t i = 0; s == KF_OK && i < kf_checkpoint_n_tensors(c); i++) {
        json_t *t = NULL;
        s = tensor_json(c, kf_checkpoint_tensor(c, i), with_stats, &t);
        json_array_append_new(tensors, t);
    }
    if (s == KF_OK) return kf_cli_print_json(json_pack("{s:o}", "tensors", tensors));
    json_decref(tensors);
    return s;
}

static bool is_file(const char *path) {
    size_t n = strlen(path), end = strlen(".safetensors");
    return n > end && !strcmp(path + n - end, ".safetensors");
}

static kf_status inspect(const settings *s, const char *path) {
    kf_checkpoint *c;
    KF_TRY(is_file(path) ? kf_checkpoint_open_file(path, &c) : kf_checkpoint_open(path, &c));
    if (!s->common.json && !is_file(path)) print_config(path);
    kf_status st = s->common.json ? print_json(c, s->stats) : print_table(c, s->stats);
    kf_checkpoint_close(c);
    return st;
}

int kf_cmd_inspect(int argc, char **argv) {
    kf_options o = {.program = "kefu inspect",
                    .usage = "DIR | FILE.safetensors",
                    .about = "Lists a checkpoint's tensors by name. A head of a trunk is a file: DIR/heads/NAME."
                             "safetensors.\n\n--json: {\"tensors\":[{\"name\",\"dtype\",\"shape\",\"bytes\"},…]}, "
                             "with --stats also mean, std, min, max, not_finite\n",
                    .table = table,
                    .n_table = sizeof table / sizeof *table};
    settings s = {0};
    int code;
    if (!kf_cli_parse(&o, argc, argv, &s, &s.common, &code)) return code;
    if (o.n_rest != 1) return kf_cli_usage(&o, "one folder or file is wanted");
    kf_status st = inspect(&s, o.rest[0]);
    return kf_cli_end(&o, st, KF_EXIT_OK);
}
