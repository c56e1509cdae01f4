/* What the operation tests share: the device configurations, guarded buffers in device memory, random numbers, and
 * the comparison. Only device.h is used, so a new device needs a line in `configs` and nothing else. */
#ifndef KF_TESTS_OPS_HARNESS_H
#define KF_TESTS_OPS_HARNESS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "device/bf16.h"
#include "device/device.h"
#include "devices.h"

/* ---- configurations ---- */

/* The largest |got - want| over the largest |want| of a case (or over 1, where all are smaller). Each product rounds x
 * to bf16 where weights are bf16. */
typedef struct config {
    const char *name;
    const char *device;
    kf_device_opts opts;
    double limit;        /* operations without a product */
    double limit_linear; /* products; the reference has the weights as the device has them */
} config;

#define CPU(...)                                                                                                       \
    "cpu", {                                                                                                           \
        .n_threads = 2, __VA_ARGS__                                                                                    \
    }
static const config configs[] = {
    {"cpu/f32", CPU(.dtype = KF_F32), 4e-6, 4e-6},
    {"cpu/f32/plain", CPU(.dtype = KF_F32, .plain_products = true), 4e-6, 4e-6},
    {"cpu/f32/avx512", CPU(.dtype = KF_F32, .cpu_isa = "avx512"), 4e-6, 4e-6},
    {"cpu/f32/avx2/plain", CPU(.dtype = KF_F32, .cpu_isa = "avx2", .plain_products = true), 4e-6, 4e-6},
    {"cpu/f32/generic/plain", CPU(.dtype = KF_F32, .cpu_isa = "generic", .plain_products = true), 4e-6, 4e-6},
    {"cpu/f32/generic", CPU(.dtype = KF_F32, .cpu_isa = "generic"), 4e-6, 4e-6}, /* oneDNN for every row count */
    {"cpu/bf16", CPU(.dtype = KF_BF16), 4e-6, 1e-2},
    {"cpu/bf16/plain", CPU(.dtype = KF_BF16, .plain_products = true), 4e-6, 4e-6},
    {"cpu/bf16/not-invariant", CPU(.dtype = KF_BF16, .batch_invariant_off = true), 4e-6, 1e-2},
    {"cpu/bf16/avx2", CPU(.dtype = KF_BF16, .cpu_isa = "avx2"), 4e-6, 4e-6},
    {"cpu/bf16/generic", CPU(.dtype = KF_BF16, .cpu_isa = "generic"), 4e-6, 4e-6},
    {"cpu/f32/one-thread", "cpu", {.dtype = KF_F32, .n_threads = 1}, 4e-6, 4e-6},
    {"cuda/f32", "cuda", {.dtype = KF_F32}, 1e-5, 1e-5},
    {"cuda/bf16", "cuda", {.dtype = KF_BF16}, 1e-2, 1e-2},
    {"cuda/f32/not-invariant", "cuda", {.dtype = KF_F32, .batch_invariant_off = true}, 1e-5, 1e-5},
    {"cuda/bf16/not-invariant", "cuda", {.dtype = KF_BF16, .batch_invariant_off = true}, 1e-2, 1e-2},
};
enum { N_CONFIGS = sizeof configs / sizeof configs[0] };

/* ---- one test's device and buffers ---- */

enum { GUARD = 256, MAX_BUFFERS = 32, GUARD_BYTE = 0xa5 };

typedef struct bench {
    const config *c;
    kf_device *d;
    kf_stream *s;
    kf_event *e;
    struct {
        unsigned char *block; /* device: guard, content, guard */
        size_t bytes;
    } buffers[MAX_BUFFERS];
    size_t n_buffers;
    uint32_t rng;
} bench;

#define ok(expr)                                                                                                       \
    do {                                                                                                               \
        kf_status ok_s_ = (expr);                                                                                      \
        if (ok_s_ != KF_OK) fail_msg("%s: %s: %s", #expr, kf_status_name(ok_s_), kf_error_text());                     \
    } while (0)

static inline bool config_there(const config *c) {
    return device_there(c->name, c->device, &c->opts);
}

static inline void bench_open(bench *t, const config *c) {
    *t = (bench){.c = c, .rng = 12345};
    ok(kf_device_open(c->device, &c->opts, &t->d));
    ok(kf_stream_open(t->d, &t->s));
    ok(kf_event_new(t->d, &t->e));
}

static inline void bench_sync(bench *t) {
    ok(kf_event_record(t->s, t->e));
    ok(kf_event_wait(t->d, t->e));
}

/* Frees a case's buffers, after a look at their guards. */
static inline void bench_clear(bench *t) {
    for (size_t i = 0; i < t->n_buffers; i++) {
        unsigned char guard[GUARD];
        unsigned char *block = t->buffers[i].block;
        for (int side = 0; side < 2; side++) {
            kf_copy_out(t->s, guard, block + (side ? GUARD + t->buffers[i].bytes : 0), GUARD);
            bench_sync(t);
            for (size_t j = 0; j < GUARD; j++)
                if (guard[j] != GUARD_BYTE)
                    fail_msg("%s: buffer %zu: byte %zu %s it was overwritten", t->c->name, i, j,
                             side ? "after" : "of the guard before");
        }
        kf_device_free(t->d, block);
    }
    t->n_buffers = 0;
}

static inline void bench_close(bench *t) {
    bench_clear(t);
    assert_int_equal(t->d->memory_bytes_used, 0);
    kf_event_free(t->d, t->e);
    kf_stream_close(t->s);
    kf_device_close(t->d);
}

/* A device buffer with guards; content as given, or the guard byte (a NaN in every format) for an output. */
static inline void *put(bench *t, const void *content, size_t bytes) {
    assert_true(t->n_buffers < MAX_BUFFERS);
    void *block;
    ok(kf_device_alloc(t->d, bytes + 2 * GUARD, "test", &block));
    unsigned char *host = malloc(bytes + 2 * GUARD);
    assert_non_null(host);
    memset(host, GUARD_BYTE, bytes + 2 * GUARD);
    if (content) memcpy(host + GUARD, content, bytes);
    kf_copy_in(t->s, block, host, bytes + 2 * GUARD);
    bench_sync(t);
    free(host);
    t->buffers[t->n_buffers].block = block;
    t->buffers[t->n_buffers++].bytes = bytes;
    return (unsigned char *)block + GUARD;
}

/* n values in the device's format of activations. */
static inline void *put_act(bench *t, const float *v, size_t n) {
    if (t->d->act == KF_F32) return put(t, v, n * sizeof *v);
    uint16_t *h = malloc(n * sizeof *h + 1);
    assert_non_null(h);
    for (size_t i = 0; v && i < n; i++)
        h[i] = kf_bf16_from_f32(v[i]);
    void *p = put(t, v ? h : NULL, n * sizeof *h);
    free(h);
    return p;
}

static inline void *put_f32(bench *t, const float *v, size_t n) {
    return put(t, v, n * sizeof *v);
}

static inline void *put_i32(bench *t, const int32_t *v, size_t n) {
    return put(t, v, n * sizeof *v);
}

/* n values of a device buffer, as f32; the caller frees. */
static inline float *get(bench *t, const void *dev, size_t n, kf_dtype format) {
    float *v = malloc(n * sizeof *v + 1);
    assert_non_null(v);
    uint16_t *h = (uint16_t *)v; /* the lower half, spread out from the end */
    kf_copy_out(t->s, v, dev, n * kf_dtype_bytes(format));
    bench_sync(t);
    for (size_t i = n; format == KF_BF16 && i-- > 0;) {
        uint16_t half = h[i];
        v[i] = kf_bf16_to_f32(half);
    }
    return v;
}

/* ---- numbers ---- */

static inline uint32_t next(bench *t) {
    t->rng ^= t->rng << 13; /* xorshift32 (Marsaglia 2003) */
    t->rng ^= t->rng >> 17;
    t->rng ^= t->rng << 5;
    return t->rng;
}

/* A whole number in [0, n). */
static inline int32_t below(bench *t, size_t n) {
    return (int32_t)(next(t) % n);
}

/* n values, roughly normal with this deviation, and exact in the device's format of activations; the caller frees. */
static inline float *normal(bench *t, size_t n, float deviation) {
    float *v = malloc(n * sizeof *v + 1);
    assert_non_null(v);
    for (size_t i = 0; i < n; i++) {
        float sum = -2; /* four uniform numbers: variance 1/3 */
        for (int j = 0; j < 4; j++)
            sum += (float)(next(t) >> 8) * 0x1p-24f;
        v[i] = sum * 1.7320508f * deviation;
        if (t->d->act == KF_BF16) v[i] = kf_bf16_to_f32(kf_bf16_from_f32(v[i]));
    }
    return v;
}

static inline double *doubles(size_t n) {
    double *v = calloc(n + 1, sizeof *v);
    assert_non_null(v);
    return v;
}

/* ---- comparison ---- */

/* NaN and infinities must stand in the same places; the rest within limit times the largest wanted value, or 1. */
static inline void compare(bench *t, const char *what, const float *got, const double *want, size_t n, double limit) {
    double largest = 1, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(want[i]) && fabs(want[i]) > largest) largest = fabs(want[i]);
    for (size_t i = 0; i < n; i++) {
        if (isnan(want[i]) ? isnan(got[i]) : isinf(want[i]) && (double)got[i] == want[i]) continue;
        if (!isfinite(want[i]) || !isfinite(got[i]))
            fail_msg("%s: %s: element %zu is %g, wanted %g", t->c->name, what, i, (double)got[i], want[i]);
        if (fabs((double)got[i] - want[i]) > worst) worst = fabs((double)got[i] - want[i]), at = i;
    }
    if (worst / largest > limit)
        fail_msg("%s: %s: element %zu of %zu is %.9g, wanted %.9g: error %.2g of the largest value, the limit is %.2g",
                 t->c->name, what, at, n, (double)got[at], want[at], worst / largest, limit);
}

/* Reads n activations back and compares them. */
static inline void check_act(bench *t, const char *what, const void *dev, const double *want, size_t n, double limit) {
    float *got = get(t, dev, n, t->d->act);
    compare(t, what, got, want, n, limit);
    free(got);
}

/* ---- the table ---- */

typedef struct operation {
    const char *name;
    void (*run)(bench *t);
} operation;

typedef struct entry {
    const config *c;
    const operation *op;
    char name[80];
} entry;

static inline void run_entry(void **state) {
    const entry *e = *state;
    bench t;
    bench_open(&t, e->c);
    e->op->run(&t);
    bench_close(&t);
}

/* Every operation on every configuration that is there, each a test of its own; with KF_TEST=WORD in the environment
 * only those that have the word in their name. */
static inline int run_table(const char *name, const operation *operations, size_t n_operations) {
    static entry entries[N_CONFIGS * 32];
    static struct CMUnitTest tests[N_CONFIGS * 32];
    const char *only = getenv("KF_TEST");
    size_t n = 0;
    assert_true(n_operations <= 32);
    for (size_t c = 0; c < N_CONFIGS; c++) {
        if (!config_there(&configs[c])) continue;
        for (size_t o = 0; o < n_operations; o++) {
            entries[n] = (entry){.c = &configs[c], .op = &operations[o]};
            snprintf(entries[n].name, sizeof entries[n].name, "%s: %s", configs[c].name, operations[o].name);
            if (only && !strstr(entries[n].name, only)) continue;
            tests[n] =
                (struct CMUnitTest){.name = entries[n].name, .test_func = run_entry, .initial_state = &entries[n]};
            n++;
        }
    }
    if (n == 0) print_error("no device of this build is there, or no test of that name\n");
    return n == 0 ? 1 : _cmocka_run_group_tests(name, tests, n, NULL, NULL);
}

#endif
