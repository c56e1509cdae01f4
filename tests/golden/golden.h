/* What the golden tests share: a reference file's tensors, a comparison tensor by tensor, and the devices to hold
 * against it. */
#ifndef KF_TESTS_GOLDEN_H
#define KF_TESTS_GOLDEN_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices.h"
#include "model/dump.h"
#include "model/safetensors.h"

#define GOLDEN_DIR KF_SOURCE_DIR "/tests/golden/data"

/* The message of the failure, not only that there was one. */
#define assert_ok(expr)                                                                                                \
    do {                                                                                                               \
        kf_status assert_ok_s_ = (expr);                                                                               \
        if (assert_ok_s_ != KF_OK) fail_msg("%s: %s: %s", #expr, kf_status_name(assert_ok_s_), kf_error_text());       \
    } while (0)

/* The devices that are held against the references: what each may differ by is the test's to say. */
typedef struct golden_device {
    const char *name, *device;
    kf_device_opts opts;
} golden_device;

static const golden_device golden_devices[] = {
    {"cpu/f32/plain", "cpu", {.dtype = KF_F32, .n_threads = 2, .plain_products = true}},
    {"cpu/f32", "cpu", {.dtype = KF_F32, .n_threads = 2}},
    {"cpu/bf16", "cpu", {.dtype = KF_BF16, .n_threads = 2}},
    {"cuda/f32", "cuda", {.dtype = KF_F32}},
    {"cuda/bf16", "cuda", {.dtype = KF_BF16}},
    {"cuda/f32/not-invariant", "cuda", {.dtype = KF_F32, .batch_invariant_off = true}},
    {"cuda/bf16/not-invariant", "cuda", {.dtype = KF_BF16, .batch_invariant_off = true}},
};
enum { N_GOLDEN_DEVICES = sizeof golden_devices / sizeof *golden_devices };

/* Runs `each` on every device of these that is there and that `wanted` (NULL: any) takes; fails where there is none. */
static inline void for_golden_devices(bool (*wanted)(const golden_device *), void (*each)(const golden_device *)) {
    size_t n = 0;
    for (size_t i = 0; i < N_GOLDEN_DEVICES; i++) {
        const golden_device *g = &golden_devices[i];
        if ((wanted && !wanted(g)) || !device_there(g->name, g->device, &g->opts)) continue;
        printf("on %s\n", g->name);
        each(g);
        n++;
    }
    assert_true(n > 0);
}

static inline bool golden_is_f32(const golden_device *g) {
    return g->opts.dtype == KF_F32;
}
static inline bool golden_is_f32_invariant(const golden_device *g) {
    return golden_is_f32(g) && !g->opts.batch_invariant_off;
}
static inline bool golden_is_invariant(const golden_device *g) {
    return !g->opts.batch_invariant_off;
}

/* expected.safetensors, read whole. */
typedef struct golden {
    kf_checkpoint *file;
} golden;

static inline golden golden_open(const char *model) {
    char path[512];
    golden g = {0};
    snprintf(path, sizeof path, GOLDEN_DIR "/%s", model);
    assert_ok(kf_checkpoint_open_file(path, &g.file));
    return g;
}

/* The tensor's values, the caller's to free; its shape in rows and columns. Fails the test where there is none. */
static inline void *golden_read(golden *g, const char *name, size_t *n_rows, size_t *width) {
    const kf_tensor *t = kf_checkpoint_find(g->file, name);
    if (!t) fail_msg("the reference has no tensor %s", name);
    void *x = malloc(t->bytes + 1);
    assert_non_null(x);
    assert_ok(kf_checkpoint_read(g->file, t, x));
    *n_rows = t->n_dims ? t->shape[0] : 1;
    *width = t->n_dims == 2 ? t->shape[1] : 1;
    return x;
}

/* Tensors of a run, kept to hold another run against them. */
enum { MAX_RECORDED = 64 };
typedef struct recording {
    struct {
        char name[64];
        size_t n_rows, width;
        float *x;
    } tensors[MAX_RECORDED];
    size_t n;
} recording;

static inline void record_hook(void *user, const char *name, const float *x, size_t n_rows, size_t width) {
    recording *r = user;
    size_t bytes = n_rows * width * sizeof *x;
    assert_true(r->n < MAX_RECORDED);
    r->tensors[r->n].x = malloc(bytes + 1);
    assert_non_null(r->tensors[r->n].x);
    memcpy(r->tensors[r->n].x, x, bytes);
    snprintf(r->tensors[r->n].name, sizeof r->tensors[r->n].name, "%s", name);
    r->tensors[r->n].n_rows = n_rows;
    r->tensors[r->n++].width = width;
}

static inline void recording_free(recording *r) {
    while (r->n > 0)
        free(r->tensors[--r->n].x);
}

/* A run held against the reference: every tensor that the dump hook shows, in the order of computing. */
typedef struct comparison {
    golden *g;
    const recording *r;               /* instead of g */
    double layer_limit, logits_limit; /* of the largest difference, relative to the tensor's largest value */
    bool quiet;
    size_t n_compared, n_over;
    double worst_share; /* of a limit */
    char first_over[128];
} comparison;

static inline comparison comparison_for(golden *g, kf_dtype dtype) {
    bool bf16 = dtype == KF_BF16;
    return (comparison){.g = g, .layer_limit = bf16 ? 2e-2 : 1e-5, .logits_limit = bf16 ? 2e-2 : 1e-4};
}

static inline bool is_logits(const char *name) {
    return strncmp(name, "logits", 6) == 0;
}

/* What is wanted of a tensor, the caller's to free. */
static inline float *wanted(const comparison *c, const char *name, size_t *n_rows, size_t *width) {
    if (!c->r) return golden_read(c->g, name, n_rows, width);
    for (size_t i = 0; i < c->r->n; i++)
        if (strcmp(c->r->tensors[i].name, name) == 0) {
            *n_rows = c->r->tensors[i].n_rows;
            *width = c->r->tensors[i].width;
            float *x = malloc(*n_rows * *width * sizeof *x + 1);
            assert_non_null(x);
            return memcpy(x, c->r->tensors[i].x, *n_rows * *width * sizeof *x);
        }
    fail_msg("the recording has no tensor %s", name);
    return NULL;
}

static inline void compare(comparison *c, const char *name, const float *x, size_t n_rows, size_t width) {
    size_t want_rows = 0, want_width = 0;
    float *want = wanted(c, name, &want_rows, &want_width);
    assert_int_equal(n_rows, want_rows);
    assert_int_equal(width, want_width);
    double largest = 0, difference = 0;
    for (size_t i = 0; i < n_rows * width; i++) {
        double d = fabs((double)x[i] - want[i]);
        if (!(d <= difference)) difference = d; /* keeps a NaN */
        if (fabs(want[i]) > largest) largest = fabs(want[i]);
    }
    double limit = is_logits(name) ? c->logits_limit : c->layer_limit;
    double share = difference / largest / limit;
    if (!c->quiet)
        printf("  %-22s [%zu, %zu] first %+.5f, want %+.5f; largest difference %.2e of %.2f: %5.1f %% of the limit\n",
               name, n_rows, width, x[0], want[0], difference, largest, 100 * share);
    c->n_compared++;
    if (!(share <= 1)) {
        if (c->n_over++ == 0) snprintf(c->first_over, sizeof c->first_over, "%s", name);
    }
    if (!(share <= c->worst_share)) c->worst_share = share;
    free(want);
}

static inline void compare_hook(void *user, const char *name, const float *x, size_t n_rows, size_t width) {
    compare(user, name, x, n_rows, width);
}

static inline kf_dump comparing(comparison *c) {
    return (kf_dump){.tensor = compare_hook, .user = c};
}

#endif
