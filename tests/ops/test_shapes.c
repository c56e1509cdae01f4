/* Aim: the operations on rows at the sizes where kernels change their ways: row counts of one to
 * a few warps, widths beside multiples of a vector, a warp and a block.
 * Method: against the definition in double precision. Heads are test_ops's, attention is test_attention's. */
#include "ops/harness.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const size_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 31, 33, 129};
static const size_t widths[] = {1, 2, 8, 24, 31, 32, 33, 40, 255, 256, 257, 776, 1032, 2049};

/* ---- norms and elements ---- */

static void norms(bench *t, size_t n_rows, size_t width) {
    size_t n = n_rows * width;
    float *x = normal(t, n, 1), *gamma = normal(t, width, 1), *beta = normal(t, width, 1);
    const double eps = 0.25; /* so large that its place is seen */
    double *layer = doubles(n), *rms = doubles(n);
    for (size_t r = 0; r < n_rows; r++) {
        double mean = 0, var = 0, squares = 0, *y = layer + r * width, *z = rms + r * width;
        for (size_t i = 0; i < width; i++) {
            y[i] = z[i] = (double)x[r * width + i];
            mean += y[i] / (double)width;
            squares += z[i] * z[i] / (double)width;
        }
        for (size_t i = 0; i < width; i++)
            var += (y[i] - mean) * (y[i] - mean) / (double)width;
        for (size_t i = 0; i < width; i++) {
            y[i] = (double)gamma[i] * (y[i] - mean) / sqrt(var + eps) + (double)beta[i];
            z[i] *= (double)gamma[i] / sqrt(squares + eps);
        }
    }
    void *dx = put_act(t, x, n), *dgamma = put_f32(t, gamma, width), *out = put_act(t, NULL, n);
    kf_layernorm(t->s, out, dx, dgamma, put_f32(t, beta, width), (float)eps, n_rows, width);
    check_act(t, "layernorm", out, layer, n, t->c->limit);
    kf_rmsnorm(t->s, out, dx, dgamma, (float)eps, n_rows, width);
    check_act(t, "rmsnorm", out, rms, n, t->c->limit);
    bench_clear(t);
    free(x), free(gamma), free(beta), free(layer), free(rms);
}

static void op_norms(bench *t) {
    for (size_t i = 0; i < COUNT(row_counts); i++)
        norms(t, row_counts[i], 40);
    for (size_t i = 0; i < COUNT(widths); i++)
        norms(t, 3, widths[i]);
}

static void gated(bench *t, size_t n_rows, size_t width) {
    float *x = normal(t, n_rows * 2 * width, 2);
    double *want = doubles(n_rows * width);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < width; i++) {
            double gate = (double)x[2 * r * width + i];
            want[r * width + i] = gate / (1 + exp(-gate)) * (double)x[(2 * r + 1) * width + i];
        }
    void *out = put_act(t, NULL, n_rows * width);
    kf_gated(t->s, out, put_act(t, x, n_rows * 2 * width), KF_ACT_SILU, n_rows, width);
    check_act(t, "gated", out, want, n_rows * width, t->c->limit);
    bench_clear(t);
    free(x), free(want);
}

static void op_gated(bench *t) {
    for (size_t i = 0; i < COUNT(row_counts); i++)
        gated(t, row_counts[i], 24);
    for (size_t i = 0; i < COUNT(widths); i++)
        gated(t, 2, widths[i]);
}

/* In place on either side, and apart. */
static void op_add(bench *t) {
    for (size_t n = 1, turn = 0; n < 70000; n = n * 13 + 4, turn++) {
        float *x = normal(t, n, 4), *y = normal(t, n, 4);
        double *want = doubles(n);
        void *dx = put_act(t, x, n), *dy = put_act(t, y, n);
        for (size_t i = 0; i < n; i++)
            want[i] = (double)x[i] + (double)y[i];
        void *out = turn % 3 == 0 ? put_act(t, NULL, n) : turn % 3 == 1 ? dx : dy;
        kf_add(t->s, out, dx, dy, n);
        check_act(t, "add", out, want, n, t->c->limit);
        bench_clear(t);
        free(x), free(y), free(want);
    }
}

/* ---- rows of tables ---- */

static void tables(bench *t, size_t n_rows, size_t width) {
    enum { N = 11 };
    float *words = normal(t, N * width, 1);
    double *want = doubles(n_rows * width);
    int32_t *ids = malloc(n_rows * sizeof *ids);
    assert_non_null(ids);
    for (size_t r = 0; r < n_rows; r++) {
        ids[r] = below(t, N);
        for (size_t i = 0; i < width; i++)
            want[r * width + i] = (double)words[(size_t)ids[r] * width + i];
    }
    int32_t *dids = put_i32(t, ids, n_rows);
    void *dwords = put_act(t, words, N * width), *out = put_act(t, NULL, n_rows * width);
    kf_embed(t->s, out, dwords, width, dids, NULL, n_rows);
    check_act(t, "embed", out, want, n_rows * width, 0);
    out = put_act(t, NULL, n_rows * width);
    kf_gather_rows(t->s, out, dwords, dids, n_rows, width);
    check_act(t, "gather_rows", out, want, n_rows * width, 0);
    bench_clear(t);
    free(words), free(want), free(ids);
}

static void op_tables(bench *t) {
    for (size_t i = 0; i < COUNT(row_counts); i++)
        tables(t, row_counts[i], 24);
    for (size_t i = 0; i < COUNT(widths); i++)
        tables(t, 2, widths[i]);
}

/* ---- products ---- */

static void product(bench *t, size_t n_rows, size_t n_in, size_t n_out) {
    float *x = normal(t, n_rows * n_in, 1), *w = normal(t, n_out * n_in, 1 / sqrtf((float)n_in));
    float *b = normal(t, n_out, 1), *res = normal(t, n_rows * n_out, 1);
    double *want = doubles(n_rows * n_out);
    for (size_t i = 0; i < n_out * n_in && t->d->weights == KF_BF16; i++)
        w[i] = kf_bf16_to_f32(kf_bf16_from_f32(w[i]));
    for (size_t i = 0; i < n_rows * n_out; i++) {
        want[i] = (double)b[i % n_out] + (double)res[i];
        for (size_t k = 0; k < n_in; k++)
            want[i] += (double)x[i / n_out * n_in + k] * (double)w[i % n_out * n_in + k];
    }
    kf_weight *weight;
    kf_weight_part part = {.data = w, .bias = b, .n_out = n_out, .bias_dtype = KF_F32};
    ok(kf_weight_pack(t->d, &(kf_weight_desc){"w", &part, 1, n_in, KF_F32}, &weight));
    const void *dx = put_act(t, x, n_rows * n_in), *dres = put_act(t, res, n_rows * n_out);
    void *out = put_act(t, NULL, n_rows * n_out);
    kf_linear(t->s, out, dx, weight, n_rows, (kf_linear_opts){.residual = dres});
    check_act(t, "linear", out, want, n_rows * n_out, t->c->limit_linear);
    out = put_f32(t, NULL, n_rows * n_out);
    kf_linear(t->s, out, dx, weight, n_rows, (kf_linear_opts){.residual = dres, .out_f32 = true});
    float *got = get(t, out, n_rows * n_out, KF_F32);
    compare(t, "linear to f32", got, want, n_rows * n_out, t->c->limit_linear);
    free(got);
    kf_weight_free(t->d, weight);
    bench_clear(t);
    free(x), free(w), free(b), free(res), free(want);
}

static void op_products(bench *t) {
    static const size_t shapes[][2] = {{8, 8}, {40, 56}, {64, 33}, {33, 64}, {257, 24}};
    for (size_t s = 0; s < COUNT(shapes); s++)
        for (size_t i = 0; i < COUNT(row_counts); i++)
            product(t, row_counts[i], shapes[s][0], shapes[s][1]);
}

int main(void) {
    static const operation operations[] = {
        {"norms", op_norms}, {"gated", op_gated}, {"add", op_add}, {"tables", op_tables}, {"products", op_products},
    };
    return run_table("shapes", operations, COUNT(operations));
}
