/* Sampling one token a row, without sorting and without scratch: mask, adjustments, penalty, temperature, top-k,
 * top-p, min-p, the draw.
 *
 * A filter keeps the tokens whose value is at least a threshold, found by radix selection as on the CPU: values become
 * ordered integers, and four passes over the row, one for each byte from the highest, count (top-k) or weigh (top-p)
 * what each byte value holds. Weights exp(value - max) are summed as integers of 2^-44, so no sum has an order, and a
 * row draws the same token whatever the block: that of the CPU device, unless the random number lies within 1e-6 of
 * a boundary between two tokens.
 * Layout: logits f32 [n_rows, vocab_size]. Grid: a block a row, a warp for each 256 tokens, 1 to 32; a thread reads 8
 * tokens at a time, 32 KB of a block under way. Tokens of a warp that fall in one bin are added up before they go
 * there: the first byte of real logits has a handful of values, and a row's atomics would queue for them. Passes over
 * the row, of 608 KB for 151,936 tokens, from L2 after the first: 3 where greedy (finite and maximum; choice;
 * log-probability's sum), 2 more to draw, 4 more for top-k, 5 for top-p. One processor reads about 100 GB/s: 6 us a
 * pass; a weighing pass takes about 45 instructions a token, so it is these that bound it, 50 us a pass. mark_seen
 * seen[slots[i]] bit ids[i]; grid: a thread an id. */
#include "chunk.cuh"

extern "C" {
#include "device/random.h"
}

typedef unsigned long long u64;

constexpr int MAX_WARPS = 32, FRACTION_BITS = 44;
constexpr unsigned TOKENS = 8, WARP_TOKENS = WARP * TOKENS; /* that a thread and a warp take at a time */

/* e^x for x <= 0, bit for bit the CPU device's where that has fused multiply-add (host/device/cpu/loops/vector.h). */
__device__ static float exp_negative(float x) {
    const float magic = 12582912.0f; /* 1.5 2^23: rounds */
    if (x < -87.33654f) return 0;
    float n = fmaf(x, 1.44269504f, magic) - magic;
    float r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = fmaf(p, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    p = fmaf(p, r * r, r) + 1;
    int i = (int)n, half = i >> 1;
    return p * __int_as_float((half + 127) * (1 << 23)) * __int_as_float((i - half + 127) * (1 << 23));
}

/* A weight in units of 2^-FRACTION_BITS. It is at most 1, and a vocabulary has fewer than 2^20 tokens: no overflow. */
__device__ static u64 units(float weight) {
    return (u64)((double)weight * (double)(1ull << FRACTION_BITS));
}

/* An integer in the order of the floats. */
__device__ static uint32_t key_of(float v) {
    uint32_t u = __float_as_uint(v);
    return u ^ (u >> 31 ? 0xffffffffu : 0x80000000u);
}
__device__ static float value_of(uint32_t key) {
    return __uint_as_float(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}

constexpr uint32_t NONE_KEY = 0x007fffffu; /* of minus infinity: a token that is not allowed */

/* One row, as its block sees it. */
struct row {
    const float *logits;
    const uint32_t *seen;    /* bits, or NULL */
    const uint32_t *allowed; /* bits, or NULL: all */
    unsigned vocab_size;
    bool aligned; /* logits to 16 bytes, vocab_size to TOKENS */
    float penalty, temperature;
    float max;     /* of the values */
    uint32_t kept; /* tokens whose key is at least this are still in */

    /* The logit after the mask, the repetition penalty and the temperature; -0 becomes 0: equal values, equal keys. */
    __device__ float value(unsigned id, float v) const {
        if (allowed && !(allowed[id / 32] >> id % 32 & 1)) return value_of(NONE_KEY);
        if (seen && (seen[id / 32] >> id % 32 & 1)) v = v < 0 ? v * penalty : v / penalty;
        return v / temperature + 0.0f;
    }

    /* Calls each(id, logit, there) for the tokens from `first` to `last`, as thread `me` of `threads`: whole warps call
     * alike, !there behind the end. */
    template <class F>
    __device__ void tokens(unsigned first, unsigned last, unsigned me, unsigned threads, const F &each) const {
        for (unsigned base = first; base < last; base += threads * TOKENS) {
            const unsigned id = base + me * TOKENS;
            float v[TOKENS];
            f32_load(v, logits, id, last, aligned);
            for (unsigned i = 0; i < TOKENS; i++)
                each(id + i, v[i], id + i < last);
        }
    }
    /* All of them, by the block. */
    template <class F> __device__ void all_tokens(const F &each) const {
        tokens(0, vocab_size, threadIdx.x, blockDim.x, each);
    }
};

struct row_shared {
    u64 bins[256];
    u64 of_warp[MAX_WARPS];
    u64 above;
    uint32_t digit;
    int32_t token;
};

/* The sum, or the maximum, of the block's threads; every thread gets it. */
template <bool MAX> __device__ static u64 block_reduce(u64 v, row_shared *sh) {
    for (int apart = WARP / 2; apart > 0; apart /= 2) {
        u64 other = __shfl_xor_sync(0xffffffffu, v, apart);
        v = MAX ? (other > v ? other : v) : v + other;
    }
    if (threadIdx.x % WARP == 0) sh->of_warp[threadIdx.x / WARP] = v;
    __syncthreads();
    u64 all = 0;
    for (unsigned w = 0; w < blockDim.x / WARP; w++) {
        u64 other = sh->of_warp[w];
        all = MAX ? (other > all ? other : all) : all + other;
    }
    __syncthreads(); /* of_warp may be written again */
    return all;
}

/* The lowest id of the greatest value, which goes to r->max. */
__device__ static int32_t argmax(row *r, row_shared *sh) {
    u64 best = 0;
    r->all_tokens([&](unsigned id, float logit, bool there) {
        if (!there) return;
        u64 key = (u64)key_of(r->value(id, logit)) << 32 | (0xffffffffu - id);
        if (key > best) best = key;
    });
    best = block_reduce<true>(best, sh);
    r->max = value_of((uint32_t)(best >> 32));
    return (int32_t)(0xffffffffu - (uint32_t)best);
}

__device__ static u64 weight_kept(const row *r, row_shared *sh) {
    u64 sum = 0;
    r->all_tokens([&](unsigned id, float logit, bool there) {
        if (!there) return;
        float v = r->value(id, logit);
        if (key_of(v) >= r->kept) sum += units(exp_negative(v - r->max));
    });
    return block_reduce<false>(sum, sh);
}

/* The sum of v < 2^45 over the lanes of `mask`, each of which calls. */
__device__ static u64 sum_of(unsigned mask, u64 v) {
    unsigned low = __reduce_add_sync(mask, (unsigned)v & 0x3ffffffu),
             high = __reduce_add_sync(mask, (unsigned)(v >> 26));
    return ((u64)high << 26) + low;
}

/* What the tokens that are still in weigh or count, by one byte of their keys; the bits above it are those of `key`. */
__device__ static void histogram(const row *r, uint32_t key, int shift, bool weigh, row_shared *sh) {
    uint32_t known = shift == 24 ? 0 : 0xffffffffu << (shift + 8);
    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x)
        sh->bins[i] = 0;
    __syncthreads();
    r->all_tokens([&](unsigned id, float logit, bool there) {
        float v = there ? r->value(id, logit) : 0;
        uint32_t k = key_of(v);
        bool in = there && k >= r->kept && (k & known) == key;
        if (!__any_sync(0xffffffffu, in)) return;
        unsigned same = __match_any_sync(0xffffffffu, in ? k >> shift & 255 : 256u); /* lanes of one bin */
        u64 sum = weigh ? sum_of(same, in ? units(exp_negative(v - r->max)) : 0) : (u64)__popc(same);
        if (in && (unsigned)__ffs((int)same) - 1 == threadIdx.x % WARP) atomicAdd(&sh->bins[k >> shift & 255], sum);
    });
    __syncthreads();
}

/* The first bin, from the highest, where what is above and in it reaches `want`: by the first warp, 8 bins a lane. */
__device__ static void find_digit(u64 above, u64 want, row_shared *sh) {
    unsigned lane = threadIdx.x, first = lane * 8;
    u64 own = 0;
    for (unsigned i = 0; i < 8; i++)
        own += sh->bins[first + i];
    u64 higher = own; /* then: of this lane and all above */
    for (unsigned apart = 1; apart < WARP; apart *= 2) {
        u64 other = __shfl_down_sync(0xffffffffu, higher, apart);
        if (lane + apart < WARP) higher += other;
    }
    u64 reached = above + higher - own; /* above this lane's bins */
    if (own == 0 || reached + own < want || (reached >= want && reached > above)) return;
    for (unsigned i = 8; i-- > 0;) {
        u64 bin = sh->bins[first + i];
        if (bin && reached + bin >= want) {
            sh->digit = first + i, sh->above = reached;
            return;
        }
        reached += bin;
    }
}

/* The greatest key such that the tokens from it on (and still in) count or weigh at least `want`. */
__device__ static uint32_t threshold(const row *r, u64 want, bool weigh, row_shared *sh) {
    uint32_t key = 0;
    u64 above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        histogram(r, key, shift, weigh, sh);
        if (threadIdx.x < WARP) find_digit(above, want, sh);
        __syncthreads();
        key |= sh->digit << shift;
        above = sh->above;
        __syncthreads();
    }
    return key;
}

__device__ static unsigned count_allowed(const row *r, row_shared *sh) {
    u64 n = 0;
    if (!r->allowed) return r->vocab_size;
    for (unsigned w = threadIdx.x; w < (r->vocab_size + 31) / 32; w += blockDim.x)
        n += (u64)__popc(r->allowed[w]);
    return (unsigned)block_reduce<false>(n, sh);
}

__device__ static void filter(row *r, const kf_sample_params *p, row_shared *sh) {
    if (r->allowed) r->kept = NONE_KEY + 1;
    if (p->top_k > 0 && (unsigned)p->top_k < count_allowed(r, sh)) r->kept = threshold(r, (u64)p->top_k, false, sh);
    if (p->top_p < 1) {
        double want = (double)(p->top_p > 0 ? p->top_p : 0) * (double)weight_kept(r, sh);
        r->kept = threshold(r, (u64)ceil(want), true, sh);
    }
    if (p->min_p > 0) {
        uint32_t least = key_of(r->max + logf(p->min_p < 1 ? p->min_p : 1));
        if (least > r->kept) r->kept = least;
    }
}

/* The token at `target` of the kept tokens' weights, laid end to end in order of id. A warp has a stretch of the row;
 * the one whose stretch holds the target walks it, 32 tokens at a time. */
__device__ static int32_t draw(const row *r, float uniform, row_shared *sh) {
    unsigned warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, n_warps = blockDim.x / WARP;
    unsigned stretch = (r->vocab_size + n_warps * WARP_TOKENS - 1) / (n_warps * WARP_TOKENS) * WARP_TOKENS;
    unsigned first = warp * stretch, last = first + stretch < r->vocab_size ? first + stretch : r->vocab_size;
    auto weight = [&](unsigned id, float logit) -> u64 {
        float v = r->value(id, logit);
        return key_of(v) >= r->kept ? units(exp_negative(v - r->max)) : 0;
    };
    u64 own = 0, before = 0, all = 0;
    r->tokens(first, last, lane, WARP, [&](unsigned id, float logit, bool there) {
        if (there) own += weight(id, logit);
    });
    for (int apart = WARP / 2; apart > 0; apart /= 2)
        own += __shfl_xor_sync(0xffffffffu, own, apart);
    if (lane == 0) sh->of_warp[warp] = own;
    __syncthreads();
    for (unsigned w = 0; w < n_warps; w++) {
        before += w < warp ? sh->of_warp[w] : 0;
        all += sh->of_warp[w];
    }
    u64 target = __umul64hi(all, (u64)(uniform * 0x1p24f) << 40); /* all · uniform: below all */
    if (target >= before && target < before + own)
        for (unsigned id = first; id < last; id += WARP) {
            u64 sum = id + lane < last ? weight(id + lane, r->logits[id + lane]) : 0;
            for (unsigned apart = 1; apart < WARP; apart *= 2) { /* of this lane and those before it */
                u64 other = __shfl_up_sync(0xffffffffu, sum, apart);
                if (lane >= apart) sum += other;
            }
            unsigned reached = __ballot_sync(0xffffffffu, before + sum > target);
            if (reached) {
                if (lane == 0) sh->token = (int32_t)id + __ffs((int)reached) - 1;
                break;
            }
            before += __shfl_sync(0xffffffffu, sum, WARP - 1);
        }
    __syncthreads();
    return sh->token;
}

/* Of the logits as they are, whose maximum is max. */
__device__ static float log_prob(row *r, int32_t token, float max, row_shared *sh) {
    r->seen = NULL;
    r->allowed = NULL;
    r->temperature = 1;
    r->kept = 0;
    r->max = max;
    double sum = (double)weight_kept(r, sh) / (double)(1ull << FRACTION_BITS);
    return (float)((double)r->logits[token] - (double)r->max - log(sum));
}

__device__ static void mark(const kf_sampler *sm, int32_t slot, int32_t id) {
    atomicOr(&sm->seen[(size_t)slot * ((sm->vocab_size + 31) / 32) + (size_t)id / 32], 1u << id % 32);
}

/* Adds each value to its logit, which goes into its place: once more with `back` puts the logits back. */
__device__ static void adjust(float *logits, const kf_sample_params *p, kf_logit_adjust *list, bool back) {
    if (p->n_adjust == 0) return;
    for (unsigned i = threadIdx.x; i < (unsigned)p->n_adjust; i += blockDim.x) {
        kf_logit_adjust *a = &list[p->adjust + (int32_t)i];
        float was = logits[a->token];
        logits[a->token] = back ? a->value : was + a->value;
        a->value = was;
    }
    __syncthreads();
}

/* The token of the adjusted logits; -1: none is allowed. */
__device__ static int32_t choose(row *r, const kf_sample_params *p, row_shared *sh) {
    int32_t token = argmax(r, sh);
    if (!isfinite(r->max)) { /* a temperature so small that the quotients overflow: greedy, its limit */
        r->temperature = 1;
        token = argmax(r, sh);
        return isfinite(r->max) ? token : -1;
    }
    if (!(p->temperature > 0)) return token;
    filter(r, p, sh);
    return draw(r, kf_random_uniform(p->seed_lo, p->seed_hi, p->position), sh);
}

__global__ void __launch_bounds__(MAX_WARPS *WARP)
    sample(kf_sample_out *out, float *logits, const kf_sample_params *params, kf_sampler sm, bool aligned,
           const kf_cuda_fault *fault) {
    SHARED_ARRAY(row_shared, sh, [1]);
    if (fault->found) return;
    const kf_sample_params p = params[blockIdx.x];
    const size_t words = (sm.vocab_size + 31) / 32;
    float *own = logits + blockIdx.x * sm.vocab_size;
    row r = {.logits = own,
             .seen = NULL,
             .allowed = p.allowed > 0 ? sm.allowed + (size_t)(p.allowed - 1) * words : NULL,
             .vocab_size = (unsigned)sm.vocab_size,
             .aligned = aligned,
             .penalty = p.repetition_penalty,
             .temperature = p.temperature > 0 ? p.temperature : 1,
             .max = 0,
             .kept = 0};
    bool bad = false;
    uint32_t key = 0; /* of the greatest logit */
    r.all_tokens([&](unsigned, float logit, bool there) {
        if (!there) return;
        bad |= !isfinite(logit);
        if (key_of(logit) > key) key = key_of(logit);
    });
    const float max = value_of((uint32_t)block_reduce<true>(key, sh));
    if (__syncthreads_or(bad)) {
        if (threadIdx.x == 0) out[blockIdx.x] = kf_sample_out{};
        return;
    }
    if (p.slot >= 0 && p.repetition_penalty != 1) r.seen = sm.seen + (size_t)p.slot * words;
    adjust(own, &p, sm.adjust, false);
    int32_t token = choose(&r, &p, sh);
    __syncthreads(); /* all have read the logits */
    adjust(own, &p, sm.adjust, true);
    if (token < 0) {
        if (threadIdx.x == 0) out[blockIdx.x] = kf_sample_out{};
        return;
    }
    float logprob = log_prob(&r, token, max, sh);
    if (threadIdx.x != 0) return;
    out[blockIdx.x] = kf_sample_out{.token = token, .logprob = logprob, .finite = 1};
    if (p.slot < 0) return;
    sm.last_token[p.slot] = token;
    mark(&sm, p.slot, token);
}

void kf_cuda_sample(kf_stream *s, kf_sample_out *out, float *logits, const kf_sample_params *params,
                    const kf_sampler *sm, size_t n_rows) {
    if (!kf_cuda_runs(s) || n_rows == 0) return;
    size_t n_warps = (sm->vocab_size + WARP_TOKENS - 1) / WARP_TOKENS;
    if (n_warps > MAX_WARPS) n_warps = MAX_WARPS;
    bool aligned = (uintptr_t)logits % 16 == 0 && sm->vocab_size % TOKENS == 0;
    KF_LAUNCH(s, dim3((unsigned)n_rows), dim3((unsigned)n_warps * WARP), sample, out, logits, params, *sm, aligned,
              ((kf_cuda_stream *)s)->fault);
}

__global__ void mark_seen(kf_sampler sm, const int32_t *slots, const int32_t *ids, size_t n,
                          const kf_cuda_fault *fault) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && !fault->found) mark(&sm, slots[i], ids[i]);
}

void kf_cuda_mark_seen(kf_stream *s, const kf_sampler *sm, const int32_t *slots, const int32_t *ids, size_t n) {
    if (!kf_cuda_runs(s) || n == 0) return;
    KF_LAUNCH(s, blocks_for(n, BLOCK_MAX), threads_for(n), mark_seen, *sm, slots, ids, n, ((kf_cuda_stream *)s)->fault);
}
