/* Norms of one row, and reductions of one. Sums run in VW lanes, then over the lanes as a tree. */

/* The mean of a row, then the mean of the squared differences: two passes. */
static void layernorm(float *out, const float *x, const float *gamma, const float *beta, float eps, size_t n) {
    size_t whole = n / VW * VW, rest = n - whole;
    vec sum = {0}, squares = {0}, v;
    for (size_t i = 0; i < whole; i += VW)
        sum += load(x + i);
    if (rest) sum += load_part(x + whole, rest, 0);
    float mean = sum_of(sum) / (float)n;
    for (size_t i = 0; i < whole; i += VW) {
        v = load(x + i) - mean;
        squares = fma_v(v, v, squares);
    }
    if (rest) {
        v = load_part(x + whole, rest, mean) - mean;
        squares = fma_v(v, v, squares);
    }
    float scale = 1 / sqrtf(sum_of(squares) / (float)n + eps);
    for (size_t i = 0; i < whole; i += VW)
        store(out + i, fma_v((load(x + i) - mean) * scale, load(gamma + i), load(beta + i)));
    if (rest) {
        v = (load_part(x + whole, rest, 0) - mean) * scale;
        store_part(out + whole, fma_v(v, load_part(gamma + whole, rest, 0), load_part(beta + whole, rest, 0)), rest);
    }
}

static void rmsnorm(float *out, const float *x, const float *gamma, float eps, size_t n) {
    size_t whole = n / VW * VW;
    vec squares = {0};
    for (size_t i = 0; i < whole; i += VW)
        squares = fma_v(load(x + i), load(x + i), squares);
    if (whole < n) {
        vec v = load_part(x + whole, n - whole, 0);
        squares = fma_v(v, v, squares);
    }
    float scale = 1 / sqrtf(sum_of(squares) / (float)n + eps);
    for (size_t i = 0; i < whole; i += VW)
        store(out + i, load(x + i) * scale * load(gamma + i));
    for (size_t i = whole; i < n; i++)
        out[i] = x[i] * scale * gamma[i];
}

static float max_row(const float *x, size_t n) {
    vec max = splat(x[0]);
    size_t i = 0;
    for (; i + VW <= n; i += VW)
        max = max_v(load(x + i), max);
    if (i < n) max = max_v(load_part(x + i, n - i, x[0]), max);
    return max_of(max);
}

static void exp_row(float *out, const float *x, float max, size_t n) {
    size_t i = 0;
    for (; i + VW <= n; i += VW)
        store(out + i, exp_v(load(x + i) - max));
    if (i < n) store_part(out + i, exp_v(load_part(x + i, n - i, max) - max), n - i);
}

/* In pieces of f32 sums, added in double. */
static double sum_exp(const float *x, float max, size_t n) {
    double total = 0;
    size_t i = 0;
    while (i + VW <= n) {
        vec sum = {0};
        for (size_t end = i + 64 * VW; i + VW <= n && i < end; i += VW)
            sum += exp_v(load(x + i) - max);
        total += (double)sum_of(sum);
    }
    if (i < n) total += (double)sum_of(exp_v(load_part(x + i, n - i, -INFINITY) - max));
    return total;
}

/* x - x is 0, or NaN for NaN and infinities. */
static bool all_finite(const float *x, size_t n) {
    vec bad = {0};
    size_t i = 0;
    for (; i + VW <= n; i += VW)
        bad += load(x + i) - load(x + i);
    if (i < n) {
        vec rest = load_part(x + i, n - i, 0);
        bad += rest - rest;
    }
    return sum_of(bad) == 0;
}

static void to_bf16(uint16_t *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = kf_bf16_from_f32(x[i]);
}
