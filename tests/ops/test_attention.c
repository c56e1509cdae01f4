/* Aim: attention at the shapes where fast kernels change their ways: each head_dim, lengths at the borders of tiles,
 * pieces and splits, ragged batches with empty sequences and padding rows.
 * Method: every sequence of a batch against a reference in double precision, then alone: its bits must be the same.
 * What lies behind the last token stays as it was. */
#include "ops/harness.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* out [head_dim] = softmax(q · k scale) · v of one query; row i of k and v is at[i] elements into them. */
static void attend(double *out, const float *q, const float *k, const float *v, const size_t *at, size_t n_keys,
                   size_t head_dim, double scale) {
    double *p = doubles(n_keys), max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n_keys; i++) {
        for (size_t c = 0; c < head_dim; c++)
            p[i] += (double)q[c] * (double)k[at[i] + c];
        p[i] *= scale;
        max = fmax(max, p[i]);
    }
    for (size_t i = 0; i < n_keys; i++)
        sum += p[i] = exp(p[i] - max);
    for (size_t c = 0; c < head_dim; c++)
        out[c] = 0;
    for (size_t i = 0; i < n_keys; i++)
        for (size_t c = 0; c < head_dim; c++)
            out[c] += p[i] / sum * (double)v[at[i] + c];
    free(p);
}

static void same_bits(const bench *t, const char *what, const float *got, const float *want, size_t n, size_t width) {
    for (size_t i = 0; i < n * width; i++)
        if (memcmp(&got[i], &want[i], sizeof *got))
            fail_msg("%s: %s: row %zu, column %zu: %.9g, but %.9g in other company", t->c->name, what, i / width,
                     i % width, (double)got[i], (double)want[i]);
}

/* ---- over cu_seqlens ---- */

/* bf16: weights and outputs are rounded to 2^-9; tighter than the table's, or a lost key would hide among hundreds. */
static double limit(const bench *t) {
    return t->d->act == KF_BF16 ? 6e-3 : t->c->limit;
}

enum { PADDING = 19, LONGEST = 700 };

/* out of the batch [cu[n_seqs], width], in f32; the caller frees. The device is told of PADDING rows more, of a longer
 * sequence, and of two sequences behind the last that have no tokens. */
static float *attention_run(bench *t, const float *qkv, const int32_t *cu, size_t n_seqs, kf_heads h) {
    size_t n = (size_t)cu[n_seqs], width = h.n_heads * h.head_dim, padded = n + PADDING;
    float *rows = normal(t, padded * 3 * width, 1);
    memcpy(rows, qkv, n * 3 * width * sizeof *rows);
    int32_t *all = calloc(n_seqs + 3, sizeof *all);
    assert_non_null(all);
    memcpy(all, cu, (n_seqs + 1) * sizeof *cu);
    all[n_seqs + 1] = all[n_seqs + 2] = cu[n_seqs];
    kf_batch b = {
        .n_seqs = n_seqs + 2, .n_tokens = padded, .max_seqlen = LONGEST, .cu_seqlens = put_i32(t, all, n_seqs + 3)};
    unsigned char *out = put_act(t, NULL, padded * width);
    kf_attention(t->s, out, put_act(t, rows, padded * 3 * width), &b, h);
    size_t bytes = kf_dtype_bytes(t->d->act);
    float *got = get(t, out, n * width, t->d->act);
    unsigned char *behind = (unsigned char *)get(t, out + n * width * bytes, PADDING * width * bytes / 4, KF_F32);
    for (size_t i = 0; i < PADDING * width * bytes / 4 * 4; i++)
        assert_int_equal(behind[i], GUARD_BYTE);
    bench_clear(t);
    free(rows), free(all), free(behind);
    return got;
}

static void ragged(bench *t, const int32_t *lens, size_t n_seqs, size_t n_heads, size_t head_dim) {
    int32_t cu[16] = {0};
    size_t width = n_heads * head_dim, at[LONGEST];
    for (size_t s = 0; s < n_seqs; s++)
        cu[s + 1] = cu[s] + lens[s];
    kf_heads h = {
        .n_heads = n_heads, .n_kv_heads = n_heads, .head_dim = head_dim, .scale = 0.7f / sqrtf((float)head_dim)};
    float *qkv = normal(t, (size_t)cu[n_seqs] * 3 * width, 1.5f), *got = attention_run(t, qkv, cu, n_seqs, h);
    double *want = doubles((size_t)cu[n_seqs] * width);
    for (size_t s = 0; s < n_seqs; s++) {
        for (int32_t i = 0; i < lens[s]; i++)
            at[i] = (size_t)(cu[s] + i) * 3 * width;
        for (int32_t i = cu[s]; i < cu[s + 1]; i++)
            for (size_t c = 0; c < width; c += head_dim)
                attend(want + (size_t)i * width + c, qkv + (size_t)i * 3 * width + c, qkv + width + c,
                       qkv + 2 * width + c, at, (size_t)lens[s], head_dim, (double)h.scale);
    }
    compare(t, "attention", got, want, (size_t)cu[n_seqs] * width, limit(t));
    for (size_t s = 0; s < n_seqs; s++) {
        float *alone = attention_run(t, qkv + (size_t)cu[s] * 3 * width, (int32_t[]){0, lens[s]}, 1, h);
        same_bits(t, "attention", alone, got + (size_t)cu[s] * width, (size_t)lens[s], width);
        free(alone);
    }
    free(qkv), free(got), free(want);
}

static void op_attention(bench *t) {
    static const int32_t many[] = {1, 7, 15, 16, 17, 0, 48, 63, 64, 65, 0, 127, 128, 129}, few[] = {2, 300, 1, 66};
    for (size_t head_dim = 32; head_dim <= 128; head_dim *= 2) {
        ragged(t, many, COUNT(many), head_dim == 64 ? 3 : 1, head_dim);
        ragged(t, few, COUNT(few), 2, head_dim);
    }
    ragged(t, (int32_t[]){511, 512, 513, LONGEST}, 4, 1, 64);
    ragged(t, (int32_t[]){5, 70, 0, 9}, 4, 2, 48);
}

int main(void) {
    static const operation operations[] = {{"attention", op_attention}};
    return run_table("attention", operations, COUNT(operations));
}
