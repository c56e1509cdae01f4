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

#include "device/device.h"
#include "model/dump.h"
#include "model/safetensors.h"

#define GOLDEN_DIR KF_SOURCE_DIR "/tests/golden/data"

/* The message of the failure, not only that there was one. */
#define assert_ok(expr)                                                                                                \
    do {                                                                                                               \
        kf_status assert_ok_s_ = (expr);                                                                               \
        if (assert_ok_s_ != KF_OK) fail_msg("%s: %s: %s", #expr, kf_status_name(assert_ok_s_), kf_error_text());       \
    } while (0)

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

/* A run held against the reference: every tensor that the dump hook shows, in the order of computing. */
typedef struct comparison {
    golden *g;
    double layer_limit, logits_limit; /* of the largest difference, relative to the tensor's largest value; or, */
    bool by_norm;                     /* of the difference's norm, relative to the tensor's: for bf16 */
    bool quiet;
    size_t n_compared, n_over;
    double worst_share; /* of a limit */
    char first_over[128];
} comparison;

static inline bool is_logits(const char *name) {
    return strncmp(name, "logits", 6) == 0;
}

static inline void compare(comparison *c, const char *name, const float *x, size_t n_rows, size_t width) {
    size_t want_rows = 0, want_width = 0;
    float *want = golden_read(c->g, name, &want_rows, &want_width);
    assert_int_equal(n_rows, want_rows);
    assert_int_equal(width, want_width);
    double largest = 0, difference = 0, squares = 0, squares_want = 0;
    for (size_t i = 0; i < n_rows * width; i++) {
        double d = fabs((double)x[i] - want[i]);
        if (!(d <= difference)) difference = d; /* keeps a NaN */
        if (fabs(want[i]) > largest) largest = fabs(want[i]);
        squares += d * d;
        squares_want += (double)want[i] * want[i];
    }
    double limit = is_logits(name) ? c->logits_limit : c->layer_limit;
    double share = (c->by_norm ? sqrt(squares / squares_want) : difference / largest) / limit;
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

#endif
