/* Sampling one token a row, without sorting and without scratch.
 *
 * A filter (top-k, top-p, min-p) keeps the tokens whose value is at least a threshold, and the threshold is found by
 * radix selection: values become ordered integers, and four passes over the row, one for each byte from the highest,
 * count (top-k) or weigh (top-p) what each byte value holds. Tokens equal to the threshold are all kept. */
#include "device/cpu/cpu.h"
#include "device/random.h"

#include <math.h>

typedef struct row {
    const float *logits;  /* [vocab_size] */
    const uint32_t *seen; /* bits, or NULL */
    size_t vocab_size;
    float penalty, inverse_temperature;
    float max;     /* of the values */
    uint32_t kept; /* tokens whose key is at least this are still in */
} row;

/* The logit after the repetition penalty and the temperature. */
static float value(const row *r, size_t id) {
    float v = r->logits[id];
    if (r->seen && (r->seen[id / 32] >> id % 32 & 1)) v = v < 0 ? v * r->penalty : v / r->penalty;
    return v * r->inverse_temperature + 0.0f; /* -0 becomes 0: equal values have equal keys */
}

/* An integer in the order of the floats. */
static uint32_t key_of(float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u ^ (u >> 31 ? 0xffffffffu : 0x80000000u);
}

static double weight(const row *r, float v) {
    return exp((double)v - r->max);
}

/* The greatest key such that the tokens from it on (and still in) count or weigh at least `want`. */
static uint32_t threshold(const row *r, double want, bool weigh) {
    uint32_t key = 0, known = 0; /* bits of the answer; which bits are known */
    double above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        double bins[256] = {0};
        for (size_t id = 0; id < r->vocab_size; id++) {
            float v = value(r, id);
            uint32_t k = key_of(v);
            if (k >= r->kept && (k & known) == key) bins[k >> shift & 255] += weigh ? weight(r, v) : 1;
        }
        int bin = 255, lowest = 255;
        for (; bin >= 0; bin--) {
            if (bins[bin] == 0) continue;
            lowest = bin;
            if (above + bins[bin] >= want) break;
            above += bins[bin];
        }
        if (bin < 0) { /* rounding: all of them do not quite reach it */
            bin = lowest;
            above -= bins[bin];
        }
        key |= (uint32_t)bin << shift;
        known |= 255u << shift;
    }
    return key;
}

static double weight_kept(const row *r) {
    double sum = 0;
    for (size_t id = 0; id < r->vocab_size; id++) {
        float v = value(r, id);
        if (key_of(v) >= r->kept) sum += weight(r, v);
    }
    return sum;
}

static void filter(row *r, const kf_sample_params *p) {
    if (p->top_k > 0 && (size_t)p->top_k < r->vocab_size) r->kept = threshold(r, p->top_k, false);
    if (p->top_p < 1) r->kept = threshold(r, (double)p->top_p * weight_kept(r), true);
    if (p->min_p > 0) {
        uint32_t least = key_of(r->max + logf(p->min_p < 1 ? p->min_p : 1));
        if (least > r->kept) r->kept = least;
    }
}

/* The token at `uniform` of the kept tokens' weights, laid end to end in order of id. */
static int32_t draw(const row *r, float uniform) {
    double target = uniform * weight_kept(r), sum = 0;
    int32_t last = 0;
    for (size_t id = 0; id < r->vocab_size; id++) {
        float v = value(r, id);
        if (key_of(v) < r->kept) continue;
        last = (int32_t)id;
        sum += weight(r, v);
        if (sum > target) break;
    }
    return last;
}

/* The lowest id of the greatest value. */
static int32_t argmax(const row *r) {
    int32_t best = 0;
    for (size_t id = 1; id < r->vocab_size; id++)
        if (value(r, id) > value(r, (size_t)best)) best = (int32_t)id;
    return best;
}

static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static float log_prob(const float *logits, size_t n, int32_t token) {
    float max = logits[0];
    for (size_t i = 1; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return (float)((double)logits[token] - max - log(sum));
}

static kf_sample_out sample_row(const float *logits, const kf_sample_params *p, const kf_sampler *sm) {
    size_t n = sm->vocab_size;
    if (!all_finite(logits, n)) return (kf_sample_out){0};
    row r = {.logits = logits, .vocab_size = n, .penalty = p->repetition_penalty};
    if (p->slot >= 0 && p->repetition_penalty != 1) r.seen = sm->seen + (size_t)p->slot * ((n + 31) / 32);
    r.inverse_temperature = p->temperature > 0 ? 1 / p->temperature : 1;
    int32_t token = argmax(&r);
    if (p->temperature > 0) {
        r.max = value(&r, (size_t)token);
        filter(&r, p);
        token = draw(&r, kf_random_uniform(p->seed_lo, p->seed_hi, p->position));
    }
    return (kf_sample_out){.token = token, .logprob = log_prob(logits, n, token), .finite = 1};
}

typedef struct sample_job {
    kf_sample_out *out;
    const float *logits;
    const kf_sample_params *params;
    const kf_sampler *sm;
} sample_job;

static void sample_body(void *arg, size_t first, size_t last) {
    const sample_job *j = arg;
    for (size_t i = first; i < last; i++)
        j->out[i] = sample_row(j->logits + i * j->sm->vocab_size, &j->params[i], j->sm);
}

static void mark(const kf_sampler *sm, int32_t slot, int32_t id) {
    sm->seen[(size_t)slot * ((sm->vocab_size + 31) / 32) + (size_t)id / 32] |= 1u << id % 32;
}

void kf_cpu_sample(kf_stream *s, kf_sample_out *out, const float *logits, const kf_sample_params *params,
                   const kf_sampler *sm, size_t n_rows) {
    if (!kf_cpu_runs(s)) return;
    sample_job j = {.out = out, .logits = logits, .params = params, .sm = sm};
    kf_cpu_parallel_for(s, n_rows, 1, sample_body, &j);
    for (size_t i = 0; i < n_rows; i++) {
        if (params[i].slot < 0 || !out[i].finite) continue;
        sm->last_token[params[i].slot] = out[i].token;
        mark(sm, params[i].slot, out[i].token);
    }
}

void kf_cpu_mark_seen(kf_stream *s, const kf_sampler *sm, const int32_t *slots, const int32_t *ids, size_t n) {
    if (!kf_cpu_runs(s)) return;
    for (size_t i = 0; i < n; i++)
        mark(sm, slots[i], ids[i]);
}
