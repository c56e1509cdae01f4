/* Aim: kf_sample draws the token that its comment promises: mask, adjustments, penalty, temperature, top-k,
 * top-p, min-p, then the draw.
 * Method: a reference that sorts, in double precision. Each draw is compared with the inverse of the reference's
 * distribution at the same random number (device/random.h), and the counts of thousands of draws with its
 * probabilities. */
#include "device/random.h"
#include "ops/harness.h"

enum { VOCAB_MAX = 5000 };

/* ---- the reference ---- */

typedef struct token {
    int32_t id;
    double value, p; /* after penalty and temperature; the probability, 0 where filtered */
} token;

static int greater_first(const void *a, const void *b) {
    double x = ((const token *)a)->value, y = ((const token *)b)->value;
    return x > y ? -1 : x < y ? 1 : 0;
}

static int by_id(const void *a, const void *b) {
    return ((const token *)a)->id - ((const token *)b)->id;
}

static void normalise(token *t, size_t n) {
    double sum = 0, max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (t[i].p > 0) max = fmax(max, t[i].value);
    for (size_t i = 0; i < n; i++)
        sum += t[i].p = t[i].p > 0 ? exp(t[i].value - max) : 0;
    for (size_t i = 0; i < n; i++)
        t[i].p /= sum;
}

/* The distribution in order of id, as transformers' warpers make it: each filter renormalises before the next.
 * Tokens equal to the last that is kept are kept too. seen [n], or NULL. */
static void distribution(token *t, const float *logits, const uint8_t *seen, const kf_sample_params *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = (double)logits[i];
        if (seen && seen[i]) v = v < 0 ? v * (double)s->repetition_penalty : v / (double)s->repetition_penalty;
        t[i] = (token){.id = (int32_t)i, .value = v / (double)s->temperature, .p = 1};
    }
    qsort(t, n, sizeof *t, greater_first);
    for (size_t i = 0; s->top_k > 0 && i < n; i++)
        if (i >= (size_t)s->top_k && t[i].value < t[s->top_k - 1].value) t[i].p = 0;
    normalise(t, n);
    double above = 0;
    for (size_t i = 0; s->top_p < 1 && i < n; i++) {
        double p = t[i].p;
        if (i > 0 && above >= (double)s->top_p && !(t[i].value == t[i - 1].value && t[i - 1].p > 0)) t[i].p = 0;
        above += p;
    }
    normalise(t, n);
    for (size_t i = n; s->min_p > 0 && i-- > 0;)
        if (t[i].p < (double)s->min_p * t[0].p) t[i].p = 0;
    normalise(t, n);
    qsort(t, n, sizeof *t, by_id);
}

/* The token at u of the distribution; -1 where a boundary is too near to say. */
static int32_t inverse(const token *t, size_t n, double u) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (t[i].p == 0) continue;
        if (fabs(sum + t[i].p - u) < 1e-5) return -1;
        sum += t[i].p;
        if (sum > u) return (int32_t)i;
    }
    return -1;
}

static double log_prob(const float *logits, size_t n, int32_t id) {
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, (double)logits[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return (double)logits[id] - max - log(sum);
}

/* ---- running it ---- */

static kf_sample_params defaults(void) {
    return (kf_sample_params){
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .slot = -1, .seed_lo = 7, .seed_hi = 9};
}

/* Samples n_rows rows of params; the caller frees. */
static kf_sample_out *sample(bench *t, const float *logits, const kf_sample_params *params, const kf_sampler *sm,
                             size_t n_rows) {
    kf_sample_out *host = malloc(n_rows * sizeof *host);
    assert_non_null(host);
    void *out = put(t, NULL, n_rows * sizeof *host);
    kf_sample(t->s, out, put_f32(t, logits, n_rows * sm->vocab_size), put(t, params, n_rows * sizeof *params), sm,
              n_rows);
    kf_copy_out(t->s, host, out, n_rows * sizeof *host);
    bench_sync(t);
    return host;
}

/* Many draws from one row of logits, at positions 0, 1, 2 … */
static void draws(bench *t, const float *logits, size_t n, kf_sample_params p, const uint8_t *seen) {
    enum { N_ROWS = 500 };
    const uint32_t n_draws = n > 1000 ? 1000 : 5000;
    static token want[VOCAB_MAX];
    uint32_t bits[VOCAB_MAX / 32 + 1] = {0};
    size_t n_near = 0, words = (n + 31) / 32;
    double *counts = doubles(n);
    for (size_t i = 0; seen && i < n; i++)
        bits[i / 32] |= (uint32_t)seen[i] << i % 32;
    distribution(want, logits, seen, &p, n);
    float *rows = malloc(N_ROWS * n * sizeof *rows);
    kf_sample_params *params = malloc(N_ROWS * sizeof *params);
    assert_true(rows && params);
    for (size_t r = 0; r < N_ROWS; r++)
        memcpy(rows + r * n, logits, n * sizeof *rows);
    for (uint32_t position = 0; position < n_draws; position += N_ROWS) {
        kf_sampler sm = {.vocab_size = n, .last_token = put_i32(t, (int32_t[]){0}, 1), .seen = put(t, bits, words * 4)};
        for (uint32_t r = 0; r < N_ROWS; r++)
            params[r] = p, params[r].position = position + r;
        /* rows that share a slot would mark it: with a penalty only one row is drawn at a time */
        size_t step = p.slot >= 0 ? 1 : N_ROWS;
        kf_sample_out *out = sample(t, rows, params, &sm, step);
        for (size_t r = 0; r < step; r++) {
            int32_t id = out[r].token, exact;
            exact = inverse(want, n, (double)kf_random_uniform(p.seed_lo, p.seed_hi, params[r].position));
            assert_int_equal(out[r].finite, 1);
            assert_in_range(id, 0, n - 1);
            if (want[id].p == 0) fail_msg("%s: token %d was filtered, and was drawn", t->c->name, id);
            if (exact >= 0 && id != exact) fail_msg("%s: drew %d, wanted %d", t->c->name, id, exact);
            n_near += exact < 0;
            counts[id]++;
            if (r == 0 && fabs((double)out[r].logprob - log_prob(logits, n, id)) > 1e-5)
                fail_msg("%s: logprob %g, wanted %g", t->c->name, (double)out[r].logprob, log_prob(logits, n, id));
        }
        free(out);
        bench_clear(t);
    }
    for (size_t i = 0; p.slot < 0 && i < n; i++) {
        double mean = n_draws * want[i].p, deviation = sqrt(mean * (1 - want[i].p));
        if (fabs(counts[i] - mean) > 5 * deviation + 1)
            fail_msg("%s: token %zu drawn %g times, expected %g +- %g", t->c->name, i, counts[i], mean, deviation);
    }
    assert_true(n_near < n_draws / 20);
    free(rows), free(params), free(counts);
}

/* ---- cases ---- */

static void op_distribution(bench *t) {
    static const struct {
        float temperature, top_p, min_p;
        int32_t top_k;
    } cases[] = {{1, 1, 0, 0},     {0.5f, 1, 0, 0},    {2, 1, 0, 5}, {1, 0.7f, 0, 0},     {1, 0.05f, 0, 0},
                 {1, 1, 0.2f, 0},  {0.8f, 0.9f, 0, 7}, {1, 1, 0, 1}, {1, 0.9f, 0.1f, 10}, {1, 0, 0, 0},
                 {3, 0.99f, 0, 0}, {1, 1, 0, 1000000}, {1, 1, 1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kf_sample_params p = defaults();
        p.temperature = cases[i].temperature, p.top_p = cases[i].top_p;
        p.min_p = cases[i].min_p, p.top_k = cases[i].top_k, p.seed_lo = (uint32_t)i;
        size_t n = i % 2 ? 33 : 50;
        float *logits = normal(t, n, 2);
        draws(t, logits, n, p, NULL);
        free(logits);
    }
    float *logits = normal(t, 4001, 3);
    kf_sample_params p = defaults();
    p.top_k = 40, p.top_p = 0.95f;
    draws(t, logits, 4001, p, NULL);
    free(logits);
}

/* Equal logits at the threshold are all kept, whatever their ids. */
static void op_ties(bench *t) {
    const float logits[] = {1, 3, 2, 2, -0.0f, 2, 0, 3, 1};
    kf_sample_params p = defaults();
    for (p.top_k = 1; p.top_k < 9; p.top_k++)
        draws(t, logits, 9, p, NULL);
    p.top_k = 0;
    for (p.top_p = 0.1f; p.top_p < 1; p.top_p += 0.2f)
        draws(t, logits, 9, p, NULL);
}

static void op_penalty(bench *t) {
    enum { N = 70 };
    float *logits = normal(t, N, 2);
    uint8_t seen[N];
    for (size_t i = 0; i < N; i++)
        seen[i] = i % 3 == 0 || i == 69;
    kf_sample_params p = defaults();
    p.repetition_penalty = 1.8f, p.slot = 0, p.top_k = 20;
    draws(t, logits, N, p, seen);
    p.repetition_penalty = 0.6f, p.top_k = 0;
    draws(t, logits, N, p, seen);
    free(logits);
}

/* Temperature 0: the lowest id of the greatest logit, after the penalty. */
static void op_greedy(bench *t) {
    kf_sample_params p[4];
    float logits[4][40] = {{0}};
    uint32_t seen[2][2] = {{0}};
    for (size_t r = 0; r < 4; r++)
        p[r] = defaults(), p[r].temperature = 0, p[r].top_k = 3;
    logits[0][7] = logits[0][30] = 5; /* a tie */
    for (size_t i = 0; i < 40; i++)
        logits[1][i] = -3;                   /* all equal */
    logits[2][39] = 2, logits[2][38] = 1.9f; /* the penalty takes the last */
    p[2].slot = 1, p[2].repetition_penalty = 1.5f, seen[1][39 / 32] = 1u << 39 % 32;
    logits[3][0] = -1, logits[3][1] = -0.9f; /* a penalty makes a negative logit smaller */
    for (size_t i = 2; i < 40; i++)
        logits[3][i] = -9;
    p[3].slot = 0, p[3].repetition_penalty = 1.5f, seen[0][0] = 2;
    int32_t *last = put_i32(t, (int32_t[]){-5, -5}, 2);
    uint32_t *dseen = put(t, seen, sizeof seen);
    kf_sampler sm = {.vocab_size = 40, .last_token = last, .seen = dseen};
    kf_sample_out *out = sample(t, logits[0], p, &sm, 4);
    static const int32_t want[] = {7, 0, 38, 0};
    for (size_t r = 0; r < 4; r++)
        assert_int_equal(out[r].token, want[r]);
    /* the slots hold the tokens, for the next step's embedding and penalty; slot -1 touched none */
    int32_t host_last[2];
    uint32_t host_seen[2][2];
    kf_copy_out(t->s, host_last, last, sizeof host_last);
    kf_copy_out(t->s, host_seen, dseen, sizeof host_seen);
    bench_sync(t);
    assert_int_equal(host_last[0], 0);
    assert_int_equal(host_last[1], 38);
    assert_int_equal(host_seen[0][0], 3);
    assert_int_equal(host_seen[0][1], 0);
    assert_int_equal(host_seen[1][0], 0);
    assert_int_equal(host_seen[1][1], 1u << 38 % 32 | 1u << 39 % 32);
    free(out);
    bench_clear(t);
}

/* Temperatures whose quotients overflow, upwards and downwards, draw what temperature 0 draws. */
static void op_cold(bench *t) {
    const float logits[3][5] = {{1, 4, 9, 4, 8.9f}, {-7, -2, -2.5f, -9, -3}, {-4, -1, 0, -2, -3}};
    static const float temperature[] = {1e-30f, 1e-37f, 1e-38f, 1e-45f};
    static const int32_t want[] = {2, 1, 2};
    kf_sampler sm = {.vocab_size = 5};
    for (size_t i = 0; i < sizeof temperature / sizeof temperature[0]; i++) {
        kf_sample_params p[3];
        for (size_t r = 0; r < 3; r++)
            p[r] = defaults(), p[r].temperature = temperature[i], p[r].top_p = 0.9f, p[r].min_p = 0.1f, p[r].top_k = 1;
        kf_sample_out *out = sample(t, logits[0], p, &sm, 3);
        for (size_t r = 0; r < 3; r++) {
            assert_int_equal(out[r].token, want[r]);
            assert_int_equal(out[r].finite, 1);
        }
        free(out);
        bench_clear(t);
    }
}

/* A row with NaN or Inf says so, touches no slot, and leaves its neighbours alone. */
static void op_not_finite(bench *t) {
    float logits[4][3] = {{1, 2, 3}, {1, NAN, 3}, {INFINITY, 2, 3}, {1, 2, -INFINITY}};
    kf_sample_params p[4];
    for (int r = 0; r < 4; r++)
        p[r] = defaults(), p[r].slot = r, p[r].temperature = (float)(r % 2);
    int32_t *last = put_i32(t, (int32_t[]){9, 9, 9, 9}, 4), host_last[4];
    uint32_t *seen = put(t, (uint32_t[4]){0}, 16), host_seen[4];
    kf_sampler sm = {.vocab_size = 3, .last_token = last, .seen = seen};
    kf_sample_out *out = sample(t, logits[0], p, &sm, 4);
    kf_copy_out(t->s, host_last, last, sizeof host_last);
    kf_copy_out(t->s, host_seen, seen, sizeof host_seen);
    bench_sync(t);
    assert_int_equal(out[0].finite, 1);
    assert_int_equal(out[0].token, 2);
    assert_int_equal(host_last[0], 2);
    for (int r = 1; r < 4; r++) {
        assert_int_equal(out[r].finite, 0);
        assert_int_equal(out[r].token, 0);
        assert_int_equal(host_last[r], 9);
        assert_int_equal(host_seen[r], 0);
    }
    free(out);
    bench_clear(t);
}

/* What a row with a mask and adjustments draws is what a row of the allowed tokens alone would, each logit adjusted;
 * the log-probability is that of the logits as they came, and they are back in place after. */
static void draw_allowed(bench *t, size_t n, size_t every, int32_t n_adjust, kf_sample_params p) {
    enum { N_ROWS = 200, ADJUST_MAX = 40 };
    float *logits = malloc(N_ROWS * n * sizeof *logits), *after = malloc(N_ROWS * n * sizeof *after), few[VOCAB_MAX];
    uint32_t bits[VOCAB_MAX / 32 + 1] = {0};
    int32_t ids[VOCAB_MAX];
    kf_logit_adjust adjust[N_ROWS * ADJUST_MAX];
    kf_sample_params params[N_ROWS];
    static token want[VOCAB_MAX];
    size_t n_allowed = 0, words = (n + 31) / 32;
    assert_true(logits && after && n_adjust <= ADJUST_MAX);
    for (size_t i = 0; i < n; i++)
        logits[i] = (float)((double)((i * 7919) % 1000) / 150 - 3);
    for (int32_t a = 0; a < N_ROWS * n_adjust; a++) {
        int32_t of_row = a % n_adjust; /* the last is of the first token that is allowed */
        adjust[a] = (kf_logit_adjust){of_row + 1 < n_adjust ? of_row * 3 + 1 : 0, 2.5f - (float)of_row};
    }
    for (size_t i = 0; i < n; i += every) {
        bits[i / 32] |= 1u << i % 32;
        ids[n_allowed] = (int32_t)i;
        few[n_allowed] = logits[i];
        for (int32_t a = 0; a < n_adjust; a++)
            if (adjust[a].token == (int32_t)i) few[n_allowed] += adjust[a].value;
        n_allowed++;
    }
    kf_sample_params reference = p;
    if (!(p.temperature > 0)) reference.temperature = 1;
    distribution(want, few, NULL, &reference, n_allowed);
    for (uint32_t r = 0; r < N_ROWS; r++) {
        if (r) memcpy(logits + r * n, logits, n * sizeof *logits);
        params[r] = p;
        params[r].position = r;
        params[r].allowed = 2; /* the second row of masks: the first allows nothing */
        params[r].adjust = (int32_t)r * n_adjust;
        params[r].n_adjust = n_adjust;
    }
    uint32_t *masks = calloc(2 * words, sizeof *masks);
    assert_non_null(masks);
    memcpy(masks + words, bits, words * sizeof *masks);
    kf_sampler sm = {.vocab_size = n,
                     .allowed = put(t, masks, 2 * words * sizeof *masks),
                     .adjust = n_adjust ? put(t, adjust, sizeof *adjust * (size_t)(N_ROWS * n_adjust)) : NULL};
    kf_sample_out out[N_ROWS], *dout = put(t, NULL, sizeof out);
    float *on_device = put_f32(t, logits, N_ROWS * n);
    kf_sample(t->s, dout, on_device, put(t, params, sizeof params), &sm, N_ROWS);
    kf_copy_out(t->s, out, dout, sizeof out);
    kf_copy_out(t->s, after, on_device, N_ROWS * n * sizeof *after);
    bench_sync(t);
    assert_memory_equal(after, logits, N_ROWS * n * sizeof *after);
    size_t best = 0, n_near = 0;
    for (size_t i = 1; i < n_allowed; i++)
        if (few[i] > few[best]) best = i;
    for (uint32_t r = 0; r < N_ROWS; r++) {
        int32_t at = p.temperature > 0 ? inverse(want, n_allowed, (double)kf_random_uniform(p.seed_lo, p.seed_hi, r))
                                       : (int32_t)best;
        n_near += at < 0;
        assert_int_equal(out[r].finite, 1);
        assert_true(bits[out[r].token / 32] >> out[r].token % 32 & 1);
        if (at >= 0 && out[r].token != ids[at]) fail_msg("drew %d, wanted %d", out[r].token, ids[at]);
        assert_true(fabs((double)out[r].logprob - log_prob(logits, n, out[r].token)) < 1e-5);
    }
    assert_true(n_near < N_ROWS / 10);
    free(masks), free(logits), free(after);
    bench_clear(t);
}

static void op_allowed(bench *t) {
    kf_sample_params p = defaults(), k = defaults(), all = defaults(), cold = defaults();
    draw_allowed(t, 40, 7, 0, p);
    draw_allowed(t, 300, 5, 3, p);
    k.top_k = 50; /* more than are allowed: it takes none away */
    draw_allowed(t, 300, 9, 12, k);
    all.top_k = 20, all.top_p = 0.8f, all.min_p = 0.02f, all.temperature = 0.7f;
    draw_allowed(t, 1111, 3, 37, all);
    cold.temperature = 0;
    draw_allowed(t, 1111, 50, 20, cold);
    draw_allowed(t, 33, 100, 1, p); /* one token alone */
}

/* No token allowed: as a row that is not finite, whatever the others draw. */
static void op_none_allowed(bench *t) {
    const float logits[2][3] = {{1, 2, 3}, {1, 2, 3}};
    kf_sample_params p[2] = {defaults(), defaults()};
    p[0].allowed = p[0].temperature > 0;
    p[1].allowed = 2, p[1].temperature = 0;
    kf_sampler sm = {.vocab_size = 3, .allowed = put(t, (uint32_t[]){0, 2}, 8)};
    kf_sample_out *out = sample(t, logits[0], p, &sm, 2);
    assert_int_equal(out[0].finite, 0);
    assert_int_equal(out[1].finite, 1);
    assert_int_equal(out[1].token, 1);
    free(out);
    bench_clear(t);
}

static void op_mark_seen(bench *t) {
    enum { VOCAB = 100, WORDS = 4 };
    int32_t slots[] = {0, 2, 2, 0, 2}, ids[] = {0, 31, 32, 99, 32};
    uint32_t host[3 * WORDS] = {0}, *seen = put(t, host, sizeof host);
    kf_sampler sm = {.vocab_size = VOCAB, .seen = seen};
    kf_mark_seen(t->s, &sm, put_i32(t, slots, 5), put_i32(t, ids, 5), 5);
    kf_copy_out(t->s, host, seen, sizeof host);
    bench_sync(t);
    const uint32_t want[3 * WORDS] = {1, 0, 0, 8, 0, 0, 0, 0, 1u << 31, 1, 0, 0};
    assert_memory_equal(host, want, sizeof want);
    bench_clear(t);
}

int main(void) {
    static const operation operations[] = {
        {"draws follow the distribution", op_distribution},
        {"ties at a threshold", op_ties},
        {"repetition penalty", op_penalty},
        {"greedy", op_greedy},
        {"temperatures near 0", op_cold},
        {"NaN and Inf", op_not_finite},
        {"a mask and adjustments", op_allowed},
        {"nothing allowed", op_none_allowed},
        {"mark_seen", op_mark_seen},
    };
    return run_table("sampling", operations, sizeof operations / sizeof operations[0]);
}
