/* Aim: promise 3, the same answer alone or in company, bit by bit.
 * Method: rows are computed in one big call, then alone, in pairs and in odd groups at other places of other batches;
 * sequences are attended to whole, in chunks, token by token, at other blocks of the cache and among other sequences.
 * Every time the bits must be those of the first time. */
#include "ops/harness.h"

/* out [n, width] and want: rows of the same meaning, in the device's format. */
static void same_bits(bench *t, const char *what, const void *out, const float *want, size_t n, size_t width,
                      size_t first) {
    float *got = get(t, out, n * width, t->d->act);
    for (size_t i = 0; i < n * width; i++)
        if (memcmp(&got[i], &want[i], sizeof *got))
            fail_msg("%s: %s: row %zu of %zu (row %zu alone), column %zu: %.9g, but %.9g in other company", t->c->name,
                     what, i / width, n, first + i / width, i % width, (double)got[i], (double)want[i]);
    free(got);
}

/* ---- rows ---- */

static void linear_rows(bench *t, size_t n_in, size_t n_out, kf_activation act) {
    enum { N_ROWS = 300 };
    if (t->c->opts.batch_invariant_off) return; /* promises nothing */
    float *x = normal(t, N_ROWS * n_in, 1), *w = normal(t, n_out * n_in, 0.1f), *b = normal(t, n_out, 1);
    float *res = normal(t, N_ROWS * n_out, 1);
    for (size_t i = 0; i < n_in; i += 3)
        x[7 * n_in + i] *= 1e-37f; /* products that leave the range of normal numbers */
    kf_weight *weight;
    kf_weight_part part = {.data = w, .bias = b, .n_out = n_out, .bias_dtype = KF_F32};
    ok(kf_weight_pack(t->d, &(kf_weight_desc){"w", &part, 1, n_in, KF_F32}, &weight));
    void *out = put_act(t, NULL, N_ROWS * n_out);
    kf_linear_opts o = {.act = act, .residual = put_act(t, res, N_ROWS * n_out)};
    kf_linear(t->s, out, put_act(t, x, N_ROWS * n_in), weight, N_ROWS, o);
    float *want = get(t, out, N_ROWS * n_out, t->d->act);
    bench_clear(t);
    static const size_t groups[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 16, 17, 24, 33, 64, 100, 129, 250};
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        size_t n = groups[g], first = (size_t)below(t, N_ROWS - n);
        if (g < 3) first = 7; /* the small numbers, too */
        out = put_act(t, NULL, n * n_out);
        o.residual = put_act(t, res + first * n_out, n * n_out);
        kf_linear(t->s, out, put_act(t, x + first * n_in, n * n_in), weight, n, o);
        same_bits(t, "linear", out, want + first * n_out, n, n_out, first);
        bench_clear(t);
    }
    kf_weight_free(t->d, weight);
    free(x), free(w), free(b), free(res), free(want);
}

static void op_linear(bench *t) {
    assert_int_equal(t->d->batch_invariant, !t->c->opts.batch_invariant_off);
    linear_rows(t, 64, 64, KF_ACT_NONE);
    linear_rows(t, 61, 7, KF_ACT_GELU);
    linear_rows(t, 256, 768, KF_ACT_NONE);
    linear_rows(t, 900, 130, KF_ACT_SILU);
    linear_rows(t, 2050, 70, KF_ACT_NONE);
    linear_rows(t, 384, 5000, KF_ACT_GELU_TANH);
    linear_rows(t, 3072, 30, KF_ACT_NONE);
}

static void op_norms(bench *t) {
    enum { N_ROWS = 40, WIDTH = 193 };
    float *x = normal(t, N_ROWS * WIDTH, 1), *gamma = normal(t, WIDTH, 1);
    for (size_t i = 0; i < N_ROWS * WIDTH; i++)
        x[i] += 100; /* a mean whose last bit is seen in every element */
    for (int rms = 0; rms < 2; rms++) {
        float *want = NULL;
        for (size_t n = N_ROWS; n > 0; n = n / 2) {
            size_t first = (size_t)below(t, N_ROWS - n + 1);
            void *out = put_act(t, NULL, n * WIDTH), *dx = put_act(t, x + first * WIDTH, n * WIDTH);
            float *dgamma = put_f32(t, gamma, WIDTH);
            if (rms)
                kf_rmsnorm(t->s, out, dx, dgamma, 1e-5f, n, WIDTH);
            else
                kf_layernorm(t->s, out, dx, dgamma, dgamma, 1e-5f, n, WIDTH);
            if (!want) want = get(t, out, n * WIDTH, t->d->act);
            same_bits(t, rms ? "rmsnorm" : "layernorm", out, want + first * WIDTH, n, WIDTH, first);
            bench_clear(t);
        }
        free(want);
    }
    free(x), free(gamma);
}

static void op_activate(bench *t) {
    enum { N = 1000 };
    float *x = normal(t, N, 3);
    for (int a = 0; a < KF_N_ACTIVATIONS; a++) {
        void *out = put_act(t, NULL, N);
        kf_activate(t->s, out, put_act(t, x, N), (kf_activation)a, N);
        float *want = get(t, out, N, t->d->act);
        for (size_t n = 1; n < 40; n += 7) {
            size_t first = (size_t)below(t, N - n);
            out = put_act(t, NULL, n);
            kf_activate(t->s, out, put_act(t, x + first, n), (kf_activation)a, n);
            same_bits(t, "activate", out, want + first, 1, n, first);
        }
        bench_clear(t);
        free(want);
    }
    free(x);
}

/* ---- where a row lies ---- */

/* The same rows, one element further on: no longer where a vector may be loaded from. */
typedef struct place {
    bench *t;
    size_t shift; /* 0 or 1 */
} place;

static void *shifted(place p, const float *v, size_t n) {
    float *more = calloc(n + 1, sizeof *more);
    assert_non_null(more);
    if (v) memcpy(more + p.shift, v, n * sizeof *v);
    char *dev = put_act(p.t, more, n + 1);
    free(more);
    return dev + p.shift * kf_dtype_bytes(p.t->d->act);
}

enum { PLACE_ROWS = 5, PLACE_WIDTH = 896, PLACE_N = PLACE_ROWS * PLACE_WIDTH, PLACE_OUTS = 7 };

/* The results of every operation on rows, laid end to end. */
static float *rows_at(place p, const float *x, const float *gamma, const kf_weight *w) {
    bench *t = p.t;
    float *all = malloc(PLACE_OUTS * PLACE_N * sizeof *all), *dgamma = put_f32(t, gamma, PLACE_WIDTH);
    const int32_t cu[] = {0, 2, PLACE_ROWS}, rows[PLACE_ROWS] = {4, 1, 1, 0, 3};
    void *in = shifted(p, x, 2 * PLACE_N), *outs[PLACE_OUTS];
    const size_t counts[PLACE_OUTS] = {PLACE_N, PLACE_N, PLACE_N, PLACE_N, PLACE_N, PLACE_N, 2 * PLACE_WIDTH};
    assert_non_null(all);
    for (size_t i = 0; i < PLACE_OUTS; i++)
        outs[i] = shifted(p, NULL, PLACE_N);
    kf_layernorm(t->s, outs[0], in, dgamma, dgamma, 1e-5f, PLACE_ROWS, PLACE_WIDTH);
    kf_rmsnorm(t->s, outs[1], in, dgamma, 1e-5f, PLACE_ROWS, PLACE_WIDTH);
    kf_gated(t->s, outs[2], in, KF_ACT_SILU, PLACE_ROWS, PLACE_WIDTH);
    kf_activate(t->s, outs[3], in, KF_ACT_GELU, PLACE_N);
    kf_gather_rows(t->s, outs[4], in, put_i32(t, rows, PLACE_ROWS), PLACE_ROWS, PLACE_WIDTH);
    kf_add(t->s, outs[5], in, in, PLACE_N);
    kf_mean_rows(t->s, outs[6], in, put_i32(t, cu, 3), 2, PLACE_WIDTH);
    size_t done = 0;
    for (size_t i = 0; i < PLACE_OUTS; done += counts[i++]) {
        float *got = get(t, outs[i], counts[i], t->d->act);
        memcpy(all + done, got, counts[i] * sizeof *got);
        free(got);
    }
    kf_linear(t->s, outs[0], in, w, PLACE_ROWS, (kf_linear_opts){0});
    float *got = get(t, outs[0], PLACE_ROWS * 7, t->d->act);
    memcpy(all + done, got, PLACE_ROWS * 7 * sizeof *got);
    free(got);
    bench_clear(t);
    return all;
}

static void op_place(bench *t) {
    enum { N_ALL = 6 * PLACE_N + 2 * PLACE_WIDTH + PLACE_ROWS * 7 };
    float *x = normal(t, 2 * PLACE_N, 1), *gamma = normal(t, PLACE_WIDTH, 1), *w = normal(t, 7 * PLACE_WIDTH, 1);
    kf_weight *weight; /* of 7 outputs: no library's product */
    kf_weight_part part = {.data = w, .n_out = 7};
    ok(kf_weight_pack(t->d, &(kf_weight_desc){"w", &part, 1, PLACE_WIDTH, KF_F32}, &weight));
    float *want = rows_at((place){t, 0}, x, gamma, weight), *got = rows_at((place){t, 1}, x, gamma, weight);
    for (size_t i = 0; i < N_ALL; i++)
        if (memcmp(&got[i], &want[i], sizeof *got))
            fail_msg("%s: result %zu is %.9g, but %.9g where rows are aligned", t->c->name, i, (double)got[i],
                     (double)want[i]);
    kf_weight_free(t->d, weight);
    free(x), free(gamma), free(w), free(want), free(got);
}

/* ---- attention ---- */

enum { HEADS = 4, HEAD_DIM = 40, WIDTH = HEADS * HEAD_DIM, SEQ = 77 };

/* One sequence alone, then among others before and behind it. */
static void op_attention(bench *t) {
    kf_heads h = {.n_heads = HEADS, .n_kv_heads = HEADS, .head_dim = HEAD_DIM, .scale = 0.2f};
    float *qkv = normal(t, 4 * SEQ * 3 * WIDTH, 1), *want = NULL;
    for (int32_t before = 0; before < 60; before = before * 2 + 3) {
        int32_t cu[] = {0, before, before + SEQ, before + SEQ + before / 2};
        float *rows = normal(t, (size_t)cu[3] * 3 * WIDTH, 1);
        memcpy(rows + before * 3 * WIDTH, qkv, SEQ * 3 * WIDTH * sizeof *qkv);
        kf_batch b = {.n_seqs = 3, .n_tokens = (size_t)cu[3], .max_seqlen = SEQ, .cu_seqlens = put_i32(t, cu, 4)};
        char *out = put_act(t, NULL, (size_t)cu[3] * WIDTH);
        kf_attention(t->s, out, put_act(t, rows, (size_t)cu[3] * 3 * WIDTH), &b, h);
        out += (size_t)before * WIDTH * kf_dtype_bytes(t->d->act);
        if (!want) want = get(t, out, SEQ * WIDTH, t->d->act);
        same_bits(t, "attention", out, want, SEQ, WIDTH, 0);
        bench_clear(t);
        free(rows);
    }
    free(qkv), free(want);
}

enum { KV_HEADS = 2, KV_WIDTH = KV_HEADS * HEAD_DIM, STRIDE = WIDTH + 2 * KV_WIDTH, N_BLOCKS = 24, MAX_BLOCKS = 8 };
enum { N_ANGLES = 2 * SEQ * HEAD_DIM }; /* cosines and sines, any numbers; the norms take the first as gammas */

/* Runs one sequence through a fresh cache in chunks of `chunk` tokens, beside another one of `other` tokens a chunk,
 * and puts its rows in got [SEQ, WIDTH]. */
static void in_chunks(bench *t, float *got, const float *rows, const float *angles, int32_t chunk, int32_t other) {
    float *dev = put_f32(t, angles, N_ANGLES);
    kf_qk_opts qk = {.rope = {dev, dev + N_ANGLES / 2}, .q_norm = dev, .k_norm = dev, .eps = 1e-5f};
    kf_heads h = {.n_heads = HEADS, .n_kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .scale = 0.2f};
    size_t cache_n = N_BLOCKS * KV_WIDTH * KF_KV_BLOCK_SIZE, bytes = kf_dtype_bytes(t->d->act);
    int32_t shift = below(t, N_BLOCKS), table[2 * MAX_BLOCKS];
    for (int i = 0; i < 2 * MAX_BLOCKS; i++)
        table[i] = (i * 5 + shift) % N_BLOCKS;
    void *k = put_act(t, NULL, cache_n), *v = put_act(t, NULL, cache_n);
    for (int32_t done = 0, other_done = 0; done < SEQ; done += chunk) {
        if (SEQ - done < chunk) chunk = SEQ - done;
        int32_t cu[] = {0, other, other + chunk}, kv_len[] = {other_done + other, done + chunk};
        int32_t slots[2 * SEQ], positions[2 * SEQ];
        size_t n = (size_t)cu[2], first = t->n_buffers;
        float *batch = normal(t, n * STRIDE, 1);
        memcpy(batch + other * STRIDE, rows + done * STRIDE, (size_t)chunk * STRIDE * sizeof *rows);
        for (int32_t i = 0; i < cu[2]; i++) {
            int32_t seq = i >= other, p = seq ? done + i - other : other_done + i;
            positions[i] = p;
            slots[i] = table[seq * MAX_BLOCKS + p / KF_KV_BLOCK_SIZE] * KF_KV_BLOCK_SIZE + p % KF_KV_BLOCK_SIZE;
        }
        kf_batch b = {.n_seqs = 2,
                      .n_tokens = n,
                      .max_seqlen = n,
                      .position_ids = put_i32(t, positions, n),
                      .cu_seqlens = put_i32(t, cu, 3)};
        kf_paged p = {.slot_mapping = put_i32(t, slots, n),
                      .block_table = put_i32(t, table, 2 * MAX_BLOCKS),
                      .max_blocks = MAX_BLOCKS,
                      .kv_len = put_i32(t, kv_len, 2)};
        char *x = put_act(t, batch, n * STRIDE), *out = put_act(t, NULL, n * WIDTH);
        kf_rope_kv_write(t->s, (kf_kv_layer){k, v}, x, STRIDE, &b, p.slot_mapping, h, &qk);
        kf_attention_paged(t->s, out, x, STRIDE, (kf_kv_layer){k, v}, &b, &p, h);
        float *piece = get(t, out + (size_t)other * WIDTH * bytes, (size_t)chunk * WIDTH, t->d->act);
        memcpy(got + done * WIDTH, piece, (size_t)chunk * WIDTH * sizeof *got);
        free(batch), free(piece);
        other_done += other;
        for (; t->n_buffers > first; t->n_buffers--)
            kf_device_free(t->d, t->buffers[t->n_buffers - 1].block);
    }
    bench_clear(t);
}

/* Prefill in one piece, in chunks of any size, and token by token; heads normed and turned. */
static void op_attention_paged(bench *t) {
    float *rows = normal(t, SEQ * STRIDE, 1), *angles = normal(t, N_ANGLES, 1),
          *want = malloc(SEQ * WIDTH * sizeof *want);
    float *got = malloc(SEQ * WIDTH * sizeof *got);
    assert_true(want && got);
    in_chunks(t, want, rows, angles, SEQ, 0);
    static const int32_t chunks[][2] = {{SEQ, 9}, {1, 0}, {1, 1}, {16, 2}, {17, 0}, {5, 3}, {40, 30}};
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        in_chunks(t, got, rows, angles, chunks[c][0], chunks[c][1]);
        for (size_t i = 0; i < SEQ * WIDTH; i++)
            if (memcmp(&got[i], &want[i], sizeof *got))
                fail_msg("%s: chunks of %d beside %d: token %zu, column %zu: %.9g, but %.9g in one piece", t->c->name,
                         chunks[c][0], chunks[c][1], i / WIDTH, i % WIDTH, (double)got[i], (double)want[i]);
    }
    free(rows), free(angles), free(want), free(got);
}

int main(void) {
    static const operation operations[] = {
        {"linear", op_linear},        {"layernorm, rmsnorm", op_norms}, {"activate", op_activate},
        {"where rows lie", op_place}, {"attention", op_attention},      {"attention_paged", op_attention_paged},
    };
    return run_table("batch invariance", operations, sizeof operations / sizeof operations[0]);
}
