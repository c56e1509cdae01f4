/* Aim: every operation of device.h computes what its comment says, on every device and in every format.
 * Method: a table of operations, each run at odd sizes (1, not multiples of a vector, several blocks) on each
 * configuration, against a reference in double precision written here from the definition; guards round every buffer.
 * Sampling and the promise of equal bits have programs of their own (test_sample.c, test_invariance.c). */
#include "ops/harness.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* ---- references ---- */

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static double phi(double x) { /* the normal distribution's */
    return 0.5 * erfc(-x / sqrt(2));
}

static double activation(kf_activation a, double x) {
    if (isnan(x)) return x;
    switch (a) {
    case KF_ACT_GELU: return x * phi(x);
    case KF_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * pow(x, 3))));
    case KF_ACT_QUICK_GELU: return x * sigmoid(1.702 * x);
    case KF_ACT_GELU_10: return fmax(-10, fmin(10, x * phi(x)));
    case KF_ACT_RELU: return fmax(0, x);
    case KF_ACT_RELU6: return fmax(0, fmin(6, x));
    case KF_ACT_RELU2: return pow(fmax(0, x), 2);
    case KF_ACT_LEAKY_RELU: return x < 0 ? 0.01 * x : x;
    case KF_ACT_SILU: return x * sigmoid(x);
    case KF_ACT_MISH: return x * tanh(log1p(exp(x)));
    case KF_ACT_TANH: return tanh(x);
    case KF_ACT_SIGMOID: return sigmoid(x);
    case KF_ACT_LAPLACE: return 0.5 * (1 + erf((x - 0.707107) / (0.282095 * sqrt(2))));
    default: return x;
    }
}

/* ---- linear ---- */

static void linear_case(bench *t, size_t n_rows, size_t n_in, const size_t *n_out_of, size_t n_parts, kf_dtype from,
                        kf_activation act, bool bias, bool residual, bool in_place) {
    size_t n_out = 0;
    for (size_t i = 0; i < n_parts; i++)
        n_out += n_out_of[i];
    float *x = normal(t, n_rows * n_in, 1), *w = normal(t, n_out * n_in, 1 / sqrtf((float)n_in));
    float *b = normal(t, n_out, 0.5f), *res = normal(t, n_rows * n_out, 1);
    uint16_t *w16 = malloc(n_out * n_in * sizeof *w16), *b16 = malloc(n_out * sizeof *b16);
    assert_true(w16 && b16);
    for (size_t i = 0; i < n_out * n_in; i++)
        w16[i] = kf_bf16_from_f32(w[i]);
    for (size_t i = 0; i < n_out; i++)
        b16[i] = kf_bf16_from_f32(b[i]);

    kf_weight_part parts[4];
    for (size_t i = 0, row = 0; i < n_parts; row += n_out_of[i++]) {
        /* the second of several parts has no bias: zeros stand for it */
        parts[i] = (kf_weight_part){.data = from == KF_F32 ? (void *)(w + row * n_in) : (void *)(w16 + row * n_in),
                                    .bias = from == KF_F32 ? (void *)(b + row) : (void *)(b16 + row),
                                    .n_out = n_out_of[i],
                                    .bias_dtype = from};
        if (!bias || i == 1) parts[i].bias = NULL;
    }
    kf_weight *weight;
    kf_weight_desc desc = {.name = "test.weight", .parts = parts, .n_parts = n_parts, .n_in = n_in, .dtype = from};
    ok(kf_weight_pack(t->d, &desc, &weight));

    double *want = doubles(n_rows * n_out);
    bool halves = from == KF_BF16 || t->d->weights == KF_BF16;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0, o = 0; i < n_parts; i++)
            for (size_t c = 0; c < n_out_of[i]; c++, o++) {
                double sum = 0;
                for (size_t k = 0; k < n_in; k++)
                    sum += (double)x[r * n_in + k] *
                           (double)(halves ? kf_bf16_to_f32(w16[o * n_in + k]) : w[o * n_in + k]);
                if (parts[i].bias) sum += (double)(from == KF_BF16 ? kf_bf16_to_f32(b16[o]) : b[o]);
                want[r * n_out + o] = activation(act, sum) + (residual ? (double)res[r * n_out + o] : 0);
            }

    const void *dx = put_act(t, x, n_rows * n_in), *dres = put_act(t, res, n_rows * n_out);
    void *out = in_place ? (void *)dres : put_act(t, NULL, n_rows * n_out);
    kf_linear(t->s, out, dx, weight, n_rows, (kf_linear_opts){.act = act, .residual = residual ? dres : NULL});
    check_act(t, "linear", out, want, n_rows * n_out, t->c->limit_linear);
    if (!residual) {
        void *logits = put_f32(t, NULL, n_rows * n_out);
        kf_linear(t->s, logits, dx, weight, n_rows, (kf_linear_opts){.act = act, .out_f32 = true});
        float *got = get(t, logits, n_rows * n_out, KF_F32);
        compare(t, "linear to f32", got, want, n_rows * n_out, t->c->limit_linear);
        free(got);
    }
    kf_weight_free(t->d, weight);
    bench_clear(t);
    free(x), free(w), free(b), free(res), free(w16), free(b16), free(want);
}

static void op_linear(bench *t) {
    static const size_t rows[] = {1, 2, 3, 5, 8, 9, 16, 17, 31, 33, 64, 65, 100, 129, 300};
    for (size_t i = 0; i < COUNT(rows); i++)
        linear_case(t, rows[i], 96, (size_t[]){80}, 1, KF_F32, KF_ACT_GELU, true, true, i % 2);
    static const size_t shapes[][2] = {{1, 1}, {1, 70}, {7, 3}, {61, 67}, {130, 33}, {385, 129}, {768, 65}, {1031, 40}};
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (size_t n_rows = 1; n_rows <= 21; n_rows += 4)
            linear_case(t, n_rows, shapes[i][0], &shapes[i][1], 1, i % 2 ? KF_F32 : KF_BF16, KF_ACT_NONE, i % 3, false,
                        false);
    /* our product of few rows: whole chunks of 16 bytes, fewer than it loads ahead and more; an output left over */
    static const size_t few[][2] = {{8, 5}, {320, 16}, {896, 33}, {4872, 24}};
    for (size_t i = 0; i < COUNT(few); i++)
        for (size_t n_rows = 1; n_rows <= 9; n_rows++)
            linear_case(t, n_rows, few[i][0], &few[i][1], 1, KF_F32, n_rows % 3 ? KF_ACT_NONE : KF_ACT_SILU, true,
                        n_rows % 2, n_rows % 4 == 1);
    linear_case(t, 5, 48, (size_t[]){40, 8, 8}, 3, KF_F32, KF_ACT_NONE, true, false, false);
    linear_case(t, 20, 48, (size_t[]){100, 40}, 2, KF_BF16, KF_ACT_SILU, true, true, true);
    linear_case(t, 40, 32, (size_t[]){4500}, 1, KF_F32, KF_ACT_NONE, false, true, true);
    linear_case(t, 2, 32, (size_t[]){4500}, 1, KF_F32, KF_ACT_RELU, true, true, true);
}

/* NaN and Inf in a row come out of that row, and of no other. */
static void op_linear_nan(bench *t) {
    enum { N_IN = 40, N_OUT = 70 };
    float *w = normal(t, N_OUT * N_IN, 1);
    kf_weight *weight;
    kf_weight_desc desc = {"w", &(kf_weight_part){.data = w, .n_out = N_OUT}, 1, N_IN, KF_F32};
    ok(kf_weight_pack(t->d, &desc, &weight));
    for (size_t n_rows = 3; n_rows <= 48; n_rows *= 4) {
        float *x = normal(t, n_rows * N_IN, 1);
        x[N_IN + 3] = NAN;
        x[2 * N_IN + 39] = INFINITY;
        void *out = put_act(t, NULL, n_rows * N_OUT);
        kf_linear(t->s, out, put_act(t, x, n_rows * N_IN), weight, n_rows, (kf_linear_opts){0});
        float *got = get(t, out, n_rows * N_OUT, t->d->act);
        for (size_t i = 0; i < n_rows * N_OUT; i++) {
            if (i / N_OUT == 1) assert_true(isnan(got[i]));
            if (i / N_OUT == 2) assert_true(isinf(got[i]));
            if (i / N_OUT != 1 && i / N_OUT != 2) assert_true(isfinite(got[i]));
        }
        bench_clear(t);
        free(x), free(got);
    }
    kf_weight_free(t->d, weight);
    free(w);
}

/* ---- norms ---- */

/* Widths that one warp holds, and a block; wholly or in part; of whole chunks of 16 bytes and not. */
static const size_t norm_widths[] = {1, 7, 16, 31, 100, 129, 384, 896, 1000, 1025, 2048, 4100, 8200};

/* x [n_rows, hidden] = gamma (x - mean) / sqrt(var + eps) + beta, in place. */
static void want_layernorm(double *x, size_t n_rows, size_t hidden, const float *gamma, const float *beta, float eps) {
    for (size_t r = 0; r < n_rows; r++, x += hidden) {
        double mean = 0, var = 0;
        for (size_t i = 0; i < hidden; i++)
            mean += x[i] / (double)hidden;
        for (size_t i = 0; i < hidden; i++)
            var += (x[i] - mean) * (x[i] - mean) / (double)hidden;
        for (size_t i = 0; i < hidden; i++)
            x[i] = (double)gamma[i] * (x[i] - mean) / sqrt(var + (double)eps) + (double)beta[i];
    }
}

static void layernorm_case(bench *t, size_t n_rows, size_t hidden, bool in_place, float offset) {
    float *x = normal(t, n_rows * hidden, 2), *gamma = normal(t, hidden, 1), *beta = normal(t, hidden, 1);
    const float eps = 1e-3f;
    double *want = doubles(n_rows * hidden);
    for (size_t i = 0; i < n_rows * hidden; i++)
        want[i] = (double)(x[i] += offset); /* a mean far from 0 shows a variance taken in one pass */
    want_layernorm(want, n_rows, hidden, gamma, beta, eps);
    void *dx = put_act(t, x, n_rows * hidden), *out = in_place ? dx : put_act(t, NULL, n_rows * hidden);
    kf_layernorm(t->s, out, dx, put_f32(t, gamma, hidden), put_f32(t, beta, hidden), eps, n_rows, hidden);
    check_act(t, "layernorm", out, want, n_rows * hidden, offset != 0 ? 20 * t->c->limit : t->c->limit);
    bench_clear(t);
    free(x), free(gamma), free(beta), free(want);
}

static void op_layernorm(bench *t) {
    for (size_t i = 0; i < COUNT(norm_widths); i++) {
        layernorm_case(t, 1, norm_widths[i], false, 0);
        layernorm_case(t, 7, norm_widths[i], true, 0);
        if (t->d->act == KF_F32) layernorm_case(t, 13, norm_widths[i], true, 30);
    }
}

static void rmsnorm_case(bench *t, size_t n_rows, size_t hidden, bool in_place) {
    size_t n = n_rows * hidden;
    float *x = normal(t, n, 2), *gamma = normal(t, hidden, 1);
    const float eps = 1e-2f;
    double *want = doubles(n);
    for (size_t r = 0; r < n_rows; r++) {
        double squares = 0;
        for (size_t i = r * hidden; i < (r + 1) * hidden; i++)
            squares += (double)x[i] * (double)x[i];
        for (size_t i = 0; i < hidden; i++)
            want[r * hidden + i] =
                (double)x[r * hidden + i] * (double)gamma[i] / sqrt(squares / (double)hidden + (double)eps);
    }
    void *dx = put_act(t, x, n), *out = in_place ? dx : put_act(t, NULL, n);
    kf_rmsnorm(t->s, out, dx, put_f32(t, gamma, hidden), eps, n_rows, hidden);
    check_act(t, "rmsnorm", out, want, n, t->c->limit);
    bench_clear(t);
    free(x), free(gamma), free(want);
}

static void op_rmsnorm(bench *t) {
    for (size_t i = 0; i < COUNT(norm_widths); i++) {
        rmsnorm_case(t, 1, norm_widths[i], false);
        rmsnorm_case(t, 7, norm_widths[i], true);
    }
}

/* ---- element by element ---- */

static void op_activate(bench *t) {
    static const float special[] = {0, -0.0f, 1e-30f, -1e-30f, 88, -88, 104, -104, 1e4f, -1e4f, 5.99f, 6.01f, -6.5f};
    for (int a = 0; a < KF_N_ACTIVATIONS; a++)
        for (size_t n = 1; n < 70000; n = n * 13 + 4) {
            float *x = normal(t, n, 4);
            double *want = doubles(n);
            for (size_t i = 0; i < COUNT(special) && n > 50; i++)
                x[i] = t->d->act == KF_BF16 ? kf_bf16_to_f32(kf_bf16_from_f32(special[i])) : special[i];
            if (n > 50) x[20] = NAN;
            for (size_t i = 0; i < n; i++)
                want[i] = activation((kf_activation)a, (double)x[i]);
            void *dx = put_act(t, x, n), *out = n % 2 ? dx : put_act(t, NULL, n);
            kf_activate(t->s, out, dx, (kf_activation)a, n);
            char what[32];
            snprintf(what, sizeof what, "activation %d", a);
            check_act(t, what, out, want, n, t->c->limit);
            /* values of ordinary size on their own, where 1e4 does not hide their error */
            float *got = get(t, out, n, t->d->act);
            size_t first = n > 50 ? 21 : 0;
            compare(t, what, got + first, want + first, n - first, t->c->limit);
            bench_clear(t);
            free(x), free(want), free(got);
        }
}

/* BERT's GELU is the one with erf. Its tanh form differs by less than bf16 shows wherever values are of ordinary size,
 * but by a tenth of the value at -3 and nearly half at -4: there each value has its own limit. Through the operation,
 * and behind a product with the unit matrix, of few rows and of many. */
static void gelu_is_erf(bench *t, const char *what, const void *dev, const float *x, size_t n) {
    float *got = get(t, dev, n, t->d->act);
    size_t n_apart = 0;
    for (size_t i = 0; i < n; i++) {
        double want = activation(KF_ACT_GELU, (double)x[i]), other = activation(KF_ACT_GELU_TANH, (double)x[i]);
        if (fabs((double)got[i] / want - 1) > 0.02)
            fail_msg("%s: %s: GELU of %g is %g, wanted %g; by tanh it is %g", t->c->name, what, (double)x[i],
                     (double)got[i], want, other);
        n_apart += fabs(other / want - 1) > 0.1;
    }
    assert_true(n_apart > n / 4);
    free(got);
}

static void op_gelu(bench *t) {
    enum { WIDTH = 64, N_ROWS = 20, N = N_ROWS * WIDTH };
    float x[N], *unit = calloc(WIDTH * WIDTH, sizeof *unit);
    assert_non_null(unit);
    for (size_t i = 0; i < N; i++)
        x[i] = kf_bf16_to_f32(kf_bf16_from_f32(-4 + 3 * (float)i / N));
    for (size_t i = 0; i < WIDTH; i++)
        unit[i * WIDTH + i] = 1;
    kf_weight *weight;
    kf_weight_desc desc = {"w", &(kf_weight_part){.data = unit, .n_out = WIDTH}, 1, WIDTH, KF_F32};
    ok(kf_weight_pack(t->d, &desc, &weight));
    void *dx = put_act(t, x, N), *out = put_act(t, NULL, N);
    kf_activate(t->s, out, dx, KF_ACT_GELU, N);
    gelu_is_erf(t, "activate", out, x, N);
    kf_linear(t->s, out, dx, weight, N_ROWS, (kf_linear_opts){.act = KF_ACT_GELU});
    gelu_is_erf(t, "linear, many rows", out, x, N);
    out = put_act(t, NULL, N);
    kf_linear(t->s, out, dx, weight, 3, (kf_linear_opts){.act = KF_ACT_GELU});
    gelu_is_erf(t, "linear, few rows", out, x, 3 * WIDTH);
    kf_weight_free(t->d, weight);
    bench_clear(t);
    free(unit);
}

static void op_gated(bench *t) {
    static const size_t shapes[][2] = {{1, 1}, {3, 7}, {17, 100}, {2, 2056}, {5, 4864}};
    for (size_t s = 0; s < COUNT(shapes); s++)
        for (int a = KF_ACT_GELU; a <= KF_ACT_SILU; a += KF_ACT_SILU - KF_ACT_GELU) {
            size_t n_rows = shapes[s][0], width = shapes[s][1];
            float *x = normal(t, n_rows * 2 * width, 2);
            double *want = doubles(n_rows * width);
            for (size_t r = 0; r < n_rows; r++)
                for (size_t i = 0; i < width; i++)
                    want[r * width + i] =
                        activation((kf_activation)a, (double)x[2 * r * width + i]) * (double)x[(2 * r + 1) * width + i];
            void *out = put_act(t, NULL, n_rows * width);
            kf_gated(t->s, out, put_act(t, x, n_rows * 2 * width), (kf_activation)a, n_rows, width);
            check_act(t, "gated", out, want, n_rows * width, t->c->limit);
            bench_clear(t);
            free(x), free(want);
        }
}

/* ---- rows ---- */

static void embed_case(bench *t, size_t hidden) {
    enum { N_ROWS = 37, N = 50 };
    float *table = normal(t, N_ROWS * hidden, 1);
    int32_t ids[N], last[4] = {5, 0, N_ROWS - 1, 7};
    double *want = doubles(N * hidden);
    for (size_t i = 0; i < N; i++) {
        ids[i] = i % 5 == 2 ? -1 - below(t, 4) : below(t, N_ROWS);
        size_t id = (size_t)(ids[i] < 0 ? last[-1 - ids[i]] : ids[i]);
        for (size_t c = 0; c < hidden; c++)
            want[i * hidden + c] = (double)table[id * hidden + c];
    }
    void *out = put_act(t, NULL, N * hidden);
    kf_embed(t->s, out, put_act(t, table, N_ROWS * hidden), hidden, put_i32(t, ids, N), put_i32(t, last, 4), N);
    check_act(t, "embed", out, want, N * hidden, 0);
    bench_clear(t);
    free(table), free(want);
}

static void op_embed(bench *t) {
    embed_case(t, 19);
    embed_case(t, 96);
    embed_case(t, 2568); /* more chunks than a block has threads */
}

static void embed_bert_case(bench *t, size_t hidden) {
    enum { VOCAB = 23, POSITIONS = 12, N = 20 };
    float *word = normal(t, VOCAB * hidden, 1), *position = normal(t, POSITIONS * hidden, 1);
    float *type = normal(t, hidden, 1), *gamma = normal(t, hidden, 1), *beta = normal(t, hidden, 1);
    int32_t cu[] = {0, 11, 11, 20}, ids[N], places[N];
    double *want = doubles(N * hidden);
    for (size_t i = 0; i < N; i++) {
        ids[i] = below(t, VOCAB), places[i] = below(t, POSITIONS);
        for (size_t c = 0; c < hidden; c++)
            want[i * hidden + c] = (double)word[(size_t)ids[i] * hidden + c] +
                                   (double)position[(size_t)places[i] * hidden + c] + (double)type[c];
    }
    want_layernorm(want, N, hidden, gamma, beta, 1e-3f);
    kf_batch b = {.n_seqs = 3,
                  .n_tokens = N,
                  .max_seqlen = 11,
                  .input_ids = put_i32(t, ids, N),
                  .position_ids = put_i32(t, places, N),
                  .cu_seqlens = put_i32(t, cu, 4)};
    kf_bert_embeddings e = {.word = put_act(t, word, VOCAB * hidden),
                            .position = put_act(t, position, POSITIONS * hidden),
                            .type0 = put_act(t, type, hidden),
                            .gamma = put_f32(t, gamma, hidden),
                            .beta = put_f32(t, beta, hidden),
                            .eps = 1e-3f};
    void *out = put_act(t, NULL, N * hidden);
    kf_embed_bert(t->s, out, &e, hidden, &b);
    check_act(t, "embed_bert", out, want, N * hidden, t->c->limit);
    bench_clear(t);
    free(word), free(position), free(type), free(gamma), free(beta), free(want);
}

static void op_embed_bert(bench *t) {
    for (size_t i = 2; i < COUNT(norm_widths); i += 2)
        embed_bert_case(t, norm_widths[i]);
}

static void gather_and_mean_case(bench *t, size_t width) {
    enum { N = 45, N_PICKED = 60, N_SEQS = 4 };
    float *x = normal(t, N * width, 1);
    int32_t rows[N_PICKED], cu[] = {0, 1, 18, 18, N};
    double *want = doubles(N_PICKED * width), *means = doubles(N_SEQS * width);
    for (size_t i = 0; i < N_PICKED; i++) {
        rows[i] = below(t, N);
        for (size_t c = 0; c < width; c++)
            want[i * width + c] = (double)x[(size_t)rows[i] * width + c];
    }
    for (size_t s = 0; s < N_SEQS; s++)
        for (size_t r = (size_t)cu[s]; r < (size_t)cu[s + 1]; r++)
            for (size_t c = 0; c < width; c++)
                means[s * width + c] += (double)x[r * width + c] / (cu[s + 1] - cu[s]);
    void *dx = put_act(t, x, N * width), *out = put_act(t, NULL, N_PICKED * width);
    kf_gather_rows(t->s, out, dx, put_i32(t, rows, N_PICKED), N_PICKED, width);
    check_act(t, "gather_rows", out, want, N_PICKED * width, 0);
    out = put_act(t, NULL, N_SEQS * width);
    kf_mean_rows(t->s, out, dx, put_i32(t, cu, N_SEQS + 1), N_SEQS, width);
    check_act(t, "mean_rows", out, means, N_SEQS * width, t->c->limit);
    bench_clear(t);
    free(x), free(want), free(means);
}

static void op_gather_and_mean(bench *t) {
    gather_and_mean_case(t, 21);
    gather_and_mean_case(t, 768);
    gather_and_mean_case(t, 1100); /* more columns than a block of mean_rows has */
}

/* ---- from QKV to the cache ---- */

enum { ROPE_POSITIONS = 40, ROPE_TOKENS_MAX = 40 };

/* want [head_dim] = RoPE(norm(x)) of one head. gamma, cos: NULL for none. */
static void want_head(double *want, const float *x, const float *gamma, float eps, const float *cos, const float *sin,
                      size_t head_dim) {
    double squares = 0;
    for (size_t i = 0; i < head_dim; i++)
        squares += (double)x[i] * (double)x[i];
    double scale = gamma ? 1 / sqrt(squares / (double)head_dim + (double)eps) : 1;
    for (size_t i = 0; i < head_dim; i++)
        want[i] = (double)x[i] * scale * (gamma ? (double)gamma[i] : 1);
    for (size_t i = 0; cos && i < head_dim / 2; i++) {
        double a = want[i], b = want[i + head_dim / 2];
        want[i] = a * (double)cos[i] - b * (double)sin[i];
        want[i + head_dim / 2] = b * (double)cos[i] + a * (double)sin[i];
    }
}

/* A row is [q, k, v, `gap` elements of nobody]; every third token is written nowhere. What is not to be written, in qkv
 * and in the cache, stays as it was. */
static void rope_kv_case(bench *t, size_t n_tokens, kf_heads h, size_t gap, bool norm, bool rope) {
    const size_t head_dim = h.head_dim, half = head_dim / 2, n_blocks = 4, slots_all = n_blocks * KF_KV_BLOCK_SIZE;
    const size_t stride = (h.n_heads + 2 * h.n_kv_heads) * head_dim + gap, n = n_tokens * stride;
    const size_t cache_n = slots_all * h.n_kv_heads * head_dim;
    float *x = normal(t, n, 1), *cache = normal(t, cache_n, 1), *gamma = normal(t, 2 * head_dim, 1);
    float *cosines = normal(t, ROPE_POSITIONS * half, 1), *sines = normal(t, ROPE_POSITIONS * half, 1);
    int32_t places[ROPE_TOKENS_MAX], slots[ROPE_TOKENS_MAX];
    double *want = doubles(n), *want_k = doubles(cache_n), *want_v = doubles(cache_n);
    for (size_t i = 0; i < n; i++)
        want[i] = (double)x[i];
    for (size_t i = 0; i < cache_n; i++)
        want_k[i] = want_v[i] = (double)cache[i];
    for (size_t k = 0; k < n_tokens; k++) {
        places[k] = below(t, ROPE_POSITIONS);
        slots[k] = k % 3 == 1 ? -1 : (int32_t)(k * 13 % slots_all); /* 13 and 64 have no common factor */
        const float *row = x + k * stride, *cos = rope ? cosines + (size_t)places[k] * half : NULL;
        const float *sin = sines + (size_t)places[k] * half;
        for (size_t i = 0; i < h.n_heads; i++)
            want_head(want + k * stride + i * head_dim, row + i * head_dim, norm ? gamma : NULL, 0.1f, cos, sin,
                      head_dim);
        for (size_t i = 0; i < h.n_kv_heads && slots[k] >= 0; i++) {
            size_t block = (size_t)slots[k] / KF_KV_BLOCK_SIZE, at = (size_t)slots[k] % KF_KV_BLOCK_SIZE;
            size_t to = ((block * h.n_kv_heads + i) * KF_KV_BLOCK_SIZE + at) * head_dim;
            const float *key = row + (h.n_heads + i) * head_dim;
            want_head(want_k + to, key, norm ? gamma + head_dim : NULL, 0.1f, cos, sin, head_dim);
            want_head(want_v + to, key + h.n_kv_heads * head_dim, NULL, 0, NULL, NULL, head_dim);
        }
    }
    kf_qk_opts o = {.eps = 0.1f};
    if (norm) o.q_norm = put_f32(t, gamma, head_dim), o.k_norm = put_f32(t, gamma + head_dim, head_dim);
    if (rope)
        o.rope = (kf_rope_table){put_f32(t, cosines, ROPE_POSITIONS * half), put_f32(t, sines, ROPE_POSITIONS * half)};
    kf_kv_layer to = {put_act(t, cache, cache_n), put_act(t, cache, cache_n)};
    void *qkv = put_act(t, x, n);
    kf_batch b = {.n_seqs = 1, .n_tokens = n_tokens, .position_ids = put_i32(t, places, n_tokens)};
    kf_rope_kv_write(t->s, to, qkv, stride, &b, put_i32(t, slots, n_tokens), h, &o);
    check_act(t, "rope_kv_write: qkv", qkv, want, n, t->c->limit);
    check_act(t, "rope_kv_write: K", to.k, want_k, cache_n, t->c->limit);
    check_act(t, "rope_kv_write: V", to.v, want_v, cache_n, 0);
    bench_clear(t);
    free(x), free(cache), free(gamma), free(cosines), free(sines), free(want), free(want_k), free(want_v);
}

/* Heads of one chunk of 16 bytes, of several and of none that is whole; lanes of a warp that belong to no head; rows
 * that do not start at 16 bytes; more heads than a block has threads for. */
static void op_rope_kv_write(bench *t) {
    static const size_t head_dims[] = {2, 10, 16, 32, 64, 80, 96, 128, 256, 600};
    for (size_t i = 0; i < COUNT(head_dims); i++)
        for (int how = 0; how < 4; how++)
            rope_kv_case(t, 1 + i % 3 * 4, (kf_heads){.n_heads = 6, .n_kv_heads = 2, .head_dim = head_dims[i]},
                         how == 3 ? 3 : 0, how % 2, how > 0);
    rope_kv_case(t, ROPE_TOKENS_MAX, (kf_heads){.n_heads = 1, .n_kv_heads = 1, .head_dim = 7}, 0, true, false);
    rope_kv_case(t, 5, (kf_heads){.n_heads = 32, .n_kv_heads = 8, .head_dim = 128}, 8, true, true);
    rope_kv_case(t, 2, (kf_heads){.n_heads = 2, .n_kv_heads = 0, .head_dim = 64}, 0, true, true);
}

/* ---- failures and memory ---- */

/* A cache shorter than the batch's tokens is our own bug: the stream fails, stays failed, and says why. What outlives
 * the step is not touched any more: memory that would be zeroed, the cache, a slot's last token and the tokens it has
 * seen. */
static void op_sticky_failure(bench *t) {
    kf_heads h = {.n_heads = 1, .n_kv_heads = 1, .head_dim = 4, .scale = 1};
    int32_t cu[] = {0, 2}, kv_len[] = {1}, table[] = {0}, slots[] = {0, 1}, last[] = {7};
    uint32_t seen[] = {0};
    float zeros[16 * 4] = {0};
    void *out = put_act(t, NULL, 8), *q = put_act(t, zeros, 2 * 3 * 4), *kv = put_act(t, NULL, COUNT(zeros));
    kf_batch b = {.n_seqs = 1, .n_tokens = 2, .max_seqlen = 2, .cu_seqlens = put_i32(t, cu, 2)};
    kf_paged p = {.block_table = put_i32(t, table, 1), .max_blocks = 1, .kv_len = put_i32(t, kv_len, 1)};
    kf_sampler sm = {.last_token = put_i32(t, last, 1), .seen = put(t, seen, sizeof seen), .vocab_size = 4};
    const kf_sample_params params = {.top_p = 1, .repetition_penalty = 1};
    kf_sample_out *drawn = put(t, NULL, sizeof *drawn);
    int32_t *dslots = put_i32(t, slots, 2);
    float *logits = put_f32(t, zeros, 4);
    void *dparams = put(t, &params, sizeof params);
    kf_stream *s;
    ok(kf_stream_open(t->d, &s));
    kf_attention_paged(s, out, q, 4, (kf_kv_layer){kv, kv}, &b, &p, h);
    kf_fill_zero(s, out, 8 * kf_dtype_bytes(t->d->act));
    kf_rope_kv_write(s, (kf_kv_layer){kv, kv}, q, 12, &b, dslots, h, &(kf_qk_opts){0});
    kf_mark_seen(s, &sm, dslots, dslots, 1);
    kf_sample(s, drawn, logits, dparams, &sm, 1);
    ok(kf_event_record(s, t->e));
    assert_int_equal(kf_event_wait(t->d, t->e), KF_ERR_BUG);
    assert_non_null(strstr(kf_error_text(), "2 new tokens"));
    kf_stream_close(s);
    float *got = get(t, out, 8, t->d->act), *cache = get(t, kv, COUNT(zeros), t->d->act);
    for (size_t i = 0; i < 8; i++)
        assert_true(got[i] != 0);
    for (size_t i = 0; i < COUNT(zeros); i++)
        assert_true(cache[i] != 0);
    kf_copy_out(t->s, last, sm.last_token, sizeof last);
    kf_copy_out(t->s, seen, sm.seen, sizeof seen);
    bench_sync(t);
    assert_int_equal(last[0], 7);
    assert_int_equal(seen[0], 0);
    free(got), free(cache);
    bench_clear(t);
}

/* Too much memory is refused with both figures; used bytes are counted; bad formats are refused. */
static void op_memory(bench *t) {
    void *p = t;
    assert_int_equal(kf_device_alloc(t->d, t->d->memory_bytes + 1, "kv_cache", &p), KF_ERR_NO_MEMORY);
    assert_ptr_equal(p, t);
    assert_non_null(strstr(kf_error_text(), "kv_cache"));
    ok(kf_device_alloc(t->d, 1000, "x", &p));
    assert_int_equal(t->d->memory_bytes_used, 1000);
    kf_device_free(t->d, p);
    assert_int_equal(t->d->memory_bytes_used, 0);
    ok(kf_device_alloc(t->d, 0, "nothing", &p));
    kf_device_free(t->d, p);
    kf_device_free(t->d, NULL);

    float w[4] = {0};
    kf_weight *weight = NULL;
    kf_weight_part part = {.data = w, .bias = w, .n_out = 2, .bias_dtype = KF_F32};
    kf_weight_desc desc = {"h.0.weight", &part, 1, 2, KF_I32};
    assert_int_equal(kf_weight_pack(t->d, &desc, &weight), KF_ERR_UNSUPPORTED);
    assert_non_null(strstr(kf_error_text(), "h.0.weight"));
    assert_int_equal(t->d->memory_bytes_used, 0);

    /* packing that runs out of memory at any of its steps gives back what it had */
    desc.dtype = KF_F32;
    size_t all = t->d->memory_bytes;
    for (t->d->memory_bytes = 0; kf_weight_pack(t->d, &desc, &weight) != KF_OK; t->d->memory_bytes += 32) {
        assert_non_null(strstr(kf_error_text(), "h.0.weight"));
        assert_int_equal(t->d->memory_bytes_used, 0);
        assert_null(weight);
    }
    assert_true(t->d->memory_bytes > 0);
    t->d->memory_bytes = all;
    kf_weight_free(t->d, weight);
}

/* ---- the table ---- */

static const operation operations[] = {
    {"linear", op_linear},
    {"linear: NaN and Inf", op_linear_nan},
    {"layernorm", op_layernorm},
    {"rmsnorm", op_rmsnorm},
    {"activate", op_activate},
    {"GELU is erf's", op_gelu},
    {"gated", op_gated},
    {"embed", op_embed},
    {"embed_bert", op_embed_bert},
    {"gather_rows, mean_rows", op_gather_and_mean},
    {"rope_kv_write", op_rope_kv_write},
    {"a failed stream", op_sticky_failure},
    {"memory", op_memory},
};

int main(void) {
    return run_table("operations", operations, COUNT(operations));
}
