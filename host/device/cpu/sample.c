/* Sampling one token a row, without sorting and without scratch.
 *
 * A filter (top-k, top-p, min-p) keeps the tokens whose value is at least a threshold, and the threshold is found by
 * radix selection: values become ordered integers, and four passes over the row, one for each byte from the highest,
 * count (top-k) or weigh (top-p) what each byte value holds. Tokens equal to the threshold are all kept. */
#include "device/cpu/cpu.h"
#include "device/random.h"

#include <float.h>
#include <math.h>

enum { BLOCK = 256 };

typedef struct row {
    const kf_cpu_loops *loops;
    const float *logits;     /* [vocab_size] */
    const uint32_t *seen;    /* bits, or NULL */
    const uint32_t *allowed; /* bits, or NULL: all */
    size_t vocab_size;
    float penalty, temperature;
    float max;     /* of the values */
    uint32_t kept; /* tokens whose key is at least this are still in */
} row;

/* A row is read in blocks: the values, and their weights exp(value - max), of ids first .. first + n. */
typedef struct block {
    size_t first, n;
    float value[BLOCK], weight[BLOCK];
} block;

/* A block begins with a word of the mask, and has room for whole words of values. Most words are nearly full inside a
 * string, and empty elsewhere. */
static void apply_mask(const uint32_t *allowed, block *b) {
    for (size_t first = 0; first < b->n; first += 32) {
        float *value = b->value + first;
        uint32_t taken = ~allowed[first / 32];
        if (taken == UINT32_MAX) {
            for (size_t i = 0; i < 32; i++)
                value[i] = -INFINITY;
            continue;
        }
        for (; taken; taken &= taken - 1)
            value[__builtin_ctz(taken)] = -INFINITY;
    }
}

/* The logits after the repetition penalty, the temperature and the mask. False: the row has ended. */
static bool block_next(const row *r, block *b) {
    b->first += b->n;
    b->n = r->vocab_size - b->first < BLOCK ? r->vocab_size - b->first : BLOCK;
    memcpy(b->value, r->logits + b->first, b->n * sizeof *b->value);
    for (size_t i = 0, id = b->first; r->seen && i < b->n; i++, id++)
        if (r->seen[id / 32] >> id % 32 & 1)
            b->value[i] = b->value[i] < 0 ? b->value[i] * r->penalty : b->value[i] / r->penalty;
    for (size_t i = 0; i < b->n; i++)
        b->value[i] = b->value[i] / r->temperature + 0.0f; /* -0 becomes 0: equal values have equal keys */
    if (r->allowed) apply_mask(r->allowed + b->first / 32, b);
    return b->n > 0;
}

static bool block_next_weighed(const row *r, block *b) {
    if (!block_next(r, b)) return false;
    r->loops->exp(b->weight, b->value, r->max, b->n);
    return true;
}

/* An integer in the order of the floats. */
static uint32_t key_of(float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u ^ (u >> 31 ? 0xffffffffu : 0x80000000u);
}

/* What the tokens that are still in weigh or count, by one byte of their keys; the bits above it are those of `key`. */
static void histogram(double bins[256], const row *r, uint32_t key, int shift, bool weigh) {
    uint32_t known = shift == 24 ? 0 : 0xffffffffu << (shift + 8);
    memset(bins, 0, 256 * sizeof *bins);
    for (block b = {0}; weigh ? block_next_weighed(r, &b) : block_next(r, &b);)
        for (size_t i = 0; i < b.n; i++) {
            uint32_t k = key_of(b.value[i]);
            if (k >= r->kept && (k & known) == key) bins[k >> shift & 255] += weigh ? (double)b.weight[i] : 1;
        }
}

/* The greatest key such that the tokens from it on (and still in) count or weigh at least `want`. */
static uint32_t threshold(const row *r, double want, bool weigh) {
    uint32_t key = 0;
    double above = 0, bins[256];
    for (int shift = 24; shift >= 0; shift -= 8) {
        histogram(bins, r, key, shift, weigh);
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
    }
    return key;
}

static double weight_kept(const row *r) {
    double sum = 0;
    for (block b = {0}; block_next_weighed(r, &b);)
        for (size_t i = 0; i < b.n; i++)
            if (key_of(b.value[i]) >= r->kept) sum += (double)b.weight[i];
    return sum;
}

static size_t count_allowed(const row *r) {
    size_t n = 0;
    if (!r->allowed) return r->vocab_size;
    for (size_t w = 0; w < (r->vocab_size + 31) / 32; w++)
        n += (size_t)__builtin_popcount(r->allowed[w]);
    return n;
}

static void filter(row *r, const kf_sample_params *p) {
    if (r->allowed) r->kept = key_of(-FLT_MAX); /* none of those at minus infinity */
    if (p->top_k > 0 && (size_t)p->top_k < count_allowed(r)) r->kept = threshold(r, p->top_k, false);
    if (p->top_p < 1) r->kept = threshold(r, (double)p->top_p * weight_kept(r), true);
    if (p->min_p > 0) {
        uint32_t least = key_of(r->max + logf(p->min_p < 1 ? p->min_p : 1));
        if (least > r->kept) r->kept = least;
    }
}

/* The token at `uniform` of the kept tokens' weights, laid end to end in order of id. */
static int32_t draw(const row *r, float uniform) {
    double target = (double)uniform * weight_kept(r), sum = 0;
    size_t last = 0;
    for (block b = {0}; block_next_weighed(r, &b);)
        for (size_t i = 0; i < b.n; i++) {
            if (key_of(b.value[i]) < r->kept) continue;
            last = b.first + i;
            sum += (double)b.weight[i];
            if (sum > target) return (int32_t)last;
        }
    return (int32_t)last;
}

/* The lowest id of the greatest value, which goes to r->max. */
static int32_t argmax(row *r) {
    size_t best = 0;
    r->max = -INFINITY;
    for (block b = {0}; block_next(r, &b);) {
        float max = r->loops->max(b.value, b.n);
        if (max <= r->max) continue;
        r->max = max;
        for (best = b.first; b.value[best - b.first] != max;)
            best++;
    }
    return (int32_t)best;
}

/* Of the logits as they are. */
static float log_prob(const row *r, int32_t token) {
    float max = r->loops->max(r->logits, r->vocab_size);
    return (float)((double)r->logits[token] - (double)max - log(r->loops->sum_exp(r->logits, max, r->vocab_size)));
}

/* Adds each value to its logit, which goes into its place: once more with `back` puts the logits back. */
static void adjust(float *logits, const kf_sample_params *p, const kf_sampler *sm, bool back) {
    for (int32_t i = p->adjust; i < p->adjust + p->n_adjust; i++) {
        kf_logit_adjust *a = &sm->adjust[i];
        float was = logits[a->token];
        logits[a->token] = back ? a->value : was + a->value;
        a->value = was;
    }
}

/* The token of the adjusted logits; -1: none is allowed. */
static int32_t choose(row *r, const kf_sample_params *p) {
    int32_t token = argmax(r);
    if (!isfinite(r->max)) { /* a temperature so small that the quotients overflow: greedy, its limit */
        r->temperature = 1;
        token = argmax(r);
        return r->max == -INFINITY ? -1 : token;
    }
    if (!(p->temperature > 0)) return token;
    filter(r, p);
    return draw(r, kf_random_uniform(p->seed_lo, p->seed_hi, p->position));
}

static kf_sample_out sample_row(const kf_cpu_loops *loops, float *logits, const kf_sample_params *p,
                                const kf_sampler *sm) {
    size_t n = sm->vocab_size, words = (n + 31) / 32;
    if (!loops->all_finite(logits, n)) return (kf_sample_out){0};
    row r = {.loops = loops, .logits = logits, .vocab_size = n, .penalty = p->repetition_penalty};
    if (p->slot >= 0 && p->repetition_penalty != 1) r.seen = sm->seen + (size_t)p->slot * words;
    if (p->allowed > 0) r.allowed = sm->allowed + (size_t)(p->allowed - 1) * words;
    r.temperature = p->temperature > 0 ? p->temperature : 1;
    adjust(logits, p, sm, false);
    int32_t token = choose(&r, p);
    adjust(logits, p, sm, true);
    if (token < 0) return (kf_sample_out){0};
    return (kf_sample_out){.token = token, .logprob = log_prob(&r, token), .finite = 1};
}

typedef struct sample_job {
    const kf_cpu_loops *loops;
    kf_sample_out *out;
    float *logits;
    const kf_sample_params *params;
    const kf_sampler *sm;
} sample_job;

static void sample_body(void *arg, size_t first, size_t last) {
    const sample_job *j = arg;
    for (size_t i = first; i < last; i++)
        j->out[i] = sample_row(j->loops, j->logits + i * j->sm->vocab_size, &j->params[i], j->sm);
}

static void mark(const kf_sampler *sm, int32_t slot, int32_t id) {
    sm->seen[(size_t)slot * ((sm->vocab_size + 31) / 32) + (size_t)id / 32] |= 1u << id % 32;
}

void kf_cpu_sample(kf_stream *s, kf_sample_out *out, float *logits, const kf_sample_params *params,
                   const kf_sampler *sm, size_t n_rows) {
    if (!kf_cpu_runs(s)) return;
    sample_job j = {.loops = kf_cpu_loops_of(s), .out = out, .logits = logits, .params = params, .sm = sm};
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
